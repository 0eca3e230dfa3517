"""Percentiles of one window, and medians with ranges over its repetitions."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of values in ascending order: the least one that `share` of all do not exceed.

    Zero where there are no values. `share` lies in (0, 1].
    """
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Latencies:
    """What a window's latencies come to, in milliseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Self:
        """The summary of latencies in seconds."""
        ordered = sorted(1_000 * each for each in seconds)
        p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
        return cls(len(ordered), p50, p90, p99, longest=percentile(ordered, 1.0))


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure that was measured several times."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Median and range. Raises `ValueError` where nothing was measured."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(statistics.median(values), min(values), max(values))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Each repetition's ratio. What was measured side by side is compared with itself, not with a median."""
    return [above / below for above, below in zip(numerators, denominators, strict=False) if below > 0]
