"""What is known of a user, and whether and where the user is ranked on a board (RULES 6.5, 6.13)."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from services.leaderboard.domain.boards import Board, Order, segment_of
from services.leaderboard.domain.ranks import order_score, position_of
from services.leaderboard.domain.scores import Score
from shared.filters import matches
from shared.tenants import shown

ALL_BOARDS: Final = ""
"""Under which an exclusion stands that is from every board."""


class Profile(Struct, frozen=True):
    """The newest that is known of a user."""

    version: int = 0
    name: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


class Exclusion(Struct, frozen=True):
    """What was said last of a user and a board: excluded, or back again. The greatest sequence is the newest."""

    sequence: int
    excluded: bool


Exclusions = Mapping[str, Exclusion]
"""By the board's key, or `ALL_BOARDS`."""


class Held(Struct, frozen=True):
    """A user's score on one board in one run, in the segment that the user's attributes name.

    Who is hidden keeps the score and is ranked nowhere: excluded, or not one of those whom the board is for.
    """

    segment: str
    score: Score
    hidden: bool = False
    beyond: bool = False
    """In the whole board only, because it has as many segments as it may."""


def held_for(board: Board, profile: Profile, exclusions: Exclusions, score: Score) -> Held:
    """A score where it belongs now; in a league in the whole board, until the user is in a cohort."""
    hidden = is_excluded(board, exclusions) or not matches(board.filters, profile.attributes)
    return Held(segment_of(board, profile.attributes), score, hidden)


def is_excluded(board: Board, exclusions: Exclusions) -> bool:
    """Whether a user is, from this board or from all."""
    return bool(exclusions) and any(
        key in exclusions and exclusions[key].excluded for key in (ALL_BOARDS, shown(board.key))
    )


def said(exclusions: Exclusions, board: str, exclusion: Exclusion) -> Exclusions:
    """With one more, unless something newer is known."""
    known = exclusions.get(board)
    if known is not None and known.sequence >= exclusion.sequence:
        return exclusions
    return {**exclusions, board: exclusion}


def held_position(order: Order, user_id: str, held: Held) -> str | None:
    """The text by which a member is ordered; None for who is not ranked."""
    return None if held.hidden else position_of(order, user_id, held.score)


def held_order(order: Order, held: Held) -> int | None:
    """The score turned so that the smallest is first; None for who is not ranked."""
    amount = held.score.amount
    return None if held.hidden or amount is None else order_score(order, amount)
