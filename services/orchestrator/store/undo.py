"""Taking an entry out of the ledger: the total and the user as though it had never been (RULES 7.3)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import Struct
from msgspec.structs import replace

from services.orchestrator.contributions import NOT_ASKED, Arrivals, Revisions, revisions_without
from services.orchestrator.domain import (
    MICROS,
    Aggregation,
    Fact,
    Total,
    User,
    can_subtract,
    in_time,
    needs_greatest,
    needs_newest,
    says_the_same,
    subtract_fact,
    without_extreme,
    without_value,
)
from services.orchestrator.recording import first_sequence
from services.orchestrator.said import (
    Reading,
    Said,
    UserPatch,
    micros_of,
    pruned,
    rebuild,
    to_read_without,
    without,
)
from services.orchestrator.store.history import History, fact_from_row
from services.orchestrator.store.rows import said_to_json, total_from_row, user_from_row
from shared.postgres.pool import Connection, Pool

_LOCK_USER: Final = "SELECT * FROM users WHERE user_id = $1 FOR UPDATE"

_ENTRY: Final = """
    SELECT entry_id, kind, user_id, metric, value_micros, unique_value, position, occur_time, live, request
      FROM entries WHERE entry_id = $1 FOR UPDATE
"""

_TOTAL: Final = """
    SELECT total_micros, peak_micros, gross_micros, event_count, version AS total_version, newest_time,
           newest_id
      FROM totals WHERE user_id = $1 AND metric = $2
"""

# A sum and its peak, in the order in which the events were recorded. OFFSET 0: see `history`.
_SUM: Final = """
    SELECT count(*) AS event_count, coalesce(sum(value_micros), 0)::bigint AS total_micros,
           coalesce(sum(abs(value_micros)), 0)::bigint AS gross_micros,
           coalesce(max(running), 0)::bigint AS peak_micros
      FROM (SELECT value_micros, sum(value_micros) OVER (ORDER BY position) AS running
              FROM (SELECT * FROM entries WHERE user_id = $1 AND live OFFSET 0) AS own
             WHERE metric = $2) AS folded
"""

_TAKE_OUT: Final = "UPDATE entries SET live = false WHERE entry_id = $1"

_STORE_TOTAL: Final = """
    UPDATE totals
       SET total_micros = $3, peak_micros = $4, gross_micros = $5, event_count = $6, version = $7,
           newest_time = $8, newest_id = $9
     WHERE user_id = $1 AND metric = $2
"""

_FORGET_VALUE: Final = "DELETE FROM unique_values WHERE user_id = $1 AND metric = $2 AND value = $3"

_FIRST_ID: Final = "SELECT first_id FROM unique_values WHERE user_id = $1 AND metric = $2 AND value = $3"

_STORE_FIRST: Final = """
    UPDATE unique_values SET first_time = $4, first_id = $5 WHERE user_id = $1 AND metric = $2 AND value = $3
"""

_STORE_USER: Final = """
    UPDATE users SET guard = guard + 1, entry_count = entry_count - $2, version = $3, said = $4::jsonb
     WHERE user_id = $1
"""

_STORE_CORRECTION: Final = """
    WITH ledger AS (
        INSERT INTO entries (entry_id, kind, user_id, occur_time, receive_time, digest, request, entry,
                             origin_id, live)
        VALUES ($2, $3, $4, $5, $6, '', '', $7, $1, false)
    )
    UPDATE sagas SET correction = $7 WHERE entry_id = $1
"""


class Contributed(Struct, frozen=True):
    """What the other events of a metric that is no sum contribute without the one that is taken out."""

    revisions: Revisions
    arrivals: Arrivals = NOT_ASKED
    """What they contributed as they came, where today's contributions do not say it."""
    one_value: bool = False
    """The total is the value of one event: of MAX and LAST."""


class TakenOut(Struct, frozen=True):
    """What is left without the entry."""

    user: User
    user_sequence: int
    user_changed: bool
    metric: str | None
    before: Total | None
    after: Total | None
    contributed: Contributed | None
    """None where the metric is a sum, or there is none."""
    occur_time: datetime


