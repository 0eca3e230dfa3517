"""RULES 6.12: cohorts, and who goes up or down."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.leaderboard.domain.boards import segment_values
from services.leaderboard.domain.leagues import (
    Division,
    League,
    Outcome,
    cohort_segment,
    division_after,
    division_of,
    filled,
    keeps_divisions,
    outcome_of,
)

DIVISIONS = tuple(Division(key) for key in ("bronze", "silver", "gold"))


def league(size: int = 30, up: int = 2, down: int = 1) -> League:
    return League(DIVISIONS, size, up, down)


def outcomes(rules: League, division: int, members: int) -> str:
    """U, S or D for each place of a cohort."""
    return "".join(
        {Outcome.PROMOTED: "U", Outcome.STAYS: "S", Outcome.DEMOTED: "D"}[
            outcome_of(rules, division, place, members)
        ]
        for place in range(1, members + 1)
    )


def test_the_first_go_up_and_the_last_go_down() -> None:
    assert outcomes(league(), 1, 5) == "UUSSD"


def test_nobody_goes_down_from_the_lowest_or_up_from_the_highest_division() -> None:
    assert outcomes(league(), 0, 5) == "UUSSS"
    assert outcomes(league(), 2, 5) == "SSSSD"


def test_who_goes_up_does_not_go_down_however_small_the_cohort_is() -> None:
    assert [outcomes(league(up=2, down=3), 1, members) for members in (1, 2, 3, 6)] == [
        "U",
        "UU",
        "UUD",
        "UUSDDD",
    ]


def test_a_cohort_is_full_before_the_next_begins() -> None:
    seats = filled(league(size=2), {0: (4, 1)}, [0, 0, 1, 0, 1, 1])
    assert [(seat.division, seat.number) for seat in seats] == [
        (0, 4),
        (0, 5),
        (1, 1),
        (0, 5),
        (1, 1),
        (1, 2),
    ]


@given(st.integers(2, 6), st.lists(st.integers(0, 2), max_size=60))
def test_no_cohort_is_larger_than_it_may_be_and_at_most_one_of_a_division_is_not_full(
    size: int, divisions: list[int]
) -> None:
    """Whether they come at once or one by one."""
    rules = league(size=size)
    seats = filled(rules, {}, divisions)
    counts = Counter(seats)
    assert max(counts.values(), default=0) <= size
    for division in range(3):
        assert sum(count < size for seat, count in counts.items() if seat.division == division) <= 1
    one_by_one = []
    latest: dict[int, tuple[int, int]] = {}
    for division in divisions:
        (seat,) = filled(rules, latest, [division])
        number, count = latest.get(division, (0, 0))
        latest[division] = (seat.number, count + 1 if seat.number == number else 1)
        one_by_one.append(seat)
    assert one_by_one == seats


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2), st.integers(1, 30))
def test_a_league_has_no_division_below_the_lowest_or_above_the_highest(
    up: int, down: int, division: int, members: int
) -> None:
    rules = league(up=up, down=down)
    for place in range(1, members + 1):
        assert 0 <= division_after(division, outcome_of(rules, division, place, members)) <= 2


def test_a_cohort_is_a_segment_that_names_its_division() -> None:
    (seat,) = filled(league(), {1: (7, 3)}, [1])
    values = segment_values(cohort_segment(league(), seat))
    assert values == {"division": "silver", "cohort": "7"}
    assert division_of(league(), values) == 1


def test_divisions_come_on_top_and_change_in_no_other_way() -> None:
    assert keeps_divisions("ab", "abc")
    assert not keeps_divisions("ab", "cab")
    assert not keeps_divisions("ab", "a")
