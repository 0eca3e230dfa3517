"""RULES 7.3 and 7.4: undone, an entry leaves the state as though it had never been."""

import asyncio
from datetime import UTC, datetime, timedelta

from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb

from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import (
    NEXT_WEEK,
    NOON,
    WEEKLY,
    Given,
    Recorded,
    apply,
    event,
    points_change,
    revert,
    streak_change,
)
from tests.service.leaderboard.steps import (
    applied,
    define,
    maintained,
    projected,
    ranking,
    standings,
    stored_state,
)

EU = {"region": "EU"}


async def boards_of_all_kinds(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "weekly", schedule=WEEKLY)
    await define(service, "best", aggregation=board_pb.SCORE_AGGREGATION_BEST)
    await define(service, "last", aggregation=board_pb.SCORE_AGGREGATION_LAST)
    await define(service, "regional", breakdown_attributes=["region"])


async def test_an_undone_entry_leaves_state_and_sets_as_if_it_had_never_been(service: Service) -> None:
    await boards_of_all_kinds(service)
    await applied(service, event(1, 5, attributes=EU), event(2, 9, user="bob", attributes=EU))
    state, sets = await stored_state(service), await projected(service)
    await applied(service, event(3, 30, minutes=5, attributes=EU))
    assert await projected(service) != sets
    response = await service.participant.RevertEntries(revert(3))
    assert response.outcomes[0].reverted
    assert await stored_state(service) == state
    assert await projected(service) == sets


async def test_later_entries_keep_their_effect(service: Service) -> None:
    await boards_of_all_kinds(service)
    await applied(service, event(1, 5), event(2, 6, minutes=1), event(3, 2, minutes=2))
    await service.participant.RevertEntries(revert(2))
    assert await ranking(service, "all-time") == await ranking(service, "weekly") == [(1, "ada", 7)]
    assert await ranking(service, "best") == [(1, "ada", 5)]
    assert await ranking(service, "last") == [(1, "ada", 2)]


async def test_the_outcome_tells_the_ranks_that_changed(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "best", aggregation=board_pb.SCORE_AGGREGATION_BEST)
    await applied(service, event(1, 5), event(2, 6, user="bob"), event(3, 3, minutes=1))
    response = await service.participant.RevertEntries(revert(3))
    (standing,) = response.outcomes[0].effects.leaderboards
    assert (standing.leaderboard, standing.previous_rank, standing.rank) == ("all-time", 1, 2)
    assert standing.score == 5


async def test_undoing_the_only_entry_takes_the_user_off_the_board(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5))
    response = await service.participant.RevertEntries(revert(1))
    (standing,) = response.outcomes[0].effects.leaderboards
    assert (standing.previous_rank, standing.rank, standing.score) == (1, 0, 0)
    assert await ranking(service, "all-time") == []


async def test_undoing_twice_is_undoing_once_with_one_answer(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5), event(2, 6))
    first = await service.participant.RevertEntries(revert(1))
    again = await service.participant.RevertEntries(revert(1, 1))
    assert list(again.outcomes) == [first.outcomes[0], first.outcomes[0]]
    assert await ranking(service, "all-time") == [(1, "ada", 6)]


async def test_an_entry_that_was_never_seen_is_refused_when_it_comes_later(service: Service) -> None:
    await define(service, "all-time")
    response = await service.participant.RevertEntries(revert(1))
    assert not response.outcomes[0].reverted
    (late,) = await applied(service, event(1, 5))
    assert late.error.reason == "ENTRY_REVERTED"
    assert await ranking(service, "all-time") == []


async def test_an_undone_entry_is_refused_for_ever(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5))
    await service.participant.RevertEntries(revert(1))
    (late,) = await applied(service, event(1, 5))
    assert late.error.reason == "ENTRY_REVERTED"


