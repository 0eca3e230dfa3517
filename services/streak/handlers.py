"""What the service does for each call: load, decide, store."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from services.streak import by_hand, convert
from services.streak.convert import Effect
from services.streak.domain import Catalogue, Fact, Moved, UserZone, fact, says_nothing_new
from services.streak.open_contributions import UndoneEvent
from services.streak.open_streaks import OpenStreaks
from services.streak.open_zones import named, seen
from services.streak.store import Applied, Loaded, LogEntry, Store
from services.streak.store_history import HistoryStore
from services.streak.store_zones import ZoneStore
from services.streak.wanted import Known as Found
from services.streak.wanted import MoreWanted, Wanted
from shared import faults
from shared.entries import Entry, EntryKind, Reversal, StreakCall
from shared.errors import LaurelError
from shared.participant import Work, apply_batch, revert_batch
from shared.postgres import definitions as stored
from shared.postgres.errors import StateMoved, is_conflict
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import Known, State
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

NOTHING_MORE: Final = Wanted()

StoredCatalogue = stored.Catalogue[Catalogue]


class Handlers:
    """The use cases of the saga."""

    def __init__(self, pool: Pool, store: Store, catalogue: StoredCatalogue) -> None:
        self._pool = pool
        self._store = store
        self._more = MoreStore(pool)
        self._catalogue = catalogue
        self._turn = asyncio.Lock()
        """One batch at a time waits for locks, so that they never take up the pool."""

    async def apply_entries(self, work: Sequence[Work[Entry]]) -> list[bytes]:
        """One serialized outcome for each entry, in order. Raises as `apply_batch` does."""
        return await apply_batch(self._pool, work, self._run, _REFUSE)

    async def revert_entries(self, reversals: Sequence[Reversal]) -> list[bytes]:
        """One serialized outcome for each reversal, in order."""
        outcomes = await revert_batch(self._pool, reversals, self._undo, nothing_reverted)
        await AFTER_COMMIT.reach()
        return outcomes

    async def _run(self, fresh: Sequence[Work[Entry]]) -> list[bytes]:
        """Load, decide and store entries that were never seen: two round trips, unless one is late.

        Nothing is locked at first but users who move. Where somebody else was faster, all are locked and it is done
        again: writers that crowd around one user then queue instead of pushing each other out.
        """
        try:
            outcomes = await self._run_unlocked(fresh)
        except Exception as error:
            if not is_conflict(error) or isinstance(error, asyncpg.UniqueViolationError):
                raise
            async with self._turn:
                outcomes = await self._run_locked(fresh, {work.user_id for work in fresh})
        await AFTER_STORE.reach()
        return outcomes

    async def _run_locked(self, fresh: Sequence[Work[Entry]], users: set[str]) -> list[bytes]:
        async with self._pool.acquire() as connection, connection.transaction():
            await self._store.lock_users(connection, users)
            catalogue, loaded = await self._load(fresh, connection)
            return await self._decide_and_store(fresh, catalogue, loaded, connection, users)

    async def _run_unlocked(self, fresh: Sequence[Work[Entry]]) -> list[bytes]:
        catalogue, loaded = await self._load(fresh, None)
        with self._store.recent.decided_and_stored(loaded.guards.keys(), guessed=loaded.is_guess):
            return await self._decide_and_store(fresh, catalogue, loaded, None)

    async def _decide_and_store(
        self,
        fresh: Sequence[Work[Entry]],
        catalogue: Catalogue,
        loaded: Loaded,
        connection: Connection | None,
        locked: Collection[str] = (),
    ) -> list[bytes]:
        moving = {work.user_id for work in fresh if _may_move(loaded.zones.get(work.user_id), work.command)}
        if not moving <= set(locked):
            # Where users were is read from the log, to which others write who change nothing of the user.
            if connection is not None:
                raise StateMoved("other users move than did")
            return await self._run_locked(fresh, moving)
        revised = {work.user_id for work in fresh if _bears_on_others(work.command)}
        if moving | revised:
            loaded = loaded.with_whole(await self._store.load(moving | revised, (), connection, whole=True))
        revisable = [work.command for work in fresh if work.command.metric and work.command.metric.revisable]
        wanted = Wanted(
            contributions=frozenset(entry for event in revisable for entry in _contributing(event))
        )
        open_streaks, entries = await self._more.decided(
            connection, loaded, lambda open_streaks: decide(catalogue, open_streaks, fresh), wanted
        )
        if loaded.is_guess and any(entry.state is State.REJECTED for entry in entries):
            raise StateMoved("a refusal that nothing checks")
        await BEFORE_STORE.reach()
        await self._store.save(entries, open_streaks.writes(), loaded, connection)
        return [entry.outcome for entry in entries]

    async def _load(
        self, fresh: Sequence[Work[Entry]], connection: Connection | None
    ) -> tuple[Catalogue, Loaded]:
        """The definitions, and of the users' state what the entries can touch by those definitions."""
        users = {work.user_id: work.command.user.life for work in fresh}
        metrics = {work.command.metric.metric for work in fresh if work.command.metric}

        async def load(catalogue: Catalogue, version: int) -> Loaded:
            touched = {definition.key for metric in metrics for definition in catalogue.of_metric(metric)}
            contents = (work.command.content for work in fresh)
            touched |= {content.streak for content in contents if isinstance(content, StreakCall)}
            if connection is None:
                return await self._store.recall(users, touched, version)
            return await self._store.load(users, touched, connection)

        return await self._catalogue.with_state(load, connection)

    async def _undo(self, connection: Connection, reversal: Reversal, _known: Known) -> bytes:
        """Undo one applied entry in the transaction of its reversal."""
        version = await self._store.configuration_version(connection)
        catalogue = await self._catalogue.at(version, connection)
        gone = await self._store.applied(connection, reversal.entry_id)
        await self._store.lock_users(connection, [gone.user_id])
        loaded = await self._store.load([gone.user_id], (), connection, whole=True)
        open_streaks, effects = await self._more.decided(
            connection, loaded, lambda open_streaks: _undone(catalogue, open_streaks, reversal, gone)
        )
        await self._store.save((), open_streaks.writes(), loaded, connection)
        await BEFORE_COMMIT.reach()
        return reverted_outcome(reversal.entry_id, convert.effects(gone.user_id, effects))


