"""When runs begin, end and are finalised (RULES 6.1, 6.2)."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from typing import Final

from msgspec import Struct

DEFAULT_START: Final = date(1970, 1, 5)
"""The Monday on which a repeating board without a start date begins."""

_DAY: Final = timedelta(days=1)
_LAST_ZONE_OFFSET: Final = timedelta(hours=12)
"""In the last zone on Earth (UTC-12) a date ends this long after it ended in UTC."""


class RunUnit(Enum):
    """Unit of repetition."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class Schedule(Struct, frozen=True):
    """When the runs of a board begin and end; without a unit there is one, open where a date is absent."""

    start: date | None = None
    end: date | None = None
    unit: RunUnit | None = None
    every: int = 1


PERPETUAL: Final = Schedule()


class Run(Struct, frozen=True):
    """The local dates from `start` to `end`, both included; `date.min` and `date.max` where there is none."""

    start: date
    end: date


class RunState(Struct, frozen=True):
    """What is known of one run of a board."""

    board: str
    run: Run
    finalize_time: datetime | None
    finalized: bool = False

    def is_closed(self, now: datetime) -> bool:
        """Whether what is accepted at `now` comes too late for this run.

        Not only the archiving decides, but also the entry's own `now`: so that an answer does not depend on
        how often maintenance ran (RULES 1.4).
        """
        return self.finalized or (self.finalize_time is not None and now >= self.finalize_time)


def run_of(schedule: Schedule, day: date) -> Run | None:
    """The one run that contains this local date; None before the first and after the last."""
    if schedule.unit is None:
        run = Run(schedule.start or date.min, schedule.end or date.max)
        return run if run.start <= day <= run.end else None
    anchor = schedule.start or DEFAULT_START
    if day < anchor:
        return None
    match schedule.unit:
        case RunUnit.DAY:
            return _run_of_days(anchor, schedule.every, day)
        case RunUnit.WEEK:
            return _run_of_days(anchor, 7 * schedule.every, day)
        case RunUnit.MONTH:
            return _run_of_months(anchor, schedule.every, day)
        case RunUnit.YEAR:
            return _run_of_months(anchor, 12 * schedule.every, day)


def finalize_time(run: Run, grace: timedelta) -> datetime | None:
    """When the run is archived: its last date has ended everywhere, and then the grace; None: it never is."""
    if run.end == date.max:
        return None
    ended_in_utc = datetime.combine(run.end + _DAY, time(), tzinfo=UTC)
    return ended_in_utc + _LAST_ZONE_OFFSET + grace


def _run_of_days(anchor: date, length: int, day: date) -> Run:
    start = anchor + (day - anchor).days // length * length * _DAY
    return Run(start, start + (length - 1) * _DAY)


def _run_of_months(anchor: date, length: int, day: date) -> Run:
    """Every start is counted from the anchor, so that 31 January, 28 February, 31 March do not drift."""
    number = ((day.year - anchor.year) * 12 + day.month - anchor.month) // length
    if day < _months_later(anchor, number * length):
        number -= 1
    start = _months_later(anchor, number * length)
    return Run(start, _months_later(anchor, (number + 1) * length) - _DAY)


def _months_later(day: date, months: int) -> date:
    """The same day of the month so many months later, or the month's last where it is shorter."""
    years, month = divmod(day.month - 1 + months, 12)
    year = day.year + years
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
