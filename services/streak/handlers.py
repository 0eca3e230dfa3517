"""What the service does for each call: load, decide, store."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import asyncpg

from services.streak import convert
from services.streak.batch import Batch, HistoryMissing
from services.streak.convert import Effect
from services.streak.domain import Catalogue, Since, fact
from services.streak.store import Key, Loaded, LogEntry, Store
from services.streak.store_history import HistoryStore
from shared import faults
from shared.entries import Entry, EntryKind
from shared.participant import ReversalWork, Work, apply_batch, revert_batch
from shared.postgres import definitions as stored
from shared.postgres.errors import is_conflict
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import Known
from shared.rpc.participants import applied_outcome, nothing_reverted, refused_outcome, reverted_outcome

T = TypeVar("T")

BEFORE_STORE: Final = faults.declare(
    "streak.apply.before_store", "a batch is decided, nothing of it is stored"
)
AFTER_STORE: Final = faults.declare(
    "streak.apply.after_store", "a batch is stored, the caller has no answer yet"
)
BEFORE_COMMIT: Final = faults.declare("streak.revert.before_commit", "an entry is undone, not yet committed")
AFTER_COMMIT: Final = faults.declare(
    "streak.revert.after_commit", "entries are undone, the caller has no answer yet"
)

_REFUSE: Final = partial(refused_outcome, domain=convert.DOMAIN)

StoredCatalogue = stored.Catalogue[Catalogue]


class Handlers:
    """The use cases of the saga."""

    def __init__(self, pool: Pool, store: Store, catalogue: StoredCatalogue) -> None:
        self._pool = pool
        self._store = store
        self._histories = HistoryStore(pool)
        self._catalogue = catalogue
        self._turn = asyncio.Lock()
        """One batch at a time waits for locks, so that they never take up the pool."""

    async def apply_entries(self, work: Sequence[Work[Entry]]) -> list[bytes]:
        """One serialized outcome for each entry, in order. Raises as `apply_batch` does."""
        return await apply_batch(self._pool, work, self._run, _REFUSE)

    async def revert_entries(self, reversals: Sequence[ReversalWork]) -> list[bytes]:
        """One serialized outcome for each reversal, in order."""
        outcomes = await revert_batch(self._pool, reversals, self._undo, nothing_reverted)
        await AFTER_COMMIT.reach()
        return outcomes

    async def _run(self, fresh: Sequence[Work[Entry]]) -> list[bytes]:
        """Load, decide and store entries that were never seen: two round trips, unless one is late.

        Nothing is locked at first. Where somebody else was faster, the users are locked and it is done again:
        writers that crowd around one user then queue instead of pushing each other out.
        """
        try:
            outcomes = await self._run_once(fresh, None)
        except Exception as error:
            if not is_conflict(error) or isinstance(error, asyncpg.UniqueViolationError):
                raise
            outcomes = await self._run_locked(fresh)
        await AFTER_STORE.reach()
        return outcomes

    async def _run_locked(self, fresh: Sequence[Work[Entry]]) -> list[bytes]:
        async with self._turn, self._pool.acquire() as connection, connection.transaction():
            await self._store.lock_users(connection, {work.user_id for work in fresh})
            return await self._run_once(fresh, connection)

    async def _run_once(self, fresh: Sequence[Work[Entry]], connection: Connection | None) -> list[bytes]:
        catalogue, loaded = await self._load(fresh, connection)
        batch, entries = await with_histories(
            self._histories, connection, loaded, lambda batch: decide(catalogue, batch, fresh)
        )
        await BEFORE_STORE.reach()
        await self._store.save(entries, batch.writes(), connection)
        return [entry.outcome for entry in entries]

    async def _load(
        self, fresh: Sequence[Work[Entry]], connection: Connection | None
    ) -> tuple[Catalogue, Loaded]:
        """The definitions, and of the users' state what the entries can touch by those definitions."""
        users = {work.user_id for work in fresh}
        metrics = {work.command.metric.metric for work in fresh if work.command.metric}

        async def load(catalogue: Catalogue) -> Loaded:
            touched = {one.key for metric in metrics for one in catalogue.of_metric(metric)}
            return await self._store.load(users, touched, connection)

        return await self._catalogue.with_state(load, connection)

    async def _undo(self, connection: Connection, reversal: ReversalWork, _known: Known) -> bytes:
        """Undo one applied entry in the transaction of its reversal."""
        version = await self._store.configuration_version(connection)
        catalogue = await self._catalogue.at(version, connection)
        user_id, undone, streaks = await self._store.counted_for(connection, reversal.entry_id)
        if undone is None:
            return reverted_outcome(reversal.entry_id, convert.effects(user_id, []))
        await self._store.lock_users(connection, [user_id])
        loaded = await self._store.load([user_id], streaks, connection)
        counting = [one for one in map(catalogue.get, streaks) if one]
        batch, effects = await with_histories(
            self._histories,
            connection,
            loaded,
            lambda batch: [
                Effect(one, evaluation)
                for one in counting
                if (evaluation := batch.undo(user_id, one, undone, reversal.now))
            ],
        )
        await self._store.save((), batch.writes(), connection)
        await BEFORE_COMMIT.reach()
        return reverted_outcome(reversal.entry_id, convert.effects(user_id, effects))


def decide(catalogue: Catalogue, batch: Batch, fresh: Sequence[Work[Entry]]) -> list[LogEntry]:
    """Every entry in order, each on what the ones before it left."""
    return [_applied(catalogue, batch, work) for work in fresh]


async def with_histories(
    store: HistoryStore, connection: Connection | None, loaded: Loaded, decision: Callable[[Batch], T]
) -> tuple[Batch, T]:
    """The batch after a decision, and its result; taken again with more history where it needs it."""
    wanted: dict[Key, Since] = {}
    while True:
        batch = Batch(loaded, await store.histories(wanted, connection))
        result = decision(batch)
        try:
            batch.require_histories()
        except HistoryMissing as missing:
            wanted |= missing.wanted
        else:
            return batch, result


def _applied(catalogue: Catalogue, batch: Batch, work: Work[Entry]) -> LogEntry:
    entry = work.command
    if entry.kind is not EntryKind.METRIC_EVENT:
        return LogEntry(
            entry_id=entry.entry_id,
            user_id=work.user_id,
            digest=work.digest,
            outcome=applied_outcome(entry.entry_id, convert.effects(work.user_id, [])),
            apply_time=entry.now,
        )
    assert entry.metric is not None  # a metric event has one
    event = fact(
        entry.entry_id, entry.metric.metric, entry.metric.value_micros, entry.occur_time, entry.time_zone
    )
    counting = catalogue.counting(event.metric, entry.user.attributes)
    effects = [
        Effect(one, evaluation)
        for one in counting
        if (evaluation := batch.take(work.user_id, one, event, entry.now))
    ]
    return LogEntry(
        entry_id=entry.entry_id,
        user_id=work.user_id,
        digest=work.digest,
        outcome=applied_outcome(entry.entry_id, convert.effects(work.user_id, effects)),
        apply_time=entry.now,
        fact=event,
        streaks=[one.key for one in counting],
    )
