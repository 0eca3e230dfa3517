"""Recording: the ledger row, the total, the user and the saga of an entry, in one statement (DESIGN 2)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import Struct
from msgspec.structs import replace

from services.orchestrator.domain import InTime, Total, User
from services.orchestrator.domain_events import Told
from services.orchestrator.recording import (
    Incoming,
    Loaded,
    Outcome,
    Recorded,
    Spoken,
    ValueKey,
    Wanted,
)
from services.orchestrator.saga import State, Step
from services.orchestrator.store.domain_events import TELL, rows_of
from services.orchestrator.store.history import History
from services.orchestrator.store.rows import said_to_json, total_from_row, user_from_row
from shared.postgres.pool import Connection, Pool
from shared.recent import RecentStates

# The life of who is new: a deletion is a transaction, so whoever is not there after it finds a greater number than
# whoever was not there before.
_LOAD: Final = """
    SELECT wanted.user_id AS wanted_user, wanted.metric AS wanted_metric,
           (SELECT version FROM configuration_version) AS configuration,
           (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint) AS new_life,
           u.user_id, u.guard, u.version, u.entry_count, u.said, u.create_time, u.standing,
           u.merged_into, u.life,
           t.total_micros, t.peak_micros, t.gross_micros, t.event_count, t.version AS total_version,
           t.newest_time, t.newest_id
      FROM unnest($1::text[], $2::text[]) AS wanted (user_id, metric)
      LEFT JOIN users u ON u.user_id = wanted.user_id
      LEFT JOIN totals t ON t.user_id = wanted.user_id AND t.metric = wanted.metric
"""

_LOAD_VALUES: Final = """
    SELECT v.user_id, v.metric, v.value, v.first_time, v.first_id
      FROM unnest($1::unique_value_key[]) AS wanted
      JOIN unique_values v USING (user_id, metric, value)
"""

_STORE_GROUP: Final = """
    WITH ledger AS (
        INSERT INTO entries (entry_id, kind, user_id, metric, value_micros, unique_value, position, occur_time,
                             receive_time, digest, request, entry, origin, actor, reason, other_user_ids, live)
        SELECT e.*, true
          FROM unnest($1::entry_row[]) AS e
    ), started AS (
        INSERT INTO sagas (entry_id, user_id, state, instance, create_time, next_attempt_time)
        SELECT s.entry_id, s.user_id, 1, $2, s.receive_time, clock_timestamp()
          FROM unnest($1::entry_row[]) AS s
    ), known AS (
        UPDATE users
           SET guard = batch.guard, version = batch.version, entry_count = batch.entry_count, said = batch.said,
               create_time = batch.create_time, merged_into = batch.merged_into
          FROM unnest($3::user_row_5[]) AS batch
         WHERE users.user_id = batch.user_id AND users.guard = batch.guard - 1 AND users.life = batch.life
        RETURNING 1
    ), new AS (
        INSERT INTO users (user_id, guard, version, entry_count, said, create_time, standing,
                           merged_into, life)
        SELECT * FROM unnest($3::user_row_5[]) AS batch WHERE batch.guard = 1
        ON CONFLICT (user_id) DO NOTHING
        RETURNING 1
    ), sums AS (
        INSERT INTO totals (user_id, metric, total_micros, peak_micros, gross_micros, event_count, version,
                            newest_time, newest_id)
        SELECT * FROM unnest($4::total_row[])
        ON CONFLICT (user_id, metric) DO UPDATE
           SET total_micros = excluded.total_micros, peak_micros = excluded.peak_micros,
               gross_micros = excluded.gross_micros, event_count = excluded.event_count,
               version = excluded.version, newest_time = excluded.newest_time, newest_id = excluded.newest_id
    ), counted AS (
        INSERT INTO unique_values (user_id, metric, value, first_time, first_id)
        SELECT * FROM unnest($5::unique_value_row_2[])
        ON CONFLICT (user_id, metric, value) DO UPDATE
           SET first_time = excluded.first_time, first_id = excluded.first_id
    ), keys AS (
        INSERT INTO entry_keys (key_id, entry_id)
        SELECT * FROM unnest($6::entry_key_row[])
    )
    SELECT require_rows((SELECT count(*) FROM known) + (SELECT count(*) FROM new), cardinality($3::user_row_5[])),
           require_rows((SELECT count(*) FROM configuration_version WHERE version = $7), 1){others}
