"""When triggers are due (RULES 5.2)."""

import pytest
from msgspec.structs import replace

from services.points.domain.definitions import (
    AchievementCause,
    MetricCause,
    PointsSystem,
    StreakCause,
    Trigger,
    TriggerKey,
    UserCreatedCause,
)
from services.points.domain.facts import Instant, StreakChange
from shared.entries import EntryKind
from shared.filters import AttributeFilter, Equals
from tests.unit.points.user import UNIT, User, amounts, instant, only_change, period

TEN_PER_THREE = Trigger("commits", 10, MetricCause("commits", 3 * UNIT))
WEEKLY = Trigger("week", 50, StreakCause("daily", 7))
FIRST_WEEK = Trigger("first_week", 50, StreakCause("daily", 7, once=True))
BADGE = Trigger("badge", 100, AchievementCause("first_commit"))
WELCOME = Trigger("welcome", 25, UserCreatedCause())


def user(*triggers: Trigger) -> User:
    return User([PointsSystem("xp", triggers)])


def test_a_metric_trigger_awards_for_each_multiple_that_is_crossed_and_carries_the_remainder() -> None:
    alice = user(TEN_PER_THREE)
    assert [amounts(alice.earn(value)) for value in (2, 1, 7, 1.5, 0.5)] == [[], [10], [20], [], [10]]
    assert alice.balance == 40


def test_one_event_over_several_multiples_is_one_row_of_the_ledger() -> None:
    change = only_change(user(TEN_PER_THREE).earn(10))
    assert [(award.times, award.base_amount) for award in change.awards] == [(3, 30)]


def test_a_negative_event_claws_nothing_back_and_the_way_up_again_earns_nothing_twice() -> None:
    alice = user(TEN_PER_THREE)
    assert [amounts(alice.earn(value)) for value in (6, -4, 4, 3)] == [[20], [], [], [10]]


def test_a_negative_start_has_to_be_made_up_for_first() -> None:
    alice = user(TEN_PER_THREE)
    assert [amounts(alice.earn(value)) for value in (-5, 5, 3)] == [[], [], [10]]


def test_micro_units_are_counted_exactly() -> None:
    alice = user(Trigger("tenth", 1, MetricCause("commits", 100_000)))
    for _ in range(30):
        alice.earn(0.01)
    assert alice.balance == 3


def test_only_events_whose_attributes_and_user_match_are_accumulated() -> None:
    merged = MetricCause("commits", 3 * UNIT, (AttributeFilter("kind", Equals("merge")),))
    alice = user(Trigger("merges", 10, merged, (AttributeFilter("plan", Equals("pro")),)))
    alice.attributes = {"plan": "pro"}
    assert amounts(alice.earn(2, kind="merge")) == []
    assert amounts(alice.earn(2, kind="push")) == []
    alice.attributes = {"plan": "free"}
    assert amounts(alice.earn(2, kind="merge")) == []
    alice.attributes = {"plan": "pro"}
    assert amounts(alice.earn(1, kind="merge")) == [10]


def test_another_metric_touches_nothing() -> None:
    alice = user(TEN_PER_THREE)
    decided = alice.earn(30, metric="lines")
    assert (decided.changes, decided.fact.triggers) == ((), ())


def test_a_trigger_counts_from_when_it_was_added() -> None:
    alice = user()
    alice.earn(100)
    alice.systems = [PointsSystem("xp", (TEN_PER_THREE,))]
    assert amounts(alice.earn(2)) == []
    assert amounts(alice.earn(1)) == [10]


def test_a_changed_x_keeps_what_was_accumulated_and_awards_nothing_for_the_past() -> None:
    alice = user(TEN_PER_THREE)
    alice.earn(10)
    alice.systems = [PointsSystem("xp", (replace(TEN_PER_THREE, cause=MetricCause("commits", UNIT)),))]
    assert amounts(alice.earn(1)) == [10]


