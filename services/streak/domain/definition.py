"""What a streak asks of a user (RULES 3), and its periods as consecutive numbers."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import IntEnum

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain.amnesty import Amnesty, declared
from shared.calendar import day_begins, day_of
from shared.filters import AttributeFilter, matches


class Frequency(IntEnum):
    """How long a period is."""

    DAILY = 1
    WEEKLY = 2
    MONTHLY = 3


class MetricMode(IntEnum):
    """How the thresholds of several metrics combine."""

    ANY = 1
    ALL = 2


class MetricThreshold(Struct, frozen=True):
    """What a period's contributions to one metric must add up to, in micro-units."""

    metric: str
    threshold_micros: int


class FreezeSettings(Struct, frozen=True):
    """Freezes of a streak (RULES 3.5). `max_count` is resolved: 0 means that there are none."""

    initial_count: int = 0
    earn_count: int = 0
    earn_every_days: int = 0
    max_count: int = 0

    @property
    def earns(self) -> bool:
        """Whether freezes come with the passing of days."""
        return self.earn_count > 0 and self.earn_every_days > 0


class Weeks(Struct, frozen=True):
    """From this day on, by its ordinal, weeks begin on its weekday; the first of them has this number. The week before
    lasts until then.
    """

    first_ordinal: int
    first_number: int


class Overridable(IntEnum):
    """What users may have otherwise, where a streak allows it (RULES 3.11)."""

    MODE = 1
    METRICS = 2
    THRESHOLDS = 3
    DAYS_OFF = 4
    SWITCHED_OFF = 5


class Changed(Struct, frozen=True):
    """What has changed of a definition."""

    amnestied: datetime | None = None
    """The earliest instant that amnesties which came or went are about."""
    redefined: datetime | None = None
    """When it was first defined otherwise."""

    def and_also(self, later: "Changed") -> "Changed":
        """Both."""
        return Changed(_earlier(self.amnestied, later.amnestied), _earlier(self.redefined, later.redefined))


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one and other else one or other


