"""What is told of an entry (RULES 8)."""

from collections.abc import Container
from collections.abc import Set as AbstractSet
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.achievement.v1 import achievement_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.orchestrator.v1 import domain_event_pb2
from laurel.participant.v1 import participant_service_pb2
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from services.orchestrator.domain_events import (
    EVERY_TYPE,
    Told,
    Type,
    events_of,
    told_of,
    told_of_finding,
    told_of_refusal,
)
from shared.ids import derived_id_beside

ENTRY_ID = "01900000-0000-7000-8000-000000000001"
OCCURRED, NOW = Timestamp(seconds=1_700_000_000), Timestamp(seconds=1_700_000_900)
ADA = entry_pb2.UserSnapshot(user_id="ada", time_zone="Asia/Tokyo", version=3, name="Ada")
COMPLETED = achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED
REVOKED = achievement_pb2.ACHIEVEMENT_CHANGE_KIND_REVOKED
FROZEN = streak_pb2.Period(status=streak_pb2.PERIOD_STATUS_FROZEN)
BROKEN = streak_pb2.Period(status=streak_pb2.PERIOD_STATUS_BROKEN)
QUALIFIED = streak_pb2.Period(status=streak_pb2.PERIOD_STATUS_QUALIFIED)


def an_entry(**parts: object) -> entry_pb2.Entry:
    """An entry that by itself tells nothing."""
    entry = entry_pb2.Entry(
        entry_id=ENTRY_ID,
        user=ADA,
        now=NOW,
        occur_time=OCCURRED,
        user_sequence=7,
        origin=entry_pb2.ENTRY_ORIGIN_LIVE,
    )
    entry.MergeFrom(entry_pb2.Entry(**parts))  # type: ignore[arg-type]
    return entry


def a_metric_event(**parts: object) -> entry_pb2.Entry:
    return an_entry(
        metric_event=entry_pb2.MetricFact(
            metric="commits",
            value_micros=2_500_000,
            total_before_micros=1_000_000,
            total_after_micros=3_500_000,
            attributes={"state": "merged"},
        ),
        **parts,
    )


def a_correction(*, voided: bool, **parts: object) -> entry_pb2.Entry:
    total = entry_pb2.MetricFact(metric="commits", total_after_micros=1_000_000)
    correction = entry_pb2.Correction(corrected_entry_id="the other one", metric=total, voided=voided)
    return an_entry(correction=correction, **parts)


def a_streak(
    before: int, after: int, *periods: streak_pb2.Period, version: int = 5, earned: int = 0
) -> effects_pb2.Effects:
    change = streak_pb2.StreakChange(streak="daily", version=version, length_before=before, length=after)
    effect = streak_pb2.StreakEffect(
        user_id="ada", change=change, periods=periods, earned_freeze_count=earned
    )
    return effects_pb2.Effects(streaks=[effect])


def unmoved(*periods: streak_pb2.Period, earned: int = 0) -> effects_pb2.Effects:
    effect = streak_pb2.StreakEffect(user_id="ada", periods=periods, earned_freeze_count=earned)
    return effects_pb2.Effects(streaks=[effect])


def an_achievement(
    kind: achievement_pb2.AchievementChangeKind.ValueType, completion: str = "c", user: str = "ada"
) -> achievement_pb2.AchievementChange:
    return achievement_pb2.AchievementChange(
        user_id=user, achievement="ten", kind=kind, completion_id=completion
    )


def achievements(*changes: achievement_pb2.AchievementChange) -> effects_pb2.Effects:
    return effects_pb2.Effects(achievements=changes)


def points(before: int, after: int, *levels: str) -> effects_pb2.Effects:
    level_before, level = levels or ("", "")
    return effects_pb2.Effects(
        points=[
            points_pb2.PointsChange(
                user_id="ada",
                points_system="xp",
                added=after - before,
                balance_before=before,
                balance=after,
                level_before=level_before,
                level=level,
            )
        ]
    )


def a_standing(before: int, after: int, *, archived: bool = False) -> effects_pb2.Effects:
    return effects_pb2.Effects(
        leaderboards=[
            leaderboard_pb2.Standing(
                user_id="ada", leaderboard="all", previous_rank=before, rank=after, run_finalized=archived
            )
        ]
    )


def row_of(entry: entry_pb2.Entry, effects: effects_pb2.Effects) -> Told | None:
    """What the feed stores."""
    return told_of(entry, entry.SerializeToString(), effects.SerializeToString())


