"""Who was overtaken (RULES 6.8): found by comparing the first members of a segment with those of the look before.

So the cost follows the depth and the time between two looks, never the number of users that somebody passed.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from msgspec import Struct

NOT_RANKED: Final = 0


class Tracking(Struct, frozen=True):
    """How a board is looked at: so many members of each segment, and how often at most.

    Without an interval it is as often as the service looks, and what an entry brings its own user is told with it. With
    one, all is told at the look.
    """

    depth: int
    interval: timedelta | None = None


class Spot(Struct, frozen=True, array_like=True):
    """Where a member stood."""

    rank: int
    """`NOT_RANKED` beyond the participant limit."""
    score: int
    waits: bool = False
    """Stood: the score is another since, and no entry that says so was to be found. It may be on its way."""


class Own(Struct, frozen=True):
    """What a user's own entries made of the rank lately: before the first and after the last, and the last score."""

    first: int
    last: int
    score: int


class Moved(Struct, frozen=True):
    """A member who stands elsewhere than at the look before, or has another score."""

    user_id: str
    previous_rank: int
    rank: int
    score: int
    passed_from: int | None = None
    """The rank from which others moved the user; None: they did not."""
    own: bool = False
    """Whether the user's own entries changed the rank or the score."""


class Compared(Struct, frozen=True):
    """What became of two looks: who moved, by rank, and what the next look is compared with."""

    moved: list[Moved]
    kept: Mapping[str, Spot]


def suspects(before: Mapping[str, Spot], after: Mapping[str, Spot]) -> set[str]:
    """Those of whom anything is another."""
    return {user_id for user_id in before.keys() | after.keys() if before.get(user_id) != after.get(user_id)}


def compared(
    users: Iterable[str],
    before: Mapping[str, Spot],
    after: Mapping[str, Spot],
    elsewhere: Mapping[str, Spot],
    own: Mapping[str, Own],
) -> Compared:
    """What became of these users. `elsewhere`: where those stand who are behind the depth now.

    Whose score is what it was, others moved. Whose score is another, an own entry moved, and from where that left the
    user others did. Whose rank before is not known, because it lay behind the depth and no own entry tells it, is left
    out.
    """
    found, kept = [], dict(after)
    for user_id in sorted(users):
        was, spot, told = before.get(user_id), after.get(user_id, elsewhere.get(user_id)), own.get(user_id)
        if spot is None:
            if was is not None:  # no member any more: that is the user's own doing
                found.append(Moved(user_id, was.rank, NOT_RANKED, was.score, own=True))
        elif was is not None and was.score == spot.score:
            if was.rank != spot.rank:
                found.append(Moved(user_id, was.rank, spot.rank, spot.score, was.rank))
        elif told is not None and told.score == spot.score:
            passed_from = told.last if told.last != spot.rank else None
            first = told.first if was is None else was.rank
            found.append(Moved(user_id, first, spot.rank, spot.score, passed_from, own=True))
        elif was is not None and was.waits:  # something was taken out: that has no row
            found.append(Moved(user_id, was.rank, spot.rank, spot.score, own=True))
        elif was is not None:
            kept[user_id] = Spot(was.rank, was.score, waits=True)
    return Compared(sorted(found, key=lambda one: (one.rank or 2**62, one.user_id)), kept)