async def test_an_archived_run_is_not_changed_by_what_is_undone_later(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    await applied(service, event(1, 5))
    after = datetime(2026, 3, 10, tzinfo=UTC)
    assert await maintained(service, after) == 1
    response = await service.participant.RevertEntries(revert(1, now=after))
    assert response.outcomes[0].reverted
    assert not response.outcomes[0].effects.leaderboards
    assert await ranking(service, "weekly") == [(1, "ada", 5)]


async def test_points_and_streaks_follow_with_the_correction(service: Service) -> None:
    await define(service, "rich", points_system="xp")
    await define(service, "weekly-xp", points_system="xp", schedule=WEEKLY)
    await define(service, "streaks", streak="daily")
    empty = await stored_state(service)
    await applied(service, points_change(1, 1, 10, 10), streak_change(2, 1, 1, 1))
    await service.participant.RevertEntries(revert(1, 2))
    await applied(
        service,
        points_change("c1", 2, -10, 0, corrects=1),
        streak_change("c2", 2, 0, 0, corrects=2),
    )
    for board in ("rich", "weekly-xp", "streaks"):
        assert await ranking(service, board) == []
    assert await stored_state(service) == empty


async def test_a_correction_brings_the_score_and_the_time_of_reaching_it_up_to_date(
    service: Service,
) -> None:
    await define(service, "weekly-xp", points_system="xp", schedule=WEEKLY)
    later = datetime(2026, 3, 5, 12, tzinfo=UTC)
    await applied(
        service,
        points_change(1, 1, 10, 10, user="bob"),
        points_change(2, 1, 10, 10),
        points_change(3, 2, 5, 15, at=later),
    )
    await service.participant.RevertEntries(revert(3))
    (outcome,) = await applied(service, points_change("c3", 3, -5, 10, at=later, corrects=3))
    assert await ranking(service, "weekly-xp") == [(1, "ada", 10), (2, "bob", 10)]
    assert outcome.effects.leaderboards[0].score == 10


async def test_points_taken_back_are_missing_in_the_run_in_which_they_were_given(service: Service) -> None:
    await define(service, "weekly-xp", points_system="xp", schedule=WEEKLY)
    await define(service, "rich", points_system="xp")
    next_monday = NOON + timedelta(days=5)
    await applied(
        service,
        points_change(1, 1, 10, 10),
        points_change(2, 1, 4, 4, user="bob"),
        points_change(3, 2, 5, 15, at=next_monday),
    )
    taken = [Given(-7, 1), Given(-1, "of thursday", NOON + timedelta(days=1))]
    (outcome,) = await applied(
        service, points_change("c3", 3, -8, 7, at=next_monday, corrects="other", awards=taken)
    )
    assert [(leaderboard.leaderboard, leaderboard.score) for leaderboard in outcome.effects.leaderboards] == [
        ("rich", 7),
        ("weekly-xp", 2),
    ]
    assert await ranking(service, "weekly-xp") == [(1, "bob", 4), (2, "ada", 2)]
    assert await ranking(service, "weekly-xp", day=NEXT_WEEK) == [(1, "ada", 5)]
    row = await service.database.fetchrow(
        "SELECT reach_time FROM scores WHERE board = 'weekly-xp' AND user_id = 'ada' AND score = 2"
    )
    assert row
    assert row["reach_time"] < next_monday


async def test_the_date_of_an_award_has_to_be_a_date(service: Service) -> None:
    command = points_change(1, 1, 10, 10, awards=[Given(10, 1)])
    command.effects.points[0].awards[0].local_date.month = 13
    (outcome,) = await applied(service, command)
    assert outcome.error.reason == "INVALID_FIELDS"
    assert "awards[0].local_date" in str(outcome.error)


async def test_the_length_within_a_run_is_what_the_remaining_periods_say(service: Service) -> None:
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY)
    sunday, monday = datetime(2026, 3, 8, 12, tzinfo=UTC), datetime(2026, 3, 9, 12, tzinfo=UTC)
    first = Recorded(sunday.date(), 1, sunday, 1)
    await applied(
        service,
        streak_change(1, 1, 1, 1, at=sunday, periods=[first]),
        streak_change(2, 2, 2, 2, at=monday, periods=[Recorded(monday.date(), 2, monday, 2)]),
    )
    assert await ranking(service, "weekly-streaks") == [(1, "ada", 1)]
    assert await ranking(service, "weekly-streaks", day=NEXT_WEEK) == [(1, "ada", 2)]
    await service.participant.RevertEntries(revert(1))
    gone = [Recorded(sunday.date(), None), Recorded(monday.date(), 1, monday, 2)]
    (outcome,) = await applied(
        service, streak_change("c1", 3, 1, 1, at=sunday, now=monday, corrects=1, periods=gone)
    )
    assert [
        (leaderboard.previous_rank, leaderboard.rank, leaderboard.score)
        for leaderboard in outcome.effects.leaderboards
    ] == [
        (1, 0, 0),
        (1, 1, 1),
    ]
    assert await ranking(service, "weekly-streaks") == []
    assert await ranking(service, "weekly-streaks", day=NEXT_WEEK) == [(1, "ada", 1)]


async def test_applying_and_undoing_at_once_ends_in_one_of_the_two_ways(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event("base", 100))
    calls = [
        call
        for number in range(15)
        for call in (
            service.participant.ApplyEntries(apply(event(number, 1))),
            service.participant.RevertEntries(revert(number)),
        )
    ]
    await asyncio.gather(*calls)
    ((_, _, score),) = await ranking(service, "all-time")
    live = await service.database.fetchval(
        "SELECT count(*) FROM request_log WHERE state = 1 AND metric IS NOT NULL"
    )
    assert score == 100 + live - 1
    assert live == 1  # whichever came first, every entry was undone in the end


async def test_a_reversal_with_another_users_id_undoes_the_entry_all_the_same(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5))
    await service.participant.RevertEntries(revert(1, user="somebody else"))
    assert await ranking(service, "all-time") == []


async def test_a_late_entry_between_apply_and_undo_keeps_its_rank_history(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5))
    await standings(service, event(2, 9, user="bob"))
    await standings(service, event(3, 9, minutes=1))
    await service.participant.RevertEntries(revert(3))
    history = (await stored_state(service))["rank_events"]
    assert [(row[0], row[3], row[4]) for row in history] == [("ada", 0, 1), ("bob", 0, 1)]