def decide(catalogue: Catalogue, open_streaks: OpenStreaks, fresh: Sequence[Work[Entry]]) -> list[LogEntry]:
    """Every entry in order, each on what the ones before it left."""
    applied = [_applied(catalogue, open_streaks, work) for work in fresh]
    return [
        _as_of_the_end(open_streaks, line) if line.contribution_version is not None else line
        for line in applied
    ]


class MoreStore:
    """What decisions need besides what is always loaded."""

    def __init__(self, pool: Pool) -> None:
        self._histories = HistoryStore(pool)
        self._zones = ZoneStore(pool)

    async def decided(
        self,
        connection: Connection | None,
        loaded: Loaded,
        decision: Callable[[OpenStreaks], T],
        wanted: Wanted = NOTHING_MORE,
    ) -> tuple[OpenStreaks, T]:
        """The streaks after a decision, and its result; taken again with more where it needs that."""
        known = Found()
        while True:
            known = await self._more_than(known, wanted, connection)
            open_streaks = OpenStreaks(loaded, known)
            result = decision(open_streaks)
            try:
                open_streaks.require_all()
            except MoreWanted as missing:
                wanted = wanted.and_also(missing.wanted)
            else:
                return open_streaks, result

    async def _more_than(self, known: Found, wanted: Wanted, connection: Connection | None) -> Found:
        """What is wanted, of which something is known."""
        had = known.wanted
        histories = {key: since for key, since in wanted.histories.items() if had.histories.get(key) != since}
        around = {
            spot: await self._histories.around(spot[0], window, connection)
            for spot, window in wanted.windows.items()
            if had.windows.get(spot) != window
        }
        zones = {user: since for user, since in wanted.zones.items() if had.zones.get(user) != since}
        contributions = known.contributions
        if wanted.contributions != had.contributions:
            contributions = await self._zones.contributions(wanted.contributions, connection)
        return Found(
            wanted,
            {**known.histories, **await self._histories.histories(histories, connection)},
            {**known.around, **around},
            {**known.zones, **await self._zones.changes(zones, connection)},
            {
                **known.following,
                **await self._zones.following(wanted.following - had.following, connection),
            },
            contributions,
        )


