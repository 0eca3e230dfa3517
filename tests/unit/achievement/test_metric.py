"""Achievements by a metric (RULES 4.1, 4.2, 4.4)."""

import pytest
from msgspec.structs import replace

from services.achievement.domain import Catalogue, SourceKey, SourceKind, Status
from tests.unit.achievement.builders import (
    MERGED,
    NOON,
    UNIT,
    achievement,
    call,
    completed,
    correction,
    entry_id,
    event,
    for_pros,
    player,
    revoked,
    streak_achievement,
)

PRO_USER = {"plan": "pro"}
FREE_USER = {"plan": "free"}
IS_MERGED = {"state": "merged"}


def test_a_total_that_reaches_the_threshold_completes_the_achievement() -> None:
    alice = player(achievement(threshold=100))
    assert completed(alice.apply(event(1, 99, total=99))) == []
    assert completed(alice.apply(event(2, 1, total=100))) == ["centurion"]


def test_a_completion_names_the_entry_that_caused_it_and_when_that_occurred() -> None:
    alice = player(achievement(threshold=1))
    completion = alice.apply(event(3, 1, total=1)).changes[0].completion
    assert completion.entry_id == entry_id(3)
    assert (completion.complete_time - NOON).seconds == 180


def test_a_completion_of_the_same_entry_always_has_the_same_id() -> None:
    first, second = (player(achievement(threshold=1)).apply(event(1, 1, total=1)) for _ in range(2))
    assert first.changes == second.changes


def test_one_event_completes_every_tier_that_it_crosses_lowest_first() -> None:
    alice = player(achievement("gold", 100), achievement("bronze", 1), achievement("silver", 10))
    assert completed(alice.apply(event(1, 50, total=50))) == ["bronze", "silver"]


def test_an_achievement_is_completed_only_once() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(event(1, 10, total=10))
    assert alice.apply(event(2, 10, total=20)).changes == ()


def test_a_negative_event_revokes_nothing() -> None:
    alice = player(achievement(threshold=10))
    assert alice.apply(event(1, 10, total=10), event(2, -5, total=5, peak=10)).changes == ()
    assert alice.held == {"centurion"}


@pytest.mark.parametrize("status", [Status.INACTIVE, Status.LOCKED, Status.ARCHIVED])
def test_only_an_active_achievement_can_be_earned(status: Status) -> None:
    alice = player(replace(achievement(threshold=1), status=status))
    assert alice.apply(event(1, 1, total=1)).changes == ()


def test_events_of_another_metric_touch_nothing() -> None:
    catalogue = Catalogue([achievement(), streak_achievement()])
    assert catalogue.following([SourceKey(SourceKind.METRIC, "lines")]) == []
    assert catalogue.following([SourceKey(SourceKind.METRIC, "daily")]) == []


def test_an_older_total_never_replaces_a_newer_one() -> None:
    alice = player(achievement(threshold=100))
    alice.apply(event(2, 30, total=50), event(1, 20, total=20))
    source = alice.standing.sources[SourceKey(SourceKind.METRIC, "commits")]
    assert (source.version, source.current) == (2, 50 * UNIT)


def test_events_that_arrive_in_another_order_complete_the_same() -> None:
    alice = player(achievement("low", 20), achievement("high", 50), achievement("beyond", 51))
    alice.apply(event(2, 30, total=50), event(1, 20, total=20))
    assert alice.held == {"low", "high"}


def test_only_an_event_of_an_eligible_user_completes() -> None:
    alice = player(for_pros(achievement(threshold=10)))
    assert completed(alice.apply(event(1, 10, total=10, user=FREE_USER))) == []
    assert completed(alice.apply(event(2, 1, total=11, user=PRO_USER))) == ["centurion"]


def test_a_late_event_earns_no_more_than_it_would_have_earned_in_time() -> None:
    """Eligible at the first event, which did not reach the threshold, and no longer at the second."""
    alice = player(for_pros(achievement(threshold=10)))
    alice.apply(event(2, 5, total=10, user=FREE_USER), event(1, 5, total=5, user=PRO_USER))
    assert alice.held == set()


def test_a_late_event_does_not_count_what_was_undone_meanwhile() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(correction(3, total=4), event(2, 4, total=12))
    assert alice.held == set()


# Event filters


def test_with_event_filters_the_sum_of_the_matching_events_counts() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    alice.apply(event(1, 50, total=50), event(2, 9, total=59, attributes=IS_MERGED))
    assert alice.held == set()
    assert completed(alice.apply(event(3, 1, total=60, attributes=IS_MERGED))) == ["centurion"]


def test_a_matching_negative_event_lowers_the_sum_and_revokes_nothing() -> None:
    alice = player(achievement(threshold=10, event_filters=[MERGED]))
    alice.apply(event(1, 10, total=10, attributes=IS_MERGED))
    alice.apply(event(2, -4, total=6, peak=10, attributes=IS_MERGED))
    assert alice.held == {"centurion"}
    assert alice.standing.accumulators["centurion"].sum_micros == 6 * UNIT


def test_an_event_that_does_not_match_completes_nothing_of_its_metric() -> None:
    alice = player(for_pros(achievement(threshold=10, event_filters=[MERGED])))
    alice.apply(event(1, 10, total=10, attributes=IS_MERGED, user=FREE_USER))
    assert alice.apply(event(2, 1, total=11, user=PRO_USER)).changes == ()


# Corrections


def test_a_correction_revokes_what_no_longer_holds() -> None:
    alice = player(achievement("low", 5), achievement("high", 10))
    alice.apply(event(1, 5, total=5), event(2, 6, total=11))
    assert revoked(alice.apply(correction(3, total=6)).changes) == ["high"]
    assert alice.held == {"low"}


def test_a_correction_completes_what_holds_without_the_undone_event() -> None:
    """+6, -5, +5 never reached 10; without the -5 it did."""
    alice = player(achievement(threshold=10))
    alice.apply(event(1, 6, total=6), event(2, -5, total=1, peak=6), event(3, 5, total=6))
    assert completed(alice.apply(correction(4, total=11))) == ["centurion"]


def test_a_correction_that_is_older_than_a_later_event_revokes_only_what_fails_today() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(event(1, 10, total=10), event(4, 8, total=12))
    assert alice.apply(correction(3, total=4)).changes == ()


def test_a_revoked_achievement_can_be_earned_again() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(event(1, 10, total=10), correction(2, total=0))
    again = alice.apply(event(3, 10, total=10)).changes[0].completion
    assert again.entry_id == entry_id(3)


def test_a_raised_threshold_takes_nothing_from_those_who_reached_the_old_one() -> None:
    alice = player(achievement(threshold=10))
    alice.apply(event(1, 15, total=15))
    alice.catalogue = Catalogue([achievement(threshold=100)])
    assert alice.apply(correction(2, total=12)).changes == ()
    assert revoked(alice.apply(correction(3, total=9)).changes) == ["centurion"]


def test_a_call_for_an_achievement_by_metric_is_refused() -> None:
    decision = player(achievement()).apply(call("c1", "centurion"))
    assert decision.refusal is not None
    assert decision.refusal.value == "TRIGGER_NOT_API"
