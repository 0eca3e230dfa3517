"""What a participant says and does when it gets again what its database has lost (docs/operations/restore.md)."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import State

LOWEST_ID: Final = UUID(int=0)
HIGHEST_ID: Final = UUID(int=2**128 - 1)

VERSIONS_APART: Final = 2**32
"""So far versions go ahead after healing: no user of whom something was lost had been told of as often."""

# Bounds and order by the key: each partition is read by its index (docs/adr/0010). What the service found by itself it
# does not owe to the ledger.
LOGGED: Final = """
    SELECT entry_id, state FROM request_log
     WHERE entry_id > $1 AND entry_id <= $2 AND digest <> '\\x00' ORDER BY entry_id LIMIT $3
"""
_KNOWN_WRITES: Final = """
    SELECT request_id FROM mutation_log WHERE method = 'write_definitions' AND request_id = ANY($1::text[])
"""
# Users are locked in the order of the key, as by whoever decides about them. Who has decided already finds them moved.
_RAISE: Final = """
    WITH theirs AS (
        SELECT user_id FROM users WHERE user_id = ANY($1::text[]) ORDER BY user_id FOR UPDATE
    ), moved AS (
        UPDATE users SET version = version + 1 WHERE user_id IN (SELECT user_id FROM theirs)
    )
    UPDATE {table} SET version = version + $2 WHERE user_id IN (SELECT user_id FROM theirs)
"""


async def logged(pool: Pool, after: UUID, through: UUID, limit: int) -> list[tuple[UUID, State]]:
    """Entries between two ids that somebody asked for, and what was made of them."""
    rows = await pool.fetch(LOGGED, after, through, limit)
    return [(row["entry_id"], State(row["state"])) for row in rows]


async def known_writes(connection: Connection, write_ids: Sequence[str]) -> list[str]:
    """Those of these writes of definitions that were made here."""
    return [row["request_id"] for row in await connection.fetch(_KNOWN_WRITES, list(write_ids))]


async def raise_versions(pool: Pool, table: str, user_ids: Sequence[str]) -> None:
    """Let the versions of these users go on from beyond all that others were ever told.

    A database that was put back counts from where it was then; others have been told greater numbers meanwhile, and
    would take what is new for old.
    """
    await pool.execute(_RAISE.format(table=table), sorted(set(user_ids)), VERSIONS_APART)
