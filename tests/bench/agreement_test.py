#!/usr/bin/env python3
"""The bench's checks let rounding through and nothing else, on a small network of the kind that they judge.

A stack of products and sums is run in double, in the precision at hand, and with one number off; the first two must
agree within bench/agreement.py's tolerance, the third must not (in fp32, where the bench checks that the mathematics is
the same; in bf16 it can only see coarser faults).
"""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import agreement
import torch

BLOCKS, ROWS, WIDTH, CLASSES = 12, 32, 128, 10
torch.set_num_threads(1)


def network(dtype, off=0.0, scale=1.0):
    """Logits, loss, and the gradients of one coefficient a block and of the head; `off` is added to one coefficient."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.double).to(dtype)
    gradients, coefficients = {}, []
    for block in range(BLOCKS):
        weights = [torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.double) / WIDTH**0.5 for _ in range(2)]
        c = torch.tensor(1.0 + (off if block == 5 else 0.0), dtype=torch.double, requires_grad=True)
        coefficients.append(c)
        normal = torch.nn.functional.layer_norm(x, (WIDTH,))
        x = x + torch.nn.functional.gelu(normal @ (c * weights[0]).to(dtype)) @ weights[1].to(dtype)
    head = torch.randn(WIDTH, CLASSES, generator=generator, dtype=torch.double) / WIDTH**0.5
    head = (scale * head).requires_grad_(True)
    logits = torch.nn.functional.layer_norm(x, (WIDTH,)).to(dtype) @ head.to(dtype)
    loss = torch.nn.functional.cross_entropy(logits.double(), torch.arange(ROWS) % CLASSES)
    loss.backward()
    gradients = {f"gradient.c@{block}": c.grad for block, c in enumerate(coefficients)}
    gradients["gradient.weight"] = head.grad
    gradients["gradient.bias"] = torch.zeros(CLASSES)
    return logits.detach(), loss.item(), gradients


def checks(dtype, got, wanted):
    name = {torch.float: "fp32", torch.bfloat16: "bf16"}[dtype]
    return [agreement.compare_logits("case", name, got[0], wanted[0]),
            *agreement.compare_gradients("case", name, got[2], wanted[2]),
            *agreement.compare_losses("case", name, [got[1]], [wanted[1]], wanted[0])]


class Agreement(unittest.TestCase):
    def test_lets_rounding_through(self):
        exact = network(torch.double)
        for dtype in (torch.float, torch.bfloat16):
            for check in checks(dtype, network(dtype), exact):
                self.assertTrue(check.passed, (dtype, check))
                self.assertGreater(check.difference, 0, "rounding left no trace")

    def test_catches_a_coefficient_that_is_off_by_a_hundredth(self):
        failed = [check.name for check in checks(torch.float, network(torch.float, off=0.01), network(torch.double))
                  if not check.passed]
        self.assertIn("case: logits", failed)
        self.assertIn("case: gradients of the coefficients", failed)

    def test_catches_a_wrong_factor_in_bf16(self):
        failed = [check for check in checks(torch.bfloat16, network(torch.bfloat16, scale=1.5), network(torch.double))
                  if not check.passed]
        self.assertEqual(len(failed), 4, failed)

    def test_does_not_pass_what_is_not_a_number(self):
        exact = network(torch.double)
        self.assertFalse(agreement.compare_logits("case", "fp32", exact[0] * float("nan"), exact[0]).passed)

    def test_refuses_gradients_of_other_parameters(self):
        exact = network(torch.double)
        less = {name: tensor for name, tensor in exact[2].items() if name != "gradient.c@3"}
        with self.assertRaises(AssertionError):
            agreement.compare_gradients("case", "fp32", less, exact[2])


if __name__ == "__main__":
    unittest.main()
