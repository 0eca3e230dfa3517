"""The order of a segment's members, and how they are numbered (RULES 6.4, 6.6).

A member's place is decided by one text, its *position*: score, time of reaching it and user id in a fixed
width, so that the byte order of positions is the order of ranks. Scores stay exact over all 64 bits.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from msgspec import Struct

from services.leaderboard.domain.boards import Board, Order, RankMode
from services.leaderboard.domain.scores import Score

SCORE_WIDTH: Final = 16
"""Hexadecimal digits of a position that stand for the score: two members tie where these are equal."""

LOOK_ONLY: Final = -1
"""The version of a step that is newer than none: it asks for places and changes nothing."""

_TIME_WIDTH: Final = 16
PREFIX_WIDTH: Final = SCORE_WIDTH + _TIME_WIDTH
"""Digits of a position before the user id."""

GONE: Final = "-" * PREFIX_WIDTH
"""In place of these digits: the user is no member."""

_SCORE_BASE: Final = 2**63
_TIME_BASE: Final = 2**62
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Member(Struct, frozen=True):
    """One member of a segment."""

    user_id: str
    amount: int
    reach_micros: int
    """When the score was reached, in microseconds since 1970, as positions have it: a page has many members, and from
    there to its response nobody asks for an instant.
    """

    @property
    def reach_time(self) -> datetime:
        """The same as an instant."""
        return _EPOCH + self.reach_micros * _MICROSECOND


class Place(Struct, frozen=True):
    """Where a position stands: `ordinal` counts members, `rank` counts as the board's mode does; both from
    1.
    """

    ordinal: int
    rank: int


class Placement(Struct, frozen=True):
    """What a move did: the place before and after (None: not a member), and the segment as it then was."""

    before: Place | None
    after: Place | None
    member_count: int
    last_ranked: Member | None
    """With a participant limit: the member on the last ranked place, where it is taken."""


class SegmentKey(Struct, frozen=True):
    """One segment of one run: a list of members in the order of their positions."""

    board: str
    run_start: date
    segment: str


class Step(Struct, frozen=True):
    """A position to set, or, with `LOOK_ONLY` as the version, to look up."""

    key: SegmentKey
    user_id: str
    version: int
    before: str | None
    after: str | None


class MemberPlace(Struct, frozen=True):
    """A member's place among all."""

    member: Member
    place: Place
    better_count: int
    """Members with a better rank."""


class MemberPage(Struct, frozen=True):
    """Successive members of a segment, the place of the first, and how many there are in all."""

    members: Sequence[Member]
    first: Place | None
    member_count: int


def look(key: SegmentKey, user_id: str, position: str | None) -> Step:
    """Ask for the place of a position; nothing is changed."""
    return Step(key, user_id, LOOK_ONLY, None, position)


def position_of(order: Order, user_id: str, score: Score) -> str | None:
    """The text by which a member is ordered; None for who is not a member."""
    if score.amount is None or score.reach_time is None:
        return None
    micros = micros_of(score.reach_time)
    return f"{order_score(order, score.amount) + _SCORE_BASE:016x}{micros + _TIME_BASE:016x}{user_id}"


def member_of(order: Order, position: str) -> Member:
    """The member whose position this is."""
    amount = order_score(order, int(position[:SCORE_WIDTH], 16) - _SCORE_BASE)
    return Member(position[PREFIX_WIDTH:], amount, int(position[SCORE_WIDTH:PREFIX_WIDTH], 16) - _TIME_BASE)


def micros_of(instant: datetime) -> int:
    """An instant in microseconds since 1970."""
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def amount_of(order: Order, position: str) -> int:
    """The score of the member whose position this is."""
    return order_score(order, int(position[:SCORE_WIDTH], 16) - _SCORE_BASE)


def order_score(order: Order, amount: int) -> int:
    """The score turned so that the smallest is first; applied twice, it is the score again."""
    return -amount if order is Order.DESC else amount


def shown_rank(board: Board, place: Place | None) -> int:
    """The rank as told; 0 for who is not ranked: no member, or beyond the participant limit.

    The limit counts members, not ranks: of several that tie on the last rank, those are in who got there
    first.
    """
    if place is None or (board.participant_limit and place.ordinal > board.participant_limit):
        return 0
    return place.rank


def ranked_count(board: Board, member_count: int) -> int:
    """How many of the members are ranked."""
    return min(member_count, board.participant_limit) if board.participant_limit else member_count


def numbered(mode: RankMode, members: Sequence[Member], first: Place | None) -> list[tuple[int, Member]]:
    """Successive members with their ranks; `first` is the place of the first of them."""
    result: list[tuple[int, Member]] = []
    if first is None:
        return result
    if mode is RankMode.ORDINAL:
        return list(enumerate(members, first.rank))
    rank = first.rank
    for index, member in enumerate(members):
        ordinal = first.ordinal + index
        if index and member.amount != members[index - 1].amount:
            rank = rank + 1 if mode is RankMode.DENSE else ordinal
        result.append((rank, member))
    return result
