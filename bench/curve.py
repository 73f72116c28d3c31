"""A curve of time and peak memory against a size: its growth, where it breaks, a table and a plot."""

import math
from dataclasses import asdict, dataclass, field

import report
from report import number

BREAK = 1.5   # times the factor of the sizes
LINEAR = 1.1  # an exponent up to here is called linear: a fit of few points is off by some hundredths


@dataclass
class Point:
    size: int
    seconds: float
    peak_bytes: int


@dataclass
class Curve:
    """ideal: the exponent of time that is hoped for at worst, 1: linear; -1: more threads share the work."""

    name: str
    axis: str
    ideal: int = 1
    series: dict = field(default_factory=dict)  # {name: [Point]}, sizes ascending

    def add(self, series, size, seconds, peak_bytes):
        self.series.setdefault(series, []).append(Point(size, seconds, peak_bytes))


def exponent(sizes, values):
    """Slope of the line of least squares through the logarithms of the upper half, at least two points, else None."""
    upper = list(zip(sizes, values))[-max(2, (len(sizes) + 1) // 2):]
    if len(upper) < 2:
        return None
    xs, ys = [math.log(size) for size, _ in upper], [math.log(value) for _, value in upper]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys)) / sum((a - x) ** 2 for a in xs)


def breaks(sizes, values, ideal=1):
    """Indices of points whose value is more than BREAK times what the one before lets expect."""
    return [i for i in range(1, len(sizes))
            if values[i] / values[i - 1] > BREAK * (sizes[i] / sizes[i - 1]) ** ideal]


def measures(curve, points):
    """[(what, unit, values, ideal)]; memory may grow with threads, too."""
    return [("time", "s", [point.seconds for point in points], curve.ideal),
            ("memory", "MiB", [point.peak_bytes / 2**20 for point in points], abs(curve.ideal))]


def findings(curve):
    """One line of growth for each series and measure."""
    lines = []
    for name, points in curve.series.items():
        sizes = [point.size for point in points]
        for what, _, values, ideal in measures(curve, points):
            slope = exponent(sizes, values)
            if slope is None:
                continue
            kind = "as hoped" if slope <= ideal + LINEAR - 1 else "WORSE than hoped"
            marked = [f"{sizes[i]:,}" for i in breaks(sizes, values, ideal)]
            lines.append(f"{curve.name}, {name}: {what} ~ size^{slope:.2f} at the upper half, {kind} (at most {ideal}); "
                         + (f"breaks at {', '.join(marked)}" if marked else "no break"))
    return lines


def table(curve):
    lines = [(curve.axis, "series", "s", "MiB", "size x", "time x", "memory x", "")]
    for name, points in curve.series.items():
        sizes = [point.size for point in points]
        broken = {what: breaks(sizes, values, ideal) for what, _, values, ideal in measures(curve, points)}
        for i, point in enumerate(points):
            before = points[i - 1] if i else point
            lines.append((f"{point.size:,}", name, number(point.seconds), number(point.peak_bytes / 2**20),
                          number(point.size / before.size), number(point.seconds / before.seconds),
                          number(point.peak_bytes / before.peak_bytes),
                          ", ".join(f"break in {what}" for what, at in broken.items() if i in at)))
    return report.aligned(lines)


def as_json(curve):
    return asdict(curve) | {"findings": findings(curve)}


def draw(curve, path):
    """Both measures over the size, logarithmic; a ring is a break, dashes are the ideal through the last point."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = curve.name  # the same picture has the same bytes
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for name, points in curve.series.items():
        sizes = [point.size for point in points]
        for axis, (what, unit, values, ideal) in zip(axes, measures(curve, points)):
            line, = axis.plot(sizes, values, marker="o", label=name)
            axis.plot(sizes, [values[-1] * (size / sizes[-1]) ** ideal for size in sizes], "--", linewidth=0.8,
                      color=line.get_color())
            at = breaks(sizes, values, ideal)
            axis.plot([sizes[i] for i in at], [values[i] for i in at], "o", markersize=13, markerfacecolor="none",
                      color="black")
            axis.set(xscale="log", yscale="log", xlabel=curve.axis, ylabel=f"{what}, {unit}")
            axis.grid(True, which="both", linewidth=0.3)
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
