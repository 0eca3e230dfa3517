"""The sagas' rows: answers, decisions, ownership."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import Struct

from services.orchestrator.domain_events import Told
from services.orchestrator.saga import UNFINISHED, State, Step
from services.orchestrator.store.domain_events import TELL, rows_of
from shared.postgres.pool import Connection, Pool

# Ids come in order: their bounds tell the partitions (docs/adr/0010). States are arguments, lest the planner take the
# index of the unfinished sagas, all of them for each group, instead of the key. What is set is found by position: a
# join would look cheapest, while the table is empty, with all sagas between the bounds.
# Who was the first to complete an entry tells of it. IS TRUE keeps what was completed a table that is looked up in:
# as a join it would be gone through for each row.
_TELL_COMPLETED: Final = TELL.format(
    rows="$4", condition="(told.entry_id IN (SELECT entry_id FROM completed)) IS TRUE"
)
COMPLETE: Final = f"""
    WITH completed AS (
        UPDATE sagas
           SET state = 3, reply = ($2::bytea[])[array_position($1::uuid[], entry_id)],
               settle_time = clock_timestamp(), last_error = NULL
         WHERE entry_id = ANY($1::uuid[]) AND state = $3
           AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
        RETURNING entry_id
    ), told AS ({_TELL_COMPLETED})
    SELECT entry_id FROM completed
"""

_DECIDE: Final = """
    UPDATE sagas
       SET state = 2, rejection = $2, undo = $3, applied_steps = $4, applied = $5
     WHERE entry_id = $1 AND state = 1
    RETURNING true
"""

# Who is being deleted is left alone, and so is who was merged, but by the merge itself ($6). The lock makes whoever
# begins a deletion wait, who then sees what is decided here.
_DECIDE_VOID: Final = """
    WITH open AS (
        SELECT u.user_id FROM users u
         WHERE u.user_id = (SELECT s.user_id FROM sagas s WHERE s.entry_id = $1)
           AND (u.standing <> 2 AND u.merged_into IS NULL OR $6)
           FOR SHARE
    )
    UPDATE sagas
       SET state = 5, void_reason = $2, void_actor = $4, void_time = $5, instance = $3, attempt_count = 0,
           next_attempt_time = clock_timestamp()
     WHERE entry_id = $1 AND state = 3 AND user_id IN (SELECT user_id FROM open)
    RETURNING true
"""

# Whoever decides for another entry of the user meanwhile waits, and then sees this decision: a statement of its own.
_LOCK_ITS_USER: Final = """
    SELECT user_id FROM users
     WHERE user_id = (SELECT user_id FROM sagas WHERE entry_id = $1)
       FOR NO KEY UPDATE
"""

_VOIDED_NOW: Final = """
    SELECT EXISTS (SELECT FROM sagas WHERE user_id = $1 AND state = 5 AND entry_id <> $2)
"""

_SETTLE: Final = f"""
    WITH settled AS (
        UPDATE sagas
           SET state = $2, void_reply = $3, settle_time = clock_timestamp(), last_error = NULL
         WHERE entry_id = $1 AND state IN (2, 5)
        RETURNING 1
    )
    {TELL.format(rows="$4", condition="EXISTS (SELECT FROM settled)")}
"""

_LEAVE: Final = """
    UPDATE sagas
       SET attempt_count = attempt_count + 1,
           last_error = ($2::text[])[array_position($1::uuid[], entry_id)],
           next_attempt_time = clock_timestamp()
               + make_interval(secs => ($3::float8[])[array_position($1::uuid[], entry_id)]),
           state = CASE WHEN attempt_count + 1 >= $4 THEN 7 ELSE state END,
           parked_state = CASE WHEN attempt_count + 1 >= $4 THEN state ELSE parked_state END
     WHERE entry_id = ANY($1::uuid[]) AND state = ANY($5::smallint[])
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""

_CLAIM: Final = """
    WITH due AS (
        SELECT s.entry_id
          FROM sagas s
         WHERE s.state IN (1, 2, 5)
           AND s.next_attempt_time <= clock_timestamp()
           AND s.entry_id <> ALL ($2::uuid[])
           AND (s.instance = $1 OR NOT EXISTS (
                    SELECT FROM instances i
                     WHERE i.instance = s.instance AND i.lease_until > clock_timestamp()))
         ORDER BY s.next_attempt_time
         LIMIT $3
           FOR UPDATE SKIP LOCKED
    )
    UPDATE sagas s
       SET instance = $1
      FROM due, entries e
     WHERE s.entry_id = due.entry_id AND e.entry_id = due.entry_id
    RETURNING s.entry_id, e.kind, e.entry, e.request, s.state, s.attempt_count, s.rejection, s.undo,
              s.applied_steps, s.applied, s.correction, s.abandon_reason, s.void_time
"""

