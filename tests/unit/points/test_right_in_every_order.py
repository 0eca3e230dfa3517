"""Late events, voids under limits, revised contributions: what the other entries alone give (RULES 2.5, 5.1)."""

from datetime import date, timedelta
from itertools import permutations
from uuid import UUID

import pytest
from msgspec.structs import replace

from services.points.domain.definitions import (
    AchievementCause,
    Level,
    LevelBasis,
    MetricCause,
    PointsSystem,
    Trigger,
    UserCreatedCause,
)
from services.points.domain.facts import AchievementChange
from shared.entries import EntryKind
from shared.ids import derived_id
from tests.unit.points.user import START, UNIT, User, amounts, instant, only_change

DAY = 24 * 60
"""Minutes."""
EVERY_TEN = Trigger("ten", 10, MetricCause("commits", 10 * UNIT))
EACH_A = Trigger("a", 10, MetricCause("a", UNIT))
EACH_B = Trigger("b", 10, MetricCause("b", UNIT))
SPEND = Trigger("spend", -10, MetricCause("fun", UNIT))


def user(*triggers: Trigger, minimum: int = 0, maximum: int = 10**9) -> User:
    return User([PointsSystem("xp", triggers, min_balance=minimum, max_balance=maximum)])


def day(number: int) -> date:
    return START.date() + timedelta(days=number - 1)


def test_a_void_leaves_the_award_on_the_date_on_which_the_others_cross() -> None:
    alice = user(EVERY_TEN)
    first = alice.metric_event(7 * UNIT, at=0)
    alice.applied(first)
    alice.earn(7, at=1)
    alice.earn(7, at=DAY)
    assert alice.by_date() == {day(1): 10, day(2): 10}
    alice.undo(first.entry.entry_id)
    assert alice.by_date() == {day(2): 10}


def test_a_void_gives_what_the_maximum_had_cut_because_of_it_under_the_entry_from_which_it_was_cut() -> None:
    alice = user(EACH_A, EACH_B, maximum=60)
    first, second = (
        alice.metric_event(5 * UNIT, metric="a", at=0),
        alice.metric_event(4 * UNIT, metric="b", at=DAY),
    )
    assert amounts(alice.applied(first)) == [50]
    assert amounts(alice.applied(second)) == [10]
    alice.undo(first.entry.entry_id)
    assert alice.balance == 40
    assert alice.by_entry() == {("xp", second.entry.entry_id): 40}
    assert alice.by_date() == {day(2): 40}


def test_with_one_trigger_too_a_void_leaves_everything_under_the_other_entry_and_its_date() -> None:
    alice = user(EACH_A, maximum=60)
    first, second = (
        alice.metric_event(5 * UNIT, metric="a", at=0),
        alice.metric_event(4 * UNIT, metric="a", at=DAY),
    )
    alice.applied(first)
    alice.applied(second)
    alice.undo(first.entry.entry_id)
    assert alice.by_entry() == {("xp", second.entry.entry_id): 40}
    assert alice.by_date() == {day(2): 40}


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_in_every_order_of_arrival_the_award_is_that_of_the_event_that_crosses(
    order: tuple[int, ...],
) -> None:
    alice = user(EVERY_TEN)
    entries = {}
    for number in order:
        command = alice.metric_event(4 * UNIT, at=(number - 1) * DAY)
        entries[number] = command.entry
        alice.applied(command)
    (award,) = alice.ledger
    assert (award.amount, award.local_date, award.entry_id) == (10, day(3), entries[3].entry_id)
    assert award.cause_entry_id == entries[order[-1]].entry_id
    assert alice.points().reach_time == entries[3].occur_time


def test_what_was_granted_before_an_earlier_event_arrived_keeps_its_date() -> None:
    alice = user(EVERY_TEN)
    alice.earn(6, at=2 * DAY)
    alice.earn(4, at=DAY)
    assert alice.by_date() == {day(3): 10}
    assert alice.earn(6, at=0).changes == ()
    assert alice.by_date() == {day(3): 10}


def test_a_late_event_with_which_two_multiples_are_met_is_given_the_one_that_has_no_award() -> None:
    alice = user(EVERY_TEN)
    alice.earn(10, at=2 * DAY)
    alice.earn(4, at=0)
    alice.earn(6, at=DAY)
    assert alice.by_date() == {day(2): 10, day(3): 10}


