"""RULES 2.2, 2.5, 6.3 and 6.5: what comes late, belongs to another entry, or is revised, over the wire."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import permutations

import pytest
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import (
    NEXT_WEEK,
    NOON,
    WEDNESDAY,
    WEEKLY,
    Given,
    Recorded,
    event,
    local_date,
    metric_correction,
    points_change,
    points_effect,
    revert,
    streak_change,
    streak_effect,
    user_update,
)
from tests.service.leaderboard.steps import applied, define, maintained, projected, ranking, standings

DAILY = board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY)
WEEK_OF_THE_16TH = date_pb2.LocalDate(year=2026, month=11, day=16)
WEEK_OF_THE_23RD = date_pb2.LocalDate(year=2026, month=11, day=23)
FREE, PRO = {"plan": "free"}, {"plan": "pro"}


def at(day: int) -> datetime:
    """Noon in November; the 23rd is a Monday."""
    return datetime(2026, 11, day, 12, tzinfo=UTC)


def lengths_of(days: Sequence[int]) -> dict[int, int]:
    """The days on which the length of a daily streak changes, on the 24th."""
    found: dict[int, int] = {}
    length = 0
    for day in range(20, 25):
        if day in days or (length and day < 24):
            length = length + 1 if day in days else 0
            found[day] = length
    return found


def commits(order: Sequence[int], now_day: int = 24) -> list[participant_pb.Command]:
    """A commit on each of these days, in the order of arrival, with what the streak service says of it."""
    told = []
    for version, day in enumerate(order, 1):
        before, after = lengths_of(order[: version - 1]), lengths_of(order[:version])
        changed = [
            Recorded(at(one).date(), after.get(one), at(one) if after.get(one) else None, one)
            for one in sorted(before.keys() | after.keys())
            if before.get(one) != after.get(one)
        ]
        present = after[max(after)]
        effect = streak_effect(version, present, max(after.values()), at=at(day), periods=changed)
        told.append(event(day, 1, at=at(day), now=at(now_day), effects=Effects(streaks=[effect])))
    return told


@pytest.mark.parametrize("in_one_batch", [False, True])
@pytest.mark.parametrize("order", [*permutations((22, 23, 24))])
async def test_in_every_order_each_run_ranks_by_the_length_at_its_end(
    patient: Service, order: tuple[int, ...], in_one_batch: bool
) -> None:
    await define(patient, "weekly-streaks", streak="daily", schedule=WEEKLY)
    told = commits(order)
    for batch in [told] if in_one_batch else [[command] for command in told]:
        await applied(patient, *batch)
    assert await ranking(patient, "weekly-streaks", day=WEEK_OF_THE_16TH) == [(1, "ada", 1)]
    assert await ranking(patient, "weekly-streaks", day=WEEK_OF_THE_23RD) == [(1, "ada", 3)]
    assert len(await projected(patient)) == 2


async def test_a_late_event_moves_every_run_whose_length_it_changes_and_says_so(patient: Service) -> None:
    await define(patient, "weekly-streaks", streak="daily", schedule=WEEKLY)
    *others, late = commits((23, 24, 21, 22))
    await applied(patient, *others)
    assert await ranking(patient, "weekly-streaks", day=WEEK_OF_THE_16TH) == [(1, "ada", 0)]
    moved = await standings(patient, late)
    assert [(standing.run.start_date.day, standing.score) for standing in moved] == [(16, 2), (23, 4)]


async def test_what_midnight_brings_reaches_the_run_of_the_period_that_ended(patient: Service) -> None:
    await define(patient, "weekly-streaks", streak="daily", schedule=WEEKLY)
    sunday = Recorded(at(22).date(), 1, at(22), "sunday")
    await applied(patient, streak_change("sunday", 1, 1, 1, at=at(22), periods=[sunday]))
    assert await ranking(patient, "weekly-streaks", day=WEEK_OF_THE_16TH) == [(1, "ada", 1)]
    assert await ranking(patient, "weekly-streaks", day=WEEK_OF_THE_23RD) == [(1, "ada", 1)]
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    broken = Recorded(at(23).date(), 0)
    await applied(patient, streak_change("monday", 2, 0, 1, at=midnight, periods=[broken]))
    assert await ranking(patient, "weekly-streaks", day=WEEK_OF_THE_16TH) == [(1, "ada", 1)]
    assert await ranking(patient, "weekly-streaks", day=WEEK_OF_THE_23RD) == [(1, "ada", 0)]


async def test_a_week_that_freezes_carried_a_streak_through_is_archived_with_it(service: Service) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY)
    sunday = Recorded(at(22).date(), 4, at(22), "sunday")
    monday = Recorded(at(23).date(), 1, at(23), "monday")
    await applied(
        service,
        streak_change("sunday", 1, 4, 4, at=at(22), periods=[sunday]),
        streak_change("monday", 1, 1, 1, at=at(23), periods=[monday], user="bob"),
    )
    await maintained(service, at(30) + timedelta(days=1))
    assert await ranking(service, "weekly-streaks", day=WEEK_OF_THE_23RD) == [(1, "ada", 4), (2, "bob", 1)]


async def test_a_finalised_run_takes_no_length_any_more(service: Service) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY)
    await applied(service, *commits((22, 23), now_day=22))
    await maintained(service, datetime(2026, 11, 30, 13, tzinfo=UTC) - timedelta(weeks=1))
    later = datetime(2026, 11, 26, tzinfo=UTC)
    periods = [Recorded(at(day).date(), day - 20, at(day), day) for day in (21, 22, 23)]
    late = event(
        21, 1, at=at(21), now=later, effects=Effects(streaks=[streak_effect(9, 3, 3, periods=periods)])
    )
    moved = await standings(service, late)
    assert [(standing.run.start_date.day, standing.score, standing.run_finalized) for standing in moved] == [
        (23, 3, False),
        (16, 0, True),
    ]
    assert await ranking(service, "weekly-streaks", day=WEEK_OF_THE_16TH) == [(1, "ada", 1)]


async def test_who_is_alive_in_a_run_of_which_nothing_was_said_is_archived_in_it(service: Service) -> None:
    """A week's streak on a board of days: a day without events says nothing of it."""
    await define(service, "days", streak="daily", schedule=DAILY, breakdown_attributes=["plan"])
    week = Recorded(date(2026, 11, 16), 3, at(17), "ada", days=7)
    effects = Effects(streaks=[streak_effect(1, 3, 3, at=at(17), periods=[week])])
    await applied(
        service,
        event("ada", 1, at=at(17), attributes=PRO, effects=effects),
        event("bob", 1, user="bob", at=at(18), effects=effects),
        event("cy", 1, user="cy", at=at(19), effects=effects),
    )
    await maintained(service, at(21) + timedelta(days=1))
    told = {16: ["ada"], 17: ["ada", "bob"], 18: ["bob", "cy"], 19: ["cy"]}
    for day, users in told.items():
        members = ["ada", "bob", "cy"] if day > 17 else users
        ranked = await ranking(service, "days", day=local_date(date(2026, 11, day)))
        assert [(user, score) for _, user, score in ranked] == [(user, 3) for user in members]
        pro = await ranking(service, "days", PRO, day=local_date(date(2026, 11, day)))
        assert pro == [(1, "ada", 3)]


