"""RULES 6.1 to 6.6 and 7.4, over the wire."""

import asyncio
from datetime import UTC, date, datetime

from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.ledger.v1 import entry_pb2

from shared.rpc.convert import date_to_proto
from tests.fixtures import participants
from tests.service.leaderboard.conftest import Service, replica
from tests.service.leaderboard.messages import (
    NEXT_WEEK,
    NOON,
    WEEKLY,
    apply,
    entry,
    entry_id,
    event,
    local_date,
    points_change,
    streak_change,
    user_update,
)
from tests.service.leaderboard.steps import applied, define, ranking, standings, stored_state

EU = {"region": "EU"}
ASIA = {"region": "AS"}


async def test_the_outcome_tells_score_rank_and_the_rank_before(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5, user="bob"))
    (first,) = await standings(service, event(2, 2.5))
    (second,) = await standings(service, event(3, 4, minutes=1))
    assert (first.rank, first.previous_rank, first.score) == (2, 0, 2.5)
    assert (second.rank, second.previous_rank, second.score) == (1, 2, 6.5)
    assert second.leaderboard == "all-time"
    assert not second.run.HasField("start_date")


async def test_several_events_of_a_batch_take_effect_one_after_the_other(service: Service) -> None:
    await define(service, "all-time")
    outcomes = await applied(
        service,
        event(1, 5),
        event(2, 7, user="bob"),
        event(3, 3, minutes=1),
        event(4, 1, user="cy"),
        event(5, 9, user="cy", minutes=2),
    )
    ranks = [
        (outcome.effects.leaderboards[0].previous_rank, outcome.effects.leaderboards[0].rank)
        for outcome in outcomes
    ]
    assert ranks == [(0, 1), (0, 1), (2, 1), (0, 3), (3, 1)]


async def test_the_same_entry_gets_the_same_outcome_byte_for_byte(service: Service) -> None:
    await define(service, "all-time")
    request = apply(event(1, 5), event(2, 6, user="bob"))
    first = await service.participant.ApplyEntries(request)
    await applied(service, event(3, 50))
    again = await service.participant.ApplyEntries(request)
    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
    assert await ranking(service, "all-time") == [(1, "ada", 55), (2, "bob", 6)]


async def test_the_same_entry_with_other_content_is_refused(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5))
    (outcome,) = await applied(service, event(1, 6))
    assert (outcome.error.reason, outcome.error.domain) == ("ENTRY_CONFLICT", "leaderboard.laurel")


async def test_an_entry_twice_in_one_batch_counts_once(service: Service) -> None:
    await define(service, "all-time")
    outcome, twin = await applied(service, event(1, 5), event(1, 5))
    assert outcome == twin
    assert await ranking(service, "all-time") == [(1, "ada", 5)]


async def test_a_malformed_command_fails_alone_and_names_its_fields(service: Service) -> None:
    await define(service, "all-time")
    bad = event(2, 5)
    bad.entry.time_zone = "+02:00"
    bad.entry.user.user_id = ""
    good, refused = await applied(service, event(1, 5), bad)
    assert good.effects.leaderboards[0].rank == 1
    assert {violation.field for violation in refused.error.violations} == {
        "commands[1].entry.time_zone",
        "commands[1].entry.user.user_id",
    }


async def test_an_entry_that_no_board_ranks_is_remembered_all_the_same(service: Service) -> None:
    (outcome,) = await applied(service, event(1, 5))
    (again,) = await applied(service, event(1, 5))
    assert outcome == again
    assert not outcome.effects.leaderboards


async def test_a_board_that_is_newer_than_the_facts_takes_them_in(service: Service) -> None:
    await applied(service, event(1, 5), event(2, 6))
    await define(service, "late")
    (standing,) = await standings(service, event(3, 1))
    assert standing.score == 12


