"""What the service does about entries: load, decide, store."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from laurel.ledger.v1.effects_pb2 import Effects
from msgspec import Struct
from msgspec.structs import replace

from services.points import convert, rows
from services.points.amending import apply_amending, undo
from services.points.definitions import Configuration
from services.points.domain.amendments import amends
from services.points.domain.counting import HistoryNeeded
from services.points.domain.decisions import (
    Applied,
    apply,
    days_asked,
    late,
    other_half,
    received,
    since,
    with_days,
    with_window,
)
from services.points.domain.definitions import Catalogue, TriggerKey
from services.points.domain.facts import Command
from services.points.domain.holds import without
from services.points.domain.ledger import Award, Change, merged
from services.points.domain.limits import Refusal
from services.points.domain.lots import Lots
from services.points.domain.state import UserState
from services.points.domain.timing import Came, advanced, asks_for_lots, with_lots
from services.points.history import UserHistory
from services.points.rows import LogEntry
from services.points.store import Loaded, Store
from services.points.terms import Terms
from shared import faults
from shared.calendar import local_date
from shared.entries import Entry, EntryKind, Reversal, UserSnapshot, half_id
from shared.participant import Work, apply_batch, revert_batch
from shared.postgres import definitions as stored
from shared.postgres.errors import StateMoved
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

T = TypeVar("T")

StoredConfiguration = stored.Catalogue[Configuration]


class Handlers:
    """The use cases that change something."""

    def __init__(self, pool: Pool, store: Store, configuration: StoredConfiguration, terms: Terms) -> None:
        self._pool = pool
        self._store = store
        self._configuration = configuration
        self._terms = terms
        self._unfinished: set[asyncio.Task[Any]] = set()

    async def apply_entries(self, work: Sequence[Work[Command]]) -> list[bytes]:
        """One serialized outcome for each command, in order. Raises as `apply_batch` does."""
        return await apply_batch(self._pool, work, self._run, _REFUSE)

    async def revert_entries(self, reversals: Sequence[Reversal]) -> list[bytes]:
        """One serialized outcome for each reversal, in order. Raises as `revert_batch` does."""
        outcomes = await self._to_the_end(revert_batch(self._pool, reversals, self._undo, nothing_reverted))
        await AFTER_COMMIT.reach()
        return outcomes

    async def _run(self, fresh: Sequence[Work[Command]]) -> list[bytes]:
        """Load, decide and store entries that were never seen.

        All at once, but for those that say something about earlier facts: such a one is a transaction of its own, after
        what its user has in the batch before it. What was stored when a later part fails is answered from the log.
        """
        outcomes: dict[UUID, bytes] = {}
        waiting = list(fresh)
        while waiting:
            together, waiting = _steps(waiting)
            if together:
                stored, held = await self._append(together)
                outcomes |= stored
                waiting = [*held, *waiting]
            alone = _firsts(waiting)
            for work in alone:
                outcomes[work.entry_id] = await self._to_the_end(self._amend(work))
            waiting = [work for work in waiting if work.entry_id not in outcomes]
        return [outcomes[work.entry_id] for work in fresh]

    async def _append(self, batch: Sequence[Work[Command]]) -> tuple[dict[UUID, bytes], list[Work[Command]]]:
        """The outcomes of those entries that are one more step of their users' folds; and the others, with all that
        their users have after them.
        """
        configuration, loaded, batch = await self._load(batch)
        with self._store.recent.decided_and_stored(loaded.states.keys(), guessed=loaded.is_guess):
            return await self._decide_and_store(batch, configuration.catalogue, loaded)

    async def _decide_and_store(
        self, batch: Sequence[Work[Command]], catalogue: Catalogue, loaded: Loaded
    ) -> tuple[dict[UUID, bytes], list[Work[Command]]]:
        states = await self._with_windows(catalogue, loaded.states, batch)
        await self._know_days(catalogue, states, batch)
        await self._know_lots(catalogue, states, batch)
        before = dict(states)
        awards: dict[str, list[Award]] = {}
        entries: list[LogEntry] = []
        held: list[Work[Command]] = []
        behind: set[str] = set()
        for work in batch:
            if not behind.isdisjoint(_users_of(work)):
                behind.update(_users_of(work))
                held.append(work)
                continue
            try:
                decided = _decided(catalogue, states, work)
            except HistoryNeeded:
                behind.add(work.user_id)
                held.append(work)
                continue
            entries.extend(decided.entries)
            states |= decided.states
            for user_id, own in decided.awards.items():
                awards.setdefault(user_id, []).extend(own)
        if loaded.is_guess and any(entry.state is State.REJECTED for entry in entries):
            raise StateMoved("a refusal that nothing checks")
        changed = {user: state for user, state in states.items() if state is not before[user]}
        # What was read of the past for a user is no part of the stored state.
        keep = {user: loaded.lives[user] for user in changed if before[user] is loaded.states[user]}
        await BEFORE_STORE.reach()
        if entries:
            await self._store.save(
                entries, awards, loaded.states, changed, loaded.configuration_version, keep=keep
            )
        await AFTER_STORE.reach()
        return {entry.entry_id: entry.outcome for entry in entries if entry.outcome}, held

    async def _load(
        self, batch: Sequence[Work[Command]]
    ) -> tuple[Configuration, Loaded, Sequence[Work[Command]]]:
        """The definitions, of the users' state what the commands can touch, and the commands as they are meant now."""
        lives: dict[str, int] = {}
        completions: dict[str, set[UUID]] = {}
        for work in batch:
            for user in (work.command.entry.user, *_others(work.command.entry)):
                lives[user.user_id] = user.life
                touched = completions.setdefault(user.user_id, set())
                for change in work.command.achievement_changes:
                    touched.add(change.completion_id)
        loaded = await self._store.recall(lives, completions)
        configuration = await self._configuration.at(loaded.configuration_version)
        await self._terms.keep(self._pool, configuration)
        revisable = [work.entry_id for work in batch if _is_revisable(work.command)]
        if revisable:
            revisions = await self._store.revisions(revisable)
            batch = [_revised(work, revisions) for work in batch]
        return configuration, loaded, batch

    async def _with_windows(
        self, catalogue: Catalogue, states: Mapping[str, UserState], batch: Sequence[Work[Command]]
    ) -> dict[str, UserState]:
        """The states with what is newer than those events of the batch that came late."""
        keys: dict[str, frozenset[TriggerKey]] = {}
        times: dict[str, datetime | None] = {}
        for work in batch:
            found = late(catalogue, states[work.user_id], work.command)
            if found:
                user_id, time = (
                    work.user_id,
                    since(states[work.user_id], found, work.command.entry.occur_time),
                )
                known = times.get(user_id, time)
                times[user_id] = None if known is None or time is None else min(known, time)
                keys[user_id] = keys.get(user_id, frozenset()) | found
        result = dict(states)
        if not keys:
            return result
        windows = await self._store.windows(times)
        versions = {fact.fact.terms for window in windows.values() for fact in window}
        if not all(map(self._terms.knows, versions)):
            await self._terms.learn(self._pool)
        for user_id, window in windows.items():
            result[user_id] = with_window(
                result[user_id], keys[user_id], window, times[user_id], self._terms.at
            )
        return result

    async def _know_days(
        self, catalogue: Catalogue, states: dict[str, UserState], batch: Sequence[Work[Command]]
    ) -> None:
        """Into the states, what was given on the dates that limits of a day ask for. No round trip without such."""
        since: dict[str, date] = {}
        works = batch if catalogue.day_limited else ()
        for command in (half for work in works for half in _halves(work.command)):
            user_id = command.entry.user.user_id
            asked = days_asked(catalogue, states[user_id], command)
            if asked is not None:
                since[user_id] = min(asked, since.get(user_id, asked))
        if since:
            for user_id, days in (await self._store.days(since, catalogue.day_limited)).items():
                states[user_id] = with_days(states[user_id], days)

    async def _know_lots(
        self,
        catalogue: Catalogue,
        states: dict[str, UserState],
        batch: Sequence[Work[Command]],
        connection: Connection | None = None,
    ) -> None:
        """Into the states, what is left of awards, where something may have expired. No round trip without such."""
        if not any(state.clocks for state in states.values()):
            return
        asked = {
            command.entry.user.user_id
            for work in batch
            for command in _halves(work.command)
            if asks_for_lots(
                catalogue, states[command.entry.user.user_id], command.entry.now, command.entry.user
            )
        }
        if asked:
            lots = await self._store.lots(asked, connection)
            for user_id in asked:
                states[user_id] = with_lots(states[user_id], lots.get(user_id, Lots()))

    async def _amend(self, work: Work[Command]) -> bytes:
        """Decide and store an entry that takes more of the past than its user's state."""
        user_id = work.user_id
        async with self._pool.acquire() as connection, connection.transaction():
            await self._store.lock_user(connection, user_id)
            completion_ids = {change.completion_id for change in work.command.achievement_changes}
            loaded = await self._store.load([user_id], completion_ids, connection)
            version = loaded.configuration_version
            configuration = await self._configuration.at(version, connection)
            await self._terms.keep(connection, configuration, for_good=False)
            await self._terms.learn(connection)
            before = loaded.states[user_id]
            if _is_revisable(work.command):
                work = _revised(work, await self._store.revisions([work.entry_id], connection))
                await self._store.forget_revisions([work.entry_id], connection)
            attempt = connection.transaction()
            await attempt.start()
            catalogue = configuration.catalogue
            known, due, came = await self._come_before(connection, catalogue, before, work, version)
            history = UserHistory(connection, due, self._terms)
            decided = await apply_amending(history, catalogue, due, work.command)
            own: list[Award] = []
            changed: tuple[Change, ...] = ()
            if isinstance(decided, Applied):
                await attempt.commit()
                own, after = rows.awards_of(decided.changes, refolded=False), decided.state
                changed = merged((*came, *decided.changes)) if came else decided.changes
            else:
                await attempt.rollback()
                known = after = before
            award_count = after.award_count - len(own)
            entry = _log_entry(work, decided, award_count, convert.effects(user_id, changed))
            await BEFORE_STORE.reach()
            await self._store.save(
                [entry], {user_id: own}, {user_id: known}, {user_id: after}, version, connection
            )
        await AFTER_STORE.reach()
        return entry.outcome

    async def _come_before(
        self,
        connection: Connection,
        catalogue: Catalogue,
        state: UserState,
        work: Work[Command],
        version: int,
    ) -> tuple[UserState, UserState, list[Change]]:
        """The state as it is stored, and as it is with what came due before an entry; and what that changed."""
        user_id, entry = work.user_id, work.command.entry
        states = {user_id: state}
        await self._know_lots(catalogue, states, [work], connection)
        found, came = _with_what_is_due(catalogue, states[user_id], entry)
        if not came:
            return state, found, []
        changes = [change for each in came for change in each.changes]
        await self._store.save(
            [rows.came_entry(user_id, each.fact, each.award_count, entry.now) for each in came],
            {user_id: rows.awards_of(changes, refolded=False)},
            {user_id: state},
            {user_id: found},
            version,
            connection,
        )
        found = replace(rows.as_loaded(state, found), completions=state.completions)
        return found, found, changes

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """What a long refold does is not lost with its caller's patience: who asks again finds it in the log."""
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)

    async def _undo(self, connection: Connection, reversal: Reversal, _known: Known) -> bytes:
        """Undo one applied entry in the transaction of its reversal."""
        halves = {other: half_id(reversal.entry_id, other) for other in reversal.other_user_ids}
        # Of whoever was deleted since there is nothing to undo, and nobody to make anything for.
        halves = {
            other: entry_id
            for other, entry_id in halves.items()
            if await self._store.position(connection, entry_id) is not None
        }
        if halves:
            for user_id in sorted((reversal.user_id, *halves)):
                await self._store.lock_user(connection, user_id)
        user_id = await self._store.lock_user_of(connection, reversal.entry_id)
        loaded = await self._store.load([user_id, *halves], connection=connection)
        version = loaded.configuration_version
        configuration = await self._configuration.at(version, connection)
        await self._terms.learn(connection)
        effects = Effects()
        for whose, entry_id in {user_id: reversal.entry_id, **halves}.items():
            position = await self._store.position(connection, entry_id)
            if position is None:
                continue
            before = loaded.states[whose]
            history = UserHistory(connection, before, self._terms)
            after, changes = await undo(history, configuration.catalogue, before, reversal.entry_id, position)
            if after.holds:
                after = replace(after, holds=without(after.holds, reversal.entry_id))
            await self._store.save([], {}, {whose: before}, {whose: after}, version, connection)
            convert.tell(effects, whose, changes)
        if halves:
            await self._store.mark_reverted(connection, list(halves.values()))
        await BEFORE_COMMIT.reach()
        return reverted_outcome(reversal.entry_id, effects)


