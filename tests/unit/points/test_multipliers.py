"""Boosts and levels that multiply what is awarded (RULES 5.3)."""

from collections.abc import Sequence
from datetime import date, timedelta

import pytest
from msgspec.structs import replace

from services.points.domain.definitions import (
    ONE,
    POINTS_LIMIT,
    AchievementCause,
    Boost,
    DateWindow,
    Level,
    LevelBasis,
    MetricCause,
    PointsSystem,
    Rounding,
    Stacking,
    TimeWindow,
    Trigger,
)
from services.points.domain.facts import Command
from services.points.domain.ledger import Award
from shared.entries import EntryKind, PointsGift, PointsGrant
from shared.filters import AttributeFilter, Equals
from tests.unit.points.user import START, UNIT, User, amounts, instant, only_change

EARN = Trigger("earn", 10, MetricCause("commits", UNIT))
OTHER = Trigger("other", 10, MetricCause("commits", UNIT))
ALWAYS = TimeWindow(START - timedelta(days=9), None)
DOUBLE = Boost("double", 2 * ONE, ALWAYS)
HALF_MORE = Boost("half-more", 1_500_000, ALWAYS)


def user(*boosts: Boost, triggers: Sequence[Trigger] = (EARN,), **fields: object) -> User:
    return User([PointsSystem("xp", tuple(triggers), boosts=boosts, **fields)])  # type: ignore[arg-type]


def earned(alice: User, value: float = 1, at: float | None = None, **attributes: str) -> Award:
    return only_change(alice.earn(value, at=at, **attributes)).awards[-1]


def test_boosts_that_apply_together_multiply_each_other_and_the_award_names_them() -> None:
    award = earned(user(DOUBLE, HALF_MORE))
    assert (award.base_amount, award.amount, award.clipped_amount) == (10, 30, 0)
    assert (award.product.multiplier, award.product.boosts) == (3, ("double", "half-more"))


def test_where_the_system_says_so_the_highest_alone_counts() -> None:
    award = earned(user(HALF_MORE, DOUBLE, stacking=Stacking.HIGHEST))
    assert (award.amount, award.product.boosts) == (20, ("double",))


def test_what_nothing_multiplies_says_so() -> None:
    award = earned(user())
    assert (award.amount, award.product.multiplier, award.product.boosts) == (10, 1, ())


def test_a_boost_lasts_from_its_first_instant_up_to_its_last() -> None:
    window = TimeWindow(START + timedelta(minutes=5), START + timedelta(minutes=10))
    alice = user(replace(DOUBLE, window=window))
    found = {at: earned(alice, at=at).amount for at in (4, 5, 9, 10)}
    assert found == {4: 10, 5: 20, 9: 20, 10: 10}


def test_a_boost_of_local_dates_goes_by_the_date_of_the_event() -> None:
    alice = user(replace(DOUBLE, window=DateWindow(date(2024, 3, 2), date(2024, 3, 3))))
    day = 24 * 60
    assert [earned(alice, at=at * day).amount for at in (0, 1, 2, 3)] == [10, 20, 20, 10]


def test_an_award_is_boosted_by_when_its_event_occurred_not_by_when_it_came() -> None:
    alice = user(replace(DOUBLE, window=TimeWindow(START, START + timedelta(minutes=5))))
    assert earned(alice, at=30).amount == 10
    assert earned(alice, at=1).amount == 20


def test_a_late_event_that_lets_another_one_cross_brings_what_that_ones_boosts_say() -> None:
    three = replace(EARN, cause=MetricCause("commits", 3 * UNIT))
    boost = replace(DOUBLE, window=TimeWindow(START + timedelta(minutes=20), None))
    alice = user(boost, triggers=[three])
    alice.earn(2, at=30)
    award = earned(alice, 1, at=1)
    assert (award.amount, award.occur_time) == (20, START + timedelta(minutes=30))


def test_a_boost_is_for_whom_its_filters_match() -> None:
    alice = user(replace(DOUBLE, user_filters=(AttributeFilter("plan", Equals("pro")),)))
    assert earned(alice).amount == 10
    alice.attributes = {"plan": "pro"}
    assert earned(alice).amount == 20


@pytest.mark.parametrize(("then", "now", "amount"), [("pro", "free", 20), ("free", "pro", 10)])
def test_a_boost_looks_at_the_user_as_of_the_event_that_the_award_belongs_to(
    then: str, now: str, amount: int
) -> None:
    badge = Trigger("badge", 10, AchievementCause("first"))
    pro = replace(DOUBLE, user_filters=(AttributeFilter("plan", Equals("pro")),))
    alice = user(pro, triggers=[EARN, badge])
    alice.attributes = {"plan": then}
    earlier = alice.metric_event(UNIT)
    alice.applied(earlier)
    alice.attributes = {"plan": now}
    late = alice.achievement_event(("first", True), owner=instant(earlier.entry))
    assert amounts(alice.applied(late)) == [amount]


