"""Taking an entry out of the ledger: the total and the user as though it had never been (RULES 7.3)."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import Struct

from services.orchestrator.domain import (
    Aggregation,
    Fact,
    Total,
    User,
    UserPatch,
    can_subtract,
    fold_total,
    fold_user,
    says_the_same,
    subtract_fact,
)
from services.orchestrator.recording import first_sequence
from services.orchestrator.store.rows import attributes_to_json, total_from_row, user_from_row
from shared.postgres.pool import Connection, Pool

_LOCK_USER: Final = "SELECT * FROM users WHERE user_id = $1 FOR UPDATE"

_ENTRY: Final = """
    SELECT entry_id, kind, user_id, metric, value_micros, unique_value, position, occur_time, live
      FROM entries WHERE entry_id = $1 FOR UPDATE
"""

_TOTAL: Final = """
    SELECT total_micros, peak_micros, gross_micros, event_count, version AS total_version, newest_time,
           newest_id
      FROM totals WHERE user_id = $1 AND metric = $2
"""

# OFFSET 0, here and below, keeps the planner from the index by metric, which holds the events of all users: while the
# table is empty it looks as good as that by user.
_LIVE_FACTS: Final = """
    SELECT entry_id, value_micros, unique_value, position, occur_time
      FROM (SELECT * FROM entries WHERE user_id = $1 AND live OFFSET 0) AS own
     WHERE metric = $2
"""

_LIVE_REQUESTS: Final = """
    SELECT kind, request, occur_time FROM entries
     WHERE user_id = $1 AND live AND kind = ANY($2::text[])
     ORDER BY receive_time, entry_id
"""

_TAKE_OUT: Final = "UPDATE entries SET live = false WHERE entry_id = $1"

_STORE_TOTAL: Final = """
    UPDATE totals
       SET total_micros = $3, peak_micros = $4, gross_micros = $5, event_count = $6, version = $7,
           newest_time = $8, newest_id = $9
     WHERE user_id = $1 AND metric = $2
"""

_FORGET_VALUE: Final = """
    DELETE FROM unique_values v
     WHERE v.user_id = $1 AND v.metric = $2 AND v.value = $3
       AND NOT EXISTS (SELECT FROM (SELECT * FROM entries WHERE user_id = $1 AND live OFFSET 0) AS own
                        WHERE own.metric = $2 AND own.unique_value = $3)
"""

_STORE_USER: Final = """
    UPDATE users
       SET guard = guard + 1, entry_count = entry_count - $2, version = $3, name = $4, name_time = $5,
           time_zone = $6, zone_time = $7, attributes = $8::jsonb
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


class TakenOut(Struct, frozen=True):
    """What is left without the entry."""

    user: User
    user_sequence: int
    user_changed: bool
    metric: str | None
    before: Total | None
    after: Total | None
    occur_time: datetime


class UndoStore:
    """Takes entries out."""

    def __init__(
        self, pool: Pool, counted: Sequence[str], patch_of: Callable[[str, bytes], UserPatch]
    ) -> None:
        self._pool = pool
        self._counted = counted
        """Operations that make a user exist."""
        self._patch_of = patch_of
        """What the stored request of such an operation said about the user."""

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
            before, after = await self._recount(connection, entry, aggregations)
            known = user_from_row(row)
            user = await self._refold_user(connection, known, entry["kind"])
            left = TakenOut(
                user=user,
                user_sequence=first_sequence(row["guard"]),
                user_changed=not says_the_same(user, known),
                metric=entry["metric"],
                before=before,
                after=after,
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
    ) -> tuple[Total | None, Total | None]:
        if entry["metric"] is None:
            return None, None
        key = (entry["user_id"], entry["metric"])
        aggregation = aggregations[str(entry["metric"])]
        row = await connection.fetchrow(_TOTAL, *key)
        assert row is not None
        before = total_from_row(row)
        undone = _fact(entry)
        if can_subtract(before, aggregation):
            after = subtract_fact(before, undone)
        else:
            facts = [_fact(fact) for fact in await connection.fetch(_LIVE_FACTS, *key)]
            after = fold_total(before.version, aggregation, facts)
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
        if undone.unique_value is not None:
            await connection.execute(_FORGET_VALUE, *key, undone.unique_value)
        return before, after

    async def _refold_user(self, connection: Connection, user: User, operation: str) -> User:
        rows = await connection.fetch(_LIVE_REQUESTS, user.user_id, self._counted)
        patches = [(self._patch_of(row["kind"], row["request"]), row["occur_time"]) for row in rows]
        refolded = fold_user(user, patches)
        await connection.execute(
            _STORE_USER,
            user.user_id,
            int(operation in self._counted),
            refolded.version,
            refolded.name.value if refolded.name else None,
            refolded.name.said if refolded.name else None,
            refolded.time_zone.value if refolded.time_zone else None,
            refolded.time_zone.said if refolded.time_zone else None,
            attributes_to_json(refolded.attributes),
        )
        return refolded


def _fact(row: Record) -> Fact:
    return Fact(
        entry_id=row["entry_id"],
        value_micros=row["value_micros"],
        occur_time=row["occur_time"],
        position=row["position"],
        unique_value=row["unique_value"],
    )