def read(
    row: Told, wanted: AbstractSet[Type] = EVERY_TYPE, users: Container[str] | None = None
) -> list[domain_event_pb2.DomainEvent]:
    """The events as followers get them."""
    found = []
    for event in events_of(row, wanted, users):
        message = domain_event_pb2.DomainEvent.FromString(event.body)
        assert (message.type, message.user_id) == (event.type, event.user_id)
        found.append(message)
    return found


def told(
    entry: entry_pb2.Entry, effects: effects_pb2.Effects | None = None
) -> list[domain_event_pb2.DomainEvent]:
    """All events, as they are read from a row of the feed."""
    row = row_of(entry, effects or effects_pb2.Effects())
    return read(row) if row else []


def stored(entry: entry_pb2.Entry, effects: effects_pb2.Effects) -> Told:
    row = row_of(entry, effects)
    assert row is not None
    return row


def types(entry: entry_pb2.Entry, effects: effects_pb2.Effects | None = None) -> list[str]:
    return [event.type for event in told(entry, effects)]


def test_a_metric_event_is_told_with_its_value_and_totals() -> None:
    (event,) = told(a_metric_event())
    assert event.type == "metric.recorded"
    assert (event.metric.metric, event.metric.value) == ("commits", 2.5)
    assert (event.metric.total_before, event.metric.total_after) == (1.0, 3.5)
    assert dict(event.metric.attributes) == {"state": "merged"}


def test_an_event_says_who_when_and_by_which_entry() -> None:
    (event,) = told(a_metric_event())
    assert (event.user_id, event.user_sequence, event.entry_id) == ("ada", 7, ENTRY_ID)
    assert event.time == OCCURRED
    assert not event.control


@pytest.mark.parametrize(("version", "told_as"), [(1, "user.created"), (2, "user.updated")])
def test_a_user_who_is_new_or_changed_is_told_as_stored(version: int, told_as: str) -> None:
    user = entry_pb2.UserSnapshot(version=version, changed=True, attributes={"plan": "pro"})
    (event,) = told(an_entry(user_update={}, user=user))
    assert event.type == told_as
    assert (event.user.user_id, event.user.name, event.user.version) == ("ada", "Ada", version)
    assert dict(event.user.attributes) == {"plan": "pro"}


def test_a_user_who_is_told_of_late_has_the_attributes_that_hold_now() -> None:
    user = entry_pb2.UserSnapshot(
        version=2,
        changed=True,
        attributes={"plan": "free"},
        has_newest_attributes=True,
        newest_attributes={"plan": "pro"},
    )
    (event,) = told(an_entry(user_update={}, user=user))
    assert dict(event.user.attributes) == {"plan": "pro"}


def test_an_entry_that_leaves_the_user_as_it_was_does_not_tell_of_the_user() -> None:
    assert types(an_entry(user_update={})) == []


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        (a_streak(0, 1, QUALIFIED), ["streak.started"]),
        (a_streak(4, 5, QUALIFIED), ["streak.extended"]),
        (a_streak(4, 0, BROKEN), ["streak.lost"]),
        (a_streak(4, 1, BROKEN, QUALIFIED), ["streak.lost", "streak.started"]),
        (a_streak(4, 5, FROZEN, QUALIFIED), ["streak.frozen", "streak.extended"]),
        (a_streak(0, 3, QUALIFIED), ["streak.started"]),
        (a_streak(5, 4), []),
        (unmoved(FROZEN), ["streak.frozen"]),
        (unmoved(earned=1), ["streak.freeze_earned"]),
        (unmoved(BROKEN), []),
        (unmoved(), []),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, list) else "",
)
def test_a_streak_is_told_by_what_became_of_its_run(
    effects: effects_pb2.Effects, expected: list[str]
) -> None:
    events = told(an_entry(), effects)
    assert [event.type for event in events] == expected
    assert all(event.streak == effects.streaks[0] for event in events)


@pytest.mark.parametrize(
    ("operation", "told_as"),
    [
        ({"streak_pause": {"streak": "daily"}}, "streak.paused"),
        ({"streak_reset": {"streak": "daily"}}, "streak.reset"),
        ({"streak_restore": {"streak": "daily"}}, "streak.restored"),
    ],
)
def test_what_is_done_to_a_streak_by_hand_is_told_as_that(
    operation: dict[str, dict[str, str]], told_as: str
) -> None:
    effect = streak_pb2.StreakEffect(state=streak_pb2.StreakState(streak="daily"), user_id="ada")
    effect.change.length_before, effect.change.length = 4, 0
    other = streak_pb2.StreakEffect(state=streak_pb2.StreakState(streak="weekly"), user_id="ada")
    other.change.length_before = 2
    entry = an_entry(**operation)
    assert types(entry, effects_pb2.Effects(streaks=[effect, other])) == [told_as, "streak.lost"]


