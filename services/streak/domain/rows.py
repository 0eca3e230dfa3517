"""What a fold gives: recorded periods and freeze ledger lines, and how two results differ."""

from collections.abc import Iterable
from datetime import date, datetime
from enum import IntEnum
from typing import Final, TypeVar
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace


class PeriodStatus(IntEnum):
    """What became of a period, in the order of precedence of RULES 3.4."""

    OPEN = 1
    """It is running and has not qualified; never recorded."""
    QUALIFIED = 2
    PAUSED = 3
    DAY_OFF = 4
    SKIPPED = 5
    FROZEN = 6
    BROKEN = 7
    RESTORED = 8
    RESET = 9
    EXCUSED = 10


class FreezeReason(IntEnum):
    """Why the number of freezes changed; also the order of the lines of one date."""

    INITIAL = 1
    ACCUMULATION = 2
    MANUAL = 3
    CONSUMED = 4
    REFUNDED = 5


class Reach(Struct, frozen=True):
    """An event with which something was reached, in the order of the events' times."""

    entry_id: UUID
    occur_time: datetime
    local_date: date
    """Of `occur_time`, in the event's zone."""


class Period(Struct, frozen=True):
    """A recorded period; `length` is the streak's after it.

    `settle_time` is when it qualified, or the local midnight at which it closed.
    """

    start_date: date
    end_date: date
    status: PeriodStatus
    length: int
    settle_time: datetime
    reach: Reach | None = None
    """The event with which it qualified, where it has."""

    @property
    def key(self) -> date:
        """Unique within a user's streak."""
        return self.start_date


LedgerKey = tuple[date, FreezeReason, date]


class LedgerLine(Struct, frozen=True):
    """A line of the freeze ledger. Consumption counts from the last date of the period that it saved."""

    effective_date: date
    reason: FreezeReason
    amount: int
    about_date: date
    """The last date of the period that a freeze was spent on or given back for; of a grant its own. The lines about
    dates up to one add up to the balance there.
    """

    @property
    def key(self) -> LedgerKey:
        """Unique within a user's streak, and the order of the ledger."""
        return self.effective_date, self.reason, self.about_date


R = TypeVar("R", Period, LedgerLine)

_ENDS = (PeriodStatus.BROKEN, PeriodStatus.RESET)
"""At these a run ends."""
_TURNS = (PeriodStatus.QUALIFIED, *_ENDS)
"""At these the length changes; all others carry it on."""


class Rows(Struct, frozen=True):
    """A stretch of recorded history, oldest first."""

    periods: tuple[Period, ...] = ()
    ledger: tuple[LedgerLine, ...] = ()

    def __add__(self, later: "Rows") -> "Rows":
        return Rows(self.periods + later.periods, self.ledger + later.ledger)


class Run(Struct, frozen=True):
    """Consecutive periods without a break between them; `length` counts those that qualified."""

    start_date: date
    length: int


class PeriodChange(Struct, frozen=True):
    """How one period changed at which the length changes: that qualified, or that broke the streak.

    What a period is not, before or after, has length 0 and is not qualified.
    """

    start_date: date
    end_date: date
    length_before: int
    length_after: int
    qualified_before: bool
    qualified_after: bool
    recorded_after: bool
    """Whether it is such a period, after the change."""
    reach: Reach | None
    """Where it is qualified: the event with which it did."""
    granted_before: Reach | None = None
    """Where an event of the period is undone, and it is qualified: to which event belonged what was granted for it."""
    granted_after: Reach | None = None
    """To which event it belongs without the one that is undone."""


class FirstReach(Struct, frozen=True):
    """Where a length was first reached; None where no period has it any more."""

    length: int
    reach: Reach | None


class HistoryChange(Struct, frozen=True):
    """How what is recorded differs for those who follow."""

    periods: tuple[PeriodChange, ...] = ()
    first_reaches: tuple[FirstReach, ...] = ()


NO_CHANGE: Final = HistoryChange()


class RowChanges(Struct, frozen=True):
    """What turns one stretch of recorded history into another."""

    periods: tuple[Period, ...] = ()
    """Written: new or different, oldest first."""
    removed_periods: tuple[date, ...] = ()
    ledger: tuple[LedgerLine, ...] = ()
    """Written: new or different, oldest first."""
    removed_ledger: tuple[LedgerKey, ...] = ()
    refunded_freezes: int = 0
    """Given back because the period that had consumed one qualified after all, or is gone."""
    given_freezes: int = 0
    """Given by hand, of what the maximum left room for (RULES 3.5)."""
    freezes_more: int = 0
    """How many more freezes there are after it; fewer are less than 0."""

    @property
    def earned_freezes(self) -> int:
        """Freezes that are new because days have passed (RULES 3.5)."""
        return sum(line.amount for line in self.ledger if line.reason is FreezeReason.ACCUMULATION)


