"""Entries and definitions with everything that a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from msgspec.structs import replace

from services.achievement.domain import (
    Achievement,
    ApiTrigger,
    Catalogue,
    Change,
    ChangeKind,
    Command,
    CompositeTrigger,
    Decision,
    Fact,
    MetricTrigger,
    Past,
    Reach,
    Revision,
    Span,
    Start,
    StreakChange,
    StreakTrigger,
    UserState,
    Wanted,
    WantedFacts,
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


@lru_cache(maxsize=10_000, typed=True)
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


def composite(key: str, *achievements: str, enough: int | None = None) -> Achievement:
    return Achievement(key, key.title(), CompositeTrigger(achievements, enough or len(achievements)))


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
    minutes: int | None = None,
) -> Command:
    """The metric event that gave the total this version."""
    metric = fact(version, value, total=total, peak=peak, attributes=attributes)
    return Command(entry(version, metric=metric, user=user, minutes=version if minutes is None else minutes))


def correction(
    version: int,
    of: Command | None = None,
    *,
    total: int,
    peak: int | None = None,
    user: Mapping[str, str] | None = None,
) -> Command:
    """What follows from undoing an event: a new total and no value."""
    metric = fact(version, 0, total=total, peak=peak)
    told = entry(("correction", version), EntryKind.CORRECTION, metric=metric, user=user, minutes=version)
    return Command(replace(told, corrected_entry_id=of.entry.entry_id) if of else told)


def reach(name: object, *, days: int = 0) -> Reach:
    """That an entry reached something at noon of a day."""
    moment = NOON + timedelta(days=days)
    return Reach(entry_id(name), moment, moment.date())


def streak_event(
    version: int,
    *,
    length: int,
    longest: int,
    reached: Mapping[int, Reach | None] | None = None,
    days: int | None = None,
    user: Mapping[str, str] | None = None,
) -> Command:
    """An event, named ("streak", version), that changed the streak; it first reached its longest, where nothing else is
    said.
    """
    metric = MetricFact("steps", UNIT, 0, UNIT, UNIT, version, {})
    name = ("streak", version)
    told = entry(name, metric=metric, user=user, minutes=(days if days is not None else version) * 1440)
    if reached is None:
        reached = {longest: Reach(told.entry_id, told.occur_time, told.occur_time.date())}
    return Command(told, (streak_change(version, length, longest, reached),))


def streak_change(
    version: int, length: int, longest: int, reached: Mapping[int, Reach | None] | None = None
) -> StreakChange:
    return StreakChange("daily", version, length, longest, tuple((reached or {}).items()))


def streak_correction(
    version: int,
    of: Command | None = None,
    *,
    length: int,
    longest: int,
    reached: Mapping[int, Reach | None] | None = None,
) -> Command:
    told = entry(("streak correction", version), EntryKind.CORRECTION)
    told = replace(told, corrected_entry_id=of.entry.entry_id) if of else told
    return Command(told, (streak_change(version, length, longest, reached),))


def streak_closing(version: int, *, length: int, longest: int) -> Command:
    changes = (streak_change(version, length, longest),)
    return Command(entry(("streak closing", version), EntryKind.STREAK_CLOSING), changes)


def call(
    name: str, key: str = "founder", *, user: Mapping[str, str] | None = None, minutes: int = 0
) -> Command:
    return Command(entry(name, EntryKind.ACHIEVEMENT_CALL, user=user, minutes=minutes), achievement=key)


@dataclass
class Player:
    """One user, to whom things happen one after another."""

    catalogue: Catalogue
    state: UserState = field(default_factory=lambda: UserState("alice"))
    facts: dict[UUID, Fact] = field(default_factory=dict)
    """The log: of every entry that came, also of the undone ones."""
    revisions: dict[UUID, Revision] = field(default_factory=dict)
    chunk: int = 2
    """How many facts of a span are read at a time: few, so that there is more to ask for."""
    asked: list[Start] = field(default_factory=list)
    """The spans that were read."""

    def apply(self, *commands: Command) -> Decision:
        for command in commands:
            decision = self._decide(command)
            self.state = decision.state
            for fact in (decision.fact, *decision.revised):
                self.facts[fact.entry_id] = fact
            self.revisions |= {revision.entry_id: revision for revision in decision.kept}
        return decision

    def revert(self, command: Command) -> tuple[Change, ...]:
        undone = self.facts[command.entry.entry_id]
        self.facts[undone.entry_id] = replace(undone, live=False, undone_count=self.state.entry_count)
        calls: dict[str, Fact] = {}
        known: dict[UUID, Fact | None] = dict(self.facts)
        for counted in self.live:
            if not counted.metric:
                for key in counted.grounds:
                    given = [live.cause.position for live in self.state.completions.values()]
                    if counted.position > max(given, default=0):
                        calls.setdefault(key, counted)
        self.state, changes = revert(self.catalogue, self.state, undone, calls, Past(known))
        return changes

    def void(self, command: Command, correction: Command) -> Decision:
        self.revert(command)
        return self.apply(correction)

    @property
    def live(self) -> list[Fact]:
        """What was not undone, in the order of arrival."""
        return sorted(
            (counted for counted in self.facts.values() if counted.live), key=lambda one: one.position
        )

    def _decide(self, command: Command) -> Decision:
        spans: dict[Start, Span] = {}
        known: dict[UUID, Fact | None] = dict(self.facts)
        while True:
            try:
                return decide(self.catalogue, self.state, command, Past(known, self.revisions, spans))
            except WantedFacts as wanted:
                known |= dict.fromkeys(wanted.entry_ids)
            except Wanted as wanted:
                span = spans.get(wanted.start)
                assert span is None or not span.complete
                spans[wanted.start] = self._span(wanted.start, len(span.facts) if span else 0)
                self.asked.append(wanted.start)

    def _span(self, start: Start, known: int) -> Span:
        """What a database would answer."""
        facts = sorted(
            (counted for counted in self.live if counted.metric == start.metric), key=lambda one: one.key
        )
        if start.key is not None:
            late = [counted.key for counted in facts if counted.late and counted.position >= start.position]
            first = min([start.key, *late])
            facts = [counted for counted in facts if counted.key >= first]
        if start.changing:
            facts = [counted for counted in facts if counted.value_micros]
        read, left = facts[: known + self.chunk], facts[known + self.chunk :]
        rest = {"": sum(counted.value_micros for counted in left)}
        for counted in left:
            for key in counted.counted:
                rest[key] = rest.get(key, 0) + counted.value_micros
        return Span(tuple(read), not left, rest)

    @property
    def held(self) -> set[str]:
        return set(self.state.completions)


def player(*achievements: Achievement) -> Player:
    return Player(Catalogue(achievements))


def for_pros(definition: Achievement) -> Achievement:
    return replace(definition, user_filters=(PRO,))


def completed(decision: Decision) -> list[str]:
    return [
        change.completion.achievement for change in decision.changes if change.kind is ChangeKind.COMPLETED
    ]


def revoked(changes: Sequence[Change]) -> list[str]:
    return [change.completion.achievement for change in changes if change.kind is ChangeKind.REVOKED]