def test_a_late_negative_event_claws_nothing_back() -> None:
    alice = user(EVERY_TEN)
    alice.earn(10, at=DAY)
    assert alice.earn(-9, at=0).changes == ()
    assert alice.earn(9, at=2 * DAY).changes == ()
    assert amounts(alice.earn(10, at=3 * DAY)) == [10]


def test_a_late_award_has_the_amount_that_applied_when_its_event_came() -> None:
    alice = user(EVERY_TEN)
    alice.earn(6, at=DAY)
    alice.systems = [PointsSystem("xp", (replace(EVERY_TEN, amount=99),))]
    award = only_change(alice.earn(6, at=0)).awards[0]
    assert (award.amount, award.local_date) == (10, day(2))


def test_a_void_is_judged_by_the_limits_of_when_each_event_came() -> None:
    alice = user(EACH_A, EACH_B, maximum=60)
    first = alice.metric_event(5 * UNIT, metric="a")
    alice.applied(first)
    alice.earn(4, metric="b")
    alice.systems = [replace(alice.systems[0], max_balance=10)]
    alice.undo(first.entry.entry_id)
    assert alice.balance == 40


def test_points_that_were_spent_stay_spent_and_are_not_given_back_by_what_came_later() -> None:
    alice = user(EACH_A, SPEND)
    earning = alice.metric_event(3 * UNIT, metric="a")
    alice.applied(earning)
    spending = alice.metric_event(2 * UNIT, metric="fun")
    alice.applied(spending)
    alice.undo(earning.entry.entry_id)
    assert alice.balance == -20
    assert amounts(alice.earn(1, metric="fun")) == [0]
    alice.undo(spending.entry.entry_id)
    assert alice.balance == 0


def test_a_deduction_takes_what_is_covered_once_another_one_is_taken_out() -> None:
    alice = user(EACH_A, SPEND)
    alice.earn(3, metric="a")
    first, second = (alice.metric_event(2 * UNIT, metric="fun") for _ in range(2))
    assert amounts(alice.applied(first)) == [-20]
    assert amounts(alice.applied(second)) == [-10]
    assert amounts(alice.undo(first.entry.entry_id)) == [20, -10]
    assert alice.by_entry()["xp", second.entry.entry_id] == -20


def test_a_deduction_that_goes_to_another_event_takes_no_more_than_there_is_there() -> None:
    alice = user(EACH_A, Trigger("spend", -10, MetricCause("fun", 2 * UNIT)))
    first = alice.metric_event(UNIT, metric="fun")
    alice.applied(first)
    alice.earn(1, metric="a")
    crossing = alice.metric_event(UNIT, metric="fun")
    alice.applied(crossing)
    after = alice.metric_event(UNIT, metric="fun")
    alice.applied(after)
    assert alice.balance == 0
    alice.undo(first.entry.entry_id)
    assert alice.by_entry()["xp", after.entry.entry_id] == -10
    assert ("xp", crossing.entry.entry_id) not in alice.by_entry()


def test_a_void_of_the_only_award_leaves_no_reach_time_and_no_level() -> None:
    alice = User([PointsSystem("xp", (EACH_A,), (Level("bronze", 10),), LevelBasis.LIFETIME)])
    event = alice.metric_event(UNIT, metric="a")
    assert only_change(alice.applied(event)).after.level == "bronze"
    after = only_change(alice.undo(event.entry.entry_id)).after
    assert (after.balance, after.lifetime, after.level, after.reach_time) == (0, 0, "", None)


def test_a_late_award_does_not_take_the_reach_time_back() -> None:
    alice = user(EACH_A)
    alice.earn(1, metric="a", at=DAY)
    change = only_change(alice.earn(1, metric="a", at=0))
    assert change.after.reach_time == START + timedelta(minutes=DAY)