class UndoStore:
    """Takes entries out."""

    def __init__(self, pool: Pool, history: History, counted: Collection[str]) -> None:
        self._pool = pool
        self._history = history
        self._counted = counted
        """Operations that make a user exist."""

    async def take_out(
        self,
        entry_id: UUID,
        correction_id: UUID,
        now: datetime,
        aggregations: Mapping[str, Aggregation],
        correction_of: Callable[[TakenOut], bytes],
    ) -> bytes:
        """Takes the entry out and stores the correction that participants are told; returns the correction.

        One transaction. Done before, it returns the same correction again.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            entry = await connection.fetchrow(_ENTRY, entry_id)
            assert entry is not None
            if not entry["live"]:
                stored = await connection.fetchval(
                    "SELECT correction FROM sagas WHERE entry_id = $1", entry_id
                )
                assert stored is not None
                return bytes(stored)
            row = await connection.fetchrow(_LOCK_USER, entry["user_id"])
            assert row is not None
            await connection.execute(_TAKE_OUT, entry_id)
            before, after, contributed = await self._recount(connection, entry, aggregations)
            known = user_from_row(row)
            user = await self._unsay(connection, known, entry)
            left = TakenOut(
                user=user,
                user_sequence=first_sequence(row["guard"]),
                user_changed=not says_the_same(user.said, known.said),
                metric=entry["metric"],
                before=before,
                after=after,
                contributed=contributed,
                occur_time=entry["occur_time"],
            )
            correction = correction_of(left)
            await connection.execute(
                _STORE_CORRECTION,
                entry_id,
                correction_id,
                "correction",
                entry["user_id"],
                entry["occur_time"],
                now,
                correction,
            )
            return correction

    async def _recount(
        self, connection: Connection, entry: Record, aggregations: Mapping[str, Aggregation]
    ) -> tuple[Total | None, Total | None, Contributed | None]:
        if entry["metric"] is None:
            return None, None, None
        key = (entry["user_id"], entry["metric"])
        aggregation = aggregations[str(entry["metric"])]
        row = await connection.fetchrow(_TOTAL, *key)
        assert row is not None
        before = total_from_row(row)
        undone = fact_from_row(entry)
        revisions: Revisions | None = None
        around: Sequence[Fact] = ()
        if can_subtract(before, aggregation):
            after = subtract_fact(before, undone)
        elif aggregation is Aggregation.SUM:
            after = await self._summed(connection, key, before)
        elif aggregation is Aggregation.UNIQUE:
            after, revisions = await self._without_value(connection, key, before, undone)
        else:
            around = await self._history.around(connection, *key, aggregation, undone)
            after = await self._without_extreme(connection, key, before, aggregation, undone, around)
            revisions = revisions_without(aggregation, around, undone)
        await connection.execute(
            _STORE_TOTAL,
            *key,
            after.total_micros,
            after.peak_micros,
            after.gross_micros,
            after.event_count,
            after.version,
            after.newest_time,
            after.newest_id,
        )
        if revisions is None:
            return before, after, None
        arrivals = await self._history.as_they_came(connection, *key, aggregation, undone, around)
        one_value = aggregation in (Aggregation.MAX, Aggregation.LAST)
        return before, after, Contributed(revisions, arrivals, one_value)

    @staticmethod
    async def _summed(connection: Connection, key: tuple[str, str], before: Total) -> Total:
        row = await connection.fetchrow(_SUM, *key)
        assert row is not None
        return replace(
            before,
            total_micros=row["total_micros"],
            peak_micros=row["peak_micros"],
            gross_micros=row["gross_micros"],
            event_count=row["event_count"],
            version=before.version + 1,
        )

    async def _without_extreme(
        self,
        connection: Connection,
        key: tuple[str, str],
        before: Total,
        aggregation: Aggregation,
        undone: Fact,
        around: Sequence[Fact],
    ) -> Total:
        """The total of a MAX or LAST metric. What a greatest value of MAX has around it is all that is as great."""
        greatest = newest = None
        if needs_greatest(before, undone):
            if aggregation is Aggregation.MAX:
                greatest = max(around, key=lambda event: event.value_micros, default=None)
            else:
                greatest = await self._history.greatest(connection, *key)
        if needs_newest(before, undone):
            newest = await self._history.newest(connection, *key, in_time(undone))
        return without_extreme(before, aggregation, undone, greatest, newest)

    async def _without_value(
        self, connection: Connection, key: tuple[str, str], before: Total, undone: Fact
    ) -> tuple[Total, Revisions]:
        """The total of a UNIQUE metric. The event's value may have another first event now, or none."""
        value = undone.unique_value
        assert value is not None
        if await connection.fetchval(_FIRST_ID, *key, value) != undone.entry_id:
            return without_value(before, undone, gone=False), ()
        first = await self._history.next_with(connection, *key, value, in_time(undone))
        if first is None:
            await connection.execute(_FORGET_VALUE, *key, value)
            return without_value(before, undone, gone=True), ()
        await connection.execute(_STORE_FIRST, *key, value, *in_time(first))
        return without_value(before, undone, gone=False), ((first.entry_id, MICROS),)

    async def _unsay(self, connection: Connection, user: User, entry: Record) -> User:
        """The user without what the entry said, one version on."""
        said = user.said
        patch = self._history.said_in(entry["kind"], entry["request"])
        read = to_read_without(said, patch, micros_of(entry["occur_time"]))
        if read is not None:
            said = pruned(await self._said_without(connection, user, patch, entry["occur_time"], read))
        left = replace(user, said=said, version=user.version + 1)
        counted = int(entry["kind"] in self._counted)
        await connection.execute(_STORE_USER, user.user_id, counted, left.version, said_to_json(said))
        return left

    async def _said_without(
        self, connection: Connection, user: User, patch: UserPatch, occur_time: datetime, read: Reading
    ) -> Said:
        """By what comes next, where that is enough: mostly the same is said again soon."""
        later, until = await self._history.first_statements(connection, user.user_id, occur_time)
        said = without(user.said, patch, micros_of(occur_time), later, until)
        if said is not None:
            return said
        return rebuild(user.said, read, await self._history.statements(connection, user.user_id, read))
