"""A small ledger that records events as the orchestrator does, and an obvious, slow fold of achievements."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto

from services.achievement.domain import Achievement, Catalogue, Command, MetricTrigger, Reach
from shared.entries import ContributionRevision, Entry, EntryKind, MetricFact, UserSnapshot
from shared.filters import AttributeFilter, matches
from tests.unit.achievement.builders import MERGED, NOON, PRO, UNIT, entry_id


class Aggregation(Enum):
    SUM = auto()
    MAX = auto()
    LAST = auto()
    UNIQUE = auto()


@dataclass(frozen=True)
class Event:
    """Something that the user did. Two events are never the same."""

    name: int
    value: int
    minutes: int = 0
    metric: str = "sum"
    merged: bool = False
    pro: bool = False

    @property
    def time(self) -> datetime:
        return NOON + timedelta(minutes=self.minutes)

    @property
    def key(self) -> tuple[datetime, object]:
        return self.time, entry_id(self.name)

    @property
    def reach(self) -> Reach:
        return Reach(entry_id(self.name), self.time, self.time.date())

    @property
    def attributes(self) -> Mapping[str, str]:
        return {"state": "merged"} if self.merged else {}

    @property
    def user(self) -> UserSnapshot:
        return UserSnapshot("alice", "UTC", {"plan": "pro"} if self.pro else {}, NOON, 1, "Alice")


def in_times(events: Iterable[Event], metric: str) -> list[Event]:
    return sorted((one for one in events if one.metric == metric), key=lambda one: one.key)


def contributions(events: Iterable[Event], metric: str) -> dict[Event, int]:
    """The change that each makes to the total, in the order of times (RULES 2.2)."""
    found: dict[Event, int] = {}
    total = 0
    seen: set[int] = set()
    for one in in_times(events, metric):
        match Aggregation[metric.upper()]:
            case Aggregation.SUM:
                after = total + one.value
            case Aggregation.MAX:
                after = max(total, one.value) if found else one.value
            case Aggregation.LAST:
                after = one.value
            case Aggregation.UNIQUE:
                after = total + (one.value not in seen)
        seen.add(one.value)
        found[one] = (after - total) * UNIT
        total = after
    return found


@dataclass
class Ledger:
    """What the orchestrator tells of events and of their undoing."""

    live: list[Event] = field(default_factory=list)
    told: dict[Event, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def record(self, one: Event) -> Command:
        self.live.append(one)
        return Command(self._entry(one, EntryKind.METRIC_EVENT))

    def take_out(self, one: Event) -> Command:
        self.live.remove(one)
        self.told.pop(one)
        return Command(self._entry(one, EntryKind.CORRECTION))

    def _entry(self, one: Event, kind: EntryKind) -> Entry:
        is_event = kind is EntryKind.METRIC_EVENT
        now = contributions(self.live, one.metric)
        revisions = tuple(
            ContributionRevision(entry_id(other.name), micros)
            for other, micros in now.items()
            if other != one and self.told[other] != micros
        )
        self.told |= now
        version = self.versions[one.metric] = self.versions.get(one.metric, 0) + 1
        revisable = one.metric != "sum"
        total = sum(now.values())
        metric = MetricFact(
            one.metric,
            one.value * UNIT if is_event else 0,
            0,
            total,
            total,
            version,
            one.attributes,
            revisable,
            now.get(one, 0) if revisable else 0,
            revisions if revisable else (),
        )
        told = entry_id(one.name) if is_event else entry_id(("correction", one.name))
        corrected = None if is_event else entry_id(one.name)
        return Entry(told, kind, one.user, NOON, one.time, "UTC", metric, corrected)


def earned(achievement: Achievement, arrived: Sequence[Event]) -> Reach | None:
    """With which event it is completed, where these arrive in this order: look again at each arrival."""
    trigger = achievement.trigger
    assert isinstance(trigger, MetricTrigger)
    for count in range(1, len(arrived) + 1):
        total = highest = 0
        for one, micros in contributions(arrived[:count], trigger.metric).items():
            if not matches(trigger.event_filters, one.attributes):
                continue
            total += micros
            highest = max(highest, total)
            if highest >= trigger.target and matches(achievement.user_filters, one.user.attributes):
                return one.reach
    return None


def ladder(metric: str, *thresholds: int) -> list[Achievement]:
    """Achievements of a metric, with and without filters of either kind."""

    def of(
        name: str, events: tuple[AttributeFilter, ...], users: tuple[AttributeFilter, ...]
    ) -> list[Achievement]:
        return [
            Achievement(f"{metric}-{name}-{one}", "A", MetricTrigger(metric, one * UNIT, events), users)
            for one in thresholds
        ]

    return [
        *of("all", (), ()),
        *of("merged", (MERGED,), ()),
        *of("pro", (), (PRO,)),
        *of("merged-pro", (MERGED,), (PRO,)),
    ]


def catalogue(*metrics: str) -> Catalogue:
    return Catalogue([one for metric in metrics for one in ladder(metric, 1, 3, 8, 20)])