def _applied(catalogue: Catalogue, open_streaks: OpenStreaks, work: Work[Entry]) -> LogEntry:
    entry, user_id = work.command, work.user_id
    call = entry.content
    change = by_hand.decided(catalogue, open_streaks, entry, call) if isinstance(call, StreakCall) else None
    if isinstance(change, LaurelError):
        return _refused(work, change)
    own = named(entry)
    moved = open_streaks.zones.hear(entry, own)
    revised = open_streaks.contributions.revise(entry)
    undone = open_streaks.contributions.undone_by(entry, revised)
    event, version, counting = None, None, []
    if entry.metric is not None and entry.kind is EntryKind.METRIC_EVENT:
        metric = entry.metric.metric
        micros, version = open_streaks.contributions.of(entry)
        event = fact(entry.entry_id, metric, micros, entry.occur_time, entry.time_zone, entry.now)
        counting = catalogue.counting(metric, entry.user.attributes)
        if version is not None:
            open_streaks.contributions.came(
                entry.entry_id, event, version, [definition.key for definition in counting]
            )
    effects = []
    for definition in counting:
        evaluation = open_streaks.evaluate(
            user_id, definition, entry.now, event, moved, revised.get(definition.key, ())
        )
        if evaluation:
            effects.append(Effect(definition, evaluation))
    if change:
        evaluation = open_streaks.do(
            user_id, change.definition, change.by_hand, change.done, entry.now, moved
        )
        if evaluation:
            effects.append(Effect(change.definition, evaluation))
    if moved or revised or undone:
        counted = {effect.definition.key for effect in effects} | {definition.key for definition in counting}
        others = set(open_streaks.streaks_of(user_id)) if moved else set(revised)
        if undone:
            effects += _without(catalogue, open_streaks, entry, undone, moved, others)
            counted |= undone.streaks
        effects += _of_others(catalogue, open_streaks, entry, sorted(others - counted), moved, revised)
    return LogEntry(
        entry_id=entry.entry_id,
        user_id=user_id,
        digest=work.digest,
        outcome=applied_outcome(entry.entry_id, convert.effects(user_id, effects)),
        apply_time=entry.now,
        seen=own or seen(entry),
        names_zone=own is not None,
        fact=event,
        contribution_version=version,
        streaks=[definition.key for definition in counting],
    )


def _refused(work: Work[Entry], error: LaurelError) -> LogEntry:
    """A definite no, which leaves everything as it is."""
    return LogEntry(
        entry_id=work.entry_id,
        user_id=work.user_id,
        digest=work.digest,
        outcome=_REFUSE(work.entry_id, error),
        apply_time=work.command.now,
        seen=None,
        names_zone=False,
        fact=None,
        contribution_version=None,
        state=State.REJECTED,
    )


def _of_others(
    catalogue: Catalogue,
    open_streaks: OpenStreaks,
    entry: Entry,
    keys: Sequence[str],
    moved: Moved | None,
    revised: Mapping[str, Sequence[Fact]],
) -> list[Effect]:
    """What an entry does to streaks that it does not count for, where that is anything to tell."""
    effects = []
    for key in keys:
        definition = catalogue.get(key)
        user_id = entry.user.user_id
        evaluation = definition and open_streaks.evaluate(
            user_id, definition, entry.now, None, moved, revised.get(key, ())
        )
        if definition and evaluation and convert.is_to_tell(evaluation):
            effects.append(Effect(definition, evaluation))
    return effects