async def test_around_a_boundary_two_runs_are_open_at_once(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    sunday_night = datetime(2026, 3, 8, 23, tzinfo=UTC)
    (london,) = await standings(service, event(1, 5, at=sunday_night, zone="Europe/London"))
    (tokyo,) = await standings(service, event(2, 7, at=sunday_night, zone="Asia/Tokyo"))
    assert (london.run.start_date.day, tokyo.run.start_date.day) == (2, 9)
    assert await ranking(service, "weekly") == [(1, "ada", 5)]
    assert await ranking(service, "weekly", day=NEXT_WEEK) == [(1, "ada", 7)]


async def test_each_event_is_ranked_in_the_whole_board_and_in_the_users_segment(service: Service) -> None:
    await define(service, "regional", breakdown_attributes=["region"])
    await applied(service, event(1, 9, user="bob", attributes=ASIA), event(2, 7, user="cy", attributes=EU))
    whole, european = await standings(service, event(3, 5, attributes=EU))
    assert (dict(whole.segment), whole.rank) == ({}, 3)
    assert (dict(european.segment), european.rank) == (EU, 2)


async def test_when_the_attributes_change_the_score_moves_to_the_new_segment(service: Service) -> None:
    await define(service, "regional", breakdown_attributes=["region"])
    await applied(service, event(1, 9, user="bob", attributes=ASIA), event(2, 12, attributes=EU))
    (moved,) = await standings(service, user_update(3, ASIA))
    assert (dict(moved.segment), moved.rank, moved.previous_rank, moved.score) == (ASIA, 1, 0, 12)
    assert await ranking(service, "regional", EU) == []
    assert await ranking(service, "regional", ASIA) == [(1, "ada", 12), (2, "bob", 9)]
    assert await ranking(service, "regional") == [(1, "ada", 12), (2, "bob", 9)]


async def test_a_stale_snapshot_does_not_move_the_user_back(service: Service) -> None:
    await define(service, "regional", breakdown_attributes=["region"])
    await applied(service, event(1, 12, attributes=ASIA, snapshot=5), event(2, 1, attributes=EU, snapshot=4))
    assert await ranking(service, "regional", ASIA) == [(1, "ada", 13)]
    assert await ranking(service, "regional", EU) == []


async def test_who_reaches_a_score_first_is_ahead_and_then_the_user_id_decides(service: Service) -> None:
    await define(service, "all-time")
    await applied(
        service,
        event(1, 5, user="zoe", minutes=1),
        event(2, 5, user="bob", minutes=2),
        event(3, 5, user="ada", minutes=2),
    )
    assert [user for _, user, _ in await ranking(service, "all-time")] == ["zoe", "ada", "bob"]


async def test_ties_share_a_rank_where_the_board_says_so(service: Service) -> None:
    await define(service, "competition", rank_mode=board_pb.RANK_MODE_COMPETITION)
    await define(service, "dense", rank_mode=board_pb.RANK_MODE_DENSE)
    await applied(
        service,
        event(1, 9, user="a"),
        event(2, 7, user="b"),
        event(3, 7, user="c"),
        event(4, 1, user="d"),
    )
    assert [rank for rank, _, _ in await ranking(service, "competition")] == [1, 2, 2, 4]
    assert [rank for rank, _, _ in await ranking(service, "dense")] == [1, 2, 2, 3]
    competition, dense = await standings(service, event(5, 6, user="d", minutes=1))
    assert (competition.previous_rank, competition.rank) == (4, 2)
    assert (dense.previous_rank, dense.rank) == (3, 2)


async def test_an_ascending_board_ranks_the_lowest_best_value_first(service: Service) -> None:
    await define(
        service,
        "laps",
        metric="seconds",
        aggregation=board_pb.SCORE_AGGREGATION_BEST,
        order=board_pb.SORT_ORDER_ASC,
    )
    await applied(
        service,
        event(1, 62.5, metric="seconds"),
        event(2, 61.25, metric="seconds", user="bob"),
        event(3, 70, metric="seconds", minutes=1),
    )
    assert await ranking(service, "laps") == [(1, "bob", 61.25), (2, "ada", 62.5)]


async def test_a_full_board_is_entered_by_beating_its_last_score(service: Service) -> None:
    await define(service, "top-two", participant_limit=2)
    (alone,) = await standings(service, event(1, 9, user="a"))
    (full,) = await standings(service, event(2, 5, user="b"))
    (outside,) = await standings(service, event(3, 4, user="c"))
    (inside,) = await standings(service, event(4, 2, user="c", minutes=1))
    assert not alone.HasField("threshold")
    assert (full.rank, full.threshold) == (2, 5)
    assert (outside.rank, outside.threshold) == (0, 5)
    assert (inside.rank, inside.previous_rank, inside.threshold) == (2, 0, 6)
    assert await ranking(service, "top-two") == [(1, "a", 9), (2, "c", 6)]


async def test_a_perpetual_points_board_ranks_balances_of_which_the_newest_version_wins(
    service: Service,
) -> None:
    await define(service, "rich", points_system="xp")
    await applied(service, points_change(1, 2, 10, 30), points_change(2, 1, 20, 20))
    assert await ranking(service, "rich") == [(1, "ada", 30)]


async def test_a_repeating_points_board_ranks_the_net_change_of_its_run(service: Service) -> None:
    await define(service, "weekly-xp", points_system="xp", schedule=WEEKLY)
    week_later = datetime(2026, 3, 11, 12, tzinfo=UTC)
    await applied(
        service,
        points_change(1, 1, 30, 130),
        points_change(2, 2, -10, 120),
        points_change(3, 3, 7, 127, at=week_later),
    )
    assert await ranking(service, "weekly-xp") == [(1, "ada", 20)]
    assert await ranking(service, "weekly-xp", day=NEXT_WEEK) == [(1, "ada", 7)]


async def test_a_streak_board_follows_the_length_also_when_it_breaks(service: Service) -> None:
    await define(service, "streaks", streak="daily")
    (gained,) = await standings(service, streak_change(1, 1, 4, 4))
    (lost,) = await standings(service, streak_change(2, 2, 0, 4))
    assert (gained.score, lost.score) == (4, 0)


async def test_an_archived_board_ignores_events_and_stays_readable(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5))
    board = board_pb.Leaderboard(key="all-time", status=board_pb.LEADERBOARD_STATUS_ARCHIVED)
    await service.definitions.update(board)
    (outcome,) = await applied(service, event(2, 5))
    assert not outcome.effects.leaderboards
    assert await ranking(service, "all-time") == [(1, "ada", 5)]


