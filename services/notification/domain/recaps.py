"""What a week or a month has brought a user (RULES 8.6)."""

from collections.abc import Mapping
from datetime import date, timedelta
from enum import IntEnum
from typing import Final

from msgspec import Struct

from services.notification.domain.reminders import Streak

MOST_OF_A_KIND: Final = 5
"""So many metrics, points systems and boards a recap has, and so many streaks; the rest is left out."""
_DAY: Final = timedelta(days=1)


class RecapPeriod(IntEnum):
    """What a recap is of; the numbers are the contract's."""

    WEEKLY = 1
    MONTHLY = 2


class Amount(Struct, frozen=True):
    """What came in the period."""

    key: str
    name: str
    amount: float
    before: float | None
    """In the period before; None: it is not known."""


class Rank(Struct, frozen=True):
    """The best place that the user had on a board."""

    key: str
    name: str
    best: int
    before: int | None
    """In the period before; None: the user was not ranked."""


class Earned(Struct, frozen=True):
    """An achievement that was completed."""

    key: str
    name: str
    badge_url: str


class Recap(Struct, frozen=True):
    """What a user gets to read, as the services say it."""

    first_date: date
    last_date: date
    metrics: tuple[Amount, ...] = ()
    points: tuple[Amount, ...] = ()
    achievements: tuple[Earned, ...] = ()
    achievement_count_before: int = 0
    streaks: tuple[Streak, ...] = ()
    ranks: tuple[Rank, ...] = ()
    totals: Mapping[str, float] = {}
    """Of all metrics as they are now: the next recap counts from here."""

    @property
    def is_empty(self) -> bool:
        """Whether the user has done nothing."""
        return not (self.metrics or self.points or self.achievements)


def period_of(day: date, every: RecapPeriod) -> tuple[date, date]:
    """The first and the last date of the period that a date is in. A week begins on Monday."""
    if every is RecapPeriod.MONTHLY:
        first = day.replace(day=1)
        return first, (first + 31 * _DAY).replace(day=1) - _DAY
    first = day - day.weekday() * _DAY
    return first, first + 6 * _DAY


def metric_amounts(
    start: Mapping[str, float],
    totals: Mapping[str, float],
    before: Mapping[str, float] | None,
    names: Mapping[str, str],
) -> tuple[Amount, ...]:
    """What metrics have grown by since totals were `start`, the most first.

    A metric of which nothing was known then has grown by nothing: nothing was told of it since.
    """
    found = []
    for key, total in totals.items():
        grown = round(total - start.get(key, total), 6)
        if grown:
            known = None if before is None else before.get(key, 0.0)
            found.append(Amount(key, names.get(key, key), grown, known))
    return tuple(sorted(found, key=lambda each: (-each.amount, each.key))[:MOST_OF_A_KIND])


def variables(recap: Recap) -> dict[str, object]:
    """What a template knows of it."""
    return {
        "first_date": recap.first_date.isoformat(),
        "last_date": recap.last_date.isoformat(),
        "metrics": [_amount_variables(each) for each in recap.metrics],
        "points": [_amount_variables(each) for each in recap.points],
        "achievements": [
            {"key": each.key, "name": each.name, "badge_url": each.badge_url} for each in recap.achievements
        ],
        "achievement_count_before": recap.achievement_count_before,
        "streaks": [{"key": each.key, "name": each.name, "length": each.length} for each in recap.streaks],
        "ranks": [
            {"key": each.key, "name": each.name, "best": each.best, "before": each.before}
            for each in recap.ranks
        ],
    }


def _amount_variables(each: Amount) -> dict[str, object]:
    return {
        "key": each.key,
        "name": each.name,
        "amount": _number(each.amount),
        "before": None if each.before is None else _number(each.before),
    }


def _number(value: float) -> float:
    return int(value) if value == int(value) else value