"""
_STORE: Final = _STORE_GROUP.format(others="")

# Of whom an entry concerns besides its user nothing is written, so the guard stays; but nobody may have been deleted,
# merged or taken for another meanwhile. OFFSET 0: by key, whatever the planner thinks of a table while it is young.
_STORE_WITH_OTHERS: Final = _STORE_GROUP.format(
    others=""",
           require_rows((SELECT count(*)
                           FROM unnest($8::text[], $9::bigint[], $10::smallint[]) AS other (user_id, life, standing),
                                LATERAL (SELECT 1
                                           FROM users
                                          WHERE user_id = other.user_id AND life = other.life
                                            AND standing = other.standing AND merged_into IS NULL
                                         OFFSET 0) AS same),
                        cardinality($8::text[]))
"""
)

_STORE_FEED: Final = """
    UPDATE feed_cursors SET cursor = $3 WHERE feed = $1 AND cursor = $2
"""

_TELL: Final = TELL.format(rows="$1", condition="true")

# Who has a key is known by it; others, such as changes of a feed, by their id.
_KNOWN: Final = """
    SELECT asked.identity, asked.entry_id, e.digest, s.state, s.reply, s.rejection
      FROM (SELECT key_id AS identity, entry_id FROM entry_keys WHERE key_id = ANY($1::uuid[])
             UNION ALL
            SELECT id, id FROM unnest($2::uuid[]) AS id) AS asked
      LEFT JOIN entries e ON e.entry_id = asked.entry_id
      LEFT JOIN sagas s ON s.entry_id = asked.entry_id
     WHERE e.entry_id IS NOT NULL OR asked.identity = ANY($1::uuid[])
"""

_ANY_LIFE: Final = 0

_CURSOR: Final = "SELECT cursor FROM feed_cursors WHERE feed = $1"


class Known(Struct, frozen=True):
    """An entry that was recorded before, and its answer if there is one."""

    entry_id: UUID
    digest: bytes
    state: State | None
    """None once the saga, and with it the answer, is not kept any more."""
    reply: bytes | None
    rejection: bytes | None


class Stored(Struct, frozen=True):
    """A user as stored, with those totals that were asked for so far; None where there is none."""

    guard: int
    entry_count: int
    user: User
    totals: Mapping[str, Total | None]

    def has(self, metric: str) -> bool:
        """Whether it is known what is stored of this metric; of "" nothing is asked."""
        return not metric or metric in self.totals


class Snapshot(Struct, frozen=True):
    """What a group's recording looks at, as read in one query."""

    loaded: Loaded
    users: Mapping[str, "Stored"]
    """What is stored of each user who is known."""
    configuration: int
    is_guess: bool = False
    """Not all of it was read: some is what was last known. Storing checks it; a refusal has to be decided anew."""


class Feed(Struct, frozen=True):
    """A service's change feed, and the step of its cursor that goes with a recording."""

    step: Step
    after_cursor: str
    through_cursor: str
    findings: Sequence[tuple[UUID, Told]] = ()
    """What is told of what lies between, besides entries."""