def _without(
    catalogue: Catalogue,
    open_streaks: OpenStreaks,
    entry: Entry,
    undone: UndoneEvent,
    moved: Moved | None,
    others: Collection[str],
) -> list[Effect]:
    """What a correction does to streaks to which the undone event can have made a difference, and how they changed as
    others came, with it and without it. Of `others` also where that tells nothing.
    """
    effects = []
    for key in sorted(undone.streaks):
        definition = catalogue.get(key)
        if definition is None:
            continue
        user_id = entry.user.user_id
        arrivals = open_streaks.arrivals_around(user_id, definition, entry.now, undone)
        if not arrivals.differ and key not in others:
            continue
        evaluation = open_streaks.evaluate(
            user_id, definition, entry.now, None, moved, undone.revised.get(key, ()), arrivals
        )
        if evaluation and convert.is_to_tell(evaluation):
            effects.append(Effect(definition, evaluation))
    return effects


def _undone(
    catalogue: Catalogue, open_streaks: OpenStreaks, reversal: Reversal, gone: Applied
) -> list[Effect]:
    """What taking an entry away does to the streaks that it counted for, and to others where it had said where the
    user was.
    """
    moved = (
        open_streaks.zones.leave(gone.user_id, reversal.entry_id, gone.occur_time)
        if gone.occur_time
        else None
    )
    open_streaks.zones.outdate(gone.user_id, reversal.user_version)
    effects = []
    undone = open_streaks.undo_by_hand(catalogue, gone.user_id, reversal.entry_id, reversal.now, moved)
    if undone:
        effects.append(Effect(*undone))
    others = open_streaks.streaks_of(gone.user_id) if moved else ()
    for key in sorted({*gone.streaks, *others} - {effect.definition.key for effect in effects}):
        definition = catalogue.get(key)
        counted = gone.fact if key in gone.streaks else None
        evaluation = definition and open_streaks.undo(
            gone.user_id, definition, reversal.now, counted, moved, tells_arrivals=not gone.is_revisable
        )
        if definition and evaluation and (counted or convert.is_to_tell(evaluation)):
            effects.append(Effect(definition, evaluation))
    return effects


def _as_of_the_end(open_streaks: OpenStreaks, entry: LogEntry) -> LogEntry:
    """An event as others of its batch have revised it."""
    assert entry.fact is not None  # what has a contribution has a fact
    latest, version = open_streaks.contributions.latest(entry.fact)
    return replace(entry, fact=latest, contribution_version=version)


def _contributing(entry: Entry) -> Iterator[UUID]:
    """The entries of which it has to be known what they contribute."""
    assert entry.metric is not None  # it has a contribution
    if entry.kind is EntryKind.METRIC_EVENT:
        yield entry.entry_id
    elif entry.corrected_entry_id is not None:
        yield entry.corrected_entry_id
        for arrival in (*entry.metric.arrivals_before, *entry.metric.arrivals):
            yield arrival.entry_id
    for revision in entry.metric.revisions:
        yield revision.entry_id


def _bears_on_others(entry: Entry) -> bool:
    """Whether it says of other events what they contribute, or contributed."""
    metric = entry.metric
    if metric is None or not metric.revisable:
        return False
    return bool(metric.revisions) or entry.kind is EntryKind.CORRECTION


def _may_move(user: UserZone | None, entry: Entry) -> bool:
    """Whether the zones of a known user may change by an entry."""
    if user is None:
        return False
    own = named(entry)
    if own is None:
        return entry.user.version > user.version and entry.user.time_zone != user.time_zone
    return not says_nothing_new(user, own)