def test_the_welcome_is_the_next_entrys_with_its_date_and_terms() -> None:
    welcome = Trigger("welcome", 25, UserCreatedCause())
    alice = user(welcome)
    first, second = alice.metric_event(UNIT, at=0), alice.metric_event(UNIT, at=DAY)
    alice.applied(first)
    alice.systems = [PointsSystem("xp", (replace(welcome, amount=7),))]
    alice.applied(second)
    rows = only_change(alice.undo(first.entry.entry_id)).awards
    assert [(row.amount, row.entry_id, row.local_date) for row in rows] == [
        (-25, first.entry.entry_id, day(1)),
        (7, second.entry.entry_id, day(2)),
    ]


def test_a_completion_passes_to_the_entry_that_it_belongs_to_without_the_voided_one_limits_included() -> None:
    badge = Trigger("badge", 40, AchievementCause(None))
    alice = user(EACH_A, badge, maximum=60)
    first, second, third = (alice.metric_event(UNIT, metric="none", at=at) for at in (0, DAY, 2 * DAY))
    completion = derived_id("completion", "first")
    change = AchievementChange("first", completion, True, instant(first.entry))
    alice.applied(replace(first, achievement_changes=(change,)))
    alice.applied(second)
    earning = alice.metric_event(5 * UNIT, metric="a", at=3 * DAY)
    assert amounts(alice.applied(earning)) == [20]
    alice.applied(third)
    alice.undo(first.entry.entry_id)
    correction = alice.achievement_event(kind=EntryKind.CORRECTION, corrects=first.entry.entry_id)
    redated = (
        replace(change, completed=False),
        AchievementChange("first", derived_id("completion", "again"), True, instant(second.entry)),
    )
    rows = only_change(alice.applied(replace(correction, achievement_changes=redated))).awards
    # As though it had been earned with the second event: what was cut from the later award stays so.
    assert [(row.amount, row.entry_id, row.local_date) for row in rows] == [
        (-40, first.entry.entry_id, day(1)),
        (40, second.entry.entry_id, day(2)),
    ]
    assert {row.cause_entry_id for row in rows} == {correction.entry.entry_id}


def test_a_revoked_completion_gives_later_awards_what_was_cut_because_of_it() -> None:
    badge = Trigger("badge", 40, AchievementCause(None))
    alice = user(EACH_A, badge, maximum=60)
    alice.applied(alice.achievement_event(("first", True)))
    earning = alice.metric_event(5 * UNIT, metric="a")
    assert amounts(alice.applied(earning)) == [20]
    alice.applied(alice.achievement_event(("first", False), kind=EntryKind.CORRECTION))
    assert alice.by_entry() == {("xp", earning.entry.entry_id): 50}


EACH = Trigger("each", 10, MetricCause("commits", UNIT))


def test_a_repeated_value_of_a_unique_metric_gives_nothing() -> None:
    alice = user(EACH)
    assert amounts(alice.applied(alice.revisable_event(1, 1))) == [10]
    assert alice.applied(alice.revisable_event(0, 2)).changes == ()


def test_an_earlier_event_with_the_same_value_takes_the_award_over() -> None:
    alice = user(EACH)
    first = alice.revisable_event(1, 1, at=DAY)
    alice.applied(first)
    earlier = alice.revisable_event(1, 2, (first.entry.entry_id, 0), at=0)
    rows = only_change(alice.applied(earlier)).awards
    assert [(row.amount, row.local_date) for row in rows] == [(-10, day(2)), (10, day(1))]
    assert alice.by_entry() == {("xp", earlier.entry.entry_id): 10}
    assert alice.points().reach_time == START


def test_a_void_gives_the_contribution_to_the_next_event_with_the_value() -> None:
    alice = user(EACH)
    first, second = alice.revisable_event(1, 1, at=0), alice.revisable_event(0, 2, at=DAY)
    alice.applied(first)
    alice.applied(second)
    alice.undo(first.entry.entry_id)
    correction = alice.revisable_event(0, 3, (second.entry.entry_id, 1), kind=EntryKind.CORRECTION)
    assert amounts(alice.applied(correction)) == [10]
    assert alice.by_date() == {day(2): 10}


def test_the_last_value_in_the_order_of_times_decides_however_it_arrives() -> None:
    alice = user(Trigger("hundred", 10, MetricCause("commits", 100 * UNIT)))
    newer = alice.revisable_event(5, 1, at=DAY)
    alice.applied(newer)
    older = alice.revisable_event(150, 2, (newer.entry.entry_id, -145), at=0)
    assert amounts(alice.applied(older)) == [10]
    assert alice.by_date() == {day(1): 10}


