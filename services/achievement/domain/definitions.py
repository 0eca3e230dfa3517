"""What can be earned, and how."""

from collections.abc import Iterable, Sequence
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from msgspec import Struct

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


class Achievement(Struct, frozen=True):
    """A definition."""

    key: str
    name: str
    trigger: MetricTrigger | StreakTrigger | ApiTrigger
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
