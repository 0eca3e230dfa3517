"""Days that begin later than at midnight, for who works past it (RULES 1.6)."""

import grpc.aio
import pytest
from laurel.ledger.v1.entry_pb2 import StreakPause
from laurel.streak.v1 import streak_pb2

from shared.errors import InvalidArgument
from shared.rpc.convert import to_timestamp
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, by_hand, day, event, local, revert, streak, update
from tests.service.streak.steps import (
    applied,
    define,
    derived_state,
    effect,
    feed,
    maintain,
    recorded,
    shown,
    statuses,
)


async def test_what_is_done_past_midnight_belongs_to_the_day_before(service: Service) -> None:
    await define(service, day_start="04:00")
    first = await effect(service, event(1, at(3, 23)))
    assert day(first.state.period_start_date) == day(local(3))
    night = await effect(service, event(2, at(5, 2)))
    assert (statuses(night), night.state.length) == ([(4, "QUALIFIED")], 2)
    assert night.state.expire_time == to_timestamp(at(6, 4))
    # Others know the event by the date on the wall.
    assert day(night.change.period_changes[0].reach.local_date) == day(local(5))
    assert (await effect(service, event(3, at(5, 4)))).state.length == 3


async def test_a_streak_breaks_when_the_next_day_begins_and_not_at_midnight(service: Service) -> None:
    await define(service, day_start="04:00")
    await applied(service, event(1, at(3)))
    assert await maintain(service, at(5, 3)) == 0
    assert (await shown(service, at(5, 3)))[0].length == 1
    assert await maintain(service, at(5, 4)) == 1
    (change,) = await feed(service)
    assert change.occur_time == to_timestamp(at(5, 4))
    assert await recorded(service) == [(day(local(3)), "QUALIFIED"), (day(local(4)), "BROKEN")]


async def test_a_late_event_and_a_void_come_to_what_had_been_in_order(
    service: Service, twin: Service
) -> None:
    events = [event(n, at(n, 3)) for n in (4, 5, 6, 7, 8)]
    for replica in (service, twin):
        await define(replica, day_start="05:30")
    await applied(service, *events[:2], *events[3:], event(6, at(6, 3), now=at(8, 5)), event("x", at(7, 5)))
    assert (await service.participant.RevertEntries(revert("x", now=at(8, 6)))).outcomes[0].reverted
    await applied(twin, *events[:2], event(6, at(6, 3), now=at(8, 5)), *events[3:])
    for replica in (service, twin):
        await maintain(replica, at(12))
    assert await derived_state(service) == await derived_state(twin)
    assert len(await recorded(service)) == 6


async def test_travel_over_the_beginning_of_a_day_costs_nothing(service: Service) -> None:
    await define(service, day_start="03:00")
    await applied(service, event(1, at(3, 18), zone="America/Los_Angeles"))
    await applied(service, update("flight", at(4, 12), "Asia/Tokyo", version=2))
    arrived = await effect(service, event(2, at(4, 22), zone="Asia/Tokyo", version=2))
    # It is the fifth there; the fourth went by on the way.
    assert statuses(arrived) == [(4, "SKIPPED"), (5, "QUALIFIED")]
    assert arrived.state.length == 2


async def test_a_users_today_begins_later_too(service: Service) -> None:
    await define(service, day_start="04:00", pause_days_per_year=5)
    await applied(service, event(1, at(3)))
    dates = StreakPause(streak="daily", start_date=local(4), end_date=local(4), by_user=True)
    (paused,) = await applied(service, by_hand("still", at(5, 3), dates))
    assert not paused.HasField("error")
    (late,) = await applied(service, by_hand("late", at(5, 4), dates))
    assert late.error.metadata["today"] == "2025-03-05"


async def test_weeks_begin_with_their_first_day(service: Service) -> None:
    await define(service, frequency=streak_pb2.FREQUENCY_WEEKLY, day_start="12:00")
    first = await effect(service, event(1, at(10, 11)))
    assert (day(first.state.period_start_date), day(first.state.period_end_date)) == (
        day(local(3)),
        day(local(9)),
    )
    assert (await effect(service, event(2, at(10, 12)))).state.length == 2


@pytest.mark.parametrize("wrong", ["24:00", "12:01", "4:00", "noon", "04:60"])
async def test_a_day_begins_from_midnight_to_noon(service: Service, wrong: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await service.definitions.put(streak(day_start=wrong))
    assert [violation.field for violation in refused.value.violations] == ["[0].day_start"]


async def test_when_a_day_begins_never_changes(service: Service) -> None:
    created = await define(service, day_start="00:00")
    assert created.day_start == ""
    with pytest.raises((InvalidArgument, grpc.aio.AioRpcError)):
        await service.definitions.update(streak(day_start="04:00"), "day_start")