@pytest.mark.parametrize("order", [*permutations((1, 2, 3))])
async def test_points_count_in_the_run_and_at_the_time_of_the_entry_that_they_belong_to(
    service: Service, order: tuple[int, ...]
) -> None:
    """Three events of 4 and ten points for every 10: whoever has reached 10 before the third is ahead."""
    await define(service, "daily-xp", points_system="xp", schedule=DAILY)
    await define(service, "rich", points_system="xp")
    times = {number: NOON + timedelta(days=number - 3) for number in (1, 2, 3)}
    third = Given(10, 3, times[3])
    for number in order:
        last = number == order[-1]
        given = points_effect(1, 10, [third], at=times[3], cause=number)
        effects = Effects(points=[given]) if last else None
        await applied(service, event(number, 4, at=times[number], now=NOON, effects=effects))
    before = NOON - timedelta(hours=1)
    await applied(service, points_change("bob", 1, 10, 10, user="bob", at=before))
    assert await ranking(service, "daily-xp") == [(1, "bob", 10), (2, "ada", 10)]
    assert await ranking(service, "rich") == [(1, "bob", 10), (2, "ada", 10)]
    rows = await service.database.fetch(
        "SELECT DISTINCT reach_time FROM scores WHERE user_id = 'ada' AND score = 10"
    )
    assert [row["reach_time"] for row in rows] == [times[3]]


