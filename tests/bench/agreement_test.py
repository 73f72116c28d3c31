#!/usr/bin/env python3
"""The bench's checks let rounding through and nothing else, on a small network of the kind that they judge.

A stack of products and sums, and one of convolutions between norms and ReLUs, is run in double, in the precision at
hand, and with one number off; the first two must agree within bench/agreement.py's tolerance, the third must not (in
fp32, where the bench checks that the mathematics is the same; in bf16 it can only see coarser faults).
"""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import agreement
import torch

BLOCKS, ROWS, WIDTH, CLASSES = 12, 32, 128, 10
RESIDUAL_BLOCKS, CHANNELS, PX = 16, 16, 7
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


def convolutions(dtype, off=0.0, scale=1.0):
    """The same of a ResNet's basic blocks."""
    generator = torch.Generator().manual_seed(3)

    def drawn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.double)

    def normed(x, weight):
        y = torch.nn.functional.conv2d(x, weight.to(dtype), padding=1)
        gain, bias, mean, variance = 1 + 0.1 * drawn(CHANNELS), 0.1 * drawn(CHANNELS), 0.1 * drawn(CHANNELS), \
            0.5 + drawn(CHANNELS).abs()
        return torch.nn.functional.batch_norm(y, *(t.to(dtype) for t in (mean, variance, gain, bias)))

    x, coefficients = drawn(ROWS, CHANNELS, PX, PX).to(dtype), []
    for block in range(RESIDUAL_BLOCKS):
        weights = [drawn(CHANNELS, CHANNELS, 3, 3) / (9 * CHANNELS)**0.5 for _ in range(2)]
        c = torch.tensor(1.0 + (off if block == 5 else 0.0), dtype=torch.double, requires_grad=True)
        coefficients.append(c)
        x = (x + normed(normed(x, c * weights[0]).relu(), weights[1])).relu()
    head = (scale * drawn(CHANNELS, CLASSES) / CHANNELS**0.5).requires_grad_(True)
    logits = x.mean((2, 3)) @ head.to(dtype)
    loss = torch.nn.functional.cross_entropy(logits.double(), torch.arange(ROWS) % CLASSES)
    loss.backward()
    gradients = {f"gradient.c@{block}": c.grad for block, c in enumerate(coefficients)}
    gradients |= {"gradient.weight": head.grad, "gradient.bias": torch.zeros(CLASSES)}
    return logits.detach(), loss.item(), gradients


NETWORKS = {agreement.VIT: network, "resnet34": convolutions}


def checks(dtype, got, wanted, architecture=agreement.VIT):
    name = {torch.float: "fp32", torch.bfloat16: "bf16"}[dtype]
    return [agreement.compare_logits("case", name, got[0], wanted[0], architecture),
            *agreement.compare_gradients("case", name, got[2], wanted[2], architecture),
            *agreement.compare_losses("case", name, [got[1]], [wanted[1]], wanted[0], architecture)]


class Agreement(unittest.TestCase):
    def test_lets_rounding_through(self):
        for architecture, run in NETWORKS.items():
            exact = run(torch.double)
            for dtype in (torch.float, torch.bfloat16):
                for check in checks(dtype, run(dtype), exact, architecture):
                    self.assertTrue(check.passed, (architecture, dtype, check))
                    self.assertGreater(check.difference, 0, "rounding left no trace")

    def failed(self, architecture, dtype, **wrong):
        run = NETWORKS[architecture]
        found = checks(dtype, run(dtype, **wrong), run(torch.double), architecture)
        return [check.name.removeprefix("case: ") for check in found if not check.passed]

    def test_catches_a_coefficient_that_is_off_by_a_hundredth(self):
        self.assertIn("gradients of the coefficients", self.failed(agreement.VIT, torch.float, off=0.01))
        for architecture in NETWORKS:
            self.assertIn("logits", self.failed(architecture, torch.float, off=0.01))

    def test_catches_a_wrong_factor_in_bf16(self):
        self.assertEqual(len(self.failed(agreement.VIT, torch.bfloat16, scale=1.5)), 4)
        self.assertIn("logits", self.failed("resnet34", torch.bfloat16, scale=1.5))

    def test_catches_gradients_that_are_too_large(self):
        """Behind ReLUs it must see a tenth in fp32, and twice the size in bf16."""
        exact = convolutions(torch.double)
        for dtype, factor in ((torch.float, 1.1), (torch.bfloat16, 2)):
            wrong = {name: factor * tensor for name, tensor in exact[2].items()}
            failed = [check.name for check in checks(dtype, (*exact[:2], wrong), exact, "resnet34") if not check.passed]
            self.assertEqual(failed, ["case: gradients of the coefficients", "case: gradients of the head"])

    def test_tolerates_what_the_benches_networks_round(self):
        """How far two runs of ViT-S/16 and ResNet-34 may part."""
        for architecture, fp32, bf16 in ((agreement.VIT, 1.23e-4, 0.101), ("resnet34", 1.65e-4, 0.0787)):
            self.assertAlmostEqual(agreement.relative_tolerance("fp32", architecture) / fp32, 1, 2)
            self.assertAlmostEqual(agreement.relative_tolerance("bf16", architecture) / bf16, 1, 2)

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
