"""What events contribute, while a batch is decided."""

from collections.abc import Sequence
from uuid import UUID

from msgspec.structs import replace

from services.streak.domain import Fact
from services.streak.store_zones import Contribution, Counted
from services.streak.wanted import Known
from shared.entries import Entry


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

    def latest(self, fact: Fact) -> tuple[Fact, int | None]:
        """An event of the batch as it is at its end, and as of which version."""
        counted = self._counted.get(fact.entry_id)
        return (counted.fact, counted.version) if counted else (fact, None)
