"""What can be earned, and how."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum, IntEnum
from functools import cached_property
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from services.achievement.domain.prerequisites import levels_of
from shared.filters import AttributeFilter


class Status(Enum):
    """Who can see and earn an achievement."""

    INACTIVE = "inactive"
    """Nobody sees or earns it."""
    ACTIVE = "active"
    """It can be earned."""
    LOCKED = "locked"
    """Holders see it, nobody earns it."""
    ARCHIVED = "archived"
    """Kept for the record only."""


MAX_COMPLETIONS: Final = 1_000
"""How many times a repeatable achievement is earned."""


def place_of(achievement: str, number: int) -> str:
    """The key, and from the second time on the number."""
    return achievement if number == 1 else f"{achievement} {number}"


class SourceKind(IntEnum):
    """What a source tells about."""

    METRIC = 1
    STREAK = 2


class SourceKey(NamedTuple):
    """A metric or a streak."""

    kind: SourceKind
    key: str


class MetricTrigger(Struct, frozen=True):
    """Earned when the metric's total reaches the threshold; with event filters, when the sum of the matching
    events does.
    """

    metric: str
    threshold_micros: int
    event_filters: tuple[AttributeFilter, ...] = ()

    @property
    def source(self) -> SourceKey:
        """The metric."""
        return SourceKey(SourceKind.METRIC, self.metric)

    @property
    def target(self) -> int:
        """What must be reached, in micro-units."""
        return self.threshold_micros

    def times(self, number: int) -> "MetricTrigger":
        """For so many times as much."""
        return replace(self, threshold_micros=self.threshold_micros * number)


class StreakTrigger(Struct, frozen=True):
    """Earned when the streak reaches the length."""

    streak: str
    length: int
    event_filters: tuple[()] = ()

    @property
    def source(self) -> SourceKey:
        """The streak."""
        return SourceKey(SourceKind.STREAK, self.streak)

    @property
    def target(self) -> int:
        """What must be reached, in periods."""
        return self.length

    def times(self, number: int) -> "StreakTrigger":
        """For so many times as long."""
        return replace(self, length=self.length * number)


class ApiTrigger(Struct, frozen=True):
    """Earned by an explicit call only."""

    source: None = None
    target: int = 1
    """One call; for each time one more."""
    event_filters: tuple[()] = ()

    def times(self, number: int) -> "ApiTrigger":
        """For so many calls."""
        return replace(self, target=number)


class AnniversaryTrigger(Struct, frozen=True):
    """Earned when the user has been there for so many years."""

    years: int
    source: None = None
    event_filters: tuple[()] = ()

    @property
    def target(self) -> int:
        """What must be reached, in years."""
        return self.years

    def times(self, number: int) -> "AnniversaryTrigger":
        """For so many times as many."""
        return replace(self, years=self.years * number)


class CompositeTrigger(Struct, frozen=True):
    """Earned when enough of these achievements are held."""

    achievements: tuple[str, ...]
    enough: int
    source: None = None
    event_filters: tuple[()] = ()

    @property
    def target(self) -> int:
        """What must be reached, in achievements."""
        return self.enough

    def times(self, _number: int) -> "CompositeTrigger":
        """It is never repeated."""
        return self


Trigger = MetricTrigger | StreakTrigger | ApiTrigger | CompositeTrigger | AnniversaryTrigger
"""How an achievement is earned."""


class Achievement(Struct, frozen=True, dict=True):
    """A definition."""

    key: str
    name: str
    trigger: Trigger
    user_filters: tuple[AttributeFilter, ...] = ()
    status: Status = Status.ACTIVE
    tier_group: str = ""
    tier: int = 0
    hidden: bool = False
    badge_url: str = ""
    repeatable: bool = False
    """Earned at every multiple of its target."""
    earn_from: datetime | None = None
    """Only what happens from here on can earn it."""
    earn_until: datetime | None = None
    """Only what happens before this can earn it."""
    award_backdated: bool = False
    """Points are given for backdated completions, too (RULES 4.6)."""
    number: int = 1
    """Which multiple this is about."""

    @property
    def place(self) -> str:
        """By what its completion is known among those of a user: its key, and from the second time on its number."""
        return place_of(self.key, self.number)

    @property
    def is_selective(self) -> bool:
        """Whether an event that meets the condition may still not be one that earns it."""
        return bool(self.user_filters) or self.earn_from is not None or self.earn_until is not None

    def is_open_at(self, instant: datetime) -> bool:
        """Whether what happens then can earn it."""
        is_early = self.earn_from is not None and instant < self.earn_from
        return not is_early and (self.earn_until is None or instant < self.earn_until)

    def times(self, highest: int | None = None, *, after: int = 0) -> Iterator["Achievement"]:
        """Itself; of a repeatable one each multiple up to `highest`, in the unit of its target, after the first."""
        if not self.repeatable:
            yield self
            return
        most = MAX_COMPLETIONS if highest is None else min(MAX_COMPLETIONS, highest // self.trigger.target)
        for number in range(after + 1, most + 1):
            yield self.numbered(number)

    def numbered(self, number: int) -> "Achievement":
        """About this multiple; it asks for that many times the target."""
        return self if number == 1 else replace(self, number=number, trigger=self.trigger.times(number))

    @property
    def asks(self) -> "Achievement":
        """What it asks for, without how it is shown: where that changes, history is looked at again."""
        return replace(
            self, name="", tier_group="", tier=0, hidden=False, badge_url="", award_backdated=False
        )

    @cached_property
    def event_filters(self) -> tuple[AttributeFilter, ...]:
        """Which events count; where there are any, the achievement keeps a sum of its own."""
        return self.trigger.event_filters

    @cached_property
    def target(self) -> int:
        """What must be reached, in the unit of its trigger."""
        return self.trigger.target


class Catalogue:
    """All definitions, indexed by what can touch them, so that an entry's cost does not grow with the
    catalogue (RULES 4.4).
    """

    def __init__(self, achievements: Iterable[Achievement]) -> None:
        self._by_key: Final = {achievement.key: achievement for achievement in achievements}
        by_source: dict[SourceKey, list[Achievement]] = {}
        for achievement in sorted(
            self._by_key.values(), key=lambda listed: (listed.trigger.target, listed.key)
        ):
            if achievement.trigger.source is not None:
                by_source.setdefault(achievement.trigger.source, []).append(achievement)
        self._by_source: Final = {source: tuple(found) for source, found in by_source.items()}
        self._filtered: Final = _those(by_source, lambda each: bool(each.event_filters or each.user_filters))
        self._repeatable: Final = _those(by_source, lambda each: each.repeatable)
        self.by_streak: Final = tuple(
            definition
            for definition in self._by_key.values()
            if isinstance(definition.trigger, StreakTrigger)
        )
        """The achievements that a streak earns."""
        self.judged: Final = tuple(definition for definition in self.by_streak if definition.is_selective)
        """Those of them that only some users earn: which event reaches a length may show when another one comes."""

        self.anniversaries: Final = tuple(
            definition
            for definition in self._by_key.values()
            if isinstance(definition.trigger, AnniversaryTrigger)
        )
        """Those that time earns."""

        prerequisites = {
            definition.key: definition.trigger.achievements
            for definition in self._by_key.values()
            if isinstance(definition.trigger, CompositeTrigger)
        }
        self._levels: Final = levels_of(prerequisites)
        """Of composites, lower ones first."""
        self._above: Final[dict[str, list[str]]] = {}
        for composite in self._levels:
            for key in prerequisites[composite]:
                self._above.setdefault(key, []).append(composite)
        self._selective_above_streaks: Final = any(
            definition.user_filters
            for definition in self.hanging_on(definition.key for definition in self.by_streak)
        )
        self.has_selective_above: Final = any(self._by_key[key].user_filters for key in self._levels)
        """Whether any composite is one that only some users earn."""

        above = self.hanging_on(definition.key for definition in self.anniversaries)
        self.anniversary_filters: Final = tuple(
            definition for definition in (*self.anniversaries, *above) if definition.user_filters
        )
        """Those, and composites above them, that only some users earn."""

    def level(self, achievement: str) -> int:
        """Of a composite, how far it stands above what is earned by itself; else 0."""
        return self._levels.get(achievement, 0)

    def hanging_on(self, achievements: Iterable[str]) -> Sequence[Achievement]:
        """The composites that these can complete, by whatever detour; lower levels first."""
        if not self._above:
            return ()
        found: set[str] = set()
        below = list(achievements)
        while below:
            above = {composite for key in below for composite in self._above.get(key, ())} - found
            found |= above
            below = list(above)
        return [self._by_key[key] for key in sorted(found, key=lambda key: (self._levels[key], key))]

    def with_composites(self, achievements: Iterable[str]) -> set[str]:
        """These, where composites hang on them also those, and with them all their prerequisites."""
        keys = set(achievements)
        for composite in self.hanging_on(keys):
            assert isinstance(composite.trigger, CompositeTrigger)
            keys.update((composite.key, *composite.trigger.achievements))
        return keys

    def selective_above(self, achievements: Iterable[Achievement]) -> Sequence[Achievement]:
        """The composites that hang on these, or on a streak, which may name an event later, and that only some users
        earn.
        """
        if not self.has_selective_above:
            return ()
        keys = [definition.key for definition in achievements]
        if self._selective_above_streaks:
            keys += [definition.key for definition in self.by_streak]
        return [composite for composite in self.hanging_on(keys) if composite.user_filters]

    def get(self, key: str) -> Achievement | None:
        """The definition of this key."""
        return self._by_key.get(key)

    def all(self) -> Iterable[Achievement]:
        """Every definition."""
        return self._by_key.values()

    def comes_by_time(self, achievement: Achievement) -> bool:
        """Whether whoever waits has it in the end: an anniversary, or a composite for which these are enough."""
        trigger = achievement.trigger
        if isinstance(trigger, CompositeTrigger):
            return self.effort(trigger)[1] <= 0
        return isinstance(trigger, AnniversaryTrigger)

    def effort(self, composite: CompositeTrigger) -> tuple[list[str], int]:
        """The prerequisites that do not come by time, and how many of them it takes when all others have come."""
        wanted = [
            key
            for key in composite.achievements
            if (definition := self._by_key.get(key)) is None or not self.comes_by_time(definition)
        ]
        return wanted, composite.enough - (len(composite.achievements) - len(wanted))

    def follows(self, streak: str, length: int) -> bool:
        """Whether it matters who first reached this length: it earns an achievement, or else one that the user could
        not earn when it was due.
        """
        return any(
            _is_reached(achievement, length)
            or (achievement.is_selective and length > achievement.trigger.target)
            for achievement in self._by_source.get(SourceKey(SourceKind.STREAK, streak), ())
        )

    def following(self, sources: Iterable[SourceKey]) -> Sequence[Achievement]:
        """The achievements whose trigger these sources can touch, lowest target first for each."""
        return [found for source in sources for found in self._by_source.get(source, ())]

    def filtered(self, sources: Iterable[SourceKey]) -> Sequence[Achievement]:
        """Of those, the ones that can be earned and look at attributes."""
        if not self._filtered:
            return ()
        return [found for source in sources for found in self._filtered.get(source, ())]

    def repeatable(self, sources: Iterable[SourceKey]) -> Sequence[Achievement]:
        """Of those, the ones that can be earned again and again."""
        if not self._repeatable:
            return ()
        return [found for source in sources for found in self._repeatable.get(source, ())]


def _those(
    by_source: Mapping[SourceKey, Sequence[Achievement]], wanted: Callable[[Achievement], bool]
) -> dict[SourceKey, tuple[Achievement, ...]]:
    """The active ones that are wanted; of a source without any, nothing."""
    found = {
        source: tuple(each for each in those if each.status is Status.ACTIVE and wanted(each))
        for source, those in by_source.items()
    }
    return {source: those for source, those in found.items() if those}


def _is_reached(achievement: Achievement, length: int) -> bool:
    target = achievement.trigger.target
    return length == target or (
        achievement.repeatable and length % target == 0 and length // target <= MAX_COMPLETIONS
    )