def test_an_archived_system_awards_nothing_and_counts_no_metric() -> None:
    alice = User([PointsSystem("xp", (TEN_PER_THREE, WELCOME, BADGE), active=False)])
    assert alice.earn(30).changes == ()
    assert alice.applied(alice.achievement_event(("first_commit", True))).changes == ()


def test_a_streak_trigger_awards_at_each_multiple_of_its_length() -> None:
    alice = user(WEEKLY)
    earned = [amounts(alice.applied(alice.extension(n))) for n in range(1, 16)]
    assert [day for day, award in enumerate(earned, start=1) if award] == [7, 14]


def test_a_streak_trigger_that_fires_once_does_so_in_each_run() -> None:
    alice = user(FIRST_WEEK)
    for day, length in ((7, 7), (14, 14), (26, 6), (27, 7)):
        reach = instant(alice.entry(EntryKind.USER_UPDATE))
        alice.applied(alice.streak_event(period(day, None, length, reach)))
    assert alice.balance == 100


def test_an_award_for_a_period_belongs_to_the_event_with_which_it_qualified() -> None:
    alice = user(WEEKLY)
    early = alice.metric_event(UNIT, at=-3_000)
    alice.applied(early)
    award = only_change(alice.applied(alice.streak_event(period(7, None, 7, instant(early.entry))))).awards[0]
    assert (award.entry_id, award.occur_time) == (early.entry.entry_id, early.entry.occur_time)
    assert award.cause_entry_id != award.entry_id


def test_several_periods_that_are_due_at_once_are_an_award_each() -> None:
    alice = user(WEEKLY)
    reach = [instant(alice.entry(EntryKind.USER_UPDATE)) for _ in range(3)]
    late = alice.streak_event(*(period(7 * n, None, 7 * n, reach[n - 1]) for n in (1, 2, 3)))
    change = only_change(alice.applied(late))
    assert [(award.amount, award.entry_id) for award in change.awards] == [
        (50, one.entry_id) for one in reach
    ]


def joined_runs(alice: User) -> tuple[Instant, Instant, Instant]:
    """Two runs of three days with a day between them; the second one's third day is rewarded, as is the first one's."""
    first, second, middle = (instant(alice.entry(EntryKind.USER_UPDATE)) for _ in range(3))
    alice.applied(alice.streak_event(period(3, None, 3, first)))
    alice.applied(alice.streak_event(period(7, None, 3, second)))
    return first, second, middle


def test_what_was_granted_before_a_late_event_joined_two_runs_stays_on_its_date() -> None:
    alice = user(Trigger("three", 5, StreakCause("daily", 3)))
    _, second, middle = joined_runs(alice)
    # Day 4 is filled: days 5 to 7 had lengths 1 to 3 and now have 5 to 7, so day 6 is due instead of day 7.
    sixth = instant(alice.entry(EntryKind.USER_UPDATE))
    joining = alice.streak_event(
        period(4, None, 4, middle),
        period(6, 2, 6, sixth),
        period(7, 3, 7, second),
        kind=EntryKind.METRIC_EVENT,
    )
    assert alice.applied(joining).changes == ()
    assert alice.balance == 10


def test_a_correction_takes_a_period_back_where_it_is_exact_and_gives_what_is_due_instead() -> None:
    alice = user(Trigger("three", 5, StreakCause("daily", 3)))
    first, second, middle = (alice.metric_event(UNIT, at=at) for at in (1, 2, 3))
    for command in (first, second, middle):
        alice.applied(command)
    alice.applied(alice.streak_event(period(3, None, 3, instant(middle.entry))))
    correction = alice.streak_event(
        period(3, 3, 2, instant(middle.entry)),
        period(4, 4, 3, instant(second.entry)),
        kind=EntryKind.CORRECTION,
        corrects=first.entry.entry_id,
    )
    rows = only_change(alice.applied(correction)).awards
    assert [(row.amount, row.entry_id) for row in rows] == [
        (5, second.entry.entry_id),
        (-5, middle.entry.entry_id),
    ]
    assert {row.cause_entry_id for row in rows} == {correction.entry.entry_id}
    assert [row.reversed_award_id for row in rows] == [None, alice.ledger[0].award_id]


