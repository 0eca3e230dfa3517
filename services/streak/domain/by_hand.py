"""What is done to a user's streak by hand: freezes given, pauses, resets, restores (RULES 3.1, 3.5, 3.9, 3.12).

They are facts like events, so order, late events and voids come out right: the fold reads them, and whoever takes one
away folds again. What only the moment can say is decided when they come, and stays: which dates a restore covers.
"""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain.definition import MetricMode, StreakDefinition
from services.streak.domain.rows import Period, PeriodStatus

_DAY: Final = timedelta(days=1)


class FreezeGrant(Struct, frozen=True):
    """Freezes that were given by hand."""

    entry_id: UUID
    day: date
    """From which they count: the user's local date when they were given."""
    count: int


class DateRange(Struct, frozen=True):
    """Local dates that are treated apart, both ends included."""

    entry_id: UUID
    first: date
    last: date
    by_user: bool = False
    """Of a pause: the user's own wish, which counts against the days a year that the streak allows."""

    def touches(self, first: date, last: date) -> bool:
        """Whether it covers any date from `first` to `last`."""
        return self.first <= last and first <= self.last


class Reset(Struct, frozen=True):
    """The streak was set back to nothing at an instant, which was on this local date."""

    entry_id: UUID
    occur_time: datetime
    day: date

    @property
    def order(self) -> tuple[datetime, UUID]:
        """Its place among the facts."""
        return self.occur_time, self.entry_id


class Override(Struct, frozen=True, omit_defaults=True):
    """What a user wants otherwise, from the period of this local date on until the next word (RULES 3.11). What is not
    given is as the streak has it.
    """

    entry_id: UUID
    occur_time: datetime
    day: date
    mode: MetricMode | None = None
    metrics: tuple[tuple[str, int], ...] = ()
    """Of the streak's those that count, each with its threshold in micro-units; 0: that of the streak."""
    days_off: tuple[int, ...] | None = None
    switched_off: bool = False

    @property
    def asks_nothing(self) -> bool:
        """Everything is as the streak has it."""
        return not (self.mode or self.metrics or self.switched_off) and self.days_off is None

    @property
    def order(self) -> tuple[datetime, UUID]:
        """Its place among the facts."""
        return self.occur_time, self.entry_id


class Resume(Struct, frozen=True):
    """Pauses were ended early: from this local date on they pause nothing (RULES 3.12)."""

    entry_id: UUID
    day: date
    pauses: tuple[UUID, ...]
    """Their entries: those that held on that date."""


class ByHand(Struct, frozen=True, omit_defaults=True):
    """All that was done by hand to one user's streak and not undone."""

    grants: tuple[FreezeGrant, ...] = ()
    pauses: tuple[DateRange, ...] = ()
    resets: tuple[Reset, ...] = ()
    """In order."""
    restores: tuple[DateRange, ...] = ()
    """The dates that were lost and given back."""
    overrides: tuple[Override, ...] = ()
    """In order."""
    resumes: tuple[Resume, ...] = ()

    def __len__(self) -> int:
        return (
            len(self.grants)
            + len(self.pauses)
            + len(self.resets)
            + len(self.restores)
            + len(self.overrides)
            + len(self.resumes)
        )

    def override_in(self, definition: StreakDefinition, period: int) -> Override | None:
        """What the user wants otherwise in a period: what was said last up to it."""
        said = (each for each in reversed(self.overrides) if definition.period_of(each.day) <= period)
        return next(said, None)

    def held_pauses(self) -> tuple[DateRange, ...]:
        """The pauses, as far as they were not ended early."""
        if not self.resumes:
            return self.pauses
        return tuple(pause for pause in map(self._held, self.pauses) if pause.first <= pause.last)

    def _held(self, pause: DateRange) -> DateRange:
        ends = (each.day - _DAY for each in self.resumes if pause.entry_id in each.pauses)
        return replace(pause, last=min(pause.last, *ends, pause.last))

    def is_paused(self, first: date, last: date) -> bool:
        """Whether a pause covers any day of a period."""
        return bool(self.pauses) and any(pause.touches(first, last) for pause in self.held_pauses())

    def pauses_since(self, day: date) -> tuple[DateRange, ...]:
        """Those that end on this day or later, by their first dates."""
        if not self.pauses:
            return ()
        ahead = (pause for pause in self.held_pauses() if pause.last >= day)
        return tuple(sorted(ahead, key=lambda pause: (pause.first, pause.last)))

    def is_restored(self, first: date, last: date) -> bool:
        """Whether a period was given back."""
        return bool(self.restores) and any(restore.touches(first, last) for restore in self.restores)

    def counts(self, definition: StreakDefinition, order: tuple[datetime, UUID], day: date) -> bool:
        """Whether an event counts: not one from before a reset for the period of the reset or a later one."""
        if not self.resets:
            return True
        period = definition.period_of(day)
        return not any(
            order < reset.order and period >= definition.period_of(reset.day) for reset in self.resets
        )

    def reset_between(self, definition: StreakDefinition, after: int, until: int) -> tuple[int, Reset] | None:
        """The first reset in the periods behind one up to another, with its period."""
        for reset in self.resets:
            period = definition.period_of(reset.day)
            if after < period <= until:
                return period, reset
        return None

    def grants_by_day(self, origin: date) -> list[tuple[date, int]]:
        """How many freezes were given on which date, ascending; what came before the first fact comes with it."""
        found: dict[date, int] = {}
        for grant in self.grants:
            day = max(grant.day, origin)
            found[day] = found.get(day, 0) + grant.count
        return sorted(found.items())


