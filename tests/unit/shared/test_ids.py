"""Drawn and derived identifiers."""

import uuid
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from shared.ids import DerivedIds, NamesBeside, derived_id, derived_id_at, derived_id_beside, digest
from shared.random_ids import new_id

PARTS = st.lists(st.text(max_size=20), max_size=5)


def test_random_ids_are_version_7_and_sort_by_the_time_they_were_drawn() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert {(drawn.version, drawn.variant) for drawn in ids} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 1_000
    assert [drawn.int >> 76 for drawn in ids] == sorted(drawn.int >> 76 for drawn in ids)


@given(PARTS, PARTS)
def test_a_derived_id_names_its_parts_and_nothing_else(first: list[str], second: list[str]) -> None:
    assert (derived_id(*first) == derived_id(*second)) == (first == second)
    assert derived_id(*first).version == 8
    assert derived_id(*first).variant == uuid.RFC_4122


def test_a_derived_id_never_changes_between_releases() -> None:
    assert str(derived_id("alice", "commits", "key-1")) == "b2037fb4-2765-817a-9420-e64a30574b26"


def test_the_place_where_one_part_ends_and_the_next_begins_matters() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab") != digest("ab", "")
    assert digest("ab") == digest(b"ab")


def test_an_id_derived_beside_another_has_its_time_and_a_name_of_its_own() -> None:
    origin = uuid.UUID("01900000-1234-7abc-8def-0123456789ab")
    beside = derived_id_beside(origin, "correction")
    assert beside.int >> 80 == origin.int >> 80
    assert beside.version == 8
    assert beside.variant == uuid.RFC_4122
    assert beside == derived_id_beside(origin, "correction")
    assert beside != derived_id_beside(origin, "other")
    assert beside != derived_id_beside(uuid.UUID("01900000-1234-7abc-8def-0123456789ac"), "correction")


def test_an_id_derived_at_an_instant_begins_with_its_milliseconds() -> None:
    instant = datetime(2026, 11, 21, 12, 0, 0, 123_456, tzinfo=UTC)
    derived = derived_id_at(instant, "alice", "key")
    assert derived.int >> 80 == 1_795_262_400_123
    assert (derived.version, derived.variant) == (8, uuid.RFC_4122)
    assert derived_id_at(instant, "alice", "other") != derived == derived_id_at(instant, "alice", "key")
    assert derived_id_at(datetime(1900, 1, 1, tzinfo=UTC), "alice").int >> 80 == 0


@given(PARTS, st.lists(PARTS, min_size=1, max_size=3))
def test_of_many_ids_that_begin_alike_each_is_the_one_that_all_its_parts_name(
    beginning: list[str], names: list[list[str]]
) -> None:
    ids = DerivedIds(*beginning)
    assert [ids.id(*parts) for parts in names] == [derived_id(*beginning, *parts) for parts in names]


@given(st.uuids(), st.lists(PARTS, min_size=1, max_size=3))
def test_the_texts_of_many_ids_beside_one_are_those_of_the_ids(
    origin: uuid.UUID, names: list[list[str]]
) -> None:
    beside = NamesBeside(str(origin))
    assert [beside.text(*parts) for parts in names] == [
        str(derived_id_beside(origin, *parts)) for parts in names
    ]