class StreakDefinition(Struct, frozen=True):
    """The definition of a streak. Weekdays count from Monday = 0."""

    key: str
    frequency: Frequency
    metrics: tuple[MetricThreshold, ...]
    mode: MetricMode = MetricMode.ANY
    days_off: frozenset[int] = frozenset()
    freezes: FreezeSettings = FreezeSettings()
    week_start: int = 0
    user_filters: tuple[AttributeFilter, ...] = ()
    pause_days_per_year: int = 0
    """For how many days of a calendar year users may pause it themselves."""
    active: bool = True
    """Whether events count. Without it the periods of what was begun go on closing."""
    day_start: timedelta = timedelta()
    """How long after midnight a day begins (RULES 1.6)."""
    weeks: tuple[Weeks, ...] = ()
    """Where another day became the first of a week."""
    switched_off: bool = False
    """By its user (RULES 3.11): nothing counts, and nothing is expected."""
    overridable: frozenset[Overridable] = frozenset()
    """What users may have otherwise."""
    backfill_time: datetime | None = None
    """When it was defined, where the events before that count too."""
    earlier: "tuple[tuple[datetime, StreakDefinition], ...]" = ()
    """What it was before, each until the instant at which that changed, ascending."""
    amnesties: tuple[Amnesty, ...] = ()
    """The windows in which what is missed is excused."""
    fingerprint: int = 0
    """Differs whenever something differs that the fold reads; what was folded under another is refolded."""
    past: Mapping[int, Changed] = {}
    """Fingerprints of before, and what has changed since."""

    def counts(self, metric: str) -> bool:
        """Whether events of this metric are facts of the streak."""
        return any(wanted.metric == metric for wanted in self.metrics)

    def qualifies(self, sums_micros: Sequence[int]) -> bool:
        """Whether these sums, in the order of `metrics`, reach the thresholds (RULES 3.2)."""
        reached = (
            total >= wanted.threshold_micros for total, wanted in zip(sums_micros, self.metrics, strict=True)
        )
        return all(reached) if self.mode is MetricMode.ALL else any(reached)

    def is_day_off(self, period: int) -> bool:
        """Whether nothing is expected in this period; only days can be off."""
        return bool(self.days_off) and (period - 1) % 7 in self.days_off

    def day_of(self, instant: datetime, zone: str) -> date:
        """The day at an instant, in a zone; what happens before `day_start` belongs to the day before."""
        return day_of(instant, zone, self.day_start)

    def day_begins(self, day: date, zone: str) -> datetime:
        """When a day begins, in a zone."""
        return day_begins(day, zone, self.day_start)

    def excused_since(self, begin: datetime, end: datetime) -> datetime | None:
        """When it was declared that a period from `begin` up to `end` is excused; None where it is not."""
        return declared(self.amnesties, begin, end)

    def period_of(self, day: date) -> int:
        """The number of the period that contains this date; the next period has the next number."""
        if self.frequency is Frequency.DAILY:
            return day.toordinal()
        if self.frequency is Frequency.WEEKLY:
            return self._week_of(day.toordinal())
        return day.year * 12 + day.month - 1

    def first_date(self, period: int) -> date:
        """The first date of a period."""
        if self.frequency is Frequency.DAILY:
            return date.fromordinal(period)
        if self.frequency is Frequency.WEEKLY:
            return date.fromordinal(self._first_ordinal(period))
        return date(period // 12, period % 12 + 1, 1)

    def last_date(self, period: int) -> date:
        """The last date of a period."""
        if self.frequency is Frequency.DAILY:
            return date.fromordinal(period)
        return date.fromordinal(self.first_date(period + 1).toordinal() - 1)

    def with_weeks_from(self, day: date, week_start: int) -> tuple[Weeks, ...]:
        """The weeks where they begin on another weekday from the week of this day on, which lasts until then: never
        shorter than it was.
        """
        number = self._week_of(day.toordinal())
        kept = tuple(each for each in self.weeks if each.first_ordinal <= day.toordinal())
        before = replace(self, weeks=kept)
        last = before._first_ordinal(number + 1) - 1
        first = last + 1 + (week_start - last) % 7
        return (*kept, Weeks(first, number + 1))

    def _week_of(self, ordinal: int) -> int:
        number, limit = (ordinal - 1 - self.week_start) // 7, None
        for each in self.weeks:
            if ordinal >= each.first_ordinal:
                number, limit = each.first_number + (ordinal - each.first_ordinal) // 7, None
            elif limit is None:
                limit = each.first_number - 1
        return number if limit is None else min(number, limit)

    def _first_ordinal(self, number: int) -> int:
        ordinal = number * 7 + 1 + self.week_start
        for each in self.weeks:
            if number >= each.first_number:
                ordinal = each.first_ordinal + 7 * (number - each.first_number)
        return ordinal


class Catalogue:
    """All definitions, by key and by the metrics whose events they count."""

    def __init__(self, definitions: Iterable[StreakDefinition]) -> None:
        self._by_key = {definition.key: definition for definition in definitions}
        self._by_metric: dict[str, list[StreakDefinition]] = {}
        for definition in self._by_key.values():
            for wanted in definition.metrics:
                self._by_metric.setdefault(wanted.metric, []).append(definition)

    def get(self, key: str) -> StreakDefinition | None:
        """The streak with this key."""
        return self._by_key.get(key)

    def all(self) -> list[StreakDefinition]:
        """All of them, in order of key."""
        return [self._by_key[key] for key in sorted(self._by_key)]

    def of_metric(self, metric: str) -> Sequence[StreakDefinition]:
        """The streaks, in order of key, for which events of this metric may count."""
        return self._by_metric.get(metric, ())

    def counting(self, metric: str, user_attributes: Mapping[str, str]) -> list[StreakDefinition]:
        """The streaks for which an event of this metric counts, of a user with these attributes."""
        return [
            definition
            for definition in self.of_metric(metric)
            if definition.active and matches(definition.user_filters, user_attributes)
        ]
