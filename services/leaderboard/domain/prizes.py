"""Prizes at the end of a run (RULES 6.10): who is given what."""

from collections.abc import Iterable
from math import ceil

from msgspec import Struct


class Gift(Struct, frozen=True):
    """Points of one system."""

    points_system: str
    amount: int


class Prize(Struct, frozen=True):
    """What members on certain ranks are given: from `first_rank` to `last_rank`, or the best `top_percent`."""

    key: str
    first_rank: int = 1
    last_rank: int = 0
    top_percent: float = 0.0
    each_segment: bool = False
    """To the ranks of each segment; else to those of the whole board."""
    gifts: tuple[Gift, ...] = ()
    achievement: str = ""


class Finish(Struct, frozen=True):
    """How a member ended in a list."""

    rank: int
    """As the board numbers ties."""
    better_count: int
    """Members with a better rank."""
    member_count: int


def lists_with_prizes(prizes: Iterable[Prize], *, is_whole: bool) -> tuple[Prize, ...]:
    """The prizes of the whole board, or those of each segment."""
    return tuple(prize for prize in prizes if prize.each_segment is not is_whole)


def wins(prize: Prize, finish: Finish) -> bool:
    """Whether it is given there. Of the best percent there is always a first; who ties is in or out with others."""
    if prize.top_percent:
        return finish.better_count < best_count(prize, finish.member_count)
    return prize.first_rank <= finish.rank <= prize.last_rank


def is_beyond(prizes: Iterable[Prize], finish: Finish) -> bool:
    """Whether nothing is given there, nor to anybody behind."""
    return all(
        finish.better_count >= best_count(prize, finish.member_count)
        if prize.top_percent
        else finish.rank > prize.last_rank
        for prize in prizes
    )


def best_count(prize: Prize, member_count: int) -> int:
    """How many are the best so many percent."""
    return ceil(member_count * prize.top_percent / 100)


def next_ahead(prizes: Iterable[Prize], rank: int) -> Prize | None:
    """The prize by rank that lies next ahead of somebody."""
    ahead = [prize for prize in prizes if not prize.top_percent and prize.last_rank < rank]
    return max(ahead, key=lambda prize: prize.last_rank, default=None)
