"""Counts of values by size: cheap enough for every token."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Of one thread. A library's, with its locks and labels, takes several times as long for each value.

    Attributes:
        bounds: the largest value of each bucket but the last, ascending.
        counts: of each bucket; one more than there are bounds.
        sum: of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
