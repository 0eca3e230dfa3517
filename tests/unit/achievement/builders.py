"""Entries and definitions with everything that a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec.structs import replace

from services.achievement.domain import (
    Achievement,
    ApiTrigger,
    Catalogue,
    Change,
    ChangeKind,
    Command,
    Decision,
    Fact,
    MetricTrigger,
    Remaining,
    Standing,
    StreakChange,
    StreakTrigger,
    decide,
    revert,
)
from shared.entries import Entry, EntryKind, MetricFact, UserSnapshot
from shared.filters import AttributeFilter, Equals
from shared.ids import derived_id

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
UNIT = 1_000_000
MERGED = AttributeFilter("state", Equals("merged"))
PRO = AttributeFilter("plan", Equals("pro"))


def entry_id(name: object) -> UUID:
    return derived_id("test", str(name))


def achievement(
    key: str = "centurion", threshold: int = 100, *, event_filters: Sequence[AttributeFilter] = ()
) -> Achievement:
    return Achievement(key, key.title(), MetricTrigger("commits", threshold * UNIT, tuple(event_filters)))


def streak_achievement(key: str = "fortnight", length: int = 14) -> Achievement:
    return Achievement(key, key.title(), StreakTrigger("daily", length))


def api_achievement(key: str = "founder") -> Achievement:
    return Achievement(key, key.title(), ApiTrigger())


def entry(
    name: object,
    kind: EntryKind = EntryKind.METRIC_EVENT,
    *,
    metric: MetricFact | None = None,
    user: Mapping[str, str] | None = None,
    minutes: int = 0,
) -> Entry:
    moment = NOON + timedelta(minutes=minutes)
    snapshot = UserSnapshot("alice", "UTC", user or {}, NOON, 1, "Alice")
    corrected = entry_id("origin") if kind is EntryKind.CORRECTION else None
    return Entry(entry_id(name), kind, snapshot, moment, moment, "UTC", metric, corrected)


def fact(
    version: int,
    value: int,
    *,
    total: int,
    peak: int | None = None,
    attributes: Mapping[str, str] | None = None,
) -> MetricFact:
    return MetricFact(
        "commits",
        value * UNIT,
        (total - value) * UNIT,
        total * UNIT,
        (total if peak is None else peak) * UNIT,
        version,
        attributes or {},
    )


def event(
    version: int,
    value: int,
    *,
    total: int,
    peak: int | None = None,
    attributes: Mapping[str, str] | None = None,
    user: Mapping[str, str] | None = None,
) -> Command:
    """The metric event that gave the total this version."""
    metric = fact(version, value, total=total, peak=peak, attributes=attributes)
    return Command(entry(version, metric=metric, user=user, minutes=version))


def correction(
    version: int, *, total: int, peak: int | None = None, user: Mapping[str, str] | None = None
) -> Command:
    """What follows from undoing an event: a new total and no value."""
    metric = fact(version, 0, total=total, peak=peak)
    return Command(
        entry(("correction", version), EntryKind.CORRECTION, metric=metric, user=user, minutes=version)
    )


def streak_event(version: int, *, length: int, longest: int) -> Command:
    metric = MetricFact("steps", UNIT, 0, UNIT, UNIT, version, {})
    changes = (StreakChange("daily", version, length, longest),)
    return Command(entry(("streak", version), metric=metric), changes)


def streak_correction(version: int, *, length: int, longest: int) -> Command:
    changes = (StreakChange("daily", version, length, longest),)
    return Command(entry(("streak correction", version), EntryKind.CORRECTION), changes)


def streak_closing(version: int, *, length: int, longest: int) -> Command:
    changes = (StreakChange("daily", version, length, longest),)
    return Command(entry(("streak closing", version), EntryKind.STREAK_CLOSING), changes)


def call(name: str, key: str = "founder", *, user: Mapping[str, str] | None = None) -> Command:
    return Command(entry(name, EntryKind.ACHIEVEMENT_CALL, user=user), achievement=key)


@dataclass
class Player:
    """One user, to whom things happen one after another."""

    catalogue: Catalogue
    standing: Standing = field(default_factory=lambda: Standing("alice"))
    facts: dict[UUID, Fact] = field(default_factory=dict)

    def apply(self, *commands: Command) -> Decision:
        for command in commands:
            decision = decide(self.catalogue, self.standing, command)
            self.standing = decision.standing
            self.facts[decision.fact.entry_id] = decision.fact
        return decision

    def revert(self, command: Command) -> tuple[Change, ...]:
        undone = self.facts.pop(command.entry.entry_id)
        others = sorted(self.facts.values(), key=lambda one: one.position)
        remaining = Remaining(
            {key: [one.value_micros for one in others if key in one.counted] for key in undone.counted},
            frozenset(key for one in others for key in one.grounds),
        )
        self.standing, changes = revert(self.catalogue, self.standing, undone, remaining)
        return changes

    @property
    def held(self) -> set[str]:
        return set(self.standing.completions)


def player(*achievements: Achievement) -> Player:
    return Player(Catalogue(achievements))


def for_pros(one: Achievement) -> Achievement:
    return replace(one, user_filters=(PRO,))


def completed(decision: Decision) -> list[str]:
    return [one.completion.achievement for one in decision.changes if one.kind is ChangeKind.COMPLETED]


def revoked(changes: Sequence[Change]) -> list[str]:
    return [one.completion.achievement for one in changes if one.kind is ChangeKind.REVOKED]