def test_freezes_that_are_given_are_told_like_those_that_are_earned() -> None:
    effect = streak_pb2.StreakEffect(given_freeze_count=2, user_id="ada")
    assert types(an_entry(streak_freeze_grant={}), effects_pb2.Effects(streaks=[effect])) == [
        "streak.freeze_earned"
    ]


def test_completions_and_revocations_are_told_with_what_the_reply_has() -> None:
    changes = [an_achievement(REVOKED, "old"), an_achievement(COMPLETED, "new")]
    events = told(an_entry(), achievements(*changes))
    assert [event.type for event in events] == ["achievement.revoked", "achievement.completed"]
    assert [event.achievement for event in events] == changes


def test_points_are_told_and_a_new_level_by_itself() -> None:
    assert types(an_entry(), points(0, 10)) == ["points.changed"]
    assert types(an_entry(), points(0, 10, "", "bronze")) == ["points.changed", "points.level_changed"]
    for finished, type_ in (False, "points.boost_started"), (True, "points.boost_finished"):
        change = participant_service_pb2.Change(entry_id=an_entry().entry_id)
        change.boost_change.points_system, change.boost_change.finished = "xp", finished
        row = told_of_finding(change)
        assert row is not None
        (event,) = read(row)
        assert (event.type, event.user_id, event.boost.points_system) == (type_, "", "xp")
    gone = points(10, 4)
    gone.points[0].awards.add(trigger="(expired)", amount=-6)
    assert types(an_entry(), gone) == ["points.changed", "points.expired"]
    assert types(an_entry(), points(0, 10, "bronze", "bronze")) == ["points.changed"]


def test_points_that_a_limit_left_as_they_were_are_not_told() -> None:
    assert types(an_entry(), points(10, 10)) == []


def test_a_standing_is_told_and_a_new_rank_by_itself() -> None:
    assert types(an_entry(), a_standing(2, 2)) == ["leaderboard.changed"]
    assert types(an_entry(), a_standing(2, 1)) == ["leaderboard.changed", "leaderboard.rank_changed"]


def test_an_archived_run_has_nothing_to_tell() -> None:
    assert types(an_entry(), a_standing(0, 0, archived=True)) == []


def test_events_come_in_the_order_of_cause_and_effect() -> None:
    effects = a_streak(0, 1)
    for more in (achievements(an_achievement(COMPLETED)), points(0, 10), a_standing(0, 1)):
        effects.MergeFrom(more)
    assert types(a_metric_event(user={"version": 1, "changed": True}), effects)[:6] == [
        "metric.recorded",
        "user.created",
        "streak.started",
        "achievement.completed",
        "points.changed",
        "leaderboard.changed",
    ]


def test_a_void_is_told_with_everything_that_it_undid() -> None:
    effects = points(30, 20)
    first, second = told(a_correction(voided=True), effects)
    assert (first.type, first.voided.entry_id, first.voided.metric) == (
        "event.voided",
        "the other one",
        "commits",
    )
    assert (first.voided.total_after, first.voided.effects) == (1.0, effects)
    assert (second.type, second.points.balance) == ("points.changed", 20)
    assert first.time == second.time == NOW


def test_the_undoing_of_a_refused_entry_tells_of_its_effects_alone() -> None:
    assert types(a_correction(voided=False), points(30, 20)) == ["points.changed"]


@pytest.mark.parametrize("origin", ["ENTRY_ORIGIN_IMPORT", "ENTRY_ORIGIN_BACKFILL"])
def test_history_tells_nothing(origin: str) -> None:
    assert row_of(a_metric_event(origin=origin), points(0, 10)) is None
    assert row_of(a_correction(voided=False, origin=origin), points(10, 0)) is None


def test_that_history_is_voided_by_a_call_is_told() -> None:
    correction = a_correction(voided=True, origin="ENTRY_ORIGIN_IMPORT")
    assert types(correction, points(10, 0)) == ["event.voided", "points.changed"]


def test_events_about_another_user_have_no_place_among_the_acting_users() -> None:
    effects = achievements(an_achievement(COMPLETED, user="bob"), an_achievement(COMPLETED, user="ada"))
    assert [(event.user_id, event.user_sequence) for event in told(an_entry(), effects)] == [
        ("bob", 0),
        ("ada", 7),
    ]