def test_a_correction_moves_the_award_of_its_entry_to_the_event_that_qualifies_the_period_without_it() -> (
    None
):
    alice = user(Trigger("daily", 5, StreakCause("daily", 1)))
    first, second = alice.metric_event(UNIT), alice.metric_event(UNIT)
    extending = replace(
        first, streak_changes=alice.streak_event(period(1, None, 1, instant(first.entry))).streak_changes
    )
    alice.applied(extending)
    alice.applied(second)
    alice.undo(first.entry.entry_id)
    alice.applied(
        alice.streak_event(
            period(1, 1, 1, instant(second.entry)), kind=EntryKind.CORRECTION, corrects=first.entry.entry_id
        )
    )
    assert alice.by_entry() == {("xp", second.entry.entry_id): 5}


def test_a_correction_moves_an_award_on_to_the_event_that_qualifies_the_period_without_its_entry() -> None:
    alice = user(Trigger("daily", 5, StreakCause("daily", 1)))
    first, second, third = (alice.metric_event(UNIT) for _ in range(3))
    alice.applied(first)
    reached = alice.streak_event(period(1, None, 1, instant(second.entry))).streak_changes
    alice.applied(replace(second, streak_changes=reached))
    alice.applied(third)
    alice.undo(first.entry.entry_id)
    alice.applied(
        alice.streak_event(
            period(1, 1, 1, instant(third.entry)), kind=EntryKind.CORRECTION, corrects=first.entry.entry_id
        )
    )
    assert alice.by_entry() == {("xp", third.entry.entry_id): 5}


def test_a_correction_takes_back_elsewhere_what_it_can_take_back_nowhere_else() -> None:
    alice = user(Trigger("three", 5, StreakCause("daily", 3)))
    _, second, middle = joined_runs(alice)
    sixth = instant(alice.entry(EntryKind.USER_UPDATE))
    alice.applied(
        alice.streak_event(period(4, None, 4, middle), period(6, 2, 6, sixth), period(7, 3, 7, second))
    )
    gone = (period(6, 6, None), period(7, 7, None))
    rows = only_change(alice.applied(alice.streak_event(*gone, kind=EntryKind.CORRECTION))).awards
    assert [(row.amount, row.entry_id) for row in rows] == [(-5, second.entry_id)]
    assert alice.balance == 5


def test_a_correction_that_comes_before_what_it_corrects_gives_the_same_in_the_end() -> None:
    alice = user(WEEKLY)
    assert alice.applied(alice.streak_event(period(7, 7, None), kind=EntryKind.CORRECTION)).changes == ()
    assert alice.applied(alice.extension(7)).changes == ()
    assert amounts(alice.applied(alice.extension(7))) == [50]


def test_what_was_due_while_the_user_did_not_match_is_neither_awarded_later_nor_taken_back() -> None:
    alice = user(replace(WEEKLY, user_filters=(AttributeFilter("plan", Equals("pro")),)))
    alice.attributes = {"plan": "pro"}
    alice.applied(alice.extension(7))
    alice.attributes = {"plan": "free"}
    alice.applied(alice.extension(14))
    alice.attributes = {"plan": "pro"}
    assert alice.applied(alice.extension(15)).changes == ()
    gone = alice.streak_event(period(14, 14, None), period(15, 15, None), kind=EntryKind.CORRECTION)
    assert alice.applied(gone).changes == ()
    assert amounts(alice.applied(alice.extension(14))) == [50]
    assert alice.balance == 100


def test_a_period_that_came_and_went_in_one_entry_is_nothing() -> None:
    alice = user(WEEKLY)
    command = alice.extension(7)
    gone = StreakChange("daily", (period(7, 7, None),))
    both = replace(command, streak_changes=(*command.streak_changes, gone))
    assert alice.applied(both).changes == ()


