"""Achievements that are earned again and again, and those that can be earned in a window of time (RULES 4.7)."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from services.achievement.domain import Achievement, Refusal, list_progress
from tests.unit.achievement.builders import (
    NOON,
    Player,
    achievement,
    api_achievement,
    call,
    completed,
    correction,
    entry_id,
    event,
    player,
    reach,
    revoked,
    streak_achievement,
    streak_correction,
    streak_event,
)

TEN = replace(achievement("ten", 10), repeatable=True)
THANKS = replace(api_achievement("thanks"), repeatable=True)
WEEK = replace(streak_achievement("week", 7), repeatable=True)


def open_between(definition: Achievement, since: int | None = None, until: int | None = None) -> Achievement:
    """In minutes after noon."""
    return replace(
        definition,
        earn_from=None if since is None else NOON + timedelta(minutes=since),
        earn_until=None if until is None else NOON + timedelta(minutes=until),
    )


def owners(alice: Player) -> list[object]:
    return [live.entry_id for _, live in sorted(alice.state.completions.items())]


def test_every_multiple_of_the_threshold_is_a_completion_with_its_number() -> None:
    alice = player(TEN)
    assert completed(alice.apply(event(1, 9, total=9))) == []
    changes = alice.apply(event(2, 22, total=31)).changes
    assert [change.completion.number for change in changes] == [1, 2, 3]
    assert len({change.completion.completion_id for change in changes}) == 3


def test_an_event_that_would_earn_too_much_at_once_is_refused_and_changes_nothing() -> None:
    ones = [replace(achievement(key, 1), repeatable=True) for key in ("one", "another")]
    alice = player(*ones)
    refused = alice.apply(event(1, 501, total=501))
    assert (refused.refusal, refused.changes) == (Refusal.TOO_MANY_AT_ONCE, ())
    assert len(alice.apply(event(2, 500, total=500)).changes) == 1_000


def test_a_void_takes_the_last_ones_and_passes_the_others_on() -> None:
    alice = player(TEN)
    first = event(1, 10, total=10)
    alice.apply(first, event(2, 10, total=20), event(3, 10, total=30))
    undone = alice.void(first, correction(4, first, total=20))
    assert [change.completion.number for change in undone.changes] == [1, 1, 2, 2, 3]
    assert owners(alice) == [entry_id(2), entry_id(3)]


def test_a_streak_earns_each_multiple_of_the_length() -> None:
    alice = player(WEEK)
    seventh = streak_event(1, length=7, longest=7)
    alice.apply(seventh)
    late = streak_event(2, length=21, longest=21, reached={14: reach(14, days=14), 21: reach(21, days=21)})
    assert [change.completion.number for change in alice.apply(late).changes] == [2, 3]
    gone = streak_correction(3, late, length=14, longest=14, reached={21: None})
    assert [change.completion.number for change in alice.void(late, gone).changes] == [3]


def test_each_call_completes_it_once_more() -> None:
    alice = player(THANKS)
    for number in (1, 2, 3):
        (change,) = alice.apply(call(f"c{number}", "thanks", minutes=number)).changes
        assert change.completion.number == number


def test_calls_that_came_after_a_voided_one_move_up() -> None:
    alice = player(THANKS)
    calls = [call(f"c{number}", "thanks", minutes=number) for number in (1, 2, 3)]
    alice.apply(*calls)
    assert revoked(alice.revert(calls[0])) == ["thanks", "thanks", "thanks"]
    assert owners(alice) == [entry_id("c2"), entry_id("c3")]


def test_progress_goes_towards_the_next_time() -> None:
    alice = player(TEN)
    alice.apply(event(1, 25, total=25))
    (shown,) = list_progress(alice.catalogue, alice.state, NOON, completed_only=False)
    assert (shown.count, shown.target, shown.current) == (2, 30_000_000, 25_000_000)
    assert shown.percent == pytest.approx(83.333, abs=0.001)


def test_what_happens_outside_the_window_earns_nothing() -> None:
    alice = player(open_between(achievement("ten", 10), 5, 8))
    assert completed(alice.apply(event(4, 10, total=10))) == []
    assert completed(alice.apply(event(5, 1, total=11))) == ["ten"]
    late = player(open_between(achievement("ten", 10), until=8))
    assert completed(late.apply(event(8, 10, total=10))) == []
    assert completed(late.apply(event(7, 1, total=11, minutes=7))) == []


def test_an_event_of_the_window_that_comes_late_earns_it() -> None:
    alice = player(open_between(achievement("ten", 10), 5, 8))
    alice.apply(event(1, 1, total=1, minutes=9))
    assert completed(alice.apply(event(2, 10, total=11, minutes=6))) == ["ten"]


def test_a_call_outside_the_window_is_refused() -> None:
    alice = player(open_between(api_achievement(), 5))
    assert alice.apply(call("c1", minutes=4)).refusal is Refusal.NOT_OPEN
    assert completed(alice.apply(call("c2", minutes=5))) == ["founder"]
