"""What an administrator configures: points systems with their triggers and levels (RULES 5).

The terms of a fact are all definitions as they were when it came (`Catalogue.version`).
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import cached_property
from typing import Final, NamedTuple

from msgspec import Struct, field

from shared.filters import AttributeFilter

POINTS_LIMIT: Final = 9_007_199_254_740_991
"""2^53 - 1: no balance, lifetime or single award goes beyond it in either direction."""


class TriggerKey(NamedTuple):
    """Names a trigger among those of all systems."""

    points_system: str
    trigger: str


GIFT: Final = ""
"""Where the key of a trigger stands: the entry gave, or took, the points by itself (RULES 5.7)."""


EXPIRED: Final = "(expired)"
"""Where the key of a trigger stands: points expired. No trigger can be called so."""


class MetricCause(Struct, frozen=True):
    """Each crossing of a multiple of `every_micros` by the sum of the matching values (RULES 5.2)."""

    metric: str
    every_micros: int
    """The X of "N points for every X", in micro-units, above zero."""
    event_filters: tuple[AttributeFilter, ...] = ()


class StreakCause(Struct, frozen=True):
    """Each period after which the streak's length is a multiple of `length`, or only `length` itself."""

    streak: str
    length: int
    once: bool = False

    def is_due(self, length: int) -> bool:
        """Whether a period is due after which the streak has this length."""
        return length == self.length if self.once else length > 0 and length % self.length == 0


class AchievementCause(Struct, frozen=True):
    """The completion of an achievement."""

    achievement: str | None
    """None: of any achievement."""


class UserCreatedCause(Struct, frozen=True):
    """A user's first live entry."""


class TimeCause(Struct, frozen=True):
    """Instants that come round. One of the three is set."""

    every_hours: int = 0
    """From the user's creation on."""
    every_days: int = 0
    """At local midnights, counted from the local date of the user's creation."""
    yearly_attribute: str = ""
    """At the local midnight at which the date begins that a user attribute says."""


Cause = MetricCause | StreakCause | AchievementCause | UserCreatedCause | TimeCause


class Trigger(Struct, frozen=True):
    """Something that earns or costs points."""

    key: str
    amount: int
    """Points each time; negative: a deduction."""
    cause: Cause
    user_filters: tuple[AttributeFilter, ...] = ()
    block: bool = False
    """Of a deduction: refuse the whole entry where the balance does not cover it (RULES 5.4)."""
    daily_limit: int | None = None
    """Points that it gives on one local date at most."""
    cooldown: timedelta = timedelta(0)
    """For how long it gives nothing after, or before, an event that it has given something for."""


ONE: Final = 1_000_000
"""A multiplier that changes nothing: multipliers are micro-units, so that products are exact."""


class Level(Struct, frozen=True):
    """A level of a system."""

    key: str
    threshold: int
    multiplier_micros: int = ONE
    """Of what is awarded to whoever has the level."""


class Rounding(Enum):
    """How a product becomes whole points."""

    FLOOR = "floor"
    CEIL = "ceil"
    NEAREST = "nearest"
    """Half up."""


class TimeWindow(Struct, frozen=True):
    """From an instant, up to another."""

    start: datetime
    end: datetime | None
    """Not in it. None: without end."""

    def holds(self, instant: datetime, _day: date) -> bool:
        """Whether what happens then lies in it."""
        return self.start <= instant and (self.end is None or instant < self.end)

    @property
    def ends(self) -> tuple[datetime, datetime | None]:
        """When it begins, and is over."""
        return self.start, self.end


class DateWindow(Struct, frozen=True):
    """From a local date to another, wherever the user is."""

    first: date
    last: date | None
    """In it. None: without end."""

    def holds(self, _instant: datetime, day: date) -> bool:
        """Whether what happens on a local date lies in it."""
        return self.first <= day and (self.last is None or day <= self.last)

    @property
    def ends(self) -> tuple[datetime, datetime | None]:
        """When it begins in the first zone, and is over in the last."""
        start = datetime.combine(self.first, time(), UTC) - _FIRST_ZONE
        if self.last is None:
            return start, None
        return start, datetime.combine(self.last, time(), UTC) + timedelta(days=1) + _LAST_ZONE


_FIRST_ZONE: Final = timedelta(hours=14)
"""A date begins that much earlier there than in UTC."""
_LAST_ZONE: Final = timedelta(hours=12)
"""A date is over that much later there than in UTC."""


