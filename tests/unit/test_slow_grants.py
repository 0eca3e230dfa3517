"""What tests of the whole system expect to be granted, in examples that can be counted by hand (RULES 2.2, 2.5)."""

from collections import Counter
from collections.abc import Sequence
from itertools import permutations

import pytest

from tests.fixtures.slow_grants import contributions, crossings, granted


@pytest.mark.parametrize(
    ("aggregation", "values", "expected"),
    [
        ("SUM", [(5, ""), (-2, "")], [5, -2]),
        ("MAX", [(5, ""), (3, ""), (8, "")], [5, 0, 3]),
        ("LAST", [(150, ""), (5, "")], [150, -145]),
        ("UNIQUE", [(9, "a"), (9, "a"), (9, "b")], [1_000_000, 0, 1_000_000]),
    ],
)
def test_an_event_contributes_the_change_that_it_makes_to_the_total(
    aggregation: str, values: list[tuple[int, str]], expected: list[int]
) -> None:
    assert contributions(aggregation, values) == expected


def test_multiples_are_met_where_the_highest_sum_first_reaches_them() -> None:
    counted = [("monday", 7), ("tuesday", 17), ("wednesday", -20), ("thursday", 8), ("friday", 30)]
    assert crossings(counted, 10) == {"tuesday": 2, "friday": 2}
    assert crossings(counted, 10, most=1) == {"tuesday": 1}
    assert crossings(counted, 100) == {}


def given_in(order: Sequence[int], values: Sequence[int], every: int) -> Counter[int]:
    """What events that arrive in this order are granted; an event's number is its instant."""
    return granted(
        crossings([(index, values[index]) for index in sorted(order[:count])], every)
        for count in range(1, len(order) + 1)
    )


def test_what_the_last_event_brings_about_is_granted_where_the_condition_is_met_in_every_order() -> None:
    assert all(given_in(order, (4, 4, 4), 10) == {2: 1} for order in permutations(range(3)))
    assert all(given_in(order, (7, 7, 7), 10) == {1: 1, 2: 1} for order in permutations(range(3)))


def test_what_was_granted_keeps_its_instant_when_an_earlier_event_arrives() -> None:
    assert given_in((0, 1, 2), (7, 3, 7), 10) == {1: 1}
    assert given_in((0, 2, 1), (7, 3, 7), 10) == {2: 1}


def test_of_more_instants_than_are_missing_the_latest_are_granted() -> None:
    before, after = Counter(["thursday"]), Counter(["friday", "monday"])
    assert granted([before, after]) == {"thursday": 1, "monday": 1}
    assert granted([Counter([3]), Counter([2, 4])]) == {3: 1, 4: 1}
