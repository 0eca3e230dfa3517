"""The SQL of maintenance: what is due."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from services.streak.rows import Key, columns_of, key_of
from shared.postgres.pool import Connection, Pool

IS_DUE: Final = "SELECT EXISTS (SELECT FROM streak_states WHERE next_close_time <= $1)"
DUE: Final = """
    SELECT user_id, streak, next_close_time FROM streak_states
     WHERE next_close_time <= $1
     ORDER BY next_close_time, user_id, streak
     LIMIT $2
"""
PARK: Final = """
    UPDATE streak_states SET next_close_time = NULL
      FROM unnest($1::text[], $2::text[]) AS parked (user_id, streak)
     WHERE streak_states.user_id = parked.user_id AND streak_states.streak = parked.streak
"""
LOCK_MAINTENANCE: Final = "SELECT pg_advisory_xact_lock($1)"
# "streaks": one pass at a time, so that no two close the same.
MAINTENANCE_LOCK: Final = 0x73_7472_6561_6B73


class MaintenanceStore:
    """What is due."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def is_due(self, now: datetime) -> bool:
        """Whether any period is to be closed at `now`."""
        due: bool = await self._pool.fetchval(IS_DUE, now)
        return due

    async def due(self, connection: Connection, now: datetime, limit: int) -> dict[Key, datetime]:
        """What is to be closed at `now`, longest due first, and since when; nobody else closes meanwhile."""
        await connection.execute(LOCK_MAINTENANCE, MAINTENANCE_LOCK)
        rows = await connection.fetch(DUE, now, limit)
        return {key_of(row): row["next_close_time"] for row in rows}

    async def park(self, connection: Connection, keys: Collection[Key]) -> None:
        """Close these no more: their definitions are gone."""
        if keys:
            await connection.execute(PARK, *columns_of(sorted(keys), 2))
