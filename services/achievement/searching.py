"""What users' pasts earn: as much of what is stored as that takes, and what other services have to be asked."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct, field

from services.achievement.domain import (
    Achievement,
    AnniversaryTrigger,
    Attributes,
    Backfilled,
    Catalogue,
    CompositeTrigger,
    Evidence,
    Fact,
    MetricTrigger,
    Past,
    Span,
    Start,
    StreakTrigger,
    UserState,
    Wanted,
    WantedAttributes,
    WantedFacts,
    WantedReaches,
    WantedUser,
    backfill,
    first_span,
)
from services.achievement.past import PastStore
from services.achievement.store import Asked, Store
from services.achievement.store_backfill import BackfillStore
from services.achievement.witness import Reaches, Witness
from shared.entries import UserSnapshot
from shared.postgres.pool import Connection, Pool

_USERS_AT_ONCE: Final = 25
"""Users that are decided about before others get a turn."""


class Elsewhere(Exception):
    """Other services have to be asked before the batch can be decided."""

    def __init__(
        self, entry_ids: frozenset[UUID], user_ids: frozenset[str], unknown_users: frozenset[str]
    ) -> None:
        super().__init__(len(entry_ids), len(user_ids), len(unknown_users))
        self.entry_ids = entry_ids
        self.user_ids = user_ids
        self.unknown_users = unknown_users


class Gathered(Struct):
    """What other services have said so far."""

    attributes: dict[UUID, Attributes] = field(default_factory=dict)
    reaches: dict[str, Reaches] = field(default_factory=dict)
    users: dict[str, UserSnapshot | None] = field(default_factory=dict)

    def of(self, user_id: str) -> Evidence:
        """About one user."""
        version, reaches = self.reaches.get(user_id, (0, ()))
        return Evidence(self.attributes, reaches, version, self.users)

    def ask_again(self, user_ids: frozenset[str]) -> None:
        """Whom the streak service does not know has no streak, and need not be asked about again."""
        for user_id in user_ids:
            self.reaches.setdefault(user_id, (2**62, ()))


class Searcher:
    """Looks for what users' pasts earn. Stores nothing."""

    def __init__(self, pool: Pool, witness: Witness) -> None:
        self._store = Store(pool)
        self._backfills = BackfillStore(pool)
        self._witness = witness

    async def search(
        self,
        source: Pool | Connection,
        connection: Connection | None,
        catalogue: Catalogue,
        achievement: Achievement,
        candidates: Sequence[str],
        gathered: Gathered,
        backfill_id: UUID,
        active_since: datetime,
        now: datetime,
    ) -> tuple[Mapping[str, UserState], dict[str, Backfilled]]:
        """By candidate the state before, and what is found. Raises `Elsewhere`."""
        loaded = await self._load(catalogue, achievement, candidates, connection)
        spans: Mapping[str, Span] = {}
        if isinstance(achievement.trigger, MetricTrigger):
            spans = await self._backfills.spans(source, achievement.trigger.metric, candidates)
        past = PastStore(source)
        found: dict[str, Backfilled] = {}
        entry_ids: set[UUID] = set()
        user_ids: set[str] = set()
        unknown_users: set[str] = set()
        for number, user_id in enumerate(candidates):
            if number % _USERS_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                found[user_id] = await _of_user(
                    catalogue,
                    achievement,
                    loaded[user_id],
                    past,
                    spans.get(user_id),
                    gathered.of(user_id),
                    backfill_id,
                    active_since,
                    now,
                )
            except WantedAttributes as wanted:
                entry_ids |= wanted.entry_ids
            except WantedReaches:
                user_ids.add(user_id)
            except WantedUser:
                unknown_users.add(user_id)
        if entry_ids or user_ids or unknown_users:
            raise Elsewhere(frozenset(entry_ids), frozenset(user_ids), frozenset(unknown_users))
        return loaded, found

    async def ask(self, achievement: Achievement, wanted: Elsewhere, gathered: Gathered) -> None:
        """Has other services say what is wanted. Raises `LaurelError`."""
        gathered.attributes |= await self._witness.attributes(wanted.entry_ids)
        if wanted.user_ids:
            gathered.reaches |= await self._witness.reaches(achievement, sorted(wanted.user_ids))
            gathered.ask_again(wanted.user_ids)
        if wanted.unknown_users:
            gathered.users |= await self._witness.users(sorted(wanted.unknown_users))

    async def _load(
        self,
        catalogue: Catalogue,
        achievement: Achievement,
        user_ids: Sequence[str],
        connection: Connection | None,
    ) -> Mapping[str, UserState]:
        source = achievement.trigger.source
        keys = catalogue.with_composites({achievement.key})
        if isinstance(achievement.trigger, AnniversaryTrigger):
            # When something is due next is asked of all of them.
            keys = catalogue.with_composites(each.key for each in catalogue.anniversaries)
        if isinstance(achievement.trigger, CompositeTrigger):
            keys.update(achievement.trigger.achievements)
        asked = Asked(
            sources=frozenset({source.key} if source is not None else ()),
            achievements=frozenset(keys),
            streaks=frozenset(
                {achievement.trigger.streak} if isinstance(achievement.trigger, StreakTrigger) else ()
            ),
            whose=frozenset(keys),
        )
        return (await self._store.load(user_ids, asked, connection)).states


async def _of_user(
    catalogue: Catalogue,
    achievement: Achievement,
    state: UserState,
    past: PastStore,
    span: Span | None,
    evidence: Evidence,
    backfill_id: UUID,
    active_since: datetime,
    now: datetime,
) -> Backfilled:
    """With as much of what is stored as it takes."""
    spans: dict[Start, Span] = {}
    facts: dict[UUID, Fact | None] = {}
    if span is not None and isinstance(achievement.trigger, MetricTrigger):
        spans[first_span(achievement.trigger.metric)] = span
    while True:
        try:
            known = Past(facts, {}, spans)
            return backfill(catalogue, achievement, state, known, evidence, backfill_id, active_since, now)
        except Wanted as wanted:
            spans[wanted.start] = await past.span(state.user_id, wanted.start, spans)
        except WantedFacts as wanted:
            facts |= dict.fromkeys(wanted.entry_ids) | await past.facts(wanted.entry_ids)
