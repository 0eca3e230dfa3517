"""Work in the background beside events, with a clock that the test moves."""

import asyncio
from datetime import UTC, datetime

import pytest

from shared.pace import BATCH_SECONDS, LEAST, QUIET_SECONDS, Pace, Traffic
from shared.passes import Pass, paced


class World:
    """Time, what is slept of it, and events."""

    def __init__(self, *, most: int = 500, share: float = 0.25) -> None:
        self.time = 100.0
        self.slept: list[float] = []
        self.traffic = Traffic(self.read)
        self.pace = Pace(self.traffic, most=most, share=share, monotonic=self.read, sleep=self.sleep)

    def read(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def event(self) -> None:
        async def apply(work: str) -> str:
            return work

        assert await self.traffic.noticed(apply)("work") == "work"

    async def batch(self, seconds: float, *, done: int | None = None) -> int:
        async with self.pace.batch() as batch:
            self.time += seconds
            batch.done = batch.size if done is None else done
        return batch.size


async def test_without_events_batches_are_as_large_as_they_may_be_and_nobody_rests() -> None:
    world = World()
    assert [await world.batch(2.0), await world.batch(2.0)] == [500, 500]
    assert world.slept == [0.0, 0.0]


async def test_while_events_come_the_rest_of_the_time_is_theirs() -> None:
    world = World(share=0.25)
    await world.event()
    await world.batch(0.1)
    assert world.slept == [pytest.approx(0.3)]
    assert world.pace.share == 0.25


async def test_while_events_come_a_batch_is_what_takes_some_milliseconds() -> None:
    world = World()
    await world.batch(500 * 0.0002)
    await world.event()
    assert world.pace.size == pytest.approx(BATCH_SECONDS / 0.0002, abs=1)
    await world.batch(3.0)
    await world.event()
    assert world.pace.size == LEAST
    await world.batch(0.000_001)
    assert world.pace.size == 500


async def test_what_a_batch_takes_is_told_by_what_it_came_to() -> None:
    world = World()
    await world.event()
    await world.batch(0.01, done=20)
    assert world.pace.size == pytest.approx(BATCH_SECONDS / 0.0005, abs=1)
    await world.batch(0.0001, done=0)
    assert world.pace.size == pytest.approx(BATCH_SECONDS / 0.0005, abs=1)


async def test_a_batch_is_never_larger_than_it_may_be() -> None:
    world = World(most=3)
    await world.event()
    assert await world.batch(5.0) == 3
    assert await world.batch(0.0) == 3


async def test_a_second_after_the_last_event_none_come() -> None:
    world = World()
    await world.event()
    world.time += QUIET_SECONDS / 2
    assert world.pace.share == 0.25
    world.time += QUIET_SECONDS / 2
    assert world.pace.share == 1.0


async def test_an_event_that_takes_long_is_there_all_the_while() -> None:
    world = World()
    done = asyncio.Event()

    async def apply(_work: str) -> None:
        await done.wait()

    under_way = asyncio.ensure_future(world.traffic.noticed(apply)("work"))
    await asyncio.sleep(0)
    world.time += 60
    assert world.traffic.is_there
    done.set()
    await under_way


async def test_an_event_that_fails_is_under_way_no_more() -> None:
    world = World()

    async def apply(_work: str) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await world.traffic.noticed(apply)("work")
    world.time += QUIET_SECONDS
    assert not world.traffic.is_there


async def test_a_batch_that_fails_does_not_rest() -> None:
    world = World()
    with pytest.raises(RuntimeError):
        async with world.pace.batch():
            raise RuntimeError
    assert world.slept == []


async def test_a_part_that_counts_more_things_than_it_was_asked_for_makes_the_next_one_no_larger() -> None:
    world = World(most=100)
    asked = []

    async def part(_: datetime, most: int) -> Pass:
        asked.append(most)
        world.time += 1.0
        return Pass(done=5_000, more=True)

    for _ in range(2):
        await world.event()
        assert (await paced(world.pace, part, datetime(2026, 3, 1, tzinfo=UTC))).more
    assert asked == [50, LEAST]
