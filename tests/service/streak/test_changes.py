"""What others are told of a streak: the periods at which its length changes, and where lengths were first reached."""

from datetime import timedelta
from itertools import permutations

import pytest
from laurel.streak.v1 import streak_pb2

from shared.rpc.convert import to_datetime
from tests.fixtures.participants import entry_id
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, day, event, revert
from tests.service.streak.steps import applied, define, effect, feed, maintain

ONE_FREEZE = streak_pb2.FreezeSettings(initial_count=1)


def periods(change: streak_pb2.StreakChange) -> list[tuple[int, int, int, bool]]:
    """The periods that changed, by their days of the month: length before and after, and whether they stand."""
    return [
        (day(period.start_date).day, period.length_before, period.length_after, period.recorded_after)
        for period in change.period_changes
    ]


def firsts(change: streak_pb2.StreakChange) -> list[tuple[int, str]]:
    return [(reach.length, reach.reach.entry_id) for reach in change.first_reaches]


async def test_an_extension_is_one_period_and_one_first_reach(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    change = (await effect(service, event(2, at(4, 9), zone="Asia/Tokyo"))).change
    (period,) = change.period_changes
    assert periods(change) == [(4, 0, 2, True)]
    assert (period.qualified_before, period.qualified_after) == (False, True)
    assert (period.reach.entry_id, to_datetime(period.reach.occur_time)) == (str(entry_id(2)), at(4, 9))
    assert day(period.reach.local_date) == day(period.end_date) == at(4).date()
    assert firsts(change) == [(2, str(entry_id(2)))]
    assert change.first_reaches[0].reach == period.reach


async def test_a_second_event_of_a_day_tells_nothing_and_an_earlier_one_moves_the_reach(
    service: Service,
) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    assert not (await effect(service, event(2, at(3, 15)))).HasField("change")
    change = (await effect(service, event(3, at(3, 9), now=at(3, 16)))).change
    assert (periods(change), firsts(change)) == ([(3, 1, 1, True)], [(1, str(entry_id(3)))])
    assert (change.length_before, change.length, to_datetime(change.reach_time)) == (1, 1, at(3, 9))


async def test_a_length_that_was_reached_before_is_not_reached_first_again(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)), event(2, at(4)))
    change = (await effect(service, event(3, at(7)))).change
    assert (periods(change), firsts(change)) == ([(5, 0, 0, True), (7, 0, 1, True)], [])


async def test_what_carries_a_length_on_is_not_told(service: Service) -> None:
    await define(service, freezes=ONE_FREEZE)
    await applied(service, event(1, at(3)))
    assert periods((await effect(service, event(2, at(5)))).change) == [(5, 0, 2, True)]
    await maintain(service, at(7))
    (closed,) = await feed(service)
    change = closed.streak_closing.effect.change
    assert (periods(change), firsts(change)) == ([(6, 0, 0, True)], [])


async def test_a_late_event_that_joins_two_runs_tells_every_period_after_it(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)), event(2, at(5)))
    change = (await effect(service, event(3, at(4), now=at(5, 13)))).change
    assert periods(change) == [(4, 0, 2, True), (5, 1, 3, True)]
    assert firsts(change) == [(2, str(entry_id(3))), (3, str(entry_id(2)))]


async def test_what_is_undone_is_told_as_gone(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)), event(2, at(4)))
    response = await service.participant.RevertEntries(revert(1, now=at(4, 13)))
    change = response.outcomes[0].effects.streaks[0].change
    assert (periods(change), firsts(change)) == (
        [(3, 1, 0, False), (4, 2, 1, True)],
        [(1, str(entry_id(2))), (2, "")],
    )
    assert not change.first_reaches[1].HasField("reach")


@pytest.mark.parametrize("order", list(permutations((22, 23, 24))))
async def test_the_last_to_arrive_does_not_decide_where_a_length_was_reached(
    service: Service, order: tuple[int, ...]
) -> None:
    await define(service)
    known: dict[int, streak_pb2.PeriodChange] = {}
    reached: dict[int, str] = {}
    for d in order:
        change = (await effect(service, event(d, at(d), now=at(24, 13) + timedelta(hours=1)))).change
        known |= {day(period.start_date).day: period for period in change.period_changes}
        reached |= dict(firsts(change))
    known = {d: period for d, period in known.items() if period.recorded_after}
    assert {d: period.length_after for d, period in known.items()} == {22: 1, 23: 2, 24: 3}
    assert reached == {d - 21: str(entry_id(d)) for d in (22, 23, 24)}
    assert {d: period.reach.entry_id for d, period in known.items()} == {d: str(entry_id(d)) for d in order}
