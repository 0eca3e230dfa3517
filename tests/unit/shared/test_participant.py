"""The waiting of a participant between its attempts."""

from shared.participant import Backoff


async def test_pauses_are_drawn_under_a_ceiling_that_doubles_up_to_its_limit() -> None:
    ranges: list[tuple[float, float]] = []
    slept: list[float] = []

    def draw(low: float, high: float) -> float:
        ranges.append((low, high))
        return high / 2

    async def record(seconds: float) -> None:
        slept.append(seconds)

    backoff = Backoff(first_pause_seconds=1, longest_pause_seconds=5, uniform=draw, sleep=record)
    for attempt in (0, 1, 2, 3, 10_000):
        await backoff.pause(attempt)

    assert ranges == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5)]
    assert slept == [0.5, 1, 2, 2.5, 2.5]