class LedgerStore:
    """Reads and writes that record entries."""

    def __init__(self, pool: Pool, history: History, recent_users: int) -> None:
        self._pool = pool
        self._history = history
        self._recent: RecentStates[Stored] = RecentStates(recent_users)

    async def load(self, group: Sequence[Incoming]) -> Snapshot:
        """What is stored about the users and metrics of the group; of those who came lately without asking."""
        wanted: dict[str, set[str]] = {}
        for item in group:
            wanted.setdefault(item.patch.user_id, set()).add(item.event.metric if item.event else "")
            for user_id in item.other_user_ids:
                wanted.setdefault(user_id, set()).add("")
        # Which life a user is in stands in what is kept: the statement that stores checks it.
        known = self._recent.known(dict.fromkeys(wanted, _ANY_LIFE))
        users = {
            user_id: stored
            for user_id, stored in known.items()
            if all(stored.has(metric) for metric in wanted[user_id])
        }
        missing = sorted(
            (user_id, metric)
            for user_id, metrics in wanted.items()
            if user_id not in users
            for metric in metrics
        )
        is_guess = bool(users)
        life = 0
        if missing or self._recent.configuration_version is None:
            read, life = await self._read(missing)
            users |= read
        assert self._recent.configuration_version is not None
        totals = {
            (user_id, metric): total
            for user_id, stored in users.items()
            for metric, total in stored.totals.items()
            if total is not None
        }
        loaded = Loaded(
            {user_id: stored.user for user_id, stored in users.items()},
            totals,
            guards={user_id: stored.guard for user_id, stored in users.items()},
            life=life,
        )
        return Snapshot(loaded, users, self._recent.configuration_version, is_guess)

    def forget(self, group: Iterable[Incoming]) -> None:
        """What was known of the users of a group, and of the definitions, may not hold: it is to be read."""
        self._recent.forget(user_id for item in group for user_id in item.user_ids)
        self._recent.configuration_version = None

    async def _read(self, wanted: Sequence[tuple[str, str]]) -> tuple[dict[str, Stored], int]:
        """Those of these users who are stored, with the totals that are asked for; and the life of the others."""
        rows = await self._pool.fetch(
            _LOAD, [user for user, _ in wanted] or [""], [metric for _, metric in wanted] or [""]
        )
        self._recent.configuration_version = rows[0]["configuration"]
        users: dict[str, Stored] = {}
        for row in rows:
            user_id, metric = row["wanted_user"], row["wanted_metric"]
            if row["user_id"] is None:
                continue
            stored = users.get(user_id) or Stored(row["guard"], row["entry_count"], user_from_row(row), {})
            if metric:
                total = None if row["total_version"] is None else total_from_row(row)
                stored = replace(stored, totals={**stored.totals, metric: total})
            users[user_id] = stored
        return users, rows[0]["new_life"]

    async def firsts(self, values: Iterable[ValueKey]) -> dict[ValueKey, InTime]:
        """Of those of these values that have been counted, the first event in the order of times."""
        wanted = sorted(set(values))
        if not wanted:
            return {}
        rows = await self._pool.fetch(_LOAD_VALUES, wanted)
        return {
            (row["user_id"], row["metric"], row["value"]): (row["first_time"], row["first_id"])
            for row in rows
        }

    async def with_history(self, loaded: Loaded, wanted: Wanted) -> Loaded:
        """What is loaded, with what comes late asks for."""
        spoken = dict(loaded.spoken)
        for user_id, read in sorted(wanted.statements.items()):
            spoken[user_id] = Spoken(read, await self._history.statements(self._pool, user_id, read))
        facts = dict(loaded.facts)
        for (user_id, metric), since in sorted(wanted.facts.items()):
            facts[user_id, metric] = await self._history.facts(self._pool, user_id, metric, since)
        return replace(loaded, spoken=spoken, facts=facts)

    async def store(
        self,
        recorded: Sequence[tuple[Recorded, bytes]],
        outcome: Outcome,
        snapshot: Snapshot,
        instance: str,
        feed: Feed | None = None,
    ) -> None:
        """Stores recorded entries, each with the bytes that participants are told.

        Raises asyncpg.SerializationError when a user moved meanwhile or the feed was followed by another, and
        asyncpg.UniqueViolationError when an entry or its key is known already; then nothing is stored.
        """
        users = _stored_users(recorded, outcome, snapshot)
        arguments = [
            [_entry_row(item, entry) for item, entry in recorded],
            instance,
            [_user_row(user_id, stored) for user_id, stored in sorted(users.items())],
            [_total_row(*key, total) for key, total in sorted(outcome.totals.items())],
            [(*key, *first) for key, first in sorted(outcome.new_firsts.items())],
            _entry_key_rows(recorded),
            snapshot.configuration,
        ]
        store = _STORE
        if others := _others(recorded, users):
            store = _STORE_WITH_OTHERS
            arguments += map(list, zip(*others, strict=True))
        user_ids = {user_id for item, _ in recorded for user_id in item.incoming.user_ids}
        with self._recent.stored(user_ids, guessed=snapshot.is_guess):
            await self._execute(store, arguments, feed, empty=not recorded)
        self._recent.keep(users, dict.fromkeys(users, _ANY_LIFE))

    async def _execute(
        self, store: str, arguments: Sequence[object], feed: Feed | None, *, empty: bool
    ) -> None:
        if feed is None:
            await self._pool.execute(store, *arguments)
            return
        async with self._pool.acquire() as connection, connection.transaction():
            # First: of two who follow the same, the second waits here and then has nothing to record.
            await self._advance(connection, feed)
            if feed.findings:
                await connection.execute(_TELL, rows_of(feed.findings))
            if not empty:
                await connection.execute(store, *arguments)

    async def known(self, group: Iterable[Incoming]) -> dict[UUID, Known | None]:
        """Those of these that have been recorded, by identity; None for one that is not kept any more."""
        keys = [item.key_id for item in group if item.key_id]
        ids = [item.entry_id for item in group if not item.key_id]
        return {row["identity"]: _known(row) for row in await self._pool.fetch(_KNOWN, keys, ids)}

    async def known_entry(self, entry_id: UUID) -> Known | None:
        """An entry that was recorded before; None for one that was not, or is not kept any more."""
        row = await self._pool.fetchrow(_KNOWN, [], [entry_id])
        return None if row is None else _known(row)

    async def cursor(self, step: Step) -> str:
        """How far the feed of a service has been recorded."""
        cursor: str = await self._pool.fetchval(_CURSOR, step.value)
        return cursor

    @staticmethod
    async def _advance(connection: Connection, feed: Feed) -> None:
        status = await connection.execute(
            _STORE_FEED, feed.step.value, feed.after_cursor, feed.through_cursor
        )
        await connection.execute("SELECT require_rows($1, 1)", int(status.rsplit(" ", 1)[1]))


