"""Do two contenders compute the same? Differences beside what rounding explains.

Both run the same network; they differ in the order of sums and in where results are rounded. A result passes through
N stored tensors (12 a block: norm, qkv, scores, shares, mixed, proj, sum, norm, fc1, gelu, fc2, sum; patches, last
norm, head besides). Each is off by its own rounding, at most u of its size, and by that of a sum of K products in
fp32, about sqrt(K) u32; errors of different results are independent, so their squares add up. Two programs: twice the
square. Three standard deviations are tolerated:
    rel = 3 sqrt(2 N) (u + sqrt(K) u32),      u32 = 2^-24; u = 2^-24 in fp32, 2^-9 in bf16
of the logits' size. The loss of a row is a difference of two of them (sqrt(2)), that of a batch the mean of B rows
(1 / sqrt(B)). A gradient has gone through twice as many results as a logit: sqrt(2) again.
"""

import math
from dataclasses import asdict, dataclass

BLOCKS, PER_BLOCK, BESIDES, LONGEST_SUM = 12, 12, 3, 1536
UNIT = {"fp32": 2.0**-24, "bf16": 2.0**-9}


@dataclass
class Check:
    name: str
    difference: float
    tolerance: float

    @property
    def passed(self):
        return self.difference <= self.tolerance  # False for NaN

    def as_json(self):
        return asdict(self) | {"passed": self.passed}


class CheckFailed(Exception):
    pass


def require(checks, kept):
    """Prints the checks and puts them into `kept`. Throws CheckFailed where one fails."""
    for check in checks:
        kept.append(check)
        print(f"  {'ok    ' if check.passed else 'FAILED'} {check.name}: {check.difference:.2e} of "
              f"{check.tolerance:.2e}", flush=True)
    if not all(check.passed for check in checks):
        raise CheckFailed()


def relative_tolerance(dtype):
    results = BLOCKS * PER_BLOCK + BESIDES
    return 3 * math.sqrt(2 * results) * (UNIT[dtype] + math.sqrt(LONGEST_SUM) * UNIT["fp32"])


def loss_tolerance(dtype, logits):
    """For logits [B, C]."""
    return math.sqrt(2 / len(logits)) * relative_tolerance(dtype) * size(logits)


def size(tensor):
    """Root of the mean square."""
    return tensor.double().square().mean().sqrt().item()


def compare_logits(name, dtype, ours, theirs):
    return Check(f"{name}: logits", size(ours.double() - theirs.double()) / size(theirs), relative_tolerance(dtype))


def compare_gradients(name, dtype, ours, theirs):
    """Of all coefficients together, then of the head: Frobenius norm of the difference beside the norm."""
    checks = []
    for part, wanted in (("coefficients", lambda key: key.startswith("gradient.c@")),
                         ("head", lambda key: key in ("gradient.weight", "gradient.bias"))):
        keys = sorted(key for key in theirs if wanted(key))
        assert keys and keys == sorted(key for key in ours if wanted(key)), (keys, sorted(ours))
        off = sum((ours[key].double() - theirs[key].double()).square().sum().item() for key in keys)
        whole = sum(theirs[key].double().square().sum().item() for key in keys)
        checks.append(Check(f"{name}: gradients of the {part}", math.sqrt(off / whole),
                            math.sqrt(2) * relative_tolerance(dtype)))
    return checks


def compare_losses(name, dtype, ours, theirs, logits):
    """Losses of successive steps. AdamW moves each number by about its rate whatever its gradient's size, so numbers
    whose gradient is within rounding may part by two rates a step; one more tolerance is granted for each step."""
    assert len(ours) == len(theirs) > 0, (ours, theirs)
    return [Check(f"{name}: loss of step {step + 1}", abs(a - b), (step + 1) * loss_tolerance(dtype, logits))
            for step, (a, b) in enumerate(zip(ours, theirs))]
