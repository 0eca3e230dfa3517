"""Undoing an entry (RULES 4.1, 7.3)."""

from msgspec.structs import replace

from services.achievement.domain import Accumulator, Catalogue, ChangeKind
from tests.unit.achievement.builders import (
    MERGED,
    UNIT,
    Player,
    achievement,
    api_achievement,
    call,
    completed,
    correction,
    entry_id,
    event,
    for_pros,
    player,
    revoked,
    streak_achievement,
    streak_event,
)

PRO_USER = {"plan": "pro"}
FREE_USER = {"plan": "free"}
IS_MERGED = {"state": "merged"}


def test_undoing_a_call_revokes_the_completion_it_made() -> None:
    alice = player(api_achievement())
    first = call("c1")
    alice.apply(first)
    assert revoked(alice.revert(first)) == ["founder"]
    assert alice.held == set()


def test_undoing_a_call_that_changed_nothing_changes_nothing() -> None:
    alice = player(api_achievement())
    second = call("c2")
    alice.apply(call("c1"), second)
    assert alice.revert(second) == ()
    assert alice.state.completions["founder"].entry_id == entry_id("c1")


def test_a_completion_passes_on_to_the_next_call_when_the_first_is_undone() -> None:
    """Had the first never been, the second would have completed it: it belongs to that one from now on."""
    alice = player(api_achievement())
    first, second = call("c1"), call("c2")
    alice.apply(first, second, call("c3"))
    gone, come = alice.revert(first)
    assert (gone.kind, gone.completion.entry_id) == (ChangeKind.REVOKED, entry_id("c1"))
    assert (come.kind, come.completion.entry_id) == (ChangeKind.COMPLETED, entry_id("c2"))
    assert gone.completion.completion_id != come.completion.completion_id
    assert alice.state.completions["founder"] == come.completion


def test_a_completion_by_total_stays_until_the_correction_says_how_far_the_user_has_come() -> None:
    alice = player(achievement(threshold=10))
    second = event(2, 5, total=10)
    alice.apply(event(1, 5, total=5), second)
    assert alice.revert(second) == ()
    assert revoked(alice.apply(correction(3, second, total=5)).changes) == ["centurion"]


def test_a_completion_passes_on_when_later_events_reach_the_threshold_by_themselves() -> None:
    alice = player(achievement(threshold=10))
    second = event(2, 5, total=10)
    alice.apply(event(1, 5, total=5), second, event(3, 7, total=17))
    alice.void(second, correction(4, second, total=12))
    assert alice.state.completions["centurion"].entry_id == entry_id(3)


def test_a_completion_goes_when_only_the_undone_entry_was_of_an_eligible_user() -> None:
    alice = player(for_pros(achievement(threshold=10)))
    eligible = event(1, 10, total=10, user=PRO_USER)
    alice.apply(eligible, event(2, 10, total=20, user=FREE_USER))
    undone = correction(3, eligible, total=10, user=PRO_USER)
    assert revoked(alice.void(eligible, undone).changes) == ["centurion"]
    assert alice.held == set()


def test_undoing_a_counted_event_subtracts_it_and_the_correction_revokes_what_falls_short() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    second = event(2, 4, total=12, attributes=IS_MERGED)
    alice.apply(event(1, 8, total=8, attributes=IS_MERGED), second)
    assert alice.revert(second) == ()
    assert alice.state.accumulators["centurion"] == Accumulator(8 * UNIT, 8 * UNIT, 0)
    assert revoked(alice.apply(correction(3, second, total=8)).changes) == ["centurion"]


def test_undoing_an_earlier_counted_event_revokes_what_a_later_one_completed() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    first = event(1, 8, total=8, attributes=IS_MERGED)
    alice.apply(first, event(2, 4, total=12, attributes=IS_MERGED))
    assert revoked(alice.void(first, correction(3, first, total=4)).changes) == ["centurion"]


def test_undoing_an_event_that_did_not_count_touches_nothing_with_event_filters() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    other = event(1, 8, total=8)
    alice.apply(other, event(2, 10, total=18, attributes=IS_MERGED))
    assert alice.void(other, correction(3, other, total=10)).changes == ()
    assert alice.asked == []


def test_with_negative_events_the_peak_is_no_less_than_the_highest_that_remains() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    last = event(3, 9, total=11, attributes=IS_MERGED)
    alice.apply(event(1, 5, total=5, attributes=IS_MERGED))
    alice.apply(event(2, -3, total=2, peak=5, attributes=IS_MERGED), last)
    alice.revert(last)
    assert alice.state.accumulators["centurion"] == Accumulator(2 * UNIT, 11 * UNIT, 1)


def test_undoing_a_negative_counted_event_lets_the_correction_complete() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    negative = event(2, -3, total=3, peak=6, attributes=IS_MERGED)
    alice.apply(event(1, 6, total=6, attributes=IS_MERGED), negative)
    alice.apply(event(3, 5, total=8, attributes=IS_MERGED))
    assert alice.revert(negative) == ()
    assert alice.state.accumulators["centurion"] == Accumulator(11 * UNIT, 11 * UNIT, 0)
    assert completed(alice.apply(correction(4, negative, total=11))) == ["centurion"]
    assert alice.state.completions["centurion"].entry_id == entry_id(3)


def test_what_an_entry_counted_is_undone_whatever_the_definition_says_today() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    first = event(1, 4, total=4, attributes=IS_MERGED)
    alice.apply(first)
    alice.catalogue = Catalogue([])
    alice.revert(first)
    assert alice.state.accumulators["centurion"] == Accumulator()


def test_a_streak_completion_stays_until_the_correction_of_the_streak() -> None:
    alice = player(streak_achievement(length=3))
    third = streak_event(3, length=3, longest=3)
    alice.apply(third)
    assert alice.revert(third) == ()
    assert alice.held == {"fortnight"}


# Events that came before facts said of which metric they are


def of_before(alice: Player) -> None:
    alice.facts = {key: replace(fact, metric="") for key, fact in alice.facts.items()}


def test_an_event_of_before_is_subtracted_when_the_correction_says_of_which_metric_it_was() -> None:
    alice = player(achievement(threshold=10), achievement("merger", 5, event_filters=[MERGED]))
    first = event(1, 6, total=6, attributes=IS_MERGED)
    alice.apply(first, event(2, 6, total=12))
    of_before(alice)
    assert revoked(alice.void(first, correction(3, first, total=6)).changes) == ["merger", "centurion"]
    assert alice.state.totals["commits"].sums.sum_micros == 6 * UNIT


def test_what_events_of_before_still_reach_stays_where_it_is() -> None:
    alice = player(achievement(threshold=10))
    first = event(1, 6, total=6)
    alice.apply(first, event(2, 6, total=12), event(3, 6, total=18))
    of_before(alice)
    assert alice.void(first, correction(4, first, total=12)).changes == ()


def test_what_an_event_of_before_owned_passes_on_to_the_first_that_is_known() -> None:
    alice = player(achievement(threshold=5))
    first = event(1, 6, total=6)
    alice.apply(first)
    of_before(alice)
    alice.apply(event(2, 6, total=12))
    alice.void(first, correction(4, first, total=6))
    assert alice.state.completions["centurion"].entry_id == entry_id(2)
