"""A small ledger that records events as the orchestrator does, and an obvious, slow fold of achievements."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import lru_cache
from itertools import accumulate

from msgspec.structs import replace

from services.achievement.domain import (
    Achievement,
    Catalogue,
    Command,
    CompositeTrigger,
    MetricTrigger,
    Reach,
    place_of,
)
from shared.entries import ContributionRevision, Entry, EntryKind, MetricArrival, MetricFact, UserSnapshot
from shared.filters import AttributeFilter, matches
from tests.unit.achievement.builders import MERGED, NOON, PRO, UNIT, entry_id

OPENS = NOON + timedelta(minutes=8)
CLOSES = NOON + timedelta(minutes=20)


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
    return sorted((event for event in events if event.metric == metric), key=lambda one: one.key)


def contributions(events: Iterable[Event], metric: str) -> dict[Event, int]:
    """The change that each makes to the total, in the order of times (RULES 2.2)."""
    return _contributions(tuple(events), metric)


# Whoever looks again at each arrival, and at each time that something can be earned, asks the same over and over.
@lru_cache(maxsize=1_024)
def _contributions(events: tuple[Event, ...], metric: str) -> dict[Event, int]:
    found: dict[Event, int] = {}
    total = 0
    seen: set[int] = set()
    for event in in_times(events, metric):
        match Aggregation[metric.upper()]:
            case Aggregation.SUM:
                after = total + event.value
            case Aggregation.MAX:
                after = max(total, event.value) if found else event.value
            case Aggregation.LAST:
                after = event.value
            case Aggregation.UNIQUE:
                after = total + (event.value not in seen)
        seen.add(event.value)
        found[event] = (after - total) * UNIT
        total = after
    return found


def arrivals(came: Sequence[Event], undone: Event) -> tuple[MetricArrival, ...]:
    """What each contributed when it came, and what others did from then on, without one that is undone; nothing where
    that one and all since came in the order of times.
    """
    since = came.index(undone)
    late = [
        place
        for place in range(since, len(came))
        if came[place].key < max(one.key for one in came[: place + 1])
    ]
    found, left, before = [], list[Event](), dict[Event, int]()
    for event in came[: max(late, default=-1) + 1]:
        if event == undone:
            continue
        left.append(event)
        now = contributions(left, undone.metric)
        revised = tuple(
            ContributionRevision(entry_id(other.name), now[other])
            for other, micros in before.items()
            if now[other] != micros
        )
        found.append(MetricArrival(entry_id(event.name), now[event], revised))
        before = now
    return tuple(found)


@dataclass
class Ledger:
    """What the orchestrator tells of events and of their undoing."""

    live: list[Event] = field(default_factory=list)
    told: dict[Event, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def record(self, event: Event) -> Command:
        self.live.append(event)
        return Command(self._entry(event, EntryKind.METRIC_EVENT))

    def take_out(self, event: Event) -> Command:
        came = arrivals([one for one in self.live if one.metric == event.metric], event)
        self.live.remove(event)
        self.told.pop(event)
        return Command(self._entry(event, EntryKind.CORRECTION, came))

    def _entry(self, event: Event, kind: EntryKind, came: tuple[MetricArrival, ...] = ()) -> Entry:
        is_event = kind is EntryKind.METRIC_EVENT
        now = contributions(self.live, event.metric)
        revisions = tuple(
            ContributionRevision(entry_id(other.name), micros)
            for other, micros in now.items()
            if other != event and self.told[other] != micros
        )
        self.told |= now
        version = self.versions[event.metric] = self.versions.get(event.metric, 0) + 1
        revisable = event.metric != "sum"
        total = sum(now.values())
        peak = max(accumulate(now.values()), default=0)
        metric = MetricFact(
            event.metric,
            event.value * UNIT if is_event else 0,
            0,
            total,
            peak,
            version,
            event.attributes,
            revisable,
            now.get(event, 0) if revisable else 0,
            revisions if revisable else (),
            came if revisable else (),
            one_value=not is_event and event.metric in ("max", "last"),
        )
        told = entry_id(event.name) if is_event else entry_id(("correction", event.name))
        corrected = None if is_event else entry_id(event.name)
        return Entry(told, kind, event.user, NOON, event.time, "UTC", metric, corrected)


def earned(achievement: Achievement, arrived: Sequence[Event]) -> Reach | None:
    """With which event it is completed, where these arrive in this order: look again at each arrival."""
    trigger = achievement.trigger
    assert isinstance(trigger, MetricTrigger)
    for count in range(1, len(arrived) + 1):
        total = highest = 0
        for event, micros in contributions(arrived[:count], trigger.metric).items():
            if not matches(trigger.event_filters, event.attributes):
                continue
            total += micros
            highest = max(highest, total)
            could = matches(achievement.user_filters, event.user.attributes) and is_open(achievement, event)
            if highest >= trigger.target and could:
                return event.reach
    return None


def is_open(achievement: Achievement, event: Event) -> bool:
    since, until = achievement.earn_from or event.time, achievement.earn_until
    return since <= event.time and (until is None or event.time < until)


def earned_places(catalogue: Catalogue, arrived: Sequence[Event]) -> dict[str, Reach]:
    """With which event each achievement is completed, of a repeatable one each time."""
    found: dict[str, Reach | None] = {}
    for achievement in catalogue.all():
        if achievement.repeatable:
            most = sum(abs(event.value) for event in arrived) + 1
            for number in range(1, most + 1):
                found[place_of(achievement.key, number)] = earned(achievement.numbered(number), arrived)
        else:
            found[achievement.key] = earned_in(catalogue, achievement.key, arrived)
    return {place: reach for place, reach in found.items() if reach is not None}


def earned_composite(composite: Achievement, catalogue: Catalogue, arrived: Sequence[Event]) -> Reach | None:
    """The same of a composite: look at what it hangs on after each arrival."""
    trigger = composite.trigger
    assert isinstance(trigger, CompositeTrigger)
    for count in range(1, len(arrived) + 1):
        found = (earned_in(catalogue, key, arrived[:count]) for key in trigger.achievements)
        held = sorted((reach for reach in found if reach is not None), key=lambda one: one.key)
        for reach in held[trigger.enough - 1 :]:
            [owner] = [event for event in arrived if event.reach == reach]
            if matches(composite.user_filters, owner.user.attributes) and is_open(composite, owner):
                return reach
    return None


def earned_in(catalogue: Catalogue, key: str, arrived: Sequence[Event]) -> Reach | None:
    """With which event the achievement of this key is completed."""
    achievement = catalogue.get(key)
    assert achievement is not None
    if isinstance(achievement.trigger, CompositeTrigger):
        return earned_composite(achievement, catalogue, arrived)
    return earned(achievement, arrived)


def ladder(metric: str, *thresholds: int) -> list[Achievement]:
    """Achievements of a metric, with and without filters of either kind."""

    def of(
        name: str, events: tuple[AttributeFilter, ...], users: tuple[AttributeFilter, ...]
    ) -> list[Achievement]:
        return [
            Achievement(
                f"{metric}-{name}-{threshold}", "A", MetricTrigger(metric, threshold * UNIT, events), users
            )
            for threshold in thresholds
        ]

    return [
        *of("all", (), ()),
        *of("merged", (MERGED,), ()),
        *of("pro", (), (PRO,)),
        *of("merged-pro", (MERGED,), (PRO,)),
        *(replace(each, earn_from=OPENS, earn_until=CLOSES) for each in of("window", (), ())),
        *(replace(each, earn_from=OPENS) for each in of("window-pro", (MERGED,), (PRO,))),
        *(replace(each, repeatable=True) for each in of("repeated", (), ())),
        *(
            replace(each, repeatable=True, earn_until=CLOSES)
            for each in of("repeated-pro", (MERGED,), (PRO,))
        ),
    ]


def catalogue(*metrics: str) -> Catalogue:
    return Catalogue([achievement for metric in metrics for achievement in ladder(metric, 1, 3, 8, 20)])
