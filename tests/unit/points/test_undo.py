"""Undoing leaves all as though the entry had never been; later entries keep their effect (RULES 7.3)."""

from datetime import timedelta

from services.points.domain.definitions import (
    MetricCause,
    PointsSystem,
    StreakCause,
    Trigger,
    TriggerKey,
    UserCreatedCause,
)
from shared.entries import EntryKind
from tests.unit.points.user import START, UNIT, User, amounts, only_change, period

EARN = Trigger("earn", 10, MetricCause("commits", 3 * UNIT))
WELCOME = Trigger("welcome", 25, UserCreatedCause())
WEEK = Trigger("week", 50, StreakCause("daily", 7))


def user(*triggers: Trigger) -> User:
    return User([PointsSystem("xp", triggers)])


def test_an_undone_event_gives_its_award_back_by_a_row_that_names_it() -> None:
    alice = user(EARN)
    event = alice.metric_event(3 * UNIT)
    alice.applied(event)
    row = only_change(alice.undo(event.entry.entry_id)).awards[0]
    assert (row.amount, row.base_amount, row.times) == (-10, -10, -1)
    assert row.reversed_award_id == alice.ledger[0].award_id
    assert row.award_id != alice.ledger[0].award_id
    assert (alice.balance, alice.points().lifetime) == (0, 0)


def test_a_later_event_that_reaches_the_multiple_by_itself_keeps_an_award() -> None:
    alice = user(EARN)
    first, second = alice.metric_event(4 * UNIT), alice.metric_event(4 * UNIT)
    alice.applied(first)
    alice.applied(second)
    assert alice.balance == 20
    alice.undo(first.entry.entry_id)
    assert alice.balance == 10


def test_a_later_award_goes_where_the_remaining_events_do_not_reach_it() -> None:
    alice = user(EARN)
    first, second = alice.metric_event(2 * UNIT), alice.metric_event(2 * UNIT)
    alice.applied(first)
    award = only_change(alice.applied(second)).awards[0]
    row = only_change(alice.undo(first.entry.entry_id)).awards[0]
    assert (row.reversed_award_id, row.entry_id) == (award.award_id, second.entry.entry_id)
    assert row.cause_entry_id == first.entry.entry_id
    assert alice.balance == 0


def test_a_part_of_an_award_is_taken_back_where_that_is_all_that_is_lost() -> None:
    alice = user(EARN)
    first, second = alice.metric_event(3 * UNIT), alice.metric_event(9 * UNIT)
    alice.applied(first)
    alice.applied(second)
    row = only_change(alice.undo(first.entry.entry_id)).awards[0]
    assert (row.amount, row.times) == (-10, -1)
    assert alice.balance == 30
    alice.undo(second.entry.entry_id)
    assert alice.balance == 0


def test_what_a_limit_had_cut_is_given_where_the_limit_does_not_act_any_more() -> None:
    alice = User([PointsSystem("xp", (EARN,), max_balance=25)])
    first, second = alice.metric_event(3 * UNIT), alice.metric_event(6 * UNIT)
    alice.applied(first)
    assert amounts(alice.applied(second)) == [15]
    taken, given = only_change(alice.undo(first.entry.entry_id)).awards
    assert (taken.amount, taken.base_amount, taken.entry_id) == (-10, -10, first.entry.entry_id)
    assert (given.amount, given.base_amount, given.entry_id) == (5, 0, second.entry.entry_id)
    assert alice.balance == 20


def test_undoing_a_negative_event_can_bring_an_award() -> None:
    alice = user(EARN)
    alice.earn(2)
    negative = alice.metric_event(-2 * UNIT)
    alice.applied(negative)
    assert amounts(alice.earn(2)) == []
    assert amounts(alice.undo(negative.entry.entry_id)) == [10]


def test_the_high_water_mark_is_folded_anew_over_what_remains() -> None:
    alice = user(EARN)
    alice.earn(5)
    alice.earn(-3)
    peak = alice.metric_event(10 * UNIT)
    alice.applied(peak)
    assert alice.balance == 40
    alice.undo(peak.entry.entry_id)
    state = alice.state.points.timelines[TriggerKey("xp", "earn")]
    assert (alice.balance, state.high_micros, state.accumulated_micros) == (10, 5 * UNIT, 2 * UNIT)