class Boost(Struct, frozen=True):
    """For a time, awards are worth more, or less (RULES 5.3)."""

    key: str
    multiplier_micros: int
    """Above zero."""
    window: TimeWindow | DateWindow
    triggers: frozenset[str] = frozenset()
    """The triggers whose awards it multiplies; empty: all."""
    user_filters: tuple[AttributeFilter, ...] = ()
    user_id: str = ""
    """Only for this user; empty: for all who match."""
    rounding: Rounding = Rounding.FLOOR


class BoostKey(NamedTuple):
    """Names a boost among those of all systems."""

    points_system: str
    boost: str


class Stacking(Enum):
    """What several boosts at once do."""

    MULTIPLY = "multiply"
    """They multiply each other."""
    HIGHEST = "highest"
    """The highest alone counts."""


class Expiry(Struct, frozen=True):
    """When points are gone again that were given on a local date."""

    after_days: int = 0
    """So many days after that at the earliest."""
    yearly: tuple[int, int] | None = None
    """With the first date of this month and day from then on. 29 February is 1 March where there is none."""
    on_date: date | None = None
    """On this date, all that was given before it."""

    def of(self, day: date) -> date | None:
        """The first date on which what was given on a date is gone; None: never."""
        if self.on_date is not None:
            return self.on_date if day < self.on_date else None
        if day > _LAST_GIVEN:
            return None
        end = day + timedelta(days=max(1, self.after_days))
        if self.yearly is None:
            return end
        this_year = _in_year(self.yearly, end.year)
        return this_year if this_year >= end else _in_year(self.yearly, end.year + 1)


_LAST_GIVEN: Final = date(9000, 1, 1)
"""What is given later lasts to the end of the calendar."""


def _in_year(day: tuple[int, int], year: int) -> date:
    try:
        return date(year, *day)
    except ValueError:
        return date(year, 3, 1)


class LevelBasis(Enum):
    """What levels look at."""

    BALANCE = "balance"
    LIFETIME = "lifetime"


class PointsSystem(Struct, frozen=True, dict=True):
    """One kind of points."""

    key: str
    triggers: tuple[Trigger, ...] = ()
    """In the order of their definition, which is the order of awards within an entry."""
    levels: tuple[Level, ...] = ()
    """By ascending threshold."""
    level_basis: LevelBasis = LevelBasis.BALANCE
    min_balance: int = 0
    """Deductions never go below it."""
    max_balance: int = POINTS_LIMIT
    """Nothing that is given goes above it."""
    daily_cap: int | None = None
    """Points that all triggers together give on one local date at most."""
    active: bool = True
    """False: nothing is awarded any more; what was awarded can still be undone."""
    boosts: tuple[Boost, ...] = ()
    """Those that were not cancelled."""
    stacking: Stacking = Stacking.MULTIPLY
    expiry: Expiry | None = None
    """None: points never expire."""

    @property
    def limits_days(self) -> bool:
        """What was given on a date, or shortly before, decides what is given."""
        return self.daily_cap is not None or any(
            trigger.daily_limit is not None or trigger.cooldown for trigger in self.triggers
        )

    @cached_property
    def multiplies_by_level(self) -> bool:
        """A level multiplies awards."""
        return any(level.multiplier_micros != ONE for level in self.levels)

    @cached_property
    def thresholds(self) -> tuple[int, ...]:
        """Of the levels."""
        return tuple(level.threshold for level in self.levels)

    def level_at(self, balance: int, lifetime: int) -> Level | None:
        """The highest level whose threshold the basis reaches (RULES 5.5); None below the first."""
        reached = bisect_right(self.thresholds, self.basis(balance, lifetime))
        return self.levels[reached - 1] if reached else None

    def level_after(self, balance: int, lifetime: int) -> Level | None:
        """The next level up; None at the top."""
        reached = bisect_right(self.thresholds, self.basis(balance, lifetime))
        return self.levels[reached] if reached < len(self.levels) else None

    def basis(self, balance: int, lifetime: int) -> int:
        """The points that levels look at."""
        return balance if self.level_basis is LevelBasis.BALANCE else lifetime


class ConfiguredTrigger(Struct, frozen=True, dict=True):
    """A trigger with the system that it belongs to."""

    system: PointsSystem
    trigger: Trigger

    @cached_property
    def key(self) -> TriggerKey:
        """Its name among all triggers."""
        return TriggerKey(self.system.key, self.trigger.key)