_STORED: Final = """
    SELECT s.entry_id, e.kind, e.entry, e.request, s.state, s.attempt_count, s.rejection, s.undo,
           s.applied_steps, s.applied, s.correction, s.abandon_reason, s.void_time
      FROM sagas s
      JOIN entries e USING (entry_id)
     WHERE s.entry_id = $1
"""

_VOID_REPLY: Final = "SELECT state, void_reply FROM sagas WHERE entry_id = $1"

_HEARTBEAT: Final = """
    INSERT INTO instances AS mine (instance, start_time, lease_until)
    VALUES ($1, clock_timestamp(), clock_timestamp() + make_interval(secs => $2))
    ON CONFLICT (instance) DO UPDATE SET lease_until = excluded.lease_until
"""

_RELEASE: Final = "DELETE FROM instances WHERE instance = $1"

_FORGET_DEAD: Final = """
    DELETE FROM instances i
     WHERE i.lease_until < clock_timestamp() - interval '1 day'
       AND NOT EXISTS (SELECT FROM sagas s WHERE s.instance = i.instance AND s.state IN (1, 2, 5))
"""

_UNPARK: Final = """
    UPDATE sagas
       SET state = parked_state, parked_state = NULL, attempt_count = 0, next_attempt_time = clock_timestamp(),
           abandon_reason = coalesce($2, abandon_reason)
     WHERE entry_id = $1 AND state = 7
    RETURNING true
"""

# Counted apart, because each has an index of its own: together they would be looked for among all sagas.
_BACKLOG: Final = """
    SELECT open.unfinished, stuck.parked,
           coalesce(extract(epoch FROM clock_timestamp() - open.oldest), 0) AS oldest_seconds
      FROM (SELECT count(*) AS unfinished, min(create_time) AS oldest
              FROM sagas WHERE state IN (1, 2, 5)) AS open,
           (SELECT count(*) AS parked FROM sagas WHERE state = 7) AS stuck
"""


class StoredSaga(Struct, frozen=True):
    """An unfinished saga as it has to be gone on with."""

    entry_id: UUID
    operation: str
    entry: bytes
    request: bytes
    state: State
    attempt_count: int
    rejection: bytes | None
    undo: tuple[Step, ...]
    applied: Mapping[Step, bytes]
    correction: bytes | None
    abandon_reason: str | None
    void_time: datetime | None
    """When it was decided to void it."""


class Completed(Struct, frozen=True):
    """An entry that every participant has applied."""

    entry_id: UUID
    reply: bytes
    told: Told | None = None
    """None where nothing is told of it."""


class Backlog(Struct, frozen=True):
    """How much is open, and the age of the oldest unfinished saga in seconds."""

    unfinished: int
    parked: int
    oldest_seconds: float