def test_an_undone_deduction_gives_its_points_back_and_adds_nothing_to_the_lifetime() -> None:
    alice = user(EARN, Trigger("spend", -4, MetricCause("fun", UNIT)))
    alice.earn(3)
    spending = alice.metric_event(2 * UNIT, metric="fun")
    alice.applied(spending)
    assert amounts(alice.undo(spending.entry.entry_id)) == [8]
    assert (alice.balance, alice.points().lifetime) == (10, 10)


def test_points_that_were_spent_meanwhile_stay_spent() -> None:
    alice = user(EARN, Trigger("spend", -10, MetricCause("fun", UNIT), block=True))
    earning = alice.metric_event(3 * UNIT)
    alice.applied(earning)
    alice.earn(1, metric="fun")
    alice.undo(earning.entry.entry_id)
    assert alice.balance == -10


def test_the_welcome_passes_to_the_next_entry_that_is_live() -> None:
    alice = user(WELCOME)
    first, second = alice.metric_event(UNIT), alice.metric_event(UNIT)
    alice.applied(first)
    alice.applied(second)
    assert amounts(alice.undo(first.entry.entry_id)) == [-25, 25]
    assert alice.by_entry() == {("xp", second.entry.entry_id): 25}
    assert amounts(alice.undo(second.entry.entry_id)) == [-25]


def test_the_next_entry_is_the_first_again_when_all_are_undone() -> None:
    alice = user(WELCOME)
    first = alice.metric_event(UNIT)
    alice.applied(first)
    alice.undo(first.entry.entry_id)
    assert amounts(alice.earn(1)) == [25]
    assert alice.balance == 25


def test_a_correction_does_not_keep_the_welcome_alive() -> None:
    alice = user(WELCOME)
    first = alice.metric_event(UNIT)
    alice.applied(first)
    alice.applied(alice.streak_event(kind=EntryKind.CORRECTION))
    assert amounts(alice.undo(first.entry.entry_id)) == [-25]


def test_a_streak_that_closes_does_not_keep_the_welcome_alive() -> None:
    alice = user(WELCOME)
    first = alice.metric_event(UNIT)
    alice.applied(first)
    alice.applied(alice.streak_event(kind=EntryKind.STREAK_CLOSING))
    assert amounts(alice.undo(first.entry.entry_id)) == [-25]


def test_undoing_leaves_what_streaks_gave_to_the_correction_that_follows() -> None:
    alice = user(WEEK)
    extension = alice.extension(7)
    alice.applied(extension)
    assert alice.undo(extension.entry.entry_id) == ()
    correction = alice.applied(alice.streak_event(period(7, 7, None), kind=EntryKind.CORRECTION))
    assert amounts(correction) == [-50]
    assert alice.balance == 0


def test_a_removed_trigger_can_still_be_undone_and_awards_nothing_more() -> None:
    alice = user(EARN)
    event = alice.metric_event(7 * UNIT)
    alice.applied(event)
    alice.systems = [PointsSystem("xp")]
    assert amounts(alice.undo(event.entry.entry_id)) == [-20]


def test_after_a_smaller_x_the_other_events_keep_what_they_cross_by_themselves() -> None:
    alice = user(EARN)
    event = alice.metric_event(9 * UNIT)
    alice.applied(event)
    alice.systems = [PointsSystem("xp", (Trigger("earn", 10, MetricCause("commits", UNIT)),))]
    alice.earn(1)
    alice.undo(event.entry.entry_id)
    assert alice.balance == 10
    assert amounts(alice.earn(1)) == [10]


def test_the_reach_time_is_that_of_the_newest_award_that_is_left() -> None:
    alice = user(EARN)
    alice.earn(3)
    event = alice.metric_event(3 * UNIT)
    later = only_change(alice.applied(event)).after
    assert later.reach_time == START + timedelta(minutes=2)
    undone = only_change(alice.undo(event.entry.entry_id)).after
    assert undone.reach_time == START + timedelta(minutes=1)
    assert undone.version == later.version + 1


def test_without_any_live_award_there_is_no_reach_time() -> None:
    alice = user(EARN)
    event = alice.metric_event(3 * UNIT)
    alice.applied(event)
    assert only_change(alice.undo(event.entry.entry_id)).after.reach_time is None
