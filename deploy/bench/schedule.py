"""When an open loop sends: a schedule that is fixed before the first request and waits for no answer."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of constant rate."""

    per_second: float
    seconds: float


def arrivals(phases: Sequence[Phase], seed: int) -> Iterator[tuple[int, float]]:
    """The phase and the instant of each request, in seconds from the start: independent callers (Poisson)."""
    rng = random.Random(seed)
    begin = 0.0
    for index, phase in enumerate(phases):
        end = begin + phase.seconds
        instant = begin + rng.expovariate(phase.per_second)
        while instant < end:
            yield index, instant
            instant += rng.expovariate(phase.per_second)
        begin = end
