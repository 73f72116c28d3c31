#!/usr/bin/env python3
"""bench/run: goals are judged from the rows of the right contenders, and the rivals compute what they are said to."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "golden")]

import contenders
import goals
import measure
import numpy
import onnx_contender
import torch
import workload
from safetensors.torch import save_file

torch.set_num_threads(1)
AMX, AVX512 = ["avx512_bf16", "amx_bf16"], ["avx512_bf16"]


def rows(dtype, rival, ours, theirs, peaks=(100, 400)):
    return [measure.row("learn", "speed", dtype, rival, "images/s", [ours], [theirs], more_is_better=True),
            measure.row("learn", "peak memory", dtype, rival, "MiB", [peaks[0]], [peaks[1]], more_is_better=False)]


FP32 = rows("fp32", "torch-recast", 8, 5) + rows("fp32", "peft-lora", 8, 4)
BF16 = (rows("bf16", "torch-recast", 30, 15, (60, 100)) + rows("bf16", "torch-recast-compiled", 30, 20)
        + rows("bf16", "peft-lora", 30, 10))


class GoalsOfLearning(unittest.TestCase):
    def judged(self, measured, flags):
        return {what: (value, bound) for what, value, bound, _, _ in goals.of_learning("learn", measured, flags)}

    def test_depend_on_the_products_in_bf16_that_the_processor_has(self):
        memory = {"learn fp32: peak memory": (0.25, 0.5), "learn bf16: peak memory": (0.6, 0.5)}
        fp32 = {"learn fp32: speed beside torch-recast in fp32": (1.6, 2)}
        for flags, compiled, plain in ((AMX, 2, 8), (AVX512, 1.4, 5)):
            wanted = {"learn bf16: speed beside torch-recast-compiled in bf16": (1.5, compiled),
                      "learn bf16: speed beside torch-recast in fp32": (6, plain),
                      "learn bf16: speed beside peft-lora in fp32": (7.5, 5)}
            self.assertEqual(self.judged(FP32 + BF16, flags), wanted | fp32 | memory)
        self.assertEqual(self.judged(FP32 + BF16, ["avx2"]), fp32 | memory)

    def test_leave_out_who_was_not_run(self):
        self.assertEqual(list(self.judged(FP32, AMX)),
                         ["learn fp32: speed beside torch-recast in fp32", "learn fp32: peak memory"])
        self.assertEqual(list(self.judged(BF16, AMX)),
                         ["learn bf16: speed beside torch-recast-compiled in bf16", "learn bf16: peak memory"])

    def test_ask_for_more_speed_and_less_memory(self):
        found = goals.of_learning("learn", FP32 + BF16, AMX)
        self.assertEqual([more for what, *_, more in found if "memory" in what], [False, False])
        self.assertTrue(all(more for what, *_, more in found if "speed" in what))


class GoalsOfInference(unittest.TestCase):
    def test_are_beside_the_best_rival_of_a_dtype(self):
        for batch, bound in ((1, 1.5), (8, 1.5), (32, 1.25), (64, 1.25)):
            found = goals.of_inference("infer", FP32 + BF16, batch)
            self.assertEqual([(value, goal) for _, value, goal, _, _ in found], [(1.6, bound), (1.5, bound)])
            self.assertIn("torch-recast-compiled", found[1][0])


class TemplatedLayers(unittest.TestCase):
    def check(self, layer, x):
        templates = torch.randn(2, *layer.weight.shape, generator=torch.Generator().manual_seed(1))
        coefficients = torch.tensor([[1.0, 0.5], [0.0, 0.25]])
        templated = contenders.TEMPLATED[type(layer)](layer, templates, coefficients)
        with torch.no_grad():
            layer.weight.copy_(0.5 * templates[0] + 0.375 * templates[1])
        torch.testing.assert_close(templated(x), layer(x))
        templated(x).square().sum().backward()
        self.assertEqual(templated.coefficients.grad.shape, (2, 2))
        templated.keep(torch.float32)
        templated.templates = None
        torch.testing.assert_close(templated(x), layer(x))

    def test_are_layers_whose_weight_is_the_sum_of_coefficients_times_templates(self):
        self.check(torch.nn.Linear(5, 3), torch.randn(4, 5))
        self.check(torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), torch.randn(2, 4, 9, 9))


class StartingNumbers(unittest.TestCase):
    def test_lie_around_the_coefficients_of_a_model_directory(self):
        with tempfile.TemporaryDirectory() as folder:
            model, own = Path(folder), {f"{slot}.coefficients": torch.randn(2, 3) for slot in ("b", "a")}
            (model / "config.json").write_text(json.dumps({"bank": {"members": [{"slots": ["b"]}, {"slots": ["a"]}]}}))
            save_file(own, model / "bank.safetensors")
            neutral, near = (workload.starting_numbers(torch.Generator().manual_seed(1), spread, model, 7)
                             for spread in (0, 0.1))
        self.assertEqual(list(neutral), ["weight", "bias", "c@b", "c@a"])
        self.assertEqual(neutral["weight"].shape, (workload.CLASSES, 7))
        for slot in ("a", "b"):
            self.assertTrue(torch.equal(neutral[f"c@{slot}"], own[f"{slot}.coefficients"]))
            self.assertGreater((near[f"c@{slot}"] - neutral[f"c@{slot}"]).abs().max(), 0)


class OnnxContender(unittest.TestCase):
    def test_has_the_loss_of_pytorch(self):
        logits, label = 20 * torch.randn(8, 10), torch.arange(8)
        self.assertAlmostEqual(onnx_contender.cross_entropy(logits.numpy(), numpy.arange(8)),
                               torch.nn.functional.cross_entropy(logits, label).item(), 4)

    def test_knows_nothing_of_torch(self):
        done = measure.run_json([sys.executable, "-c", "import sys, json; sys.path.insert(0, sys.argv[1]); "
                                 "import onnx_contender; print(json.dumps('torch' in sys.modules))", ROOT / "bench"])
        self.assertFalse(done, "its memory would be counted")


if __name__ == "__main__":
    unittest.main()
