"""Folded in the order of arrival, dated by the order of times: for any history it is what an obvious fold says.

RULES 2.5, 4.1, 5.1.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.achievement.domain import Achievement, Catalogue, Command, MetricTrigger, Reach
from tests.unit.achievement.builders import UNIT, Player
from tests.unit.achievement.ledger import Event, Ledger, catalogue, earned_places

REVISABLE = ("max", "last", "unique")


def events(*metrics: str, values: st.SearchStrategy[int], size: int = 10) -> st.SearchStrategy[list[Event]]:
    """Any events, in the order of their arrival; several at one instant among them."""
    strategy = st.builds(
        Event,
        st.just(0),
        values,
        st.integers(0, 3 * size),
        st.sampled_from(metrics),
        st.booleans(),
        st.booleans(),
    )
    return st.lists(strategy, min_size=1, max_size=size).map(
        lambda some: [replace(each, name=name) for name, each in enumerate(some)]
    )


SIGNED = st.integers(-9, 9).filter(bool)
POSITIVE = st.integers(1, 9)


def held(alice: Player) -> dict[str, Reach]:
    return {key: live.reach for key, live in alice.state.completions.items()}


def expected(alice: Player, arrived: Sequence[Event]) -> dict[str, Reach]:
    return earned_places(alice.catalogue, arrived)


def happen(alice: Player, arriving: Sequence[Event], voided: set[Event], random: Any) -> list[Event]:
    """All of it, undoings and what follows from them anywhere after what is undone. What is left, as it arrived."""
    ledger, commands = Ledger(), dict[Event, Command]()
    order: list[tuple[float, str, Event]] = []
    for place, event in enumerate(arriving):
        order.append((place, "arrives", event))
        if event in voided:
            undone = random.uniform(place, len(arriving))
            order.append((undone, "undone", event))
            order.append((random.uniform(undone, len(arriving) + 1), "corrected", event))
    for _, what, event in sorted(order, key=lambda item: item[0]):
        if what == "arrives":
            commands[event] = ledger.record(event)
            alice.apply(commands[event])
        elif what == "undone":
            alice.revert(commands[event])
        else:
            alice.apply(ledger.take_out(event))
    return [event for event in arriving if event not in voided]


@given(events("sum", values=SIGNED), st.data(), st.randoms(use_true_random=False))
def test_sums_whatever_comes_late_and_is_undone(
    arriving: list[Event], data: st.DataObject, random: Any
) -> None:
    voided = data.draw(st.sets(st.sampled_from(arriving)))
    alice = Player(catalogue("sum"))
    left = happen(alice, arriving, voided, random)
    assert held(alice) == expected(alice, left)


@given(events("sum", values=POSITIVE), st.data(), st.randoms(use_true_random=False))
def test_sums_that_only_grow(arriving: list[Event], data: st.DataObject, random: Any) -> None:
    voided = data.draw(st.sets(st.sampled_from(arriving)))
    alice = Player(catalogue("sum"))
    left = happen(alice, arriving, voided, random)
    assert held(alice) == expected(alice, left)


@given(events(*REVISABLE, values=SIGNED))
def test_contributions_that_a_late_event_revises(arriving: list[Event]) -> None:
    alice, ledger = Player(catalogue(*REVISABLE)), Ledger()
    for event in arriving:
        alice.apply(ledger.record(event))
    assert held(alice) == expected(alice, arriving)


@given(events(*REVISABLE, values=SIGNED), st.data(), st.randoms(use_true_random=False))
def test_contributions_that_late_events_and_undoings_revise(
    arriving: list[Event], data: st.DataObject, random: Any
) -> None:
    voided = data.draw(st.sets(st.sampled_from(arriving)))
    alice = Player(catalogue(*REVISABLE))
    left = happen(alice, arriving, voided, random)
    assert held(alice) == expected(alice, left)


def test_a_completion_stays_with_whom_it_was_granted_to_where_a_later_arrival_is_undone() -> None:
    here, there, undone, again = (
        Event(name, place, minutes, "unique")
        for name, (place, minutes) in enumerate([(1, 5), (2, 10), (3, 1), (2, 7)])
    )
    alice = Player(Catalogue([Achievement("two-places", "Two", MetricTrigger("unique", 2 * UNIT))]))
    ledger, commands = Ledger(), {}
    for event in (here, there, undone, again):
        commands[event] = ledger.record(event)
        alice.apply(commands[event])
    alice.void(commands[undone], ledger.take_out(undone))
    assert held(alice) == {"two-places": there.reach}


def test_a_completion_passes_to_whom_it_would_have_been_granted_by_what_events_contributed_then() -> None:
    """Later its own contribution goes to another one, and what was granted stays."""
    undone, there, here, again = (
        Event(name, place, minutes, "unique")
        for name, (place, minutes) in enumerate([(3, 1), (2, 10), (1, 5), (2, 4)])
    )
    alice = Player(Catalogue([Achievement("two-places", "Two", MetricTrigger("unique", 2 * UNIT))]))
    ledger, commands = Ledger(), {}
    for event in (undone, there, here, again):
        commands[event] = ledger.record(event)
        alice.apply(commands[event])
    assert held(alice) == {"two-places": there.reach}
    alice.void(commands[undone], ledger.take_out(undone))
    assert held(alice) == {"two-places": there.reach}
    assert held(alice) == expected(alice, [there, here, again])
