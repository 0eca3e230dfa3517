"""How far the feed has been followed, and where it was when."""

from datetime import datetime, timedelta
from typing import Final

from shared.postgres.pool import Connection, Pool

BETWEEN_WAYPOINTS: Final = timedelta(minutes=1)

_CURSOR: Final = "SELECT cursor FROM followed"
_LOCK_CURSOR: Final = "SELECT cursor FROM followed FOR UPDATE"
_MOVE: Final = "UPDATE followed SET cursor = $2 WHERE cursor IS NOT DISTINCT FROM $1 RETURNING true"
_ADD_WAYPOINT: Final = """
    INSERT INTO waypoints (told_time, cursor)
    SELECT $1::timestamptz, $2::text
     WHERE NOT EXISTS (SELECT FROM waypoints WHERE told_time > $1::timestamptz - $3::interval)
        ON CONFLICT DO NOTHING
"""
_WAYPOINT: Final = "SELECT cursor FROM waypoints WHERE told_time <= $1 ORDER BY told_time DESC LIMIT 1"
_TRIM_WAYPOINTS: Final = "DELETE FROM waypoints WHERE told_time < $1"


class FollowingStore:
    """The one row of the cursor, and the waypoints."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def cursor(self, connection: Connection | None = None) -> str | None:
        """Up to where all follow; None: nobody has yet. Whoever has a connection asks on it."""
        found: str | None = await (connection or self._pool).fetchval(_CURSOR)
        return found

    async def lock_cursor(self, connection: Connection) -> str | None:
        """The same; nobody moves it before this transaction ends."""
        found: str | None = await connection.fetchval(_LOCK_CURSOR)
        return found

    async def move(self, connection: Connection, before: str | None, after: str) -> bool:
        """Move the cursor on, unless another has: then nothing of the page may be stored."""
        return bool(await connection.fetchval(_MOVE, before, after))

    async def add_waypoint(self, connection: Connection, told_time: datetime, cursor: str) -> None:
        """Note where the feed was, once a minute at most. `cursor` lies before all that is told from then on."""
        await connection.execute(_ADD_WAYPOINT, told_time, cursor, BETWEEN_WAYPOINTS)

    async def waypoint(self, told_time: datetime, connection: Connection | None = None) -> str:
        """A cursor before all that was told since; the beginning of the feed where nothing is known of that time.
        Whoever has a connection asks on it.
        """
        return await (connection or self._pool).fetchval(_WAYPOINT, told_time) or ""

    async def trim(self, before: datetime) -> None:
        """Forget old waypoints."""
        await self._pool.execute(_TRIM_WAYPOINTS, before)
