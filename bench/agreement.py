"""Do two contenders compute the same? Differences beside what rounding explains.

Both run the same network; they differ in the order of sums and in where results are rounded. A result passes through
N stored tensors that are rounded:
    ViT-S/16   12 a block: norm, qkv, scores, shares, mixed, proj, sum, norm, fc1, gelu, fc2, sum; patches, last norm,
               head besides
    ResNet-34  5 a block: convolution, norm, convolution, norm, sum (ReLU and maximum round nothing); convolution and
               norm of the stem and of three projections, mean, head besides
Each is off by its own rounding, at most u of its size, and by that of a sum of K products in fp32, about sqrt(K) u32;
errors of different results are independent, so their squares add up. Two programs: twice the square. Three standard
deviations are tolerated:
    rel = 3 sqrt(2 N) (u + sqrt(K) u32),      u32 = 2^-24; u = 2^-24 in fp32, 2^-9 in bf16
of the logits' size. The loss of a row is a difference of two of them (sqrt(2)), that of a batch the mean of B rows
(1 / sqrt(B)). A gradient has gone through twice as many results as a logit: sqrt(2) again.

Where a ReLU's inputs have different signs in the two programs a gradient passes in one of them alone. Of normal inputs
that are off by e of their size it is the share e / pi, so 2 e / pi of the half that passes; and e grows with the root
of the results on the way, to rel / 3 behind the last one, 2/3 of that in the mean. A coefficient's gradient that comes
through R of them is off by
    flips = sqrt(2 R (2/3) (rel / 3) / pi)
of its size; errors add up as squares: sqrt(2 rel^2 + flips^2). This one is no standard deviation but a sum over
thousands of flips in bf16; where they are few, in fp32, rel is far above what sums really lose. In bf16 no more than the
direction is left to check. (Single images through ResNet-34 in fp32: gradients part by 4e-7 where no input changes its
sign, by 1e-4 to 1e-3 where one does.)
"""

import math
from dataclasses import asdict, dataclass

UNIT = {"fp32": 2.0**-24, "bf16": 2.0**-9}


@dataclass(frozen=True)
class Network:
    results: int
    longest_sum: int
    relus: int


VIT = "vit_small_patch16_224"
NETWORKS = {VIT: Network(12 * 12 + 3, 4 * 384, 0), "resnet34": Network(16 * 5 + 3 * 2 + 4, 9 * 512, 16 * 2 + 1)}


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


def relative_tolerance(dtype, architecture=VIT):
    network = NETWORKS[architecture]
    return 3 * math.sqrt(2 * network.results) * (UNIT[dtype] + math.sqrt(network.longest_sum) * UNIT["fp32"])


def flips(dtype, architecture=VIT):
    return math.sqrt(4 * NETWORKS[architecture].relus * relative_tolerance(dtype, architecture) / (9 * math.pi))


def loss_tolerance(dtype, logits, architecture=VIT):
    """For logits [B, C]."""
    return math.sqrt(2 / len(logits)) * relative_tolerance(dtype, architecture) * size(logits)


def size(tensor):
    """Root of the mean square."""
    return tensor.double().square().mean().sqrt().item()


def compare_logits(name, dtype, ours, theirs, architecture=VIT):
    return Check(f"{name}: logits", size(ours.double() - theirs.double()) / size(theirs),
                 relative_tolerance(dtype, architecture))


def compare_gradients(name, dtype, ours, theirs, architecture=VIT):
    """Of all coefficients together, then of the head: Frobenius norm of the difference beside the norm."""
    checks, rounding = [], math.sqrt(2) * relative_tolerance(dtype, architecture)
    for part, tolerance, wanted in (
            ("coefficients", math.hypot(rounding, flips(dtype, architecture)),
             lambda key: key.startswith("gradient.c@")),
            ("head", rounding, lambda key: key in ("gradient.weight", "gradient.bias"))):
        keys = sorted(key for key in theirs if wanted(key))
        assert keys and keys == sorted(key for key in ours if wanted(key)), (keys, sorted(ours))
        off = sum((ours[key].double() - theirs[key].double()).square().sum().item() for key in keys)
        whole = sum(theirs[key].double().square().sum().item() for key in keys)
        checks.append(Check(f"{name}: gradients of the {part}", math.sqrt(off / whole), tolerance))
    return checks


def compare_losses(name, dtype, ours, theirs, logits, architecture=VIT):
    """Losses of successive steps. AdamW moves each number by about its rate whatever its gradient's size, so numbers
    whose gradient is within rounding may part by two rates a step; one more tolerance is granted for each step."""
    assert len(ours) == len(theirs) > 0, (ours, theirs)
    granted = loss_tolerance(dtype, logits, architecture)
    return [Check(f"{name}: loss of step {step + 1}", abs(a - b), (step + 1) * granted)
            for step, (a, b) in enumerate(zip(ours, theirs))]
