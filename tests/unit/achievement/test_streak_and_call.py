"""Achievements by a streak and by an explicit call (RULES 4)."""

import pytest
from msgspec.structs import replace

from services.achievement.domain import Refusal, Status
from tests.unit.achievement.builders import (
    api_achievement,
    call,
    completed,
    entry_id,
    for_pros,
    player,
    revoked,
    streak_achievement,
    streak_correction,
    streak_event,
)


def test_a_streak_that_reaches_the_length_completes_the_achievement() -> None:
    alice = player(streak_achievement(length=3))
    assert completed(alice.apply(streak_event(1, length=2, longest=2))) == []
    assert completed(alice.apply(streak_event(2, length=3, longest=3))) == ["fortnight"]


def test_a_broken_streak_takes_nothing_away() -> None:
    alice = player(streak_achievement(length=3))
    assert (
        alice.apply(streak_event(1, length=3, longest=3), streak_event(2, length=1, longest=3)).changes == ()
    )
    assert alice.held == {"fortnight"}


def test_the_longest_length_counts_when_a_late_event_joins_earlier_runs() -> None:
    alice = player(streak_achievement(length=5))
    assert completed(alice.apply(streak_event(1, length=1, longest=6))) == ["fortnight"]


def test_an_older_streak_change_never_replaces_a_newer_one() -> None:
    alice = player(streak_achievement(length=3))
    alice.apply(streak_correction(2, length=1, longest=1), streak_event(1, length=3, longest=3))
    assert alice.held == set()


def test_a_correction_of_a_streak_revokes_what_no_longer_holds() -> None:
    alice = player(streak_achievement("week", 7), streak_achievement("fortnight", 14))
    alice.apply(streak_event(1, length=14, longest=14))
    assert revoked(alice.apply(streak_correction(2, length=6, longest=7)).changes) == ["fortnight"]


def test_a_call_completes_an_achievement() -> None:
    decision = player(api_achievement()).apply(call("c1"))
    assert completed(decision) == ["founder"]
    assert decision.changes[0].completion.entry_id == entry_id("c1")


def test_a_second_call_changes_nothing_and_is_no_error() -> None:
    decision = player(api_achievement()).apply(call("c1"), call("c2"))
    assert (decision.changes, decision.refusal) == ((), None)


@pytest.mark.parametrize("status", [Status.INACTIVE, Status.LOCKED, Status.ARCHIVED])
def test_a_call_for_an_achievement_that_is_not_active_is_refused(status: Status) -> None:
    decision = player(replace(api_achievement(), status=status)).apply(call("c1"))
    assert (decision.refusal, decision.changes) == (Refusal.NOT_ACTIVE, ())


def test_a_call_for_an_unknown_achievement_is_refused() -> None:
    assert player().apply(call("c1", "nothing")).refusal is Refusal.NOT_FOUND


def test_a_call_for_a_streak_achievement_is_refused() -> None:
    alice = player(streak_achievement())
    assert alice.apply(call("c1", "fortnight")).refusal is Refusal.TRIGGER_NOT_API


def test_a_call_for_a_user_who_does_not_match_is_refused() -> None:
    alice = player(for_pros(api_achievement()))
    assert alice.apply(call("c1", user={"plan": "free"})).refusal is Refusal.USER_NOT_ELIGIBLE
    assert completed(alice.apply(call("c2", user={"plan": "pro"}))) == ["founder"]


def test_no_source_ever_revokes_what_was_completed_by_call() -> None:
    alice = player(api_achievement("daily"))
    alice.apply(call("c1", "daily"), streak_event(1, length=1, longest=1))
    assert alice.apply(streak_correction(2, length=0, longest=0)).changes == ()
    assert alice.held == {"daily"}
