"""Filters on attributes (RULES 2.3)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laurel.common.v1.filter_pb2 import AttributeFilter as Message

from shared.errors import Violations
from shared.filters import AttributeFilter, Equals, In, NotIn, Range, matches
from shared.rpc.filters import MAX_FILTERS, MAX_VALUES, filters_from_proto


def plan_is(comparison: Equals | In | NotIn | Range) -> list[AttributeFilter]:
    return [AttributeFilter("plan", comparison)]


def read(*messages: Message) -> tuple[tuple[AttributeFilter, ...], list[str]]:
    violations = Violations()
    filters = filters_from_proto(messages, "streak.user_filters", violations)
    return filters, [violation.field for violation in violations]


def test_no_filter_is_met_by_everybody() -> None:
    assert matches((), {})


def test_equals_wants_the_attribute_present_and_equal() -> None:
    assert matches(plan_is(Equals("pro")), {"plan": "pro"})
    assert not matches(plan_is(Equals("pro")), {"plan": "Pro"})
    assert not matches(plan_is(Equals("")), {})
    assert matches(plan_is(Equals("")), {"plan": ""})


def test_in_wants_the_attribute_present_and_one_of_the_values() -> None:
    among = plan_is(In(frozenset({"pro", "team"})))
    assert matches(among, {"plan": "team"})
    assert not matches(among, {"plan": "free"})
    assert not matches(among, {})


def test_not_in_is_met_by_an_absent_attribute_and_by_other_values() -> None:
    outside = plan_is(NotIn(frozenset({"free"})))
    assert matches(outside, {})
    assert matches(outside, {"plan": "pro"})
    assert not matches(outside, {"plan": "free"})


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("10", True), ("5.5", True), ("0.99", False), ("1e1", True)]
)
def test_a_range_includes_both_of_its_bounds(value: str, expected: bool) -> None:
    assert matches(plan_is(Range(1, 10)), {"plan": value}) is expected


def test_a_range_may_be_open_on_either_side() -> None:
    assert matches(plan_is(Range(1, None)), {"plan": "1e999"})
    assert matches(plan_is(Range(None, 1)), {"plan": "-5"})


@pytest.mark.parametrize("value", ["", "many", "nan", "inf", "1_000", " 7 ", "٧", "0x10", "1,5", "+", "."])
def test_what_is_not_a_number_is_in_no_range(value: str) -> None:
    assert not matches(plan_is(Range(-math.inf, math.inf)), {"plan": value})


def test_several_filters_are_all_to_be_met() -> None:
    both = [AttributeFilter("plan", Equals("pro")), AttributeFilter("age", Range(18, None))]
    assert matches(both, {"plan": "pro", "age": "18"})
    assert not matches(both, {"plan": "pro", "age": "17"})


@given(st.text(), st.sets(st.text(), min_size=1), st.booleans())
def test_in_and_not_in_are_opposites(value: str, values: set[str], present: bool) -> None:
    attributes = {"plan": value} if present else {}
    inside = matches(plan_is(In(frozenset(values))), attributes)
    assert inside is not matches(plan_is(NotIn(frozenset(values))), attributes)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_is_written_out_is_in_the_range_of_itself(number: float) -> None:
    assert matches(plan_is(Range(number, number)), {"plan": repr(number)})


def test_each_comparison_is_read_from_its_message() -> None:
    among = Message(attribute="d")
    getattr(among, "in").values.append("x")
    filters, fields = read(
        Message(attribute="a", equals="x"),
        Message(attribute="b", not_in=Message.Values(values=["x", "y"])),
        Message(attribute="c", range=Message.Range(min=0)),
        among,
    )
    assert fields == []
    assert filters == (
        AttributeFilter("a", Equals("x")),
        AttributeFilter("b", NotIn(frozenset({"x", "y"}))),
        AttributeFilter("c", Range(0, None)),
        AttributeFilter("d", In(frozenset({"x"}))),
    )


def test_every_mistake_in_a_list_of_filters_is_named() -> None:
    filters, fields = read(
        Message(attribute="fine", equals="x"),
        Message(attribute="", equals="x" * 256),
        Message(attribute="nothing"),
        Message(attribute="empty", not_in=Message.Values()),
        Message(attribute="nul", not_in=Message.Values(values=["a", "\x00"])),
        Message(attribute="unbounded", range=Message.Range()),
        Message(attribute="nan", range=Message.Range(min=math.nan, max=math.inf)),
        Message(attribute="reversed", range=Message.Range(min=2, max=1)),
        Message(attribute="many", not_in=Message.Values(values=["x"] * (MAX_VALUES + 1))),
    )
    at = "streak.user_filters"
    assert filters == (AttributeFilter("fine", Equals("x")),)
    assert fields == [
        f"{at}[1].attribute",
        f"{at}[1].equals",
        f"{at}[2]",
        f"{at}[3].not_in.values",
        f"{at}[4].not_in.values[1]",
        f"{at}[5].range",
        f"{at}[6].range.min",
        f"{at}[6].range.max",
        f"{at}[7].range.min",
        f"{at}[8].not_in.values",
    ]


def test_a_list_of_too_many_filters_is_refused() -> None:
    filters, fields = read(*[Message(attribute="a", equals="x")] * (MAX_FILTERS + 1))
    assert (filters, fields) == ((), ["streak.user_filters"])
