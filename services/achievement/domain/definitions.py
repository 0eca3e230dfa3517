"""What can be earned, and how."""

from collections.abc import Iterable, Sequence
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from msgspec import Struct

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


class ApiTrigger(Struct, frozen=True):
    """Earned by an explicit call only."""

    source: None = None
    target: int = 1
    """One call."""
    event_filters: tuple[()] = ()


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


Trigger = MetricTrigger | StreakTrigger | ApiTrigger | CompositeTrigger
"""How an achievement is earned."""


class Achievement(Struct, frozen=True):
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

    @property
    def event_filters(self) -> tuple[AttributeFilter, ...]:
        """Which events count; where there are any, the achievement keeps a sum of its own."""
        return self.trigger.event_filters


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
        self.by_streak: Final = tuple(
            definition
            for definition in self._by_key.values()
            if isinstance(definition.trigger, StreakTrigger)
        )
        """The achievements that a streak earns."""
        self.judged: Final = tuple(definition for definition in self.by_streak if definition.user_filters)
        """Those of them that only some users earn: which event reaches a length may show when another one comes."""

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

    def hanging_on(self, achievements: Iterable[str]) -> Sequence[Achievement]:
        """The composites that these can complete, by whatever detour; lower levels first."""
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

    def follows(self, streak: str, length: int) -> bool:
        """Whether it matters who first reached this length: it earns an achievement, or else one that the user could
        not earn when it was due.
        """
        return any(
            length == achievement.trigger.target
            or (bool(achievement.user_filters) and length > achievement.trigger.target)
            for achievement in self._by_source.get(SourceKey(SourceKind.STREAK, streak), ())
        )

    def following(self, sources: Iterable[SourceKey]) -> Sequence[Achievement]:
        """The achievements whose trigger these sources can touch, lowest target first for each."""
        return [found for source in sources for found in self._by_source.get(source, ())]
