"""When a trigger that goes by time is due: instants of which each user has the next one (RULES 5.2, 5.6)."""

from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.definitions import TimeCause
from shared.calendar import local_date, local_midnight
from shared.entries import UserSnapshot

_LEAP_YEAR: Final = "2000-"
"""A date without a year may be 29 February."""


class Clock(Struct, frozen=True):
    """A user's next instant of a trigger, and what the ones after it follow from."""

    next_time: datetime
    zone: str
    day: date
    """By days: the local date that begins then. By years: the date that comes round."""


def started(cause: TimeCause, user: UserSnapshot, now: datetime) -> Clock | None:
    """The clock of a user whose first instant is the next one after `now`; None: the user has no such date."""
    zone, today = user.time_zone, local_date(now, user.time_zone)
    if cause.every_hours:
        every = timedelta(hours=cause.every_hours)
        elapsed = max(timedelta(0), now - user.create_time) // every
        next_time = user.create_time + (elapsed + 1) * every
        return Clock(next_time, zone, local_date(next_time, zone))
    if cause.every_days:
        first = local_date(user.create_time, zone)
        elapsed_days = max(0, (today - first).days) // cause.every_days
        day = first + timedelta(days=(elapsed_days + 1) * cause.every_days)
        return Clock(local_midnight(day, zone), zone, day)
    day_of_years = date_of(user.attributes.get(cause.yearly_attribute, ""))
    if day_of_years is None:
        return None
    next_time = local_midnight(_in_year(day_of_years, today.year), zone)
    if next_time <= now:
        next_time = local_midnight(_in_year(day_of_years, today.year + 1), zone)
    return Clock(next_time, zone, day_of_years)


def following(cause: TimeCause, clock: Clock) -> Clock:
    """The clock after its next instant."""
    if cause.every_hours:
        next_time = clock.next_time + timedelta(hours=cause.every_hours)
        return replace(clock, next_time=next_time, day=local_date(next_time, clock.zone))
    if cause.every_days:
        day = clock.day + timedelta(days=cause.every_days)
        return replace(clock, next_time=local_midnight(day, clock.zone), day=day)
    year = local_date(clock.next_time, clock.zone).year
    return replace(clock, next_time=local_midnight(_in_year(clock.day, year + 1), clock.zone))


def refreshed(cause: TimeCause, clock: Clock, user: UserSnapshot, now: datetime) -> Clock | None:
    """The clock of a user who may be in another zone now, or have another date."""
    if cause.yearly_attribute and date_of(user.attributes.get(cause.yearly_attribute, "")) != clock.day:
        return started(cause, user, now)
    if clock.zone == user.time_zone:
        return clock
    if cause.every_hours:
        return replace(clock, zone=user.time_zone, day=local_date(clock.next_time, user.time_zone))
    day = clock.day
    if cause.yearly_attribute:
        day = _in_year(clock.day, local_date(clock.next_time, clock.zone).year)
    return replace(clock, next_time=local_midnight(day, user.time_zone), zone=user.time_zone)


def date_of(text: str) -> date | None:
    """A date as a user's attribute says it: `1990-02-28`, or `02-28`; None for anything else."""
    try:
        return date.fromisoformat(text if len(text) > len("02-28") else _LEAP_YEAR + text)
    except ValueError:
        return None


def _in_year(day: date, year: int) -> date:
    """The date in a year; 29 February is the 28th where there is none."""
    try:
        return day.replace(year=year)
    except ValueError:
        return day.replace(year=year, day=28)