class Catalogue(Struct, frozen=True):
    """All systems; triggers are found by what causes them, so that cost does not grow with the catalogue."""

    systems: Mapping[str, PointsSystem] = field(default_factory=dict)
    by_metric: Mapping[str, tuple[ConfiguredTrigger, ...]] = field(default_factory=dict)
    """Those of active systems."""
    by_streak: Mapping[str, tuple[ConfiguredTrigger, ...]] = field(default_factory=dict)
    """Those of archived systems too: what is due is counted on, so that a correction finds what was never awarded."""
    by_achievement: Mapping[str | None, tuple[ConfiguredTrigger, ...]] = field(default_factory=dict)
    """Those of active systems; under None those for any achievement."""
    by_user_created: tuple[ConfiguredTrigger, ...] = ()
    """Those of active systems."""
    awarding: Mapping[TriggerKey, Trigger] = field(default_factory=dict)
    """All triggers of active systems."""
    by_time: tuple[ConfiguredTrigger, ...] = ()
    """Those of active systems."""
    boosts: Mapping[BoostKey, Boost] = field(default_factory=dict)
    """Those of active systems."""
    day_limited: frozenset[str] = frozenset()
    """The systems with limits of a day, or cooldowns."""
    looking_at_users: tuple[ConfiguredTrigger, ...] = ()
    """Those for new users, streaks and achievements that have filters."""
    boosts_look_at_users: bool = False
    """Some boost has filters."""
    version: int = 0
    """Of the configuration: facts name their terms by it."""

    @staticmethod
    def of(systems: Iterable[PointsSystem], version: int = 0) -> "Catalogue":
        """The catalogue of these systems."""
        ordered = {system.key: system for system in sorted(systems, key=lambda system: system.key)}
        by_metric: dict[str, tuple[ConfiguredTrigger, ...]] = {}
        by_streak: dict[str, tuple[ConfiguredTrigger, ...]] = {}
        by_achievement: dict[str | None, tuple[ConfiguredTrigger, ...]] = {}
        by_user_created: tuple[ConfiguredTrigger, ...] = ()
        by_time: tuple[ConfiguredTrigger, ...] = ()
        looking_at_users: tuple[ConfiguredTrigger, ...] = ()
        for configured in (
            ConfiguredTrigger(system, t) for system in ordered.values() for t in system.triggers
        ):
            match configured.trigger.cause:
                case MetricCause(metric=metric) if configured.system.active:
                    by_metric[metric] = (*by_metric.get(metric, ()), configured)
                case StreakCause(streak=streak):
                    by_streak[streak] = (*by_streak.get(streak, ()), configured)
                case AchievementCause(achievement=achievement) if configured.system.active:
                    by_achievement[achievement] = (*by_achievement.get(achievement, ()), configured)
                case UserCreatedCause() if configured.system.active:
                    by_user_created = (*by_user_created, configured)
                case TimeCause() if configured.system.active:
                    by_time = (*by_time, configured)
            is_given = isinstance(configured.trigger.cause, StreakCause | AchievementCause | UserCreatedCause)
            if is_given and configured.trigger.user_filters:
                looking_at_users = (*looking_at_users, configured)
        awarding = {
            TriggerKey(system.key, trigger.key): trigger
            for system in ordered.values()
            if system.active
            for trigger in system.triggers
        }
        boosts = {
            BoostKey(system.key, boost.key): boost
            for system in ordered.values()
            if system.active
            for boost in system.boosts
        }
        return Catalogue(
            systems=ordered,
            by_metric=by_metric,
            by_streak=by_streak,
            by_achievement=by_achievement,
            by_user_created=by_user_created,
            by_time=by_time,
            awarding=awarding,
            boosts=boosts,
            looking_at_users=looking_at_users,
            boosts_look_at_users=any(boost.user_filters for boost in boosts.values()),
            day_limited=frozenset(key for key, system in ordered.items() if system.limits_days),
            version=version,
        )

    def system(self, key: str) -> PointsSystem:
        """The system; one without triggers, levels or limits where the key is not defined (any more)."""
        return self.systems.get(key) or PointsSystem(key, min_balance=-POINTS_LIMIT, active=False)

    def trigger(self, key: TriggerKey) -> Trigger | None:
        """The trigger, where it can award: None when it is gone or its system archived."""
        return self.awarding.get(key)
