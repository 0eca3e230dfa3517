"""What the service does for each call: load, decide, store."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from services.points import convert, domain
from services.points.definitions import POINTS_SYSTEM, Configuration
from services.points.domain import (
    NO_STANDING,
    Applied,
    Award,
    Catalogue,
    Change,
    Command,
    InsufficientPoints,
    LevelBasis,
    PointsSystem,
    Standing,
    UserState,
)
from services.points.rows import LogEntry
from services.points.store import Store
from shared import faults
from shared.calendar import local_date
from shared.pages import Page
from shared.participant import ReversalWork, Work, apply_batch, revert_batch
from shared.postgres import definitions as stored
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import Known, State
from shared.rpc.participants import applied_outcome, nothing_reverted, refused_outcome, reverted_outcome

BEFORE_STORE: Final = faults.declare(
    "points.apply.before_store", "a batch is decided, nothing of it is stored"
)
AFTER_STORE: Final = faults.declare(
    "points.apply.after_store", "a batch is stored, the caller has no answer yet"
)
BEFORE_COMMIT: Final = faults.declare("points.revert.before_commit", "an entry is undone, not yet committed")
AFTER_COMMIT: Final = faults.declare(
    "points.revert.after_commit", "entries are undone, the caller has no answer yet"
)

_REFUSE: Final = partial(refused_outcome, domain=convert.DOMAIN)

StoredConfiguration = stored.Catalogue[Configuration]

_NEWEST: Final = 2**63 - 1


class Handlers:
    """The use cases."""

    def __init__(self, pool: Pool, store: Store, configuration: StoredConfiguration) -> None:
        self._pool = pool
        self._store = store
        self._configuration = configuration

    async def apply_entries(self, work: Sequence[Work[Command]]) -> list[bytes]:
        """One serialized outcome for each command, in order. Raises as `apply_batch` does."""
        return await apply_batch(self._pool, work, self._run, _REFUSE)

    async def revert_entries(self, reversals: Sequence[ReversalWork]) -> list[bytes]:
        """One serialized outcome for each reversal, in order. Raises as `revert_batch` does."""
        outcomes = await revert_batch(self._pool, reversals, self._undo, nothing_reverted)
        await AFTER_COMMIT.reach()
        return outcomes

    async def list_user_points(
        self, user_id: str, page: Page
    ) -> tuple[Configuration, list[tuple[str, Standing]], str]:
        """A page of the user's standings by key: in every active system, and in others where there are points; and
        the token of the next page.
        """
        configuration = await self._configuration.latest()
        standings = await self._store.balances(user_id)
        active = {key for key, system in configuration.catalogue.systems.items() if system.active}
        after = page.after[0] if page.after else ""
        keys = sorted(key for key in active.union(standings) if key > after)
        shown = keys[: page.size]
        token = page.next_token(shown[-1]) if len(keys) > page.size else ""
        return configuration, [(key, standings.get(key, NO_STANDING)) for key in shown], token

    async def list_awards(self, user_id: str, points_system: str, page: Page) -> tuple[Sequence[Award], str]:
        """A page of the user's awards, newest first, and the token of the next. Raises `NotFound`."""
        if points_system:
            _defined(await self._configuration.latest(), points_system)
        before = page.after[0] if page.after else _NEWEST
        awards = await self._store.awards(user_id, points_system, before, page.size + 1)
        shown = awards[: page.size]
        return shown, page.next_token(shown[-1].sequence) if len(awards) > page.size else ""

    async def level_distribution(
        self, points_system: str
    ) -> tuple[Configuration, PointsSystem, Sequence[int]]:
        """How many users are below the first level, and at each. Raises `NotFound`."""
        configuration = await self._configuration.latest()
        system = _defined(configuration, points_system)
        counts = await self._store.users_by_level(
            points_system,
            by_lifetime=system.level_basis is LevelBasis.LIFETIME,
            thresholds=[level.threshold for level in system.levels],
        )
        return configuration, system, counts

    async def _run(self, fresh: Sequence[Work[Command]]) -> list[bytes]:
        """Load, decide and store entries that were never seen."""
        catalogue, loaded = await self._load(fresh)
        states = dict(loaded)
        changes: dict[str, list[Change]] = {}
        entries = []
        for work in fresh:
            decided = domain.apply(catalogue, states[work.user_id], work.command)
            if isinstance(decided, Applied):
                states[work.user_id] = decided.state
                changes.setdefault(work.user_id, []).extend(decided.changes)
            entries.append(_log_entry(work, decided))
        await BEFORE_STORE.reach()
        await self._store.save(entries, changes, loaded, states)
        await AFTER_STORE.reach()
        return [entry.outcome for entry in entries]

    async def _load(self, fresh: Sequence[Work[Command]]) -> tuple[Catalogue, dict[str, UserState]]:
        """The definitions, and of the users' state what the commands can touch."""
        commands: dict[str, list[Command]] = {}
        for work in fresh:
            commands.setdefault(work.user_id, []).append(work.command)
        completion_ids = {
            change.completion_id for work in fresh for change in work.command.achievement_changes
        }
        loaded = await self._store.load(commands, completion_ids)
        catalogue = (await self._configuration.at(loaded.configuration_version)).catalogue
        wanted = {user_id: domain.reversible(catalogue, those) for user_id, those in commands.items()}
        return catalogue, await self._store.with_live_awards(loaded.states, wanted)

    async def _undo(self, connection: Connection, reversal: ReversalWork, _known: Known) -> bytes:
        """Undo one applied entry in the transaction of its reversal."""
        user_id = await self._store.lock_user(connection, reversal.entry_id)
        undoing = await self._store.undoing(connection, reversal.entry_id)
        loaded = await self._store.load([user_id], connection=connection)
        configuration = await self._configuration.at(loaded.configuration_version, connection)
        catalogue = configuration.catalogue
        needed = domain.values_needed(loaded.states[user_id], undoing)
        remaining = await self._store.other_values(connection, user_id, undoing, needed)
        counted = domain.undone_counts(catalogue, loaded.states[user_id], undoing, remaining)
        wanted = {user_id: domain.reversible_counts(undoing, counted)}
        states = await self._store.with_live_awards(loaded.states, wanted, connection)
        undone = domain.undo(catalogue, states[user_id], undoing, counted)
        await self._store.save([], {user_id: undone.changes}, states, {user_id: undone.state}, connection)
        await BEFORE_COMMIT.reach()
        return reverted_outcome(reversal.entry_id, convert.effects(user_id, undone.changes))


def _log_entry(work: Work[Command], decided: Applied | InsufficientPoints) -> LogEntry:
    entry = work.command.entry
    day = local_date(entry.occur_time, entry.time_zone)
    if isinstance(decided, InsufficientPoints):
        outcome = _REFUSE(work.entry_id, convert.insufficient_points(decided))
        return LogEntry(
            work.entry_id,
            work.user_id,
            work.digest,
            State.REJECTED,
            outcome,
            entry.now,
            entry.occur_time,
            day,
        )
    return LogEntry(
        entry_id=work.entry_id,
        user_id=work.user_id,
        digest=work.digest,
        state=State.APPLIED,
        outcome=applied_outcome(work.entry_id, convert.effects(work.user_id, decided.changes)),
        apply_time=entry.now,
        occur_time=entry.occur_time,
        local_date=day,
        position=decided.position,
        metric=entry.metric.metric if entry.metric else None,
        value_micros=entry.metric.value_micros if entry.metric else None,
        triggers=decided.metric_triggers,
    )


def _defined(configuration: Configuration, key: str) -> PointsSystem:
    system = configuration.catalogue.systems.get(key)
    if system is None:
        raise POINTS_SYSTEM.unknown(key)
    return system
