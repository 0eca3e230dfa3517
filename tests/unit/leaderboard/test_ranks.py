"""RULES 6.4 and 6.6: the order of members, ties, and the participant limit."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.leaderboard.domain.boards import Order, RankMode
from services.leaderboard.domain.ranks import (
    Member,
    Place,
    member_of,
    micros_of,
    numbered,
    order_score,
    position_of,
    ranked_count,
    shown_rank,
)
from services.leaderboard.domain.scores import MAX_SCORE, Score
from tests.unit.leaderboard.worlds import ALL_TIME, NOON

members = st.builds(
    Member,
    user_id=st.text(min_size=1, max_size=8),
    amount=st.integers(-MAX_SCORE, MAX_SCORE) | st.integers(-3, 3),
    reach_micros=st.datetimes(datetime(1900, 1, 1), datetime(2199, 12, 31)).map(  # noqa: DTZ001
        lambda naive: micros_of(naive.replace(tzinfo=UTC))
    )
    | st.sampled_from([micros_of(NOON), micros_of(NOON) + 1_000_000]),
)


def position(order: Order, member: Member) -> bytes:
    text = position_of(order, member.user_id, Score(member.amount, member.reach_time))
    assert text is not None
    return text.encode()


@given(st.sampled_from(Order), st.lists(members, unique_by=lambda member: member.user_id))
def test_the_byte_order_of_positions_is_score_then_time_then_user_id(
    order: Order, ranked: list[Member]
) -> None:
    by_rule = sorted(
        ranked, key=lambda one: (order_score(order, one.amount), one.reach_time, one.user_id.encode())
    )
    assert sorted(ranked, key=lambda one: position(order, one)) == by_rule


@given(st.sampled_from(Order), members)
def test_a_position_tells_its_member_exactly(order: Order, member: Member) -> None:
    assert member_of(order, position(order, member).decode()) == member


def test_who_is_no_member_has_no_position() -> None:
    assert position_of(Order.DESC, "ada", Score()) is None


@pytest.mark.parametrize(
    ("mode", "ranks"),
    [
        (RankMode.ORDINAL, [1, 2, 3, 4]),
        (RankMode.COMPETITION, [1, 2, 2, 4]),
        (RankMode.DENSE, [1, 2, 2, 3]),
    ],
)
def test_ties_are_numbered_as_the_mode_says(mode: RankMode, ranks: list[int]) -> None:
    tied = [
        Member("a", 9, micros_of(NOON)),
        Member("b", 7, micros_of(NOON)),
        Member("c", 7, micros_of(NOON)),
        Member("d", 1, micros_of(NOON)),
    ]
    assert [rank for rank, _ in numbered(mode, tied, Place(1, 1))] == ranks


def test_a_page_that_begins_inside_a_tie_goes_on_with_its_rank() -> None:
    rest = [Member("c", 7, micros_of(NOON)), Member("d", 1, micros_of(NOON))]
    assert [rank for rank, _ in numbered(RankMode.COMPETITION, rest, Place(3, 2))] == [2, 4]
    assert [rank for rank, _ in numbered(RankMode.DENSE, rest, Place(3, 2))] == [2, 3]


def test_a_page_without_members_has_no_ranks() -> None:
    assert numbered(RankMode.ORDINAL, [], None) == []


def test_beyond_the_participant_limit_nobody_is_ranked() -> None:
    limited = replace(ALL_TIME, participant_limit=10)
    assert [shown_rank(limited, place) for place in (None, Place(10, 9), Place(11, 9))] == [0, 9, 0]
    assert (ranked_count(limited, 3), ranked_count(limited, 30)) == (3, 10)


def test_without_a_limit_all_members_are_ranked() -> None:
    assert shown_rank(ALL_TIME, Place(1_000_000, 1_000_000)) == 1_000_000
    assert ranked_count(ALL_TIME, 1_000_000) == 1_000_000