def test_a_completion_is_rewarded_once_and_its_revocation_takes_that_award_back() -> None:
    alice = user(BADGE)
    alice.applied(alice.achievement_event(("first_commit", True)))
    revoked = only_change(
        alice.applied(alice.achievement_event(("first_commit", False), kind=EntryKind.CORRECTION))
    )
    assert [award.reversed_award_id for award in revoked.awards] == [alice.ledger[0].award_id]
    assert alice.balance == 0


def test_a_revocation_that_comes_first_keeps_the_completion_from_being_rewarded() -> None:
    alice = user(BADGE)
    alice.applied(alice.achievement_event(("first_commit", False), kind=EntryKind.CORRECTION))
    assert alice.applied(alice.achievement_event(("first_commit", True))).changes == ()


def test_a_trigger_for_any_achievement_rewards_each_completion_and_revocation_finds_the_right_one() -> None:
    alice = user(Trigger("any", 5, AchievementCause(None)), BADGE)
    first = only_change(alice.applied(alice.achievement_event(("first_commit", True), ("night_owl", True))))
    assert [(award.key.trigger, award.amount) for award in first.awards] == [
        ("any", 5),
        ("any", 5),
        ("badge", 100),
    ]
    alice.applied(alice.achievement_event(("first_commit", False), kind=EntryKind.CORRECTION))
    assert alice.balance == 5
    live = {name.completion_id for (_, name), award in alice.past.live_awards().items() if award.due.times}
    assert live == {first.awards[1].completion_id}


def test_the_first_entry_of_a_user_fires_the_trigger_for_new_users_once() -> None:
    alice = user(WELCOME)
    assert [amounts(alice.earn(1)) for _ in range(3)] == [[25], [], []]


def test_a_correction_is_nobodys_first_entry() -> None:
    alice = user(WELCOME)
    assert alice.applied(alice.streak_event(kind=EntryKind.CORRECTION)).changes == ()
    assert amounts(alice.earn(1)) == [25]


def test_a_streak_that_closes_is_nobodys_first_entry() -> None:
    alice = user(WELCOME)
    assert alice.applied(alice.streak_event(kind=EntryKind.STREAK_CLOSING)).changes == ()
    assert amounts(alice.earn(1)) == [25]


def test_a_streak_that_breaks_at_midnight_keeps_what_it_gave() -> None:
    alice = user(WEEKLY)
    alice.applied(alice.extension(7))
    assert alice.applied(alice.streak_event(kind=EntryKind.STREAK_CLOSING)).changes == ()
    assert alice.balance == 50


def test_awards_of_one_entry_come_in_the_order_of_the_triggers() -> None:
    alice = user(TEN_PER_THREE, WELCOME)
    change = only_change(alice.earn(3))
    assert [award.key for award in change.awards] == [
        TriggerKey("xp", "commits"),
        TriggerKey("xp", "welcome"),
    ]
    assert [award.sequence for award in change.awards] == [1, 2]


PRO = (AttributeFilter("plan", Equals("pro")),)


@pytest.mark.parametrize(
    ("then", "now", "given"), [("pro", "free", [[100], [50]]), ("free", "pro", [[], []])]
)
def test_filters_see_the_user_as_of_the_event_that_an_award_belongs_to(
    then: str, now: str, given: list[list[int]]
) -> None:
    alice = user(replace(BADGE, user_filters=PRO), replace(WEEKLY, user_filters=PRO), TEN_PER_THREE)
    alice.attributes = {"plan": then}
    earlier = alice.metric_event(1)
    alice.applied(earlier)
    alice.attributes = {"plan": now}
    owner = instant(earlier.entry)
    badge = alice.achievement_event(("first_commit", True), owner=owner)
    week = alice.streak_event(period(0, None, 7, owner))
    assert [amounts(alice.applied(command)) for command in (badge, week)] == given


def test_of_an_event_that_has_not_come_here_the_one_that_names_it_stands_for_the_user() -> None:
    alice = user(replace(BADGE, user_filters=PRO))
    alice.attributes = {"plan": "pro"}
    unknown = instant(alice.metric_event(1).entry)
    assert amounts(alice.applied(alice.achievement_event(("first_commit", True), owner=unknown))) == [100]
