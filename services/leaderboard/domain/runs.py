"""When runs begin, end and are finalised (RULES 6.1, 6.2)."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from typing import Final

from msgspec import Struct

DEFAULT_START: Final = date(1970, 1, 5)
"""The Monday on which a repeating board without a start date begins."""

_DAY: Final = timedelta(days=1)
_FIRST_ZONE_OFFSET: Final = timedelta(hours=14)
"""In the first zone on Earth (UTC+14) a date begins so long before it begins in UTC."""

_LAST_ZONE_OFFSET: Final = timedelta(hours=12)
"""In the last zone on Earth (UTC-12) a date ends this long after it ended in UTC."""


class RunUnit(Enum):
    """Unit of repetition."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


MINUTES_OF_A_DAY: Final = 1_440


class Window(Struct, frozen=True):
    """A part of each local day, which may go on behind midnight. Whole minutes."""

    first_minute: int = 0
    minute_count: int = MINUTES_OF_A_DAY

    def has(self, minute: int | None) -> bool:
        """Whether what happened at this minute of the user's day counts. None: not known."""
        if minute is None:
            return self.minute_count == MINUTES_OF_A_DAY
        return (minute - self.first_minute) % MINUTES_OF_A_DAY < self.minute_count


WHOLE_DAY: Final = Window()


class Schedule(Struct, frozen=True):
    """When the runs of a board begin and end; without a unit there is one, open where a date is absent. None begins,
    and none goes on, after `end`.
    """

    start: date | None = None
    end: date | None = None
    unit: RunUnit | None = None
    every: int = 1
    window: Window = WHOLE_DAY
    """Only what happens in it counts."""


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


class RunStatus(Enum):
    """How far a run has come."""

    UPCOMING = "upcoming"
    RUNNING = "running"
    CLOSING = "closing"
    """Over everywhere; what comes late still counts."""
    FINALIZED = "finalized"


def status_of(state: RunState, now: datetime) -> RunStatus:
    """How far a run has come, over all zones."""
    if state.finalized:
        return RunStatus.FINALIZED
    run = state.run
    if run.start != date.min and now < begin_of(run):
        return RunStatus.UPCOMING
    return RunStatus.CLOSING if now >= _over(run) else RunStatus.RUNNING


def begin_of(run: Run) -> datetime:
    """When the first date begins in the first zone. Not for a run without a start."""
    return datetime.combine(run.start, time(), tzinfo=UTC) - _FIRST_ZONE_OFFSET


def newest_date(now: datetime) -> date:
    """The local date in the first zone."""
    return (now + _FIRST_ZONE_OFFSET).date()


def run_begun(schedule: Schedule, now: datetime) -> Run | None:
    """The newest run that has begun anywhere; None where there is none, or it has always been."""
    run = run_of(schedule, newest_date(now))
    return None if run is None or run.start == date.min else run


def run_of(schedule: Schedule, day: date) -> Run | None:
    """The one run that contains this local date; None before the first and after the last."""
    if schedule.unit is None:
        run = Run(schedule.start or date.min, schedule.end or date.max)
        return run if run.start <= day <= run.end else None
    anchor, last = schedule.start or DEFAULT_START, schedule.end or date.max
    if not anchor <= day <= last:
        return None
    match schedule.unit:
        case RunUnit.DAY:
            run = _run_of_days(anchor, schedule.every, day)
        case RunUnit.WEEK:
            run = _run_of_days(anchor, 7 * schedule.every, day)
        case RunUnit.MONTH:
            run = _run_of_months(anchor, schedule.every, day)
        case RunUnit.YEAR:
            run = _run_of_months(anchor, 12 * schedule.every, day)
    return Run(run.start, min(run.end, last))


def finalize_time(run: Run, grace: timedelta) -> datetime | None:
    """When the run is archived: its last date has ended everywhere, and then the grace; None: it never is."""
    if run.end == date.max:
        return None
    return _over(run) + grace


def _over(run: Run) -> datetime:
    """When the last date has ended everywhere."""
    if run.end == date.max:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.combine(run.end + _DAY, time(), tzinfo=UTC) + _LAST_ZONE_OFFSET


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