async def test_what_falls_to_another_entry_moves_to_the_run_of_that_one(service: Service) -> None:
    await define(service, "weekly-xp", points_system="xp", schedule=WEEKLY)
    await define(service, "rich", points_system="xp")
    next_week = NOON + timedelta(weeks=1)
    await applied(service, points_change(1, 1, 10, 10), event(2, 5, at=next_week))
    await service.participant.RevertEntries(revert(1))
    moved = [Given(-10, 1), Given(10, 2, next_week)]
    (outcome,) = await applied(service, points_change("c1", 2, 0, 10, corrects=1, awards=moved))
    moved_to = sorted(
        (leaderboard.leaderboard, leaderboard.rank, leaderboard.score)
        for leaderboard in outcome.effects.leaderboards
    )
    assert moved_to == [("rich", 1, 10), ("weekly-xp", 0, 0), ("weekly-xp", 1, 10)]
    assert await ranking(service, "weekly-xp") == []
    assert await ranking(service, "weekly-xp", day=NEXT_WEEK) == [(1, "ada", 10)]
    await applied(
        service, points_change("c2", 3, -10, 0, lifetime=0, corrects=2, awards=[Given(-10, 2, next_week)])
    )
    assert await ranking(service, "weekly-xp", day=NEXT_WEEK) == await ranking(service, "rich") == []


async def test_points_that_another_entry_brought_before_their_own_came_are_counted_with_it(
    service: Service,
) -> None:
    await define(service, "weekly-xp", points_system="xp", schedule=WEEKLY)
    later = NOON + timedelta(hours=1)
    await applied(
        service,
        points_change("first", 1, 3, 3),
        points_change("late", 3, -10, 3, awards=[Given(-10, 9, later)]),
    )
    assert await ranking(service, "weekly-xp") == [(1, "ada", -7)]
    await applied(service, points_change(9, 2, 10, 13, at=later))
    assert await ranking(service, "weekly-xp") == [(1, "ada", 3)]
    row = await service.database.fetchrow("SELECT reach_time FROM scores")
    assert row
    assert row["reach_time"] == NOON


@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_the_score_moves_whole_to_the_new_segment_also_in_a_run_that_has_just_opened(
    service: Service, in_one_batch: bool
) -> None:
    await define(service, "plans", schedule=WEEKLY, breakdown_attributes=["plan"])
    await define(service, "xp-plans", schedule=WEEKLY, breakdown_attributes=["plan"], points_system="xp")
    told = [
        event(
            1, 5, attributes=FREE, snapshot=1, effects=Effects(points=[points_effect(1, 10, [Given(10, 1)])])
        ),
        event(2, 2, attributes=PRO, snapshot=2, minutes=1),
        user_update(3, {}, snapshot=3),
        event(4, 1, attributes=PRO, snapshot=4, minutes=2),
    ]
    for batch in [told] if in_one_batch else [[command] for command in told]:
        await applied(service, *batch)
    for board, score in (("plans", 8), ("xp-plans", 10)):
        assert await ranking(service, board, FREE) == []
        assert await ranking(service, board, PRO) == await ranking(service, board) == [(1, "ada", score)]
    await maintained(service, NOON + timedelta(weeks=2))
    assert await ranking(service, "plans", FREE) == []
    assert await ranking(service, "plans", PRO) == [(1, "ada", 8)]
    assert [key async for key in service.sets.scan_iter("laurel:{*")] == []


async def test_who_loses_the_attribute_is_in_the_whole_only(service: Service) -> None:
    await define(service, "plans", schedule=WEEKLY, breakdown_attributes=["plan"])
    await applied(service, event(1, 5, attributes=PRO), user_update(2, {}))
    assert await ranking(service, "plans", PRO) == []
    assert await ranking(service, "plans") == [(1, "ada", 5)]


async def test_segments_go_by_the_newest_attributes_and_not_by_those_of_a_late_entry(
    service: Service,
) -> None:
    await define(service, "plans", breakdown_attributes=["plan"])
    await applied(service, event(1, 5, attributes=PRO, minutes=9))
    await applied(service, event(2, 2, attributes=FREE, newest=PRO, snapshot=2))
    assert await ranking(service, "plans", FREE) == []
    assert await ranking(service, "plans", PRO) == [(1, "ada", 7)]
    await applied(service, event(3, 1, attributes=FREE, newest={}, snapshot=3))
    assert await ranking(service, "plans", PRO) == []
    assert await ranking(service, "plans") == [(1, "ada", 8)]