class _Decided(Struct, frozen=True):
    """One entry, decided by one step for each user whom it concerns."""

    entries: list[LogEntry]
    states: dict[str, UserState] = {}
    awards: dict[str, list[Award]] = {}


def _decided(catalogue: Catalogue, states: Mapping[str, UserState], work: Work[Command]) -> _Decided:
    """What an entry does, to all whom it concerns or to none. Raises `HistoryNeeded`."""
    halves = _halves(work.command)
    entries: list[LogEntry] = []
    after: dict[str, UserState] = {}
    changed: dict[str, tuple[Change, ...]] = {}
    effects = Effects()
    for command in halves:
        user_id = command.entry.user.user_id
        state, came = _with_what_is_due(catalogue, states[user_id], command.entry)
        decided = (apply if command is work.command else received)(catalogue, state, command)
        if not isinstance(decided, Applied):
            return _Decided([_log_entry(work, decided, 0, effects)])
        now = command.entry.now
        changes = decided.changes
        if came:
            entries.extend(rows.came_entry(user_id, each.fact, each.award_count, now) for each in came)
            changes = merged((*(change for each in came for change in each.changes), *changes))
        changed[user_id] = changes
        convert.tell(effects, user_id, changes)
        after[user_id] = decided.state
        if command is not work.command:
            entries.append(rows.came_entry(user_id, decided.fact, state.award_count, now))
        else:
            own, own_award_count = decided, state.award_count
    entries.append(_log_entry(work, own, own_award_count, effects))
    awards = {user_id: rows.awards_of(changes, refolded=False) for user_id, changes in changed.items()}
    return _Decided(entries, after, awards)


