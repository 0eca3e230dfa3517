"""Limits of a local day, and cooldowns (RULES 5.2, 5.4).

A day is the local date that an award counts for: that of the entry that it belongs to. What was given on it is the sum
of the ledger's rows of that date, boosts included. Points that an entry gives by itself, or that come by
time, are limited by none of this, and count for none.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from services.points.domain.counting import HistoryNeeded
from services.points.domain.definitions import PointsSystem, TimeCause, Trigger
from services.points.domain.facts import Due
from services.points.domain.limits import Grant

_ZONES: Final = timedelta(days=1)
"""No zone is as far as that from another's date."""


class Given(Struct, frozen=True):
    """What a trigger has given on a date."""

    amount: int
    times: tuple[datetime, ...]
    """Of the entries that it gave something for."""


Day = Mapping[str, Given]
"""By key of the trigger."""


class Days(Struct, frozen=True):
    """What triggers have given on dates, of those systems that have limits of a day or cooldowns."""

    given: Mapping[tuple[str, date], Day] = field(default_factory=dict)
    """By system and date."""
    known_since: date | None = None
    """What lies before is not known; None: all is known."""

    def on(self, points_system: str, day: date) -> Day:
        """What was given on a date. Raises `HistoryNeeded`."""
        if self.known_since is not None and day < self.known_since:
            raise HistoryNeeded
        return self.given.get((points_system, day), _NOTHING)


UNKNOWN: Final = Days(known_since=date.max)
"""Nothing was loaded."""


def reach(system: PointsSystem) -> timedelta:
    """How many dates before and after an award can decide about it, wherever its user travels."""
    return max(map(_reach, system.triggers), default=_ZONES)


def last_difference(days: Days, other: Days) -> date | None:
    """The last date on which something else was given; None where all is the same."""
    if days is other:
        return None
    names = {*days.given, *other.given}
    return max((name[1] for name in names if days.given.get(name) != other.given.get(name)), default=None)


def allowed(system: PointsSystem, days: Days, dues: Sequence[Due], amounts: Sequence[int]) -> list[int]:
    """The amounts, cut where the trigger is cooling down, has given all that it may on the date, or all triggers have.

    Raises `HistoryNeeded`.
    """
    triggers = {trigger.key: trigger for trigger in system.triggers}
    left: list[int] = []
    for due, amount in zip(dues, amounts, strict=True):
        trigger = triggers.get(due.key.trigger)
        if trigger is not None and amount > 0 and _counts(trigger):
            amount = _allowed(system, trigger, days, due, amount)
            days = _with(days, due, amount)
        left.append(amount)
    return left


def after(system: PointsSystem, days: Days, grants: Sequence[Grant]) -> Days:
    """With what was granted."""
    triggers = {trigger.key: trigger for trigger in system.triggers}
    for grant in grants:
        if grant.amount > 0 and _counts(triggers.get(grant.due.key.trigger)):
            days = _with(days, grant.due, grant.amount)
    return days


def _counts(trigger: Trigger | None) -> bool:
    """Neither a gift nor what comes by time."""
    return trigger is not None and not isinstance(trigger.cause, TimeCause)


def _allowed(system: PointsSystem, trigger: Trigger, days: Days, due: Due, amount: int) -> int:
    day = due.owner.local_date
    if trigger.cooldown and _is_cooling_down(system, trigger, days, due):
        return 0
    given = days.on(system.key, day)
    if trigger.daily_limit is not None:
        earlier = given.get(trigger.key)
        amount = min(amount, max(0, trigger.daily_limit - (earlier.amount if earlier else 0)))
    if system.daily_cap is not None:
        amount = min(amount, max(0, system.daily_cap - _given_by(system, given)))
    return amount


def _given_by(system: PointsSystem, day: Day) -> int:
    timed = {trigger.key for trigger in system.triggers if not _counts(trigger)}
    return sum(given.amount for trigger, given in day.items() if trigger not in timed)


def _is_cooling_down(system: PointsSystem, trigger: Trigger, days: Days, due: Due) -> bool:
    """Whether it has given something for an entry that is nearer in time, before or after."""
    day, last = due.owner.local_date - _reach(trigger), due.owner.local_date + _reach(trigger)
    while day <= last:
        given = days.on(system.key, day).get(trigger.key)
        if given and any(abs(time - due.owner.occur_time) < trigger.cooldown for time in given.times):
            return True
        day += timedelta(days=1)
    return False


def _reach(trigger: Trigger) -> timedelta:
    return timedelta(days=trigger.cooldown.days) + (2 * _ZONES if trigger.cooldown else _ZONES)


def _with(days: Days, due: Due, amount: int) -> Days:
    if amount <= 0:
        return days
    name = (due.key.points_system, due.owner.local_date)
    day = days.given.get(name, _NOTHING)
    known = day.get(due.key.trigger, Given(0, ()))
    given = Given(known.amount + amount, (*known.times, due.owner.occur_time))
    return replace(days, given={**days.given, name: {**day, due.key.trigger: given}})


_NOTHING: Final[Day] = {}