async def test_a_repeated_item_of_a_unique_metric_gives_no_score(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "daily", schedule=DAILY)
    await define(service, "last", aggregation=board_pb.SCORE_AGGREGATION_LAST)
    tomorrow = NOON + timedelta(days=1)
    await applied(service, event("italy", 1, contribution=1))
    (outcome,) = await applied(service, event("italy again", 1, at=tomorrow, contribution=0, version=2))
    assert await ranking(service, "all-time") == await ranking(service, "last") == [(1, "ada", 1)]
    assert await ranking(service, "daily", day=local_date(tomorrow.date())) == []
    assert [leaderboard.leaderboard for leaderboard in outcome.effects.leaderboards] == ["all-time", "last"]


async def test_a_revision_moves_a_contribution_from_one_run_to_another(service: Service) -> None:
    """The highest of a value: what comes late and is as high leaves nothing to the one that came first."""
    await define(service, "all-time")
    await define(service, "daily", schedule=DAILY)
    await define(service, "best", aggregation=board_pb.SCORE_AGGREGATION_BEST)
    yesterday = NOON - timedelta(days=1)
    await applied(service, event(1, 5, contribution=5, version=1))
    (late,) = await applied(
        service, event(2, 5, at=yesterday, now=NOON, contribution=5, version=2, revisions={1: 0})
    )
    assert [(leaderboard.leaderboard, leaderboard.rank) for leaderboard in late.effects.leaderboards] == [
        ("all-time", 1),
        ("best", 1),
        ("daily", 1),
        ("daily", 0),
    ]
    assert await ranking(service, "daily") == []
    assert await ranking(service, "daily", day=local_date(yesterday.date())) == [(1, "ada", 5)]
    assert await ranking(service, "all-time") == await ranking(service, "best") == [(1, "ada", 5)]
    await service.participant.RevertEntries(revert(2))
    await applied(service, metric_correction("c2", corrects=2, version=3, revisions={1: 5}))
    assert await ranking(service, "daily") == await ranking(service, "all-time") == [(1, "ada", 5)]
    row = await service.database.fetchrow("SELECT reach_time FROM scores WHERE board = 'all-time'")
    assert row
    assert row["reach_time"] == NOON


@pytest.mark.parametrize("in_one_batch", [False, True])
async def test_a_revision_may_come_before_its_event(service: Service, in_one_batch: bool) -> None:
    await define(service, "all-time")
    revising = event(2, 3, contribution=3, version=2, revisions={1: 2})
    revised = event(1, 5, minutes=1, contribution=5, version=1)
    for batch in [[revising, revised]] if in_one_batch else [[revising], [revised]]:
        await applied(service, *batch)
    assert await ranking(service, "all-time") == [(1, "ada", 5)]
    assert await service.database.fetchval("SELECT count(*) FROM early_revisions") == 0
    await service.participant.RevertEntries(revert(1))
    assert await ranking(service, "all-time") == [(1, "ada", 3)]


async def test_an_older_revision_changes_nothing_nor_does_one_of_an_undone_event(service: Service) -> None:
    await define(service, "all-time")
    await applied(
        service, event(1, 5, contribution=4, version=3), event(9, 1, minutes=1, contribution=1, version=4)
    )
    await applied(service, event(2, 1, contribution=1, version=2, revisions={1: 5}))
    assert await ranking(service, "all-time") == [(1, "ada", 6)]
    await service.participant.RevertEntries(revert(1))
    await applied(service, event(3, 1, minutes=2, contribution=1, version=5, revisions={1: 3}))
    assert await ranking(service, "all-time") == [(1, "ada", 3)]
    assert await service.database.fetchval("SELECT count(*) FROM early_revisions") == 0


async def test_a_void_of_what_a_score_was_reached_with_leaves_the_time_of_the_others(
    service: Service,
) -> None:
    await define(service, "all-time")
    await define(service, "weekly-xp", points_system="xp", schedule=WEEKLY)
    for number in range(3):
        effects = Effects(
            points=[points_effect(number + 1, 10, [Given(1, number, NOON + timedelta(hours=number))])]
        )
        await applied(service, event(number, 1, minutes=60 * number, effects=effects))
    await service.participant.RevertEntries(revert(2))
    taken = [Given(-1, 2, NOON + timedelta(hours=2))]
    await applied(service, points_change("c2", 4, -1, 9, corrects=2, awards=taken))
    rows = await service.database.fetch("SELECT score, reach_time FROM scores ORDER BY board")
    assert [tuple(row) for row in rows] == [
        (2_000_000, NOON + timedelta(hours=1)),
        (2, NOON + timedelta(hours=1)),
    ]


def test_the_dates_are_those_of_the_issue() -> None:
    assert (at(23).weekday(), WEDNESDAY.day) == (0, 4)