def test_a_revision_that_comes_before_its_entry_is_used_when_that_comes() -> None:
    alice = user(EACH)
    expected = derived_id("entry", "2")
    alice.applied(alice.revisable_event(1, 5, (expected, 0), at=0))
    late = alice.revisable_event(1, 4, at=DAY)
    assert late.entry.entry_id == expected
    assert alice.applied(late).changes == ()
    assert alice.balance == 10


def test_an_older_revision_changes_nothing_and_neither_does_one_of_an_undone_entry() -> None:
    alice = user(EACH)
    first = alice.revisable_event(1, 5, at=DAY)
    alice.applied(first)
    assert alice.applied(alice.revisable_event(0, 4, (first.entry.entry_id, 0))).changes == ()
    alice.undo(first.entry.entry_id)
    assert alice.applied(alice.revisable_event(0, 9, (first.entry.entry_id, 7))).changes == ()
    assert alice.balance == 0


def test_a_revision_that_raises_a_contribution_is_judged_by_the_limits_of_its_event() -> None:
    alice = user(Trigger("cost", -4, MetricCause("commits", UNIT)), Trigger("welcome", 5, UserCreatedCause()))
    first = alice.revisable_event(1, 1)
    alice.applied(first)
    assert alice.balance == 1
    assert amounts(alice.applied(alice.revisable_event(0, 2, (first.entry.entry_id, 2)))) == [-1]
    assert alice.balance == 0


def test_a_contribution_that_went_and_came_again_is_one_award_again() -> None:
    alice = user(EACH)
    first = alice.revisable_event(1, 1)
    alice.applied(first)
    alice.applied(alice.revisable_event(0, 2, (first.entry.entry_id, 0)))
    assert alice.balance == 0
    rows = only_change(alice.applied(alice.revisable_event(0, 3, (first.entry.entry_id, 1)))).awards
    assert [(row.amount, row.reversed_award_id) for row in rows] == [(10, alice.ledger[0].award_id)]


def test_a_deduction_that_only_a_void_brought_about_is_not_spent() -> None:
    alice = user(EACH_A, Trigger("cost", -4, MetricCause("fun", 2 * UNIT)))
    alice.earn(1, metric="other")
    first = alice.metric_event(UNIT, metric="fun")
    alice.applied(first)
    earning = alice.metric_event(UNIT, metric="a")
    alice.applied(earning)
    alice.earn(1, metric="fun")
    alice.earn(1, metric="fun")
    alice.undo(first.entry.entry_id)
    assert alice.balance == 6
    alice.undo(earning.entry.entry_id)
    assert alice.balance == 0


def test_an_entry_that_is_refused_changes_nothing_of_earlier_ones() -> None:
    alice = user(EACH, Trigger("price", -100, MetricCause("commits", UNIT), block=True))
    alice.systems = [PointsSystem("xp", (EACH,))]
    first = alice.revisable_event(1, 1, at=DAY)
    alice.applied(first)
    alice.systems = [PointsSystem("xp", (EACH, replace(SPEND, amount=-100, cause=EACH.cause, block=True)))]
    before = (alice.state, list(alice.ledger))
    alice.refused(alice.revisable_event(1, 2, (first.entry.entry_id, 0), at=0))
    assert (alice.state, alice.ledger) == before


def test_voids_in_any_order_end_alike() -> None:
    def played(order: tuple[int, ...]) -> dict[tuple[str, UUID], int]:
        alice = user(EACH_A, EACH_B, SPEND, maximum=60)
        commands = [
            alice.metric_event(value * UNIT, metric=metric)
            for metric, value in (("a", 5), ("b", 4), ("fun", 3), ("a", 2), ("fun", 4), ("b", 9))
        ]
        for command in commands:
            alice.applied(command)
        for index in order:
            alice.undo(commands[index].entry.entry_id)
        return alice.by_entry()

    results = [played(order) for order in permutations((0, 2, 3))]
    assert all(result == results[0] for result in results)
