"""Limits of a local day, and cooldowns (RULES 5.2, 5.4)."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec.structs import replace

from services.points.domain.definitions import (
    ONE,
    AchievementCause,
    Boost,
    MetricCause,
    PointsSystem,
    TimeWindow,
    Trigger,
)
from services.points.domain.facts import Command
from shared.entries import EntryKind, PointsGift, PointsGrant
from tests.unit.points.user import START, UNIT, User, amounts, only_change

EARN = Trigger("earn", 10, MetricCause("commits", UNIT))
OTHER = Trigger("other", 10, MetricCause("commits", UNIT))
LIMITED = replace(EARN, daily_limit=25)
COOLING = replace(EARN, cooldown=timedelta(minutes=30))
DAY = 24 * 60


def user(*triggers: Trigger, **fields: object) -> User:
    return User([PointsSystem("xp", triggers, **fields)])  # type: ignore[arg-type]


def earned(alice: User, times: Sequence[float]) -> list[list[int]]:
    return [amounts(alice.earn(1, at=time)) for time in times]


def test_a_trigger_gives_no_more_on_a_local_date_than_its_limit_and_what_is_cut_is_recorded() -> None:
    alice = user(LIMITED, OTHER)
    assert earned(alice, [0, 1, 2, 3]) == [[10, 10], [10, 10], [5, 10], [0, 10]]
    assert [award.clipped_amount for award in alice.ledger if award.key.trigger == "earn"] == [0, 0, 5, 10]


def test_the_next_local_date_begins_anew() -> None:
    alice = user(LIMITED)
    assert earned(alice, [0, 1, 2, DAY, DAY + 1]) == [[10], [10], [5], [10], [10]]


def test_a_late_event_is_limited_by_its_own_date() -> None:
    alice = user(LIMITED)
    assert earned(alice, [0, 1, DAY, 2, 3]) == [[10], [10], [10], [5], [0]]


def test_the_daily_cap_of_a_system_counts_all_its_triggers() -> None:
    alice = user(EARN, OTHER, daily_cap=35)
    assert earned(alice, [0, 1, DAY]) == [[10, 10], [10, 5], [10, 10]]


def test_what_boosts_add_counts_for_the_cap() -> None:
    boost = Boost("double", 2 * ONE, TimeWindow(START, None))
    alice = user(EARN, daily_cap=35, boosts=(boost,))
    assert earned(alice, [0, 1]) == [[20], [15]]


def test_points_that_are_given_by_call_neither_count_nor_are_they_cut() -> None:
    alice = user(EARN, daily_cap=15)
    gift = replace(alice.entry(EntryKind.POINTS_GRANT), content=PointsGrant(PointsGift("xp", 100)))
    assert amounts(alice.applied(Command(gift))) == [100]
    assert earned(alice, [2, 3]) == [[10], [5]]


def test_deductions_are_not_limited_by_the_day() -> None:
    alice = user(EARN, Trigger("cost", -4, MetricCause("fun", UNIT)), daily_cap=10)
    alice.earn(1, at=0)
    assert amounts(alice.earn(2, metric="fun", at=1)) == [-8]
    assert amounts(alice.earn(1, at=2)) == [0]


def test_a_trigger_that_cools_down_gives_nothing_meanwhile() -> None:
    assert earned(user(COOLING), [0, 29, 30, 59, 61]) == [[10], [0], [10], [0], [10]]


def test_what_gave_nothing_starts_no_cooldown() -> None:
    assert earned(user(COOLING), [0, 20, 40]) == [[10], [0], [10]]


def test_a_late_event_within_the_cooldown_before_another_one_gives_nothing() -> None:
    assert earned(user(COOLING), [60, 31, 30]) == [[10], [0], [10]]


def test_after_a_void_the_limits_act_as_though_the_event_had_never_been() -> None:
    alice = user(LIMITED, replace(OTHER, cooldown=timedelta(minutes=30)))
    first, *_ = (alice.earn(1, at=time) for time in (0, 1, 2, 40))
    alice.undo(first.fact.instant.entry_id)
    others = user(LIMITED, replace(OTHER, cooldown=timedelta(minutes=30)))
    earned(others, [1, 2, 40])
    assert alice.balance == others.balance == 45


def test_an_achievement_of_another_date_counts_for_that_one() -> None:
    badge = Trigger("badge", 7, AchievementCause(None))
    alice = user(EARN, badge, daily_cap=15)
    first = alice.earn(1, at=0)
    completion = alice.achievement_event(("a", True), owner=first.fact.instant)
    change = only_change(alice.applied(completion))
    assert [award.amount for award in change.awards] == [5]
    assert amounts(alice.earn(1, at=DAY)) == [10]


def test_a_void_of_long_ago_looks_at_no_day_that_it_cannot_touch() -> None:
    alice = user(LIMITED)
    applied = [alice.earn(1, at=number * DAY) for number in range(12)]
    alice.past.asked.clear()
    alice.undo(applied[1].fact.instant.entry_id)
    assert alice.past.asked == []
