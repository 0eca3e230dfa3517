"""Achievements by a streak and by an explicit call (RULES 4)."""

import itertools
from uuid import UUID

import pytest
from msgspec.structs import replace

from services.achievement.domain import Catalogue, ChangeKind, Command, FirstGrant, Refusal, Status
from services.achievement.domain.state import Reach
from shared.entries import EntryKind
from tests.unit.achievement.builders import (
    NOON,
    Player,
    api_achievement,
    call,
    completed,
    entry,
    entry_id,
    for_pros,
    player,
    reach,
    revoked,
    streak_achievement,
    streak_closing,
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


def test_a_late_event_that_joins_earlier_runs_gives_what_they_reached_to_the_event_that_did() -> None:
    alice = player(streak_achievement(length=5))
    fifth, sixth = reach("fifth", days=5), reach("sixth", days=6)
    late = streak_event(2, length=1, longest=6, reached={4: reach(4, days=4), 5: fifth, 6: sixth}, days=2)
    (change,) = alice.apply(streak_event(1, length=1, longest=3), late).changes
    assert (change.completion.achievement, change.completion.reach) == ("fortnight", fifth)


def test_a_first_reach_that_another_late_event_moves_stays_where_it_was_granted() -> None:
    alice = player(streak_achievement(length=3))
    alice.apply(streak_event(1, length=3, longest=3, days=3))
    late = streak_event(2, length=4, longest=4, reached={3: reach("other", days=2), 4: reach(4, days=3)})
    assert alice.apply(late).changes == ()
    assert owner(alice) == entry_id(("streak", 1))


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_lengths_that_are_told_in_any_order_belong_to_the_events_that_reached_them(
    order: tuple[int, ...],
) -> None:
    alice = player(*(streak_achievement(f"of-{length}", length) for length in (1, 2, 3)))
    events = [streak_event(length, length=length, longest=length) for length in (1, 2, 3)]
    alice.apply(*(events[index] for index in order))
    assert {key: live.entry_id for key, live in alice.state.completions.items()} == {
        f"of-{length}": entry_id(("streak", length)) for length in (1, 2, 3)
    }


def test_what_was_reached_before_the_achievement_was_there_is_earned_with_the_next_event() -> None:
    alice = player()
    alice.apply(streak_event(1, length=5, longest=5))
    alice.catalogue = Catalogue([streak_achievement(length=3)])
    (change,) = alice.apply(streak_event(2, length=1, longest=5, reached={})).changes
    assert change.completion.entry_id == entry_id(("streak", 2))


def test_a_closing_earns_nothing() -> None:
    alice = player()
    alice.apply(streak_event(1, length=5, longest=5))
    alice.catalogue = Catalogue([streak_achievement(length=3)])
    assert alice.apply(streak_closing(2, length=0, longest=5)).changes == ()


# Corrections of a streak


def owner(alice: Player, key: str = "fortnight") -> UUID:
    return alice.state.completions[key].entry_id


def test_without_the_event_that_reached_it_a_length_belongs_to_the_next_that_does() -> None:
    alice = player(streak_achievement(length=3))
    third = streak_event(3, length=3, longest=3, days=3)
    alice.apply(third)
    before = alice.state.completions["fortnight"]
    alice.revert(third)
    told = streak_correction(4, third, length=3, longest=3, reached={3: reach("later", days=3)})
    gone, come = alice.apply(told).changes
    assert (gone.kind, gone.completion) == (ChangeKind.REVOKED, before)
    assert (come.kind, come.completion.reach) == (ChangeKind.COMPLETED, reach("later", days=3))
    assert come.completion.completion_id != before.completion_id


def test_without_an_earlier_event_a_length_is_reached_later() -> None:
    alice = player(streak_achievement(length=3))
    alice.apply(streak_event(3, length=3, longest=3, days=3), streak_event(4, length=4, longest=4, days=4))
    moved = {3: reach(("streak", 4), days=4), 4: None}
    alice.apply(
        streak_correction(5, streak_event(1, length=1, longest=1), length=3, longest=3, reached=moved)
    )
    assert owner(alice) == entry_id(("streak", 4))


def test_a_correction_that_says_nothing_of_the_length_touches_nothing() -> None:
    alice = player(streak_achievement(length=3))
    alice.apply(streak_event(3, length=3, longest=3), streak_event(4, length=4, longest=4))
    last = streak_event(4, length=4, longest=4)
    told = streak_correction(5, last, length=3, longest=3, reached={4: None})
    assert alice.apply(told).changes == ()


def test_what_had_been_granted_before_an_earlier_event_arrived_passes_to_that_one_only_when_it_is_undone() -> (
    None
):
    alice = player(streak_achievement(length=3))
    granted = streak_event(3, length=3, longest=3, days=3)
    earlier = reach("earlier", days=2)
    alice.apply(granted, streak_event(4, length=4, longest=4, reached={3: earlier, 4: reach(4, days=3)}))
    other = streak_correction(5, length=4, longest=4, reached={4: reach("another", days=3)})
    assert alice.apply(other).changes == ()
    alice.apply(streak_correction(6, granted, length=3, longest=3, reached={4: None}))
    assert alice.state.completions["fortnight"].reach == earlier


def test_without_an_event_a_completion_belongs_to_the_one_that_would_have_reached_it_as_they_came() -> None:
    granted, last = streak_event(3, length=3, longest=3, days=3), reach("last", days=5)
    told = streak_correction(4, granted, length=3, longest=3, reached={3: reach("earlier", days=2)})
    (change,) = told.streak_changes
    for with_it, without, owner in (
        # It had been granted to the undone one, and would have been to one that came before the earlier one did.
        (granted.entry.entry_id, last, last.entry_id),
        # What arrivals say is not what was completed: there is more that has not come.
        (entry_id("another"), last, entry_id("earlier")),
    ):
        alice = player(streak_achievement(length=3))
        alice.apply(granted)
        before, after = {3: FirstGrant(Reach(with_it, NOON, NOON.date()))}, {3: FirstGrant(without)}
        retold = replace(change, granted_before=before, granted_after=after)
        alice.apply(replace(told, streak_changes=(retold,)))
        assert alice.state.completions["fortnight"].entry_id == owner


def test_a_completion_that_stays_is_told_of_the_arrival_that_would_have_brought_it() -> None:
    alice = player(streak_achievement(length=3))
    late, other = streak_event(2, length=1, longest=1), streak_event(3, length=2, longest=2)
    last = streak_event(4, length=3, longest=3, days=5)
    alice.apply(late, last, other)
    before = alice.state.completions["fortnight"]
    alice.revert(late)
    told = streak_correction(4, late, length=3, longest=3)
    (change,) = told.streak_changes
    retold = replace(
        change,
        granted_before={3: FirstGrant(before.reach, last.entry.entry_id)},
        granted_after={3: FirstGrant(before.reach, other.entry.entry_id)},
    )
    decision = alice.apply(replace(told, streak_changes=(retold,)))
    assert decision.changes == ()
    (moved,) = decision.moved
    assert alice.state.completions["fortnight"] == moved
    assert moved.completion_id == before.completion_id
    assert (before.cause.position, moved.cause.position) == (2, 3)
    assert moved.cause.key.entry_id == other.entry.entry_id


def test_what_was_granted_for_a_length_that_became_less_goes_only_with_what_it_came_with() -> None:
    """By contributions that others take: a length may be less with one event more."""
    alice = player(streak_achievement(length=3))
    granted, later = (
        streak_event(3, length=3, longest=3, days=3),
        streak_event(5, length=2, longest=2, days=6),
    )
    alice.apply(granted, streak_event(4, length=1, longest=2, reached={3: None}, days=2), later)
    assert alice.apply(Command(entry("of something else", EntryKind.CORRECTION))).changes == ()
    assert alice.void(later, streak_correction(6, later, length=1, longest=2)).changes == ()
    # It was not there with it either.
    moved = streak_correction(7, streak_event(2, length=1, longest=1), length=1, longest=1, reached={2: None})
    assert alice.apply(moved).changes == ()
    gone = alice.void(granted, streak_correction(8, granted, length=1, longest=1)).changes
    assert revoked(gone) == ["fortnight"]


def test_without_an_event_that_prevented_it_a_length_was_reached_once_though_it_is_less_today() -> None:
    alice = player(streak_achievement(length=3))
    prevented = streak_event(1, length=1, longest=1)
    alice.apply(prevented, streak_event(2, length=2, longest=2))
    alice.revert(prevented)
    told = streak_correction(3, prevented, length=1, longest=2)
    (change,) = told.streak_changes
    last = reach("last", days=5)
    first = FirstGrant(last)
    retold = replace(change, granted_before={2: first}, granted_after={2: first, 3: first})
    (found,) = alice.apply(replace(told, streak_changes=(retold,))).changes
    assert (found.kind, found.completion.reach) == (ChangeKind.COMPLETED, last)


def test_an_undone_event_owns_nothing_though_the_change_that_named_an_earlier_one_comes_after_its_correction() -> (
    None
):
    alice = player(streak_achievement(length=3))
    granted = streak_event(3, length=3, longest=3, days=3)
    earlier = reach("earlier", days=2)
    late = streak_event(4, length=4, longest=4, reached={3: earlier, 4: reach(4, days=3)})
    other = streak_event(7, length=3, longest=3, reached={})
    alice.apply(granted)
    alice.void(granted, streak_correction(6, granted, length=3, longest=3, reached={4: None}))
    assert alice.held == set()
    alice.apply(other)
    assert alice.held == set()
    alice.apply(late)
    assert alice.state.completions["fortnight"].reach == earlier


def test_a_correction_that_comes_before_the_change_that_it_follows_is_what_counts() -> None:
    alice = player(streak_achievement(length=3))
    first = streak_event(1, length=3, longest=3, days=3)
    alice.apply(streak_correction(2, first, length=3, longest=3, reached={3: reach("other", days=3)}), first)
    assert owner(alice) == entry_id("other")


# Who can earn it, as of the event


def test_a_length_belongs_to_an_event_whose_user_could_earn_it_whichever_comes_last() -> None:
    alice = player(for_pros(streak_achievement(length=2)))
    second = streak_event(1, length=1, longest=1, user={"plan": "pro"}, days=2)
    own = reach(("streak", 1), days=2)
    first = streak_event(2, length=2, longest=2, reached={2: own}, user={"plan": "free"}, days=1)
    (change,) = alice.apply(second, first).changes
    assert change.completion.reach == own


def test_where_the_first_could_not_earn_it_the_next_greater_length_does() -> None:
    alice = player(for_pros(streak_achievement(length=2)))
    events = [
        streak_event(length, length=length, longest=length, user={"plan": plan})
        for length, plan in [(1, "free"), (2, "free"), (3, "pro"), (4, "pro")]
    ]
    alice.apply(*events)
    assert owner(alice) == entry_id(("streak", 3))


def test_an_event_that_is_told_as_the_first_before_it_comes_earns_it_when_it_comes() -> None:
    alice = player(for_pros(streak_achievement(length=2)))
    own = streak_event(1, length=1, longest=1, reached={}, user={"plan": "pro"}, days=2)
    told = streak_event(2, length=2, longest=2, reached={2: reach(("streak", 1), days=2)}, days=1)
    assert alice.apply(told).changes == ()
    assert completed(alice.apply(replace(own, streak_changes=()))) == ["fortnight"]


def test_an_older_streak_change_never_replaces_a_newer_one() -> None:
    alice = player(streak_achievement(length=3))
    alice.apply(streak_correction(2, length=1, longest=1), streak_event(1, length=3, longest=3))
    assert alice.held == set()


def test_a_correction_of_a_streak_revokes_what_no_longer_holds() -> None:
    alice = player(streak_achievement("week", 7), streak_achievement("fortnight", 14))
    alice.apply(streak_event(1, length=14, longest=14))
    assert revoked(alice.apply(streak_correction(2, length=6, longest=7, reached={14: None})).changes) == [
        "fortnight"
    ]


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