def _halves(command: Command) -> list[Command]:
    """What an entry is for each whom it concerns."""
    other = other_half(command)
    return [command] if other is None else [command, other]


def _users_of(work: Work[Command]) -> list[str]:
    """Whose points an entry is about."""
    others = _others(work.command.entry)
    return [work.user_id, *(other.user_id for other in others)] if others else [work.user_id]


def _others(entry: Entry) -> tuple[UserSnapshot, ...]:
    return entry.other_users if entry.kind is EntryKind.POINTS_TRANSFER else ()


def _with_what_is_due(
    catalogue: Catalogue, state: UserState, entry: Entry
) -> tuple[UserState, tuple[Came, ...]]:
    """The state with what came due before an entry. A correction comes at the present, also that of an import."""
    if entry.kind is EntryKind.CORRECTION:
        return state, ()
    return advanced(catalogue, state, entry.now, entry.user)


def _steps(waiting: Sequence[Work[Command]]) -> tuple[list[Work[Command]], list[Work[Command]]]:
    """What is one step each, and of each user the first that is more, with all that comes after it."""
    together: list[Work[Command]] = []
    behind: list[Work[Command]] = []
    users: set[str] = set()
    for work in waiting:
        if not users.isdisjoint(_users_of(work)) or amends(work.command):
            users.update(_users_of(work))
            behind.append(work)
        else:
            together.append(work)
    return together, behind


