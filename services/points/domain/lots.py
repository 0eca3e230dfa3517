"""Lots: what awards left, and when it expires (RULES 5.7).

A lot is what one award left. Whatever is taken comes from the lot that expires soonest, then from the oldest; what
never expires goes last. Lots of one date are one here: which of them is the older makes no difference to what is left.
What is taken and not there is owed, and the next award pays for it first.

That a date is over is a fact, also where nothing is left by then: when something that was spent is given back, it is
known what would have expired.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from msgspec import Struct, field

from services.points.domain.limits import Grant

NEVER: Final = date.max
"""The date on which a lot expires that does not."""

_NOTHING: Final[Mapping[date, int]] = {}


class Lots(Struct, frozen=True):
    """What is left of a user's awards."""

    left: Mapping[str, Mapping[date, int]] = field(default_factory=dict)
    """By system, by the first date on which it is gone."""
    owed: Mapping[str, int] = field(default_factory=dict)
    """By system."""


def moved(lots: Lots, points_system: str, amounts: Iterable[tuple[int, date | None]]) -> Lots:
    """With what one fact gave, each with the date on which it expires, and then with what it took."""
    left = dict(lots.left.get(points_system, _NOTHING))
    owed = lots.owed.get(points_system, 0)
    for amount, day in amounts:
        if amount > 0:
            paid = min(owed, amount)
            owed -= paid
            left[day or NEVER] = left.get(day or NEVER, 0) + amount - paid
        else:
            owed -= amount
    for day in sorted(left):
        paid = min(owed, left[day])
        owed -= paid
        left[day] -= paid
        if not owed:
            break
    return Lots({**lots.left, points_system: left}, {**lots.owed, points_system: owed})


def granted(lots: Lots, points_system: str, grants: Iterable[Grant]) -> Lots:
    """With what one fact granted: what expires soonest pays first for what is owed."""
    amounts = [(grant.amount, grant.expire_date) for grant in grants if grant.amount]
    amounts.sort(key=lambda one: (one[0] < 0, one[1] or NEVER))
    return moved(lots, points_system, amounts) if amounts else lots


def expired(lots: Lots, points_system: str, day: date) -> int:
    """What is gone once a date has begun."""
    return sum(amount for end, amount in lots.left.get(points_system, _NOTHING).items() if end <= day)


def first_left(lots: Lots, points_system: str) -> date | None:
    """The first date on which something expires of which something is left."""
    left = lots.left.get(points_system, _NOTHING).items()
    return min((day for day, amount in left if amount and day < NEVER), default=None)


def next_date(lots: Lots, points_system: str, after: date = date.min) -> date | None:
    """The next date on which lots expire, also where nothing is left of them."""
    days = [day for day in lots.left.get(points_system, _NOTHING) if after < day < NEVER]
    return min(days, default=None)