def test_ids_are_the_same_whenever_and_with_whatever_filter_they_are_read() -> None:
    effects = achievements(*(an_achievement(COMPLETED, name, user=name) for name in ("ada", "bob", "eve")))
    row = stored(a_metric_event(), effects)
    every = {event.id: event for event in read(row)}
    assert len(every) == 4
    (bobs,) = read(row, {Type.ACHIEVEMENT_COMPLETED}, {"bob"})
    assert every[bobs.id] == bobs
    assert list(every) == [
        str(derived_id_beside(UUID(ENTRY_ID), type_, number))
        for type_, number in (("metric.recorded", "0"), *(("achievement.completed", n) for n in "012"))
    ]


def test_only_what_is_wanted_is_told() -> None:
    row = stored(a_metric_event(), points(0, 10, "", "bronze"))
    wanted = {Type.POINTS_LEVEL_CHANGED}
    assert [event.type for event in read(row, wanted)] == ["points.level_changed"]
    assert read(row, wanted, "bob") == []


@pytest.mark.parametrize("type_", sorted(EVERY_TYPE))
def test_each_event_is_the_same_for_who_wants_its_type_alone_as_for_who_wants_all(type_: Type) -> None:
    effects = a_streak(2, 0)
    effects.MergeFrom(
        achievements(an_achievement(COMPLETED), an_achievement(REVOKED), an_achievement(COMPLETED))
    )
    effects.MergeFrom(points(0, 10, "", "bronze"))
    effects.MergeFrom(a_standing(3, 1))
    row = stored(a_metric_event(), effects)
    assert read(row, {type_}) == [event for event in read(row) if event.type == type_]


def test_what_came_and_went_with_a_refused_entry_is_not_told() -> None:
    applied = a_streak(2, 3, version=8)
    applied.MergeFrom(achievements(an_achievement(COMPLETED, "own")))
    undone = a_streak(3, 2, version=9)
    undone.MergeFrom(achievements(an_achievement(REVOKED, "own")))
    assert told_of_refusal(applied, undone) == effects_pb2.Effects()


def test_what_others_had_built_on_a_refused_entry_is_told() -> None:
    applied = a_streak(2, 3, version=8)
    undone = a_streak(4, 3, version=10)
    undone.MergeFrom(achievements(an_achievement(REVOKED, "another's")))
    undone.MergeFrom(points(30, 20))
    assert told_of_refusal(applied, undone) == undone


def test_what_a_refused_entry_brought_and_left_is_told_then() -> None:
    stays = achievements(an_achievement(COMPLETED, "justified by others"))
    assert told_of_refusal(stays, effects_pb2.Effects()) == stays


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_that_begins_or_ends_is_told_of_nobody_and_is_no_entry(finished: bool) -> None:
    run = leaderboard_pb2.BoardRun(leaderboard="weekly", finished=finished)
    change = participant_service_pb2.Change(entry_id=ENTRY_ID, occur_time=OCCURRED, board_run=run)
    told = told_of_finding(change)
    assert told is not None
    (event,) = read(told)
    assert event.type == f"leaderboard.run_{'finished' if finished else 'started'}"
    assert (event.time, event.user_id, event.board_run) == (OCCURRED, "", run)
    assert read(told, users={"ada"}) == []


def test_who_was_overtaken_is_told_of_the_rank_alone_and_what_is_told_later_not_now() -> None:
    passed = leaderboard_pb2.Standing(user_id="bob", leaderboard="race", previous_rank=1, rank=2, passed=True)
    own = leaderboard_pb2.Standing(user_id="ada", leaderboard="race", previous_rank=2, rank=1)
    later = leaderboard_pb2.Standing(
        user_id="ada", leaderboard="calm", previous_rank=2, rank=1, told_at_interval=True
    )
    ranks = leaderboard_pb2.BoardRanks(standings=[own, passed])
    told = told_of_finding(participant_service_pb2.Change(entry_id=ENTRY_ID, board_ranks=ranks))
    assert told is not None
    assert [(event.type, event.user_id) for event in read(told)] == [
        ("leaderboard.changed", "ada"),
        ("leaderboard.rank_changed", "ada"),
        ("leaderboard.rank_changed", "bob"),
    ]
    assert [event.user_id for event in read(told, users={"bob"})] == ["bob"]
    assert types(an_entry(), effects_pb2.Effects(leaderboards=[later])) == []


def test_what_somebody_acts_on_is_an_entry() -> None:
    assert told_of_finding(participant_service_pb2.Change(league_move=entry_pb2.LeagueMove())) is None