def _known(row: Record) -> Known | None:
    if row["digest"] is None:
        return None
    state = None if row["state"] is None else State(row["state"])
    return Known(row["entry_id"], row["digest"], state, row["reply"], row["rejection"])


def _entry_key_rows(recorded: Sequence[tuple[Recorded, bytes]]) -> list[tuple[UUID, UUID]]:
    """In order: two replicas that record the same must not wait for each other in a circle. As numbers ids are compared
    in C.
    """
    rows = [(key, item.incoming.entry_id) for item, _ in recorded if (key := item.incoming.key_id)]
    return sorted(rows, key=_key_number)


def _key_number(row: tuple[UUID, UUID]) -> int:
    return row[0].int


def _entry_row(item: Recorded, entry: bytes) -> tuple[object, ...]:
    incoming = item.incoming
    return (
        incoming.entry_id,
        incoming.operation,
        incoming.patch.user_id,
        incoming.event.metric if incoming.event else None,
        incoming.event.value_micros if incoming.event else None,
        item.unique_value,
        item.after.version if item.after else None,
        incoming.occur_time,
        incoming.now,
        incoming.digest,
        incoming.request,
        entry,
        incoming.origin,
        incoming.actor or None,
        incoming.reason or None,
        list(incoming.other_user_ids) or None,
    )


def _stored_users(
    recorded: Sequence[tuple[Recorded, bytes]], outcome: Outcome, snapshot: Snapshot
) -> dict[str, Stored]:
    """The users as they are stored after a recording."""
    added: dict[str, int] = {}
    for item, _ in recorded:
        user_id = item.incoming.patch.user_id
        added[user_id] = added.get(user_id, 0) + item.incoming.counted
    totals: dict[str, dict[str, Total | None]] = {}
    for (user_id, metric), total in outcome.totals.items():
        totals.setdefault(user_id, {})[metric] = total
    users = {}
    for user_id, user in outcome.users.items():
        before = snapshot.users.get(user_id)
        users[user_id] = Stored(
            guard=before.guard + 1 if before else 1,
            entry_count=(before.entry_count if before else 0) + added.get(user_id, 0),
            user=user,
            totals={**(before.totals if before else {}), **totals.get(user_id, {})},
        )
    return users


def _others(
    recorded: Sequence[tuple[Recorded, bytes]], users: Mapping[str, Stored]
) -> list[tuple[str, int, int]]:
    """Whom entries concern besides those who are stored, as they were taken for."""
    return sorted(
        {
            (other.user_id, other.life, other.standing)
            for item, _ in recorded
            for other in item.others
            if other.user_id not in users
        }
    )


def _user_row(user_id: str, stored: Stored) -> tuple[object, ...]:
    user = stored.user
    return (
        user_id,
        stored.guard,
        user.version,
        stored.entry_count,
        said_to_json(user.said),
        user.create_time,
        user.standing,
        user.merged_into or None,
        user.life,
    )


def _total_row(user_id: str, metric: str, total: Total) -> tuple[object, ...]:
    return (
        user_id,
        metric,
        total.total_micros,
        total.peak_micros,
        total.gross_micros,
        total.event_count,
        total.version,
        total.newest_time,
        total.newest_id,
    )
