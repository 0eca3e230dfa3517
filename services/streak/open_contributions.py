"""What events contribute, while a batch is decided."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain import Contributed, Fact
from services.streak.store_zones import Contribution, Counted
from services.streak.wanted import Known
from shared.entries import Entry, EntryKind, MetricFact


class UndoneEvent(Struct, frozen=True):
    """An event whose contribution could change and which is undone, as its correction tells of it."""

    event: Counted
    metric: MetricFact
    around: Sequence[Counted]
    """Events that it is told of, of what they contributed as they came."""
    revised: Mapping[str, Sequence[Fact]]
    """By streak, the events that contribute something else without it."""

    @property
    def streaks(self) -> frozenset[str]:
        """Those to which it can have made a difference."""
        told = (streak for event in (self.event, *self.around) for streak in event.streaks)
        return frozenset((*told, *self.revised))

    def contributed(self, streak: str) -> Contributed:
        """What is told, as a streak looks at it."""
        told = (self.event, *self.around)
        return Contributed(
            self.metric.arrivals_before,
            self.metric.arrivals or self.metric.arrivals_before,
            tuple(event.fact for event in told if streak not in event.streaks),
            {fact.entry_id: fact.contribution_micros for fact in self.revised.get(streak, ())},
        )


class OpenContributions:
    """What each event contributes as of the version that was told last."""

    def __init__(self, known: Known) -> None:
        self._undone = known.contributions.undone
        self._counted = dict(known.contributions.counted)
        self._told = dict(known.contributions.told)
        self.changed_users: set[str] = set()
        """Those of whom something was told that is still to come."""
        self.revised: dict[UUID, tuple[str, int, int]] = {}
        """By entry: its user, what it contributes, and as of which version."""
        self.told: dict[UUID, tuple[str, int, int]] = {}
        """The same of entries that are still to come."""

    def of(self, entry: Entry) -> tuple[int, int | None]:
        """What an event contributes, and as of which version where that may change: what was told last."""
        metric = entry.metric
        assert metric is not None  # of an event of a metric
        if not metric.revisable:
            return metric.contribution_micros, None
        told = self._told.get(entry.entry_id)
        if told is not None and told.version > metric.total_version:
            return told.micros, told.version
        return metric.contribution_micros, metric.total_version

    def came(self, entry_id: UUID, fact: Fact, version: int, streaks: Sequence[str]) -> None:
        """An event came whose contribution may change; others of the batch may be about it."""
        self._counted[entry_id] = Counted(fact, version, streaks)

    def revise(self, entry: Entry) -> dict[str, list[Fact]]:
        """The facts, by streak, that contribute something else since an entry came or went."""
        revised: dict[str, list[Fact]] = {}
        if entry.metric is None or not entry.metric.revisions:
            return revised
        user_id, version = entry.user.user_id, entry.metric.total_version
        for revision in entry.metric.revisions:
            micros, counted = revision.contribution_micros, self._counted.get(revision.entry_id)
            if counted is not None:
                if counted.version >= version:
                    continue
                changed = replace(counted.fact, contribution_micros=micros)
                self._counted[revision.entry_id] = Counted(changed, version, counted.streaks)
                self.revised[revision.entry_id] = user_id, micros, version
                for streak in counted.streaks if changed != counted.fact else ():
                    revised.setdefault(streak, []).append(changed)
            elif revision.entry_id not in self._undone:
                told = self._told.get(revision.entry_id)
                if told is None or told.version < version:
                    self._told[revision.entry_id] = Contribution(micros, version)
                    self.told[revision.entry_id] = user_id, micros, version
                    # Whoever brings that event meanwhile is kept from overlooking this.
                    self.changed_users.add(user_id)
        return revised

    def undone_by(self, entry: Entry, revised: Mapping[str, Sequence[Fact]]) -> UndoneEvent | None:
        """The event that a correction is about, where its contribution could change; `revised`: what `revise` gives."""
        metric, gone = entry.metric, entry.corrected_entry_id
        if entry.kind is not EntryKind.CORRECTION or metric is None or gone is None:
            return None
        event = self._undone.get(gone) if metric.revisable else None
        if event is None:
            return None
        ids = dict.fromkeys(arrival.entry_id for arrival in (*metric.arrivals_before, *metric.arrivals))
        around = [self._counted[entry_id] for entry_id in ids if entry_id in self._counted]
        return UndoneEvent(event, metric, around, revised)

    def latest(self, fact: Fact) -> tuple[Fact, int | None]:
        """An event of the batch as it is at its end, and as of which version."""
        counted = self._counted.get(fact.entry_id)
        return (counted.fact, counted.version) if counted else (fact, None)
