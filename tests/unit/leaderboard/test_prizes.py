"""RULES 6.10: who is given a prize."""

from hypothesis import given
from hypothesis import strategies as st

from services.leaderboard.domain.prizes import (
    Finish,
    Prize,
    best_count,
    is_beyond,
    lists_with_prizes,
    next_ahead,
    wins,
)

GOLD, PODIUM, SECOND_TEN = Prize("gold", 1, 1), Prize("podium", 2, 3), Prize("ten", 4, 10)
TENTH = Prize("tenth", top_percent=10)


def test_ranks_are_those_of_the_board_so_who_ties_shares_the_prize() -> None:
    assert [wins(PODIUM, Finish(rank, rank - 1, 9)) for rank in (1, 2, 2, 4)] == [False, True, True, False]


def test_of_the_best_percent_there_is_always_a_first_and_who_ties_is_in_together() -> None:
    assert wins(TENTH, Finish(1, 0, 3))
    assert not wins(TENTH, Finish(2, 1, 3))
    assert [wins(TENTH, Finish(2, 1, 20)), wins(TENTH, Finish(3, 2, 20))] == [True, False]


def test_prizes_of_segments_are_not_those_of_the_whole_board() -> None:
    local = Prize("local", 1, 1, each_segment=True)
    assert lists_with_prizes([GOLD, local], is_whole=True) == (GOLD,)
    assert lists_with_prizes([GOLD, local], is_whole=False) == (local,)


def test_the_next_prize_is_the_one_whose_last_rank_is_nearest_ahead() -> None:
    prizes = [GOLD, PODIUM, SECOND_TEN, TENTH]
    assert [next_ahead(prizes, rank) for rank in (1, 2, 4, 11)] == [None, GOLD, PODIUM, SECOND_TEN]


PRIZES = st.lists(
    st.one_of(
        st.builds(lambda first, more: Prize("p", first, first + more), st.integers(1, 9), st.integers(0, 5)),
        st.builds(lambda percent: Prize("p", top_percent=percent), st.floats(0.1, 100)),
    ),
    max_size=4,
)


@given(PRIZES, st.lists(st.integers(0, 3), min_size=1, max_size=25))
def test_behind_a_place_that_is_beyond_all_prizes_nobody_is_given_any(
    prizes: list[Prize], steps: list[int]
) -> None:
    """`steps`: how many share each rank, numbered 1, 2, 2, 4."""
    places: list[Finish] = []
    for share in steps:
        places += [Finish(len(places) + 1, len(places), sum(steps))] * share
    beyond = [is_beyond(prizes, finish) for finish in places]
    assert beyond == sorted(beyond)
    assert not any(
        wins(prize, finish) for prize in prizes for finish, out in zip(places, beyond, strict=True) if out
    )


@given(st.floats(0.01, 100), st.integers(1, 1_000))
def test_the_best_percent_are_at_least_one_and_at_most_all(percent: float, members: int) -> None:
    assert 1 <= best_count(Prize("p", top_percent=percent), members) <= members