NOTHING_BY_HAND: Final = ByHand()

Done = FreezeGrant | DateRange | Reset | Override | Resume


def with_grant(by_hand: ByHand, grant: FreezeGrant) -> ByHand:
    """With freezes that are given."""
    return replace(by_hand, grants=(*by_hand.grants, grant))


def with_pause(by_hand: ByHand, pause: DateRange) -> ByHand:
    """With a pause."""
    return replace(by_hand, pauses=(*by_hand.pauses, pause))


def with_reset(by_hand: ByHand, reset: Reset) -> ByHand:
    """With a reset, in its place."""
    return replace(by_hand, resets=tuple(sorted((*by_hand.resets, reset), key=lambda each: each.order)))


def with_override(by_hand: ByHand, override: Override) -> ByHand:
    """With what a user wants otherwise, in its place."""
    said = sorted((*by_hand.overrides, override), key=lambda each: each.order)
    return replace(by_hand, overrides=tuple(said))


def with_resume(by_hand: ByHand, resume: Resume) -> ByHand:
    """With pauses that are ended early."""
    return replace(by_hand, resumes=(*by_hand.resumes, resume))


def with_restore(by_hand: ByHand, restore: DateRange) -> ByHand:
    """With dates that are given back."""
    return replace(by_hand, restores=(*by_hand.restores, restore))


def taken_out(by_hand: ByHand, entry_id: UUID) -> tuple[ByHand, Done | None]:
    """Without what an entry did, and what that was."""
    everything: tuple[Done, ...] = (
        *by_hand.grants,
        *by_hand.pauses,
        *by_hand.resets,
        *by_hand.restores,
        *by_hand.overrides,
        *by_hand.resumes,
    )
    gone = next((done for done in everything if done.entry_id == entry_id), None)
    left = ByHand(
        tuple(grant for grant in by_hand.grants if grant.entry_id != entry_id),
        tuple(pause for pause in by_hand.pauses if pause.entry_id != entry_id),
        tuple(reset for reset in by_hand.resets if reset.entry_id != entry_id),
        tuple(restore for restore in by_hand.restores if restore.entry_id != entry_id),
        tuple(override for override in by_hand.overrides if override.entry_id != entry_id),
        tuple(resume for resume in by_hand.resumes if resume.entry_id != entry_id),
    )
    return left, gone


def first_day(done: Done) -> date:
    """The first date that something may change by it."""
    return done.first if isinstance(done, DateRange) else done.day


def paused_days(pauses: Iterable[DateRange], pause: DateRange) -> dict[int, int]:
    """How many days of each year that `pause` touches users have asked for, with it; a day counts once (RULES 3.12)."""
    days = {day for each in (*pauses, pause) if each.by_user for day in _dates(each)}
    years = range(pause.first.year, pause.last.year + 1)
    return {year: sum(day.year == year for day in days) for year in years}


def lost_dates(
    periods: Iterable[Period], entry_id: UUID, loss: date | None, current_start: date
) -> DateRange | None:
    """The dates that a restore gives back (RULES 3.9): from the period that broke to the next that qualified, or up to
    the current one. None where no period broke, or none that contains the date of the loss that is named.
    """
    rows = sorted(periods, key=lambda row: row.start_date)
    broken = [
        row
        for row in rows
        if row.status is PeriodStatus.BROKEN and (loss is None or row.start_date <= loss <= row.end_date)
    ]
    if not broken:
        return None
    first = broken[-1].start_date
    later = (
        row.start_date for row in rows if row.start_date > first and row.status is PeriodStatus.QUALIFIED
    )
    return DateRange(entry_id, first, next(later, current_start) - _DAY)


def _dates(dates: DateRange) -> Iterator[date]:
    day = dates.first
    while day <= dates.last:
        yield day
        day += _DAY
