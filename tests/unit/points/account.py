"""One user's points driven by the domain alone; what the service keeps in its database is in lists here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.points import domain
from services.points.domain import (
    AchievementChange,
    Applied,
    Award,
    Catalogue,
    Change,
    Command,
    CountedFact,
    InsufficientPoints,
    PointsSystem,
    RunChange,
    Standing,
    StreakChange,
    TriggerKey,
    Undoing,
    UserState,
)
from shared.entries import Entry, EntryKind, MetricFact, UserSnapshot
from shared.ids import derived_id

START = datetime(2024, 3, 1, 12, tzinfo=UTC)
UNIT = 1_000_000
"""One unit of a metric, in micro-units."""


@dataclass
class Account:
    """A user, the configuration, and every entry that was applied."""

    systems: Sequence[PointsSystem]
    user_id: str = "alice"
    attributes: Mapping[str, str] = field(default_factory=dict)
    state: UserState = field(default_factory=lambda: UserState("alice"))
    ledger: list[Award] = field(default_factory=list)
    live_entries: dict[UUID, tuple[Command, Applied]] = field(default_factory=dict)
    count: int = 0

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue.of(self.systems)

    def earn(self, value: float, *, metric: str = "commits", **attributes: str) -> Applied:
        """Apply a metric event of this value, in units."""
        return self.applied(self.metric_event(round(value * UNIT), metric=metric, **attributes))

    def metric_event(self, value_micros: int, *, metric: str = "commits", **attributes: str) -> Command:
        fact = MetricFact(metric, value_micros, 0, 0, 0, 0, attributes)
        return Command(self.entry(EntryKind.METRIC_EVENT, fact))

    def streak_event(self, *runs: tuple[int, int], kind: EntryKind = EntryKind.USER_UPDATE) -> Command:
        changes = (StreakChange("daily", tuple(RunChange(*run) for run in runs)),)
        return Command(self.entry(kind), streak_changes=changes)

    def achievement_event(
        self, *changes: tuple[str, bool], kind: EntryKind = EntryKind.ACHIEVEMENT_CALL
    ) -> Command:
        """Completions (True) and revocations; a completion is known by its achievement."""
        return Command(
            self.entry(kind),
            achievement_changes=tuple(
                AchievementChange(key, derived_id("completion", key), completed) for key, completed in changes
            ),
        )

    def entry(self, kind: EntryKind, fact: MetricFact | None = None) -> Entry:
        self.count += 1
        now = START + timedelta(minutes=self.count)
        return Entry(
            entry_id=derived_id("entry", str(self.count)),
            kind=kind,
            user=UserSnapshot(self.user_id, "UTC", dict(self.attributes), START, 1, ""),
            now=now,
            occur_time=now,
            time_zone="UTC",
            metric=fact,
            corrected_entry_id=derived_id("origin", str(self.count))
            if kind is EntryKind.CORRECTION
            else None,
        )

    def apply(self, command: Command) -> Applied | InsufficientPoints:
        decided = domain.apply(self.catalogue, self.state, command)
        if isinstance(decided, Applied):
            self._keep(decided)
            self.live_entries[command.entry.entry_id] = (command, decided)
        return decided

    def applied(self, command: Command) -> Applied:
        decided = self.apply(command)
        assert isinstance(decided, Applied)
        return decided

    def refused(self, command: Command) -> InsufficientPoints:
        decided = self.apply(command)
        assert isinstance(decided, InsufficientPoints)
        return decided

    def undo(self, entry_id: UUID) -> Applied:
        command, applied = self.live_entries.pop(entry_id)
        fact = command.entry.metric
        undoing = Undoing(
            entry_id=entry_id,
            occur_time=command.entry.occur_time,
            local_date=command.entry.occur_time.date(),
            fact=CountedFact(fact.value_micros, applied.metric_triggers) if fact else None,
            is_last=applied.position is not None
            and all(other.position is None for _, other in self.live_entries.values()),
        )
        remaining = {key: self.values_of(key) for key in domain.values_needed(self.state, undoing)}
        counted = domain.undone_counts(self.catalogue, self.state, undoing, remaining)
        undone = domain.undo(self.catalogue, self.state, undoing, counted)
        self._keep(undone)
        return undone

    def values_of(self, key: TriggerKey) -> list[int]:
        """The values of the live events that count for a trigger, in the order of application."""
        return [
            command.entry.metric.value_micros
            for command, applied in self.live_entries.values()
            if command.entry.metric and key in applied.metric_triggers
        ]

    def standing(self, points_system: str = "xp") -> Standing:
        return self.state.standings.get(points_system, Standing())

    @property
    def balance(self) -> int:
        return self.standing().balance

    def _keep(self, decided: Applied) -> None:
        self.state = decided.state
        for change in decided.changes:
            self.ledger.extend(change.awards)


def only_change(decided: Applied) -> Change:
    """The one change of a decision."""
    (change,) = decided.changes
    return change


def amounts(decided: Applied) -> list[int]:
    """The amounts of all rows of a decision."""
    return [award.amount for change in decided.changes for award in change.awards]
