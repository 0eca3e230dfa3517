"""What is cut, what is refused, and which level results (RULES 5.4, 5.5)."""

import pytest
from msgspec.structs import replace

from services.points.domain.definitions import (
    POINTS_LIMIT,
    AchievementCause,
    Level,
    LevelBasis,
    MetricCause,
    PointsSystem,
    StreakCause,
    Trigger,
    UserCreatedCause,
)
from services.points.domain.limits import InsufficientPoints
from shared.entries import EntryKind
from tests.unit.points.user import UNIT, User, amounts, only_change

EARN = Trigger("earn", 10, MetricCause("work", UNIT))
BONUS = Trigger("bonus", 7, MetricCause("work", UNIT))
SPEND = Trigger("spend", -10, MetricCause("fun", UNIT))
BLOCKING = replace(SPEND, block=True)


def user(*triggers: Trigger, minimum: int = 0, maximum: int = POINTS_LIMIT) -> User:
    return User([PointsSystem("xp", triggers, min_balance=minimum, max_balance=maximum)])


def test_what_exceeds_the_maximum_is_cut_and_recorded() -> None:
    alice = user(EARN, maximum=25)
    alice.earn(2, metric="work")
    award = only_change(alice.earn(1, metric="work")).awards[0]
    assert (award.amount, award.base_amount, award.clipped_amount) == (5, 10, 5)
    assert alice.balance == 25


def test_the_last_triggers_award_is_cut_first() -> None:
    alice = user(EARN, BONUS, maximum=12)
    assert amounts(alice.earn(1, metric="work")) == [10, 2]


def test_awards_and_deductions_are_added_up_before_they_are_cut() -> None:
    tax = Trigger("tax", -4, MetricCause("work", UNIT))
    alice = user(EARN, tax, maximum=6)
    assert amounts(alice.earn(1, metric="work")) == [10, -4]
    assert amounts(alice.earn(1, metric="work")) == [4, -4]


def test_a_deduction_is_cut_at_the_minimum() -> None:
    alice = user(EARN, SPEND, minimum=-5)
    alice.earn(1, metric="work")
    award = only_change(alice.earn(2, metric="fun")).awards[0]
    assert (award.amount, award.base_amount, award.clipped_amount) == (-15, -20, -5)
    assert alice.balance == -5


def test_a_deduction_counts_crossings_like_any_metric_trigger() -> None:
    alice = user(EARN, SPEND)
    alice.earn(5, metric="work")
    assert [amounts(alice.earn(value, metric="fun")) for value in (0.5, 0.5, 2)] == [[], [-10], [-20]]


def test_a_blocking_deduction_that_is_not_covered_refuses_the_entry_and_changes_nothing() -> None:
    alice = user(EARN, BLOCKING, minimum=3)
    alice.earn(1, metric="work")
    before = alice.state
    refusal = alice.refused(alice.metric_event(UNIT, metric="fun"))
    assert refusal == InsufficientPoints("xp", "spend", balance=10, required=10, min_balance=3)
    assert alice.state == before


def test_a_blocking_deduction_that_is_just_covered_passes() -> None:
    alice = user(EARN, BLOCKING)
    alice.earn(1, metric="work")
    assert amounts(alice.earn(1, metric="fun")) == [-10]
    assert alice.balance == 0


def test_what_the_same_entry_gives_helps_to_cover_a_blocking_deduction() -> None:
    gift = Trigger("gift", 4, MetricCause("fun", UNIT))
    assert amounts(user(BLOCKING, gift, minimum=-6).earn(1, metric="fun")) == [-10, 4]


def test_a_refusal_in_one_system_refuses_the_awards_in_all() -> None:
    alice = User(
        [PointsSystem("coins", (replace(EARN, cause=SPEND.cause),)), PointsSystem("energy", (BLOCKING,))]
    )
    assert alice.refused(alice.metric_event(UNIT, metric="fun")).points_system == "energy"
    assert alice.points("coins").balance == 0


def test_a_correction_is_never_refused_and_takes_what_there_is() -> None:
    alice = user(Trigger("cost", -10, StreakCause("daily", 1), block=True), BONUS)
    alice.earn(1, metric="work")
    assert amounts(alice.applied(alice.extension(1, kind=EntryKind.CORRECTION))) == [-7]
    assert alice.balance == 0


def test_a_streak_that_closes_is_never_refused_and_takes_what_there_is() -> None:
    alice = user(Trigger("cost", -10, StreakCause("daily", 1), block=True), BONUS)
    alice.earn(1, metric="work")
    closing = alice.extension(1, kind=EntryKind.STREAK_CLOSING)
    (award,) = only_change(alice.applied(closing)).awards
    assert (award.amount, award.clipped_amount, alice.balance) == (-7, -3, 0)


def test_a_blocking_deduction_of_a_call_refuses_it_too() -> None:
    alice = user(Trigger("cost", -10, AchievementCause(None), block=True))
    assert alice.refused(alice.achievement_event(("first_commit", True))).required == 10


