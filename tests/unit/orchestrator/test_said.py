"""What was said about a user, as of now and as of an event: RULES 1.5, 2.3, 2.5."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from services.orchestrator import said as module
from services.orchestrator.said import (
    KEPT_MICROS,
    MOST_RUNS,
    Said,
    UserPatch,
    attributes_as_of,
    micros_of,
    pruned,
    say,
    to_read_without,
)
from tests.unit.orchestrator.living import Life, obvious_attributes, obvious_newest

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NOBODY = UserPatch("u")


def says(**attributes: str) -> UserPatch:
    return UserPatch("u", attributes=attributes)


def days(number: float) -> datetime:
    return NOON + timedelta(days=number)


patches = st.builds(
    UserPatch,
    st.just("u"),
    st.sampled_from(["", "", "Ada", "Grace"]),
    st.sampled_from(["", "", "Asia/Tokyo", "Europe/Rome"]),
    st.dictionaries(st.sampled_from(["plan", "region", "team"]), st.sampled_from(["x", "y"]), max_size=2),
    st.just(frozenset[str]()),
    st.just(frozenset[str]()),
    st.just(False),
) | st.builds(
    lambda attributes, cleared, fields, everything: UserPatch(
        "u",
        attributes=attributes,
        cleared=fields,
        cleared_attributes=cleared - attributes.keys(),
        clears_other_attributes=everything,
    ),
    st.dictionaries(st.sampled_from(["plan", "team"]), st.sampled_from(["x", "y"]), max_size=1),
    st.frozensets(st.sampled_from(["plan", "region"]), max_size=1),
    st.frozensets(st.sampled_from(["name", "time_zone"]), max_size=1),
    st.booleans(),
)

moves = st.lists(
    st.one_of(
        st.tuples(patches, st.integers(0, 12).map(lambda days: NOON + timedelta(days=days))),
        st.tuples(patches, st.integers(0, 2).map(lambda days: NOON + timedelta(days=days))),
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=25,
)
"""Statements as they arrive, and the numbers of some that are undone."""


@settings(max_examples=10 * settings().max_examples)
@given(moves, st.sampled_from([MOST_RUNS, 3]))
def test_the_attributes_as_of_any_event_are_those_that_an_obvious_fold_over_all_that_is_known_gives(
    moves: list[Any], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "MOST_RUNS", most)
        life = Life()
        for move in moves:
            if isinstance(move, int):
                if life.ledger:
                    life.unsay(move % len(life.ledger))
                continue
            patch, when = move
            held, newest = life.say(patch, when)
            at = micros_of(when)
            assert held == obvious_attributes(life.ledger, patch, at)
            now = obvious_attributes(life.ledger, NOBODY, 1 << 62)
            assert (held if newest is None else newest) == now
            assert newest is None or newest != held
        if life.user is not None:
            now = obvious_attributes(life.ledger, NOBODY, 1 << 62)
            assert life.user.said.plain_attributes() == now
            assert life.user.said.plain_name == obvious_newest(life.ledger, "name")
            assert life.user.said.plain_time_zone == obvious_newest(life.ledger, "time_zone")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_of_three_events_each_carries_what_had_been_said_by_its_time_as_far_as_it_is_known(
    order: tuple[int, ...],
) -> None:
    """At -3d with plan=free, at -2d without attributes, at -1d with plan=pro: only the last is pro."""
    events = [(says(plan="free"), days(-3)), (NOBODY, days(-2)), (says(plan="pro"), days(-1))]
    life = Life()
    told = {}
    for number in order:
        told[number] = life.say(*events[number])
    assert told[0][0] == {"plan": "free"}
    # Where the first has not come yet nobody knows that the plan was free; pro it was not in any order.
    known = order.index(0) < order.index(1)
    assert told[1][0] == ({"plan": "free"} if known else {})
    assert told[2] == ({"plan": "pro"}, None)
    late = {number for number in order if any(other > number for other in order[: order.index(number)])}
    for number in late:
        if 2 in order[: order.index(number)]:
            assert told[number][1] == {"plan": "pro"}


def test_who_says_the_same_with_every_event_never_asks_the_ledger() -> None:
    life = Life()
    arriving = [UserPatch("u", "Ada", "Asia/Tokyo", {"plan": "pro"})] * 50
    for number, patch in enumerate(arriving):
        life.say(patch, days(number ^ 1))
    for _ in range(40):
        life.unsay(5)
    assert life.readings == 0
    assert life.user is not None
    assert life.user.said.plain_attributes() == {"plan": "pro"}


def test_an_event_that_says_nothing_leaves_what_was_said_as_it_is() -> None:
    said = say(Said(), says(plan="pro"), micros_of(NOON))
    assert say(said, NOBODY, micros_of(days(1))) is said
    assert pruned(said) is said
    assert to_read_without(said, NOBODY, micros_of(days(1))) is None


def test_an_attribute_that_changes_with_every_event_does_not_make_the_user_grow() -> None:
    life = Life()
    for number in range(3 * MOST_RUNS):
        life.say(says(seen=str(number), plan="pro"), NOON + timedelta(minutes=number))
    assert life.user is not None
    assert len(life.user.said.attributes["seen"]) == MOST_RUNS + 1
    assert life.readings == 0
    held, newest = life.say(NOBODY, NOON + timedelta(minutes=1.5))
    assert held == {"seen": "1", "plan": "pro"}
    assert newest == {"seen": str(3 * MOST_RUNS - 1), "plan": "pro"}
    assert life.readings == 1


def test_changes_of_long_ago_are_forgotten_and_so_is_what_was_cleared() -> None:
    life = Life()
    life.say(says(plan="free", team="red"), days(0))
    life.say(UserPatch("u", attributes={"plan": "pro"}, clears_other_attributes=True), days(1))
    life.say(says(plan="pro"), days(2 + KEPT_MICROS / 86_400e6))
    assert life.user is not None
    said = life.user.said
    assert said.attributes.keys() == {"plan"}
    assert len(said.attributes["plan"]) == 1
    assert life.say(NOBODY, days(0.5))[0] == {"plan": "free", "team": "red"}


def test_what_an_event_carries_counts_for_it_also_where_another_says_otherwise_at_the_same_instant() -> None:
    life = Life()
    life.say(says(plan="pro"), NOON)
    assert life.say(says(plan="free"), NOON) == ({"plan": "free"}, {"plan": "pro"})


def test_what_is_stored_comes_back() -> None:
    said = Said()
    for number, patch in enumerate((UserPatch("u", "Ada", "Asia/Tokyo", {"plan": "pro"}), says(plan="free"))):
        said = say(said, patch, micros_of(days(number)))
    assert json.decode(json.encode(said), type=Said) == said
    assert attributes_as_of(said, NOBODY, micros_of(days(0.5))) == ({"plan": "pro"}, {"plan": "free"})
