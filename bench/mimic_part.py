"""bench/run mimic: the closed form beside the paper's gradient solver, and beside one reading of the same weights."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

import agreement
import measure
import workload
from measure import run_json
from report import number

HERE = Path(__file__).resolve().parent
LEVEL = 1e-3
SAMPLED_BYTES, SAMPLED_STEPS = 32 << 20, 20  # beyond so much the rival runs so many steps, and its time is scaled up
READINGS, FASTER = 3, 1000  # the goals where a bank has fewer templates than layers


@dataclass
class Case:
    architecture: str
    target: str
    groups: int

    def __str__(self):
        return f"{self.architecture.split('_patch')[0]} {self.target}"


CASES = (Case("vit_small_patch16_224", "attn", 6), Case("vit_small_patch16_224", "attn", 3),
         Case("vit_small_patch16_224", "attn", 2), Case("vit_small_patch16_224", "all", 3),
         Case("vit_base_patch16_224", "attn", 3), Case("vit_base_patch16_224", "attn", 2), Case("resnet50", "conv", 1))


def rebuilt_error(base, mimicked):
    """||W - W'|| / ||W|| of all slots together, from the files that `recast mimic` wrote."""
    given, bank = load_file(base / "backbone.safetensors"), load_file(mimicked / "bank.safetensors")
    config = json.loads((mimicked / "config.json").read_text())
    left = whole = 0.0
    for group in config["bank"]["members"]:
        templates = bank[f"{group['name']}.templates"].double()
        for slot in group["slots"]:
            weight = given[f"{slot}.weight"].double()
            rebuilt = torch.tensordot(bank[f"{slot}.coefficients"].double().mean(0), templates, 1)
            left += (weight - rebuilt).square().sum().item()
            whole += weight.square().sum().item()
    return (left / whole) ** 0.5


def layers(groups):
    """'4', or '2 to 5' where groups differ."""
    counts = [len(group) for group in groups]
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def run_case(bench, case):
    base = workload.make_base(bench.options.folder, bench.options.recast, case.architecture)
    out = bench.work.folder / "mimicked"
    workload.mimic(bench.options.recast, base, out, case.groups, case.target)
    ours = run_json([bench.options.mimic_bench, "--model", base, "--target", case.target, "--groups", case.groups,
                     "--templates", workload.TEMPLATES, "--sets", workload.SETS, "--threads", bench.options.threads,
                     "--repeats", bench.options.repeats])
    sampled = ours["weight_bytes"] > SAMPLED_BYTES
    rival = run_json([sys.executable, HERE / "gradient_mimicry.py", "--base", base, "--model", out, "--level", LEVEL,
                      "--steps", bench.options.gradient_steps, "--sample", SAMPLED_STEPS if sampled else 0, "--threads",
                      bench.options.threads])
    error = rebuilt_error(base, out)
    what = f"{case}, groups of {layers(ours['groups'])}"
    # The closed form leaves the least squares of all slots together: nobody is below by more than rounding.
    bench.require([agreement.Check(f"mimic, {what}: error not above the gradient solver's", error,
                                   rival["relative_error"] + agreement.relative_tolerance("fp32"))])
    row = measure.row("mimic", what, "fp32", "gradient solver", "s", ours["solver_seconds"], rival["seconds"],
                      more_is_better=False)
    bench.rows.append(row)
    note(bench, what, ours, rival, error, row["ratio"])


def note(bench, what, ours, rival, error, ratio):
    reading, solver, whole = (measure.summary(ours[key])["median"]
                              for key in ("reading_seconds", "solver_seconds", "seconds"))
    rate = ours["weight_bytes"] / reading / 1e9
    stop = ("scaled from a few steps" if rival["sampled"] else f"until {LEVEL}" if rival["reached"] else
            f"all {rival['steps']} steps")
    bench.notes.append(
        f"mimic, {what}: {number(solver * 1e3)} ms, {number(solver / reading)} readings of its "
        f"{number(ours['weight_bytes'] / 1e6)} MB at {number(rate)} GB/s ({number(whole * 1e3)} ms with checks and fidelity); relative error {error:.3g}, "
        f"the gradient solver's {rival['relative_error']:.3g} ({stop}, run once)")
    if error == 0:
        return
    for goal, met in ((f"{READINGS} readings", solver <= READINGS * reading), (f"{FASTER} times", ratio >= FASTER)):
        if not met:
            bench.notes.append(f"mimic, {what}: the goal of {goal} is missed")


def run(bench):
    for case in CASES:
        if not bench.options.architectures or case.architecture.startswith(tuple(bench.options.architectures)):
            run_case(bench, case)