def test_a_balance_below_the_minimum_is_neither_lifted_nor_lowered_by_it() -> None:
    alice = user(EARN, SPEND)
    first = alice.metric_event(2 * UNIT, metric="work")
    alice.applied(first)
    alice.earn(2, metric="fun")
    alice.undo(first.entry.entry_id)
    assert alice.balance == -20
    assert amounts(alice.earn(1, metric="fun")) == [0]
    assert amounts(alice.earn(1, metric="work")) == [10]
    assert alice.balance == -10


def test_a_maximum_that_was_lowered_below_a_balance_takes_nothing_away() -> None:
    alice = user(EARN, SPEND)
    alice.earn(5, metric="work")
    alice.systems = [replace(alice.systems[0], max_balance=20)]
    assert amounts(alice.earn(1, metric="work")) == [0]
    assert amounts(alice.earn(1, metric="fun")) == [-10]
    assert alice.balance == 40


def test_what_a_reversal_gives_back_is_cut_from_what_came_after_it() -> None:
    alice = user(EARN, SPEND, maximum=20)
    alice.earn(2, metric="work")
    spending = alice.metric_event(UNIT, metric="fun")
    alice.applied(spending)
    refilled = only_change(alice.earn(1, metric="work")).awards[0]
    back, cut = only_change(alice.undo(spending.entry.entry_id)).awards
    assert (back.amount, back.base_amount, back.clipped_amount) == (10, 10, 0)
    assert (cut.amount, cut.base_amount, cut.clipped_amount) == (-10, 0, 10)
    assert (cut.reversed_award_id, cut.entry_id) == (refilled.award_id, refilled.entry_id)
    assert alice.balance == 20


def test_a_fully_cut_award_is_in_the_ledger_and_does_not_move_the_reach_time() -> None:
    alice = user(EARN, maximum=10)
    reached = only_change(alice.earn(1, metric="work")).after.reach_time
    change = only_change(alice.earn(1, metric="work"))
    assert (change.added, [award.clipped_amount for award in change.awards]) == (0, [10])
    assert change.after.reach_time == reached


@pytest.mark.parametrize("amount", [1_000_000_000, -1_000_000_000])
def test_the_largest_conceivable_awards_stay_within_the_limit(amount: int) -> None:
    micro = Trigger("micro", amount, MetricCause("work", 1))
    alice = user(micro, minimum=-POINTS_LIMIT)
    for _ in range(3):
        alice.applied(alice.metric_event(10**18, metric="work"))
    assert alice.balance == (POINTS_LIMIT if amount > 0 else -POINTS_LIMIT)
    assert all(abs(award.base_amount) <= POINTS_LIMIT for award in alice.ledger)


def test_a_lifetime_stays_within_the_limit_though_points_are_spent_in_between() -> None:
    alice = user(
        Trigger("earn", 10**9, MetricCause("work", 1)), Trigger("spend", -(10**9), MetricCause("fun", 1))
    )
    for _ in range(3):
        alice.applied(alice.metric_event(10**18, metric="work"))
        alice.applied(alice.metric_event(10**18, metric="fun"))
    assert (alice.points().lifetime, alice.balance) == (POINTS_LIMIT, 0)


LEVELS = (Level("bronze", 10), Level("silver", 30))


def test_a_level_is_reached_at_its_threshold_and_lost_below_it() -> None:
    alice = User([PointsSystem("xp", (EARN, SPEND), LEVELS)])
    seen = [only_change(alice.earn(value, metric="work")).after.level for value in (1, 1, 1)]
    seen += [only_change(alice.earn(value, metric="fun")).after.level for value in (1, 2)]
    assert seen == ["bronze", "bronze", "silver", "bronze", ""]


def test_a_level_by_lifetime_is_not_lost_by_spending_but_by_undoing() -> None:
    alice = User([PointsSystem("xp", (EARN, SPEND), LEVELS, LevelBasis.LIFETIME)])
    work = alice.metric_event(3 * UNIT, metric="work")
    alice.applied(work)
    assert only_change(alice.earn(3, metric="fun")).after.level == "silver"
    undone = only_change(alice.undo(work.entry.entry_id))
    assert (undone.before.level, undone.after.level, undone.after.lifetime) == ("silver", "", 0)


def test_the_next_level_is_known_at_every_point() -> None:
    system = PointsSystem("xp", (), LEVELS)
    assert [
        (now.key if now else None, after.key if after else None)
        for now, after in ((system.level_at(n, 0), system.level_after(n, 0)) for n in (9, 10, 29, 30))
    ] == [(None, "bronze"), ("bronze", "silver"), ("bronze", "silver"), ("silver", None)]


def test_a_deduction_for_new_users_is_cut_at_the_minimum() -> None:
    fee = Trigger("fee", -10, UserCreatedCause())
    assert amounts(user(fee).earn(1)) == [0]
