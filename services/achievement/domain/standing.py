"""Where a user stands, what an entry brings, and what comes of it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum, IntEnum
from uuid import UUID

from msgspec import Struct, field

from services.achievement.domain.definitions import Achievement, ApiTrigger, SourceKey, SourceKind
from shared.entries import Entry


class Source(Struct, frozen=True):
    """How far a metric or streak has come: its total or length, and the highest that live history reached."""

    version: int
    current: int
    highest: int


class Accumulator(Struct, frozen=True):
    """The sum of the events that an achievement counts, and the highest that it ever was (RULES 4.1)."""

    sum_micros: int = 0
    peak_micros: int = 0
    negative_count: int = 0
    """How many of the live events are negative; without any, the peak is the sum."""

    def add(self, value_micros: int) -> "Accumulator":
        """With one more event."""
        total = self.sum_micros + value_micros
        return Accumulator(total, max(self.peak_micros, total), self.negative_count + (value_micros < 0))


class Completion(Struct, frozen=True):
    """A live completion: a fact with the entry that caused it."""

    completion_id: UUID
    achievement: str
    entry_id: UUID
    complete_time: datetime
    target: int
    """What had to be reached when it was earned."""


class Standing(Struct, frozen=True):
    """One user's state, or the part of it that a batch of entries can touch."""

    user_id: str
    version: int = 0
    """Of the stored state; 0 for a user who has none."""
    entry_count: int = 0
    """How many entries were ever applied; gives each its place in the order of application."""
    sources: Mapping[SourceKey, Source] = field(default_factory=dict)
    accumulators: Mapping[str, Accumulator] = field(default_factory=dict)
    completions: Mapping[str, Completion] = field(default_factory=dict)

    def highest(self, achievement: Achievement) -> int:
        """The highest that the user ever came towards it, as history now stands."""
        if achievement.event_filters:
            return self.accumulators.get(achievement.key, Accumulator()).peak_micros
        if achievement.trigger.source is None:
            return int(achievement.key in self.completions)
        source = self.sources.get(achievement.trigger.source)
        return source.highest if source else 0

    def still_holds(self, achievement: Achievement, live: Completion) -> bool:
        """Whether the condition of a completion holds: by the target of its day, or by today's where that
        became easier, so that a changed definition takes nothing away.
        """
        if isinstance(achievement.trigger, ApiTrigger):
            return True
        return self.highest(achievement) >= min(live.target, achievement.trigger.target)


class StreakChange(Struct, frozen=True):
    """A change of one streak of the user, in periods."""

    streak: str
    version: int
    length: int
    longest: int


class Command(Struct, frozen=True):
    """One entry to apply, with what it changed about streaks; for a call, the achievement to complete."""

    entry: Entry
    streak_changes: tuple[StreakChange, ...] = ()
    achievement: str = ""


class ChangeKind(IntEnum):
    """What happened to a completion."""

    COMPLETED = 1
    REVOKED = 2


class Change(Struct, frozen=True):
    """A completion that came, or one that went."""

    kind: ChangeKind
    completion: Completion


class Fact(Struct, frozen=True):
    """What is remembered of an applied entry, so that it can be undone (RULES 7.2)."""

    entry_id: UUID
    position: int
    """Its place in the order of application, among the user's entries."""
    value_micros: int = 0
    counted: tuple[str, ...] = ()
    """The achievements to whose accumulators the value was added."""
    grounds: tuple[str, ...] = ()
    """The achievements, earned by call or only by some users, that it would have completed by itself."""


class Refusal(Enum):
    """Why a call to complete an achievement is refused."""

    NOT_FOUND = "ACHIEVEMENT_NOT_FOUND"
    NOT_ACTIVE = "ACHIEVEMENT_NOT_ACTIVE"
    TRIGGER_NOT_API = "TRIGGER_NOT_API"
    USER_NOT_ELIGIBLE = "USER_NOT_ELIGIBLE"


class Decision(Struct, frozen=True):
    """What an entry comes to: the standing after it, the fact to remember, and the changes or the refusal."""

    standing: Standing
    fact: Fact
    changes: tuple[Change, ...] = ()
    refusal: Refusal | None = None


def sources_of(command: Command) -> dict[SourceKey, Source]:
    """What the entry tells about its metric and its streaks."""
    told = {
        SourceKey(SourceKind.STREAK, change.streak): Source(change.version, change.length, change.longest)
        for change in command.streak_changes
    }
    if metric := command.entry.metric:
        key = SourceKey(SourceKind.METRIC, metric.metric)
        told[key] = Source(metric.total_version, metric.total_after_micros, metric.peak_micros)
    return told


def changed(held: Mapping[str, Completion], changes: Iterable[Change]) -> Mapping[str, Completion]:
    """The live completions after these changes."""
    live = dict(held)
    for change in changes:
        if change.kind is ChangeKind.COMPLETED:
            live[change.completion.achievement] = change.completion
        else:
            live.pop(change.completion.achievement, None)
    return live