@pytest.mark.parametrize(("user_id", "amount"), [("alice", 20), ("bob", 10)])
def test_a_boost_may_be_for_one_user_alone(user_id: str, amount: int) -> None:
    assert earned(user(replace(DOUBLE, user_id=user_id))).amount == amount


def test_a_boost_may_be_for_some_triggers_alone() -> None:
    alice = user(replace(DOUBLE, triggers=frozenset({"other"})), triggers=[EARN, OTHER])
    assert amounts(alice.earn(1)) == [10, 20]


@pytest.mark.parametrize(
    ("rounding", "amount"), [(Rounding.FLOOR, 3), (Rounding.CEIL, 4), (Rounding.NEAREST, 4)]
)
def test_a_product_is_rounded_once_at_the_end(rounding: Rounding, amount: int) -> None:
    boost = replace(HALF_MORE, multiplier_micros=350_000, rounding=rounding)
    assert earned(user(boost)).amount == amount
    assert earned(user(boost, replace(boost, key="b", multiplier_micros=ONE))).amount == amount


def test_where_roundings_differ_the_product_is_rounded_down() -> None:
    up = replace(HALF_MORE, multiplier_micros=350_000, rounding=Rounding.CEIL)
    assert (
        earned(user(up, replace(up, key="b", multiplier_micros=ONE, rounding=Rounding.NEAREST))).amount == 3
    )


def test_deductions_are_multiplied_by_nothing() -> None:
    alice = user(DOUBLE, triggers=[Trigger("cost", -10, MetricCause("commits", UNIT))], min_balance=-99)
    assert earned(alice).amount == -10


def test_a_gift_is_multiplied_by_nothing() -> None:
    alice = user(DOUBLE, levels=(Level("gold", 0, 2 * ONE),))
    entry = replace(alice.entry(EntryKind.POINTS_GRANT), content=PointsGrant(PointsGift("xp", 10)))
    assert amounts(alice.applied(Command(entry))) == [10]


def test_an_absurd_multiplier_ends_at_the_end_of_the_numbers() -> None:
    absurd = [Boost(f"b{number}", 99_999_999, ALWAYS) for number in range(40)]
    award = earned(user(*absurd))
    assert award.amount == POINTS_LIMIT
    assert award.base_amount == 10


def test_what_a_limit_cuts_of_a_boosted_award_is_recorded() -> None:
    award = earned(user(DOUBLE, max_balance=15))
    assert (award.base_amount, award.amount, award.clipped_amount) == (10, 15, 5)


def test_the_level_that_a_user_has_multiplies_what_comes_next() -> None:
    tiers = (Level("bronze", 0), Level("silver", 20, 2 * ONE))
    alice = user(HALF_MORE, levels=tiers, level_basis=LevelBasis.LIFETIME)
    awards = [earned(alice) for _ in range(3)]
    assert [award.amount for award in awards] == [15, 15, 30]
    assert [award.product.level for award in awards] == ["", "", "silver"]
    assert awards[2].product.multiplier == 3


def test_without_an_early_earning_a_later_one_is_of_a_lower_tier() -> None:
    tiers = (Level("bronze", 0), Level("silver", 20, 2 * ONE))
    alice = user(levels=tiers)
    first, _, third = (alice.earn(1) for _ in range(3))
    assert amounts(third) == [20]
    changes = alice.undo(first.fact.instant.entry_id)
    assert sorted(amounts(changes)) == [-10, -10]
    assert alice.balance == 20
    rest = user(levels=tiers)
    rest.earn(1)
    rest.earn(1)
    assert rest.balance == alice.balance


def test_a_boosted_award_that_is_taken_back_is_taken_back_whole() -> None:
    alice = user(DOUBLE)
    applied = alice.earn(2)
    alice.earn(1)
    assert amounts(alice.undo(applied.fact.instant.entry_id)) == [-40]
    assert alice.balance == 20


def test_a_boosted_completion_keeps_its_boosts_when_something_before_it_is_taken_out() -> None:
    badge = Trigger("badge", 7, AchievementCause(None))
    alice = user(DOUBLE, triggers=[EARN, badge], max_balance=25)
    first = alice.earn(1)
    assert amounts(alice.applied(alice.achievement_event(("a", True)))) == [5]
    alice.undo(first.fact.instant.entry_id)
    assert alice.balance == 14