def _firsts(held: Sequence[Work[Command]]) -> list[Work[Command]]:
    """Of each user the first. What concerns several is one step for each, once those before it are done."""
    firsts: dict[str, Work[Command]] = {}
    for work in held:
        for user_id in _users_of(work):
            firsts.setdefault(user_id, work)
    return [work for user_id, work in firsts.items() if _users_of(work) == [user_id]]


def _is_revisable(command: Command) -> bool:
    return (
        command.entry.metric is not None
        and command.entry.metric.revisable
        and command.entry.kind is EntryKind.METRIC_EVENT
    )


def _revised(work: Work[Command], revisions: Mapping[UUID, tuple[int, int]]) -> Work[Command]:
    """The command with what was said of its entry before it came."""
    entry = work.command.entry
    known = revisions.get(work.entry_id)
    if known is None or entry.metric is None or known[0] <= entry.metric.total_version:
        return work
    metric = replace(entry.metric, total_version=known[0], revisable_contribution_micros=known[1])
    return replace(work, command=replace(work.command, entry=replace(entry, metric=metric)))


def _log_entry(
    work: Work[Command], decided: Applied | Refusal, award_count: int, effects: Effects
) -> LogEntry:
    """`award_count`: of the user before the entry's own awards."""
    entry = work.command.entry
    if not isinstance(decided, Applied):
        return LogEntry(
            entry_id=work.entry_id,
            user_id=work.user_id,
            digest=work.digest,
            state=State.REJECTED,
            outcome=_REFUSE(work.entry_id, convert.refusal(decided)),
            apply_time=entry.now,
            occur_time=entry.occur_time,
            local_date=local_date(entry.occur_time, entry.time_zone),
        )
    return LogEntry(
        entry_id=work.entry_id,
        user_id=work.user_id,
        digest=work.digest,
        state=State.APPLIED,
        outcome=applied_outcome(work.entry_id, effects),
        apply_time=entry.now,
        occur_time=entry.occur_time,
        local_date=decided.fact.instant.local_date,
        fact=decided.fact,
        contribution_version=entry.metric.total_version if entry.metric and entry.metric.revisable else None,
        award_count=award_count,
    )
