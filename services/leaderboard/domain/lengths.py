"""What a streak is worth in a run: the length at the run's end, or now (RULES 6.3).

Kept are the lengths by period, as the streak service tells them, the newest version of each. Whatever the order in
which they are told, the same are kept in the end, and a score follows from them alone:

* The length of a run is the one after the last period that begins on or before the run's last date.
* A streak that is alive has every period recorded, also those that were saved or excused. So where the next recorded
  one leaves a gap, or none follows and the present length is 0, the streak broke in the period after: from that one on
  the length is 0.
* Who had the streak alive in the run is a member: a recorded period reaches into it, or the one after the last recorded
  reaches into it, for a streak is alive until that one ends. Later than that nothing is known, and nobody is a member.
"""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from msgspec import Struct, field

from services.leaderboard.domain.runs import Run, Schedule, run_of
from services.leaderboard.domain.scores import NO_SCORE, Score

_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)


class Period(Struct, frozen=True):
    """A period of a streak, and the length after it; 0: not recorded (any more), or broken."""

    start: date
    end: date
    length: int
    reach_time: datetime | None
    """Where it has qualified: when, in the order of the events' times."""
    version: int

    @property
    def following_end(self) -> date:
        """The last date of the period after this one."""
        first, length = self.end + _DAY, self.end - self.start + _DAY
        if length <= _WEEK:
            return self.end + length
        return first.replace(day=monthrange(first.year, first.month)[1])


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
    lapse: date | None = None
    """Where the streak is lost: the last date of the period that broke it. The streak service need not name that
    period, for it had no length before and has none now.
    """

    @property
    def stretches(self) -> Iterator[tuple[date, date]]:
        """The dates, first and last, on which the change may count."""
        for period in self.periods:
            yield period.start, period.following_end
        if self.lapse is not None:
            yield self.lapse, self.lapse

    @property
    def first_date(self) -> date:
        """The first of these dates; `date.max` where there is none."""
        return min((first for first, _ in self.stretches), default=date.max)


class Lengths(Struct, frozen=True):
    """What is known of one of a user's streaks: the stretch of its periods that was asked for, and the present."""

    periods: Mapping[date, Period] = field(default_factory=dict)
    length: int = 0
    version: int = 0
    """With which the present length was told."""

    @property
    def present(self) -> Period:
        """The present length, as the period that never begins."""
        return Period(date.max, date.max, self.length, None, self.version)

    @classmethod
    def of(cls, periods: Iterable[Period]) -> "Lengths":
        """From periods, the one of the present among them."""
        by_start = {period.start: period for period in periods}
        present = by_start.pop(date.max, None)
        return cls(by_start, present.length, present.version) if present else cls(by_start)


def told(lengths: Lengths, change: StreakChange) -> Lengths:
    """With what a change says, where it says something newer."""
    periods = dict(lengths.periods)
    for period in change.periods:
        known = periods.get(period.start)
        if known is None or known.version < period.version:
            periods[period.start] = period
    is_newest = change.version > lengths.version
    return Lengths(
        periods,
        change.length if is_newest else lengths.length,
        max(change.version, lengths.version),
    )


def length_in(lengths: Lengths, run: Run) -> Score:
    """The score in a run."""
    recorded = sorted((one for one in lengths.periods.values() if one.length), key=lambda one: one.start)
    until = [one for one in recorded if one.start <= run.end]
    if not until or until[-1].following_end < run.start:
        return NO_SCORE
    last, later = until[-1], recorded[len(until) :]
    following = last.end + _DAY
    is_alive = later[0].start == following if later else lengths.length > 0
    if not is_alive and following <= run.end:
        return Score(0, _begin(last.following_end + _DAY))
    return Score(last.length, _reach_time(until))


def reached(schedule: Schedule, change: StreakChange, first: date, last: date) -> Iterator[Run]:
    """The runs between two dates whose score a change can move, some perhaps more than once."""
    for start, end in change.stretches:
        day = max(start, first, schedule.start or date.min)
        while day <= min(end, last):
            run = run_of(schedule, day)
            if run is None:
                break
            yield run
            day = run.end + _DAY


def _reach_time(until: list[Period]) -> datetime:
    """Of the period that gave the length: the last that qualified. What is saved or excused carries it on."""
    reach_times = (one.reach_time for one in reversed(until) if one.reach_time)
    return next(reach_times, _begin(until[-1].start))


def _begin(day: date) -> datetime:
    """The beginning of a date in UTC. A break is dated so, because the zone in which it came can change again."""
    return datetime.combine(day, time(), tzinfo=UTC)