def row_changes(before: Rows, after: Rows) -> RowChanges:
    """What has to be written and removed for `before` to become `after`."""
    periods, removed_periods = _difference(before.periods, after.periods)
    ledger, removed_ledger = _difference(before.ledger, after.ledger)
    return RowChanges(
        periods=periods,
        removed_periods=tuple(row.key for row in removed_periods),
        ledger=ledger,
        removed_ledger=tuple(line.key for line in removed_ledger),
        refunded_freezes=max(0, _refunded(ledger) - _refunded(removed_ledger) - _consumed(removed_ledger)),
        given_freezes=max(0, _given(after.ledger) - _given(before.ledger)),
        freezes_more=sum(line.amount for line in after.ledger) - sum(line.amount for line in before.ledger),
    )


def _given(lines: Iterable[LedgerLine]) -> int:
    return sum(line.amount for line in lines if line.reason is FreezeReason.MANUAL)


def _refunded(lines: Iterable[LedgerLine]) -> int:
    return sum(line.amount for line in lines if line.reason is FreezeReason.REFUNDED)


def _consumed(lines: Iterable[LedgerLine]) -> int:
    return sum(line.amount for line in lines if line.reason is FreezeReason.CONSUMED)


def _difference(before: tuple[R, ...], after: tuple[R, ...]) -> tuple[tuple[R, ...], tuple[R, ...]]:
    """The rows to write and those to remove; history mostly grows at its end."""
    same = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        same += 1
    if same == len(before):
        return after[same:], ()
    known = {row.key: row for row in before[same:]}
    written = tuple(row for row in after[same:] if known.get(row.key) != row)
    for row in after[same:]:
        known.pop(row.key, None)
    return written, tuple(known.values())


def history_change(longest: int, before: Rows, after: Rows) -> HistoryChange:
    """How `after` differs from `before`, which both go on from the same; `longest` is the longest until then."""
    if before.periods == after.periods:
        return NO_CHANGE
    same = len(before.periods)
    if after.periods[:same] == before.periods:
        # Mostly history grows at its end.
        longest = max(longest, *(row.length for row in before.periods)) if same else longest
        before, after = Rows(), Rows(after.periods[same:])
    return HistoryChange(period_changes(before, after), first_reaches(longest, before, after))


def period_changes(before: Rows, after: Rows) -> tuple[PeriodChange, ...]:
    """The periods, oldest first, that qualify or break, or do no more, or with another length or event.

    What carries a length on is left out: the length on a date is that of the last such period before it.
    """
    if not before.periods:
        return tuple(_period_change(None, row) for row in after.periods if row.status in _TURNS)
    old, new = _turns(before.periods), _turns(after.periods)
    return tuple(
        _period_change(old.get(start), new.get(start))
        for start in sorted(old.keys() | new.keys())
        if _told(old.get(start)) != _told(new.get(start))
    )


def with_period(
    changes: tuple[PeriodChange, ...],
    rows: Rows,
    start_date: date,
    granted_before: Reach | None,
    granted_after: Reach | None,
) -> tuple[PeriodChange, ...]:
    """The changes with that of one period, also where it stays as it is, if it has qualified."""
    row = _turns(rows.periods).get(start_date)
    if row is None or row.reach is None:
        return changes
    by_date = {change.start_date: change for change in changes}
    change = by_date.get(start_date) or _period_change(row, row)
    by_date[start_date] = replace(change, granted_before=granted_before, granted_after=granted_after)
    return tuple(by_date[day] for day in sorted(by_date))


def first_reaches(longest: int, before: Rows, after: Rows) -> tuple[FirstReach, ...]:
    """The lengths, ascending, that are first reached by another event, for the first time, or no more.

    `longest` is the greatest length before the two stretches begin: those up to it were reached there.
    """
    old, new = _records(longest, before.periods), _records(longest, after.periods)
    return tuple(
        FirstReach(length, new.get(length))
        for length in sorted(old.keys() | new.keys())
        if old.get(length) != new.get(length)
    )


def _turns(periods: Iterable[Period]) -> dict[date, Period]:
    """Those at which the length changes."""
    return {row.start_date: row for row in periods if row.status in _TURNS}


def _told(row: Period | None) -> tuple[PeriodStatus, int, Reach | None] | None:
    return (row.status, row.length, row.reach) if row else None


def _period_change(old: Period | None, new: Period | None) -> PeriodChange:
    row = new or old
    assert row  # one of them is there
    return PeriodChange(
        start_date=row.start_date,
        end_date=row.end_date,
        length_before=old.length if old else 0,
        length_after=new.length if new else 0,
        qualified_before=old is not None and old.status is PeriodStatus.QUALIFIED,
        qualified_after=new is not None and new.status is PeriodStatus.QUALIFIED,
        recorded_after=new is not None,
        reach=new.reach if new else None,
    )


def _records(longest: int, periods: Iterable[Period]) -> dict[int, Reach | None]:
    """The lengths above `longest`, each with the event of the first period that has it."""
    records: dict[int, Reach | None] = {}
    for row in periods:
        if row.status is PeriodStatus.QUALIFIED and row.length > longest:
            longest = row.length
            records[longest] = row.reach
    return records