async def test_many_writers_on_one_user_end_as_one_after_the_other(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "weekly", schedule=WEEKLY)
    async with replica(service.dsn, service.sets_url) as other:
        calls = [
            replica_.ApplyEntries(apply(event(number, 1, minutes=number % 7)))
            for number, replica_ in enumerate([service.participant, other] * 30)
        ]
        responses = await asyncio.gather(*calls)
    assert sorted(response.outcomes[0].effects.leaderboards[0].score for response in responses) == list(
        range(1, 61)
    )
    assert await ranking(service, "all-time") == await ranking(service, "weekly") == [(1, "ada", 60)]


async def test_many_users_at_once_on_two_replicas_are_ranked_without_gaps(service: Service) -> None:
    await define(service, "all-time")
    async with replica(service.dsn, service.sets_url) as other:
        calls = [
            replica_.ApplyEntries(
                apply(*(event((number, user), 1 + user, user=f"u{user}") for user in range(8)))
            )
            for number, replica_ in enumerate([service.participant, other] * 10)
        ]
        await asyncio.gather(*calls)
    expected = [(8 - user, f"u{user}", 20.0 * (1 + user)) for user in reversed(range(8))]
    assert await ranking(service, "all-time") == expected


async def test_the_order_of_arrival_does_not_matter(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "last", aggregation=board_pb.SCORE_AGGREGATION_LAST)
    events = [event(number, number + 1, minutes=number) for number in (3, 1, 4, 0, 2)]
    for command in events:
        await applied(service, command)
    assert await ranking(service, "all-time") == [(1, "ada", 15)]
    assert await ranking(service, "last") == [(1, "ada", 5)]


async def test_scores_are_exact_beyond_what_a_double_can_tell_apart(service: Service) -> None:
    await define(service, "rich", points_system="xp")
    await applied(
        service,
        points_change(1, 1, 1, 2**60, user="a"),
        points_change(2, 1, 1, 2**60 + 1, user="b"),
        points_change(3, 1, 1, 2**60 - 1, user="c"),
    )
    assert [user for _, user, _ in await ranking(service, "rich")] == ["b", "a", "c"]


async def test_an_entry_without_facts_of_a_new_user_is_an_entry_like_others(service: Service) -> None:
    await define(service, "regional", breakdown_attributes=["region"])
    (outcome,) = await applied(service, user_update(1, EU, snapshot=1))
    assert outcome.entry_id == str(entry_id(1))
    assert not outcome.effects.leaderboards


async def test_every_kind_of_entry_is_taken(service: Service) -> None:
    for number, operation in enumerate(entry_pb2.Entry.DESCRIPTOR.oneofs_by_name["operation"].fields):
        told = entry(number)
        getattr(told, operation.name).SetInParent()
        if operation.name == "metric_event":
            told = event(number, 1).entry
        elif operation.name == "correction":
            told = entry(number, corrects="x")
        elif operation.name in ("achievement_call", "achievement_revocation"):
            getattr(told, operation.name).achievement = "badge"
        elif operation.name in ("points_grant", "points_spend", "points_transfer"):
            if operation.name == "points_transfer":
                told.other_users.add().CopyFrom(entry("other", user="bob").user)
            gift = getattr(told, operation.name).gift
            gift.points_system, gift.amount = "xp", 5
        elif operation.name == "points_hold":
            told.points_hold.points_system, told.points_hold.amount = "xp", 5
            told.points_hold.expire_time.CopyFrom(told.now)
        elif operation.name in ("points_capture", "points_release"):
            getattr(told, operation.name).hold_entry_id = str(entry_id("hold"))
        elif operation.name.startswith("streak_") and operation.name != "streak_closing":
            call = getattr(told, operation.name)
            call.streak = "daily"
            if operation.name == "streak_freeze_grant":
                call.count = 1
            elif operation.name == "streak_pause":
                call.start_date.CopyFrom(date_to_proto(date(2025, 3, 1)))
                call.end_date.CopyFrom(date_to_proto(date(2025, 3, 2)))
        (outcome,) = await applied(service, participants.command(told))
        assert not outcome.HasField("error")


async def test_only_what_changed_the_rank_is_in_the_rank_history(service: Service) -> None:
    await define(service, "all-time")
    await applied(
        service, event(1, 5), event(2, 6, user="bob"), event(3, 7, minutes=1), event(4, 1, minutes=2)
    )
    history = (await stored_state(service))["rank_events"]
    assert [(row[0], row[3], row[4]) for row in history] == [("ada", 0, 1), ("bob", 0, 1), ("ada", 2, 1)]


async def test_a_local_date_decides_also_far_from_utc(service: Service) -> None:
    daily = board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY)
    await define(service, "daily", schedule=daily)
    (standing,) = await standings(service, event(1, 5, at=NOON, zone="Pacific/Kiritimati"))
    assert standing.run.start_date == local_date(datetime(2026, 3, 5, tzinfo=UTC).date())
