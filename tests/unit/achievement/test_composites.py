"""Composites: earned by holding others, and lost with them (RULES 4.3)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.achievement.domain import Achievement, Catalogue, Status, StreakTrigger, in_circles, levels_of
from tests.unit.achievement.builders import (
    Player,
    achievement,
    api_achievement,
    call,
    completed,
    composite,
    correction,
    entry_id,
    event,
    for_pros,
    player,
    reach,
    revoked,
    streak_achievement,
    streak_closing,
    streak_correction,
    streak_event,
)
from tests.unit.achievement.ledger import CLOSES, OPENS, Event, ladder
from tests.unit.achievement.test_order import POSITIVE, SIGNED, events, expected, happen, held

FOUNDER = api_achievement()
PATRON = api_achievement("patron")
SPEAKER = api_achievement("speaker")


def owner(alice: Player, key: str) -> object:
    return alice.state.completions[key].entry_id


def test_all_of_them_are_needed_where_nothing_else_is_said() -> None:
    alice = player(FOUNDER, PATRON, composite("both", "founder", "patron"))
    assert completed(alice.apply(call("c1", "founder", minutes=1))) == ["founder"]
    assert completed(alice.apply(call("c2", "patron", minutes=2))) == ["patron", "both"]
    assert owner(alice, "both") == entry_id("c2")


@pytest.mark.parametrize(("enough", "after"), [(1, "c1"), (2, "c2"), (3, "c3")])
def test_so_many_of_them_are_enough(enough: int, after: str) -> None:
    alice = player(FOUNDER, PATRON, SPEAKER, composite("some", "founder", "patron", "speaker", enough=enough))
    alice.apply(
        call("c1", "founder", minutes=1), call("c2", "patron", minutes=2), call("c3", "speaker", minutes=3)
    )
    assert owner(alice, "some") == entry_id(after)


def test_one_entry_completes_what_stands_above_to_the_top() -> None:
    tower = [composite(f"level-{n}", f"level-{n - 1}" if n > 1 else "founder") for n in range(1, 21)]
    alice = player(FOUNDER, *reversed(tower))
    assert completed(alice.apply(call("c1", minutes=1))) == [
        "founder",
        *(definition.key for definition in tower),
    ]


def test_a_completion_that_goes_takes_along_what_it_alone_had_made_possible() -> None:
    alice = player(
        FOUNDER,
        PATRON,
        composite("either", "founder", "patron", enough=1),
        composite("both", "founder", "patron"),
        composite("above", "both"),
    )
    first, second = call("c1", "founder", minutes=1), call("c2", "patron", minutes=2)
    alice.apply(first, second)
    assert revoked(alice.revert(second)) == ["patron", "both", "above"]
    assert alice.held == {"founder", "either"}


def test_what_others_make_possible_too_passes_on() -> None:
    alice = player(FOUNDER, PATRON, composite("either", "founder", "patron", enough=1))
    first = call("c1", "founder", minutes=1)
    alice.apply(first, call("c2", "patron", minutes=2))
    changes = alice.revert(first)
    assert revoked(changes) == ["founder", "either"]
    assert owner(alice, "either") == entry_id("c2")


def test_a_voided_event_takes_a_composite_of_a_metric_with_it() -> None:
    alice = player(achievement("ten", 10), FOUNDER, composite("both", "ten", "founder"))
    ten = event(1, 10, total=10)
    alice.apply(call("c1", minutes=1), ten)
    assert "both" in alice.held
    undone = alice.void(ten, correction(2, ten, total=0))
    assert sorted(revoked(undone.changes)) == ["both", "ten"]


def test_a_composite_follows_what_an_undone_event_had_kept_from_being_reached_earlier() -> None:
    some = composite("some", "fortnight", "founder", "patron", enough=2)
    alice = player(streak_achievement(length=2), FOUNDER, PATRON, some)
    gone = streak_event(1, length=1, longest=1, days=1)
    alice.apply(
        call("c1", "founder", minutes=1),
        gone,
        streak_event(4, length=1, longest=1, days=4),
        call("c2", "patron", minutes=5 * 1440),
        streak_event(6, length=2, longest=2, days=6),
    )
    assert owner(alice, "some") == entry_id("c2")
    earlier = {2: reach(("streak", 4), days=4)}
    alice.void(gone, streak_correction(7, gone, length=2, longest=2, reached=earlier))
    assert owner(alice, "fortnight") == owner(alice, "some") == entry_id(("streak", 4))


def test_a_streak_that_ends_takes_no_composite_away() -> None:
    week = Achievement("week", "Week", StreakTrigger("daily", 7))
    alice = player(week, composite("above", "week"))
    assert completed(alice.apply(streak_event(7, length=7, longest=7))) == ["week", "above"]
    alice.apply(streak_closing(8, length=0, longest=7))
    assert alice.held == {"week", "above"}


def test_only_an_event_of_a_user_who_matches_owns_a_composite_with_filters() -> None:
    alice = player(
        FOUNDER, PATRON, SPEAKER, for_pros(composite("two", "founder", "patron", "speaker", enough=2))
    )
    alice.apply(call("c1", "founder", user={"plan": "pro"}, minutes=1), call("c2", "patron", minutes=2))
    assert "two" not in alice.held
    alice.apply(call("c3", "speaker", user={"plan": "pro"}, minutes=3))
    assert owner(alice, "two") == entry_id("c3")


def test_a_definition_that_asks_for_others_takes_nothing_from_holders() -> None:
    alice = player(FOUNDER, PATRON, composite("both", "founder", "patron"))
    alice.apply(call("c1", "founder", minutes=1), call("c2", "patron", minutes=2))
    assert "both" in alice.held
    alice.catalogue = Catalogue([FOUNDER, PATRON, SPEAKER, composite("both", "founder", "patron", "speaker")])
    third = call("c3", "speaker", minutes=3)
    alice.apply(third)
    alice.revert(third)
    assert owner(alice, "both") == entry_id("c2")


def test_one_that_is_not_active_is_completed_by_nothing() -> None:
    dormant = replace(composite("any", "founder"), status=Status.INACTIVE)
    alice = player(FOUNDER, dormant)
    assert completed(alice.apply(call("c1"))) == ["founder"]


def above(*keys: str) -> list[Achievement]:
    return [
        composite("all", *keys),
        composite("any", *keys, enough=1),
        composite("two", *keys, enough=2),
        for_pros(composite("two-pro", *keys, enough=2)),
        composite("top", "two", "any", keys[0], enough=2),
        for_pros(composite("top-pro", "two-pro", "top", enough=1)),
    ]


def with_composites() -> Catalogue:
    lower = ladder("sum", 1, 3, 8)
    return Catalogue(
        [
            *lower,
            *above("sum-all-3", "sum-merged-1", "sum-pro-3", "sum-merged-pro-8", "sum-repeated-1"),
            replace(
                composite("late", "sum-all-1", "sum-merged-3", enough=1), earn_from=OPENS, earn_until=CLOSES
            ),
        ]
    )


@settings(deadline=None)
@given(events("sum", values=SIGNED, size=8), st.data(), st.randoms(use_true_random=False))
def test_whatever_comes_late_and_is_undone_composites_are_what_a_look_after_each_arrival_says(
    arriving: list[Event], data: st.DataObject, random: Any
) -> None:
    voided = data.draw(st.sets(st.sampled_from(arriving)))
    alice = Player(with_composites())
    left = happen(alice, arriving, voided, random)
    assert held(alice) == expected(alice, left)


@settings(deadline=None)
@given(events("sum", values=POSITIVE, size=8), st.data(), st.randoms(use_true_random=False))
def test_the_same_of_sums_that_only_grow(arriving: list[Event], data: st.DataObject, random: Any) -> None:
    voided = data.draw(st.sets(st.sampled_from(arriving)))
    alice = Player(with_composites())
    left = happen(alice, arriving, voided, random)
    assert held(alice) == expected(alice, left)


def test_levels_count_from_what_is_earned_by_itself() -> None:
    assert levels_of({"b": ["a"], "c": ["b", "x"], "d": ["c"]}) == {"b": 1, "c": 2, "d": 3}


def test_whoever_is_a_prerequisite_of_itself_is_in_a_circle() -> None:
    wanted = {"a": ["b"], "b": ["c"], "c": ["a", "x"], "above": ["a"], "below": ["x"], "self": ["self"]}
    assert in_circles(wanted) == {"a", "b", "c", "self"}
    assert levels_of(wanted) == {"below": 1}
