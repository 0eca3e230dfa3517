"""What the service does for each call: load, decide, store."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

from services.achievement import convert
from services.achievement.domain import (
    Catalogue,
    Change,
    ChangeKind,
    Command,
    Decision,
    Progress,
    decide,
    list_progress,
    revert,
    sources_of,
)
from services.achievement.store import Loaded, LogEntry, Store
from shared import faults
from shared.pages import read_page
from shared.participant import ReversalWork, Work, apply_batch, revert_batch
from shared.postgres import definitions as stored
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import Known, State
from shared.rpc.participants import applied_outcome, nothing_reverted, refused_outcome, reverted_outcome

BEFORE_STORE: Final = faults.declare(
    "achievement.apply.before_store", "a batch is decided, nothing of it is stored"
)
AFTER_STORE: Final = faults.declare(
    "achievement.apply.after_store", "a batch is stored, the caller has no answer yet"
)
BEFORE_COMMIT: Final = faults.declare(
    "achievement.revert.before_commit", "an entry is undone, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "achievement.revert.after_commit", "entries are undone, the caller has no answer yet"
)

_REFUSE: Final = partial(refused_outcome, domain=convert.DOMAIN)

StoredCatalogue = stored.Catalogue[Catalogue]


class Handlers:
    """The use cases."""

    def __init__(self, pool: Pool, store: Store, catalogue: StoredCatalogue) -> None:
        self._pool = pool
        self._store = store
        self._catalogue = catalogue

    async def apply_entries(self, work: Sequence[Work[Command]]) -> list[bytes]:
        """One serialized outcome for each command, in order. Raises as `apply_batch` does."""
        return await apply_batch(self._pool, work, self._run, _REFUSE)

    async def revert_entries(self, reversals: Sequence[ReversalWork]) -> list[bytes]:
        """One serialized outcome for each reversal, in order."""
        outcomes = await revert_batch(self._pool, reversals, self._undo, nothing_reverted)
        await AFTER_COMMIT.reach()
        return outcomes

    async def list_user_achievements(
        self, user_id: str, *, completed_only: bool, page_size: int, page_token: str
    ) -> tuple[list[Progress], str]:
        """A page of what the user sees of the achievements, and the token of the next one; for a user without
        events, all that can be earned.
        """
        asked = ["user_achievements", user_id, str(completed_only)]
        page = read_page(page_size, page_token, keyset=[int], query=asked)
        loaded = await self._store.load_whole(user_id)
        catalogue = await self._catalogue.at(loaded.configuration_version)
        shown = list_progress(catalogue, loaded.standings[user_id], completed_only=completed_only)
        first = max(0, page.after[0]) if page.after else 0
        rest = shown[first : first + page.size]
        return rest, page.next_token(first + page.size) if len(shown) > first + page.size else ""

    async def _run(self, fresh: Sequence[Work[Command]]) -> list[bytes]:
        """Load, decide and store entries that were never seen: two round trips."""
        catalogue, loaded = await self._load(fresh)
        standings = dict(loaded.standings)
        entries = []
        for work in fresh:
            decision = decide(catalogue, standings[work.user_id], work.command)
            standings[work.user_id] = decision.standing
            entries.append(_log_entry(work, decision, catalogue))
        await BEFORE_STORE.reach()
        await self._store.save(entries, loaded.standings, standings)
        await AFTER_STORE.reach()
        return [entry.outcome for entry in entries]

    async def _load(self, fresh: Sequence[Work[Command]]) -> tuple[Catalogue, Loaded]:
        """The definitions, and of the users' state what the entries can touch by those definitions."""
        users = {work.user_id for work in fresh}
        sources = {source for work in fresh for source in sources_of(work.command)}
        called = {work.command.achievement for work in fresh if work.command.achievement}

        async def load(catalogue: Catalogue) -> Loaded:
            touched = called.union(one.key for one in catalogue.following(sources))
            return await self._store.load(users, sources, touched)

        return await self._catalogue.with_state(load)

    async def _undo(self, connection: Connection, reversal: ReversalWork, _known: Known) -> bytes:
        """Undo one applied entry in the transaction of its reversal."""
        version = await self._store.configuration_version(connection)
        catalogue = await self._catalogue.at(version, connection)
        standing, fact = await self._store.lock_fact(connection, reversal.entry_id)
        remaining = await self._store.remaining(connection, standing, fact)
        derived, changes = revert(catalogue, standing, fact, remaining)
        await self._store.save_reverted(connection, derived, fact, changes, reversal.now)
        await BEFORE_COMMIT.reach()
        return reverted_outcome(fact.entry_id, convert.effects(standing.user_id, changes, catalogue))


def _log_entry(work: Work[Command], decision: Decision, catalogue: Catalogue) -> LogEntry:
    entry = work.command.entry
    if decision.refusal is None:
        state = State.APPLIED
        outcome = applied_outcome(entry.entry_id, convert.effects(work.user_id, decision.changes, catalogue))
    else:
        state = State.REJECTED
        error = convert.refusal_error(decision.refusal, work.command.achievement)
        outcome = _REFUSE(entry.entry_id, error)
    times = [_fact_time(change, work.command) for change in decision.changes]
    return LogEntry(
        work.user_id, work.digest, state, outcome, entry.now, decision.fact, decision.changes, times
    )


def _fact_time(change: Change, command: Command) -> datetime:
    """A completion counts from when its entry occurred, a revocation from when it was decided."""
    return command.entry.occur_time if change.kind is ChangeKind.COMPLETED else command.entry.now