class SagaStore:
    """Reads and writes of sagas."""

    def __init__(self, pool: Pool, instance: str) -> None:
        self._pool = pool
        self._instance = instance

    async def complete(self, completed: Sequence[Completed]) -> set[UUID]:
        """Stores replies and tells of their entries, which come in the order in which they were recorded.

        The result are the entries for which it was the first to do so.
        """
        rows = await self._pool.fetch(COMPLETE, *complete_arguments(completed))
        return {row["entry_id"] for row in rows}

    async def decide(
        self, entry_id: UUID, rejection: bytes, undo: Sequence[Step], applied: Mapping[Step, bytes]
    ) -> bool:
        """Makes the decision to undo durable. False when the saga is not running any more."""
        arguments = [[step.value for step in undo], [step.value for step in applied], list(applied.values())]
        return bool(await self._pool.fetchval(_DECIDE, entry_id, rejection, *arguments))

    async def decide_void(
        self, entry_id: UUID, reason: str, actor: str, now: datetime, *, moved: bool = False
    ) -> bool:
        """Makes the decision to void a finished entry durable. False when it is not finished or voided already, or
        another entry of the user is being voided, by whichever replica: what follows from one void is told before the
        next begins. False too when the user was merged or is being deleted, unless it has been `moved` to another: a
        deletion waits for the merges that were under way.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            user_id = await connection.fetchval(_LOCK_ITS_USER, entry_id)
            if await connection.fetchval(_VOIDED_NOW, user_id, entry_id):
                return False
            arguments = (entry_id, reason, self._instance, actor, now, moved)
            return bool(await connection.fetchval(_DECIDE_VOID, *arguments))

    async def settle(
        self, entry_id: UUID, state: State, void_reply: bytes | None, told: Told | None = None
    ) -> None:
        """Ends a saga that went backwards, and tells of what that changed."""
        await self._pool.execute(_SETTLE, entry_id, state, void_reply, rows_of([(entry_id, told)]))

    async def leave(self, failures: Sequence[tuple[UUID, str, float]], park_after: int) -> None:
        """Leaves sagas to recovery: (entry, error, pause in seconds). Parks those that failed too often."""
        ordered = sorted(failures)
        await self._pool.execute(
            _LEAVE,
            [failure[0] for failure in ordered],
            [failure[1] for failure in ordered],
            [failure[2] for failure in ordered],
            park_after,
            list(UNFINISHED),
        )

    async def claim(self, in_hand: Collection[UUID], limit: int) -> list[StoredSaga]:
        """Takes over sagas that are due: this instance's own that nobody has in hand, and those of the dead."""
        rows = await self._pool.fetch(_CLAIM, self._instance, list(in_hand), limit)
        return [from_row(row) for row in rows]

    async def stored(self, entry_id: UUID) -> StoredSaga | None:
        """One saga, whatever its state."""
        row = await self._pool.fetchrow(_STORED, entry_id)
        return None if row is None else from_row(row)

    async def void_reply(self, entry_id: UUID) -> tuple[State, bytes | None] | None:
        """State and void reply of an entry; None for an unknown one, and once its saga is not kept any more."""
        row = await self._pool.fetchrow(_VOID_REPLY, entry_id)
        return None if row is None else (State(row["state"]), row["void_reply"])

    async def unpark(self, connection: Connection, entry_id: UUID, abandon_reason: str | None = None) -> bool:
        """Puts a parked saga to work again, given up if there is a reason. False when it is not parked."""
        return bool(await connection.fetchval(_UNPARK, entry_id, abandon_reason))

    async def heartbeat(self, lease_seconds: float) -> None:
        """Renews this instance's lease."""
        await self._pool.execute(_HEARTBEAT, self._instance, lease_seconds)

    async def release(self) -> None:
        """Gives the lease up, so that others take over at once."""
        await self._pool.execute(_RELEASE, self._instance)

    async def forget_dead(self) -> None:
        """Deletes instances that have been dead for a day and own nothing."""
        await self._pool.execute(_FORGET_DEAD)

    async def backlog(self) -> Backlog:
        """What is open."""
        row = await self._pool.fetchrow(_BACKLOG)
        assert row is not None
        return Backlog(row["unfinished"], row["parked"], float(row["oldest_seconds"]))


def complete_arguments(completed: Sequence[Completed]) -> tuple[object, ...]:
    """Those of `COMPLETE`."""
    ordered = sorted(completed, key=_place)
    return (
        [saga.entry_id for saga in ordered],
        [saga.reply for saga in ordered],
        State.RUNNING,
        rows_of((saga.entry_id, saga.told) for saga in completed),
    )


def _place(completed: Completed) -> int:
    """That of its id. As numbers ids are compared in C."""
    return completed.entry_id.int


def from_row(row: Record, state: State | None = None) -> StoredSaga:
    """A saga with its entry, from a row with the columns that are read here; `state` where it is not stored."""
    applied = zip(row["applied_steps"] or (), row["applied"] or (), strict=True)
    return StoredSaga(
        entry_id=row["entry_id"],
        operation=row["kind"],
        entry=row["entry"],
        request=row["request"],
        state=state or State(row["state"]),
        attempt_count=row["attempt_count"],
        rejection=row["rejection"],
        undo=tuple(Step(step) for step in row["undo"] or ()),
        applied={Step(step): body for step, body in applied},
        correction=row["correction"],
        abandon_reason=row["abandon_reason"],
        void_time=row["void_time"],
    )


def due_pause(attempt: int, base_seconds: float, longest_seconds: float, jitter: float) -> float:
    """Seconds to wait before attempt number `attempt` + 1: doubling, capped, with jitter in [0, 1)."""
    return min(base_seconds * 2.0 ** min(attempt, 30), longest_seconds) * (0.5 + jitter / 2)
