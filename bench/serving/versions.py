"""Are the answers of a task that changes all the time those of versions that were committed, and at the right time?"""

import bisect
from dataclasses import dataclass

import numpy


class Commits:
    """What write_tasks wrote down of each version: the row of its numbers, when its commit began and when it ended."""

    def __init__(self, *logs):
        """logs: texts with lines "version row begin end", times in seconds of the monotonic clock."""
        self.row, self.begin, self.ends = {}, {}, []
        for line in "".join(logs).splitlines():
            version, row, begin, end = line.split()
            self.row[int(version)], self.begin[int(version)] = int(row), float(begin)
            self.ends.append((float(end), int(version)))
        self.ends.sort()

    def newest_before(self, moment):
        """The version whose commit had ended last; 0: none."""
        place = bisect.bisect_left(self.ends, (moment, 0))
        return self.ends[place - 1][1] if place else 0


@dataclass
class Verdict:
    unknown: int = 0    # answers of no version that was committed, or with another number of classes
    worst: float = 0.0  # largest difference from what the version answers, of the logits' size
    stale: int = 0      # of a version older than the newest one when the request was sent
    early: int = 0      # of a version that was not being committed yet when the answer came
    equal: int = 0      # bit by bit what the version answers


def root_mean_square(values):
    return float(numpy.sqrt(numpy.mean(numpy.square(values, dtype=numpy.float64))))


def size_of(known):
    return root_mean_square(numpy.concatenate(list(known.values())))


def nearest(known):
    """The least difference, of the logits' size, between two rows of numbers of as many classes for one image."""
    keys = sorted(known)
    apart = [root_mean_square(known[a] - known[b]) for a in keys for b in keys
             if a < b and a[1] == b[1] and len(known[a]) == len(known[b])]
    return min(apart) / size_of(known)


def judge(answers, commits, known):
    """answers: [(image, version, logits [C], sent, done)]; known: logits [C] by (row of numbers, image)."""
    verdict, size = Verdict(), size_of(known)
    for image, version, logits, sent, done in answers:
        wanted = known.get((commits.row.get(version), image))
        if wanted is None or wanted.shape != logits.shape:
            verdict.unknown += 1
            continue
        verdict.worst = max(verdict.worst, root_mean_square(logits - wanted) / size)
        verdict.equal += bool((logits == wanted).all())
        verdict.stale += version < commits.newest_before(sent)
        verdict.early += commits.begin[version] > done
    return verdict
