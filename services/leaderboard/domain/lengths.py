"""What a streak is worth in a run: the length at the run's end, or now (RULES 6.3).

Kept are the periods at which the length changes, as the streak service tells them: those that qualified, and those
that broke it. Of each the newest version holds: so whatever the order in which they are told, the same are kept in the
end, and a score follows from them alone:

* The length of a run is the one after the last such period that begins on or before the run's last date. What carries a
  length on, such as a freeze or a day off, is not told.
* Who had the streak alive in the run is a member: such a period reaches into it (one that broke the streak, too, for it
  was alive until that period ended), or the length was above 0 when the run began.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from msgspec import Struct

from services.leaderboard.domain.runs import Run, Schedule, run_of
from services.leaderboard.domain.scores import NO_SCORE, Score

_DAY: Final = timedelta(days=1)


class Period(Struct, frozen=True):
    """A period of a streak, and the length after it: 0 where it broke the streak, None where the length does not
    change at it (any more).
    """

    start: date
    end: date
    length: int | None
    reach_time: datetime | None
    """Where it has qualified: when, in the order of the events' times."""
    version: int


class StreakChange(Struct, frozen=True):
    """The present state of one of the user's streaks, and the periods that changed; the greatest version is the
    newest.
    """

    streak: str
    version: int
    length: int
    longest: int
    reach_time: datetime | None
    periods: tuple[Period, ...] = ()

    @property
    def first_date(self) -> date:
        """The first date that is another now; `date.max` where none is."""
        return min((period.start for period in self.periods), default=date.max)

    @property
    def last_date(self) -> date:
        """The last date on which a period begins that changed."""
        return max((period.start for period in self.periods), default=date.min)


Lengths = Mapping[date, Period]
"""By their first date, the periods of one of a user's streaks: of the stretch that was asked for."""


def told(lengths: Lengths, periods: Iterable[Period]) -> Lengths:
    """With these periods, where they say something newer."""
    found = dict(lengths)
    for period in periods:
        known = found.get(period.start)
        if known is None or known.version < period.version:
            found[period.start] = period
    return found


def length_in(lengths: Lengths, run: Run) -> Score:
    """The score in a run."""
    begun = (length for length in lengths.values() if length.length is not None and length.start <= run.end)
    last = max(begun, key=lambda one: one.start, default=None)
    if last is None or not (last.length or last.end >= run.start):
        return NO_SCORE
    return Score(last.length, last.reach_time or _begin(last.end + _DAY))


def reached(schedule: Schedule, first: date, last: date) -> Iterator[Run]:
    """The runs between two dates."""
    day = max(first, schedule.start or date.min)
    while day <= last:
        run = run_of(schedule, day)
        if run is None:
            break
        yield run
        day = run.end + _DAY


def _begin(day: date) -> datetime:
    """The beginning of a date in UTC. A break is dated so, because the zone in which it came can change again."""
    return datetime.combine(day, time(), tzinfo=UTC)
