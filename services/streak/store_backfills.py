"""The SQL of backfills: whose events of before a streak was defined are counted for it, and how far that is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from services.streak.store_maintenance import LOCK_MAINTENANCE, MAINTENANCE_LOCK
from shared.postgres.pool import Connection, Pool

FINISHED: Final = "SELECT streak, begin_time FROM streak_backfills WHERE finish_time IS NOT NULL"
GET: Final = """
    SELECT begin_time, user_id, looked_count, found_count, finish_time FROM streak_backfills WHERE streak = $1
"""
USERS: Final = "SELECT user_id FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2"
# The facts of a user that are of the streak's metrics; each is counted once.
COUNT: Final = """
    UPDATE request_log SET streaks = array_append(streaks, $2)
     WHERE user_id = ANY($1::text[]) AND state = 1 AND streaks IS NOT NULL
       AND metric = ANY($3::text[]) AND NOT $2 = ANY(streaks)
    RETURNING user_id
"""
COME_TO: Final = """
    INSERT INTO streak_backfills (streak, begin_time, user_id, looked_count, found_count, finish_time)
    VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (streak) DO UPDATE
           SET begin_time = EXCLUDED.begin_time, user_id = EXCLUDED.user_id,
               looked_count = EXCLUDED.looked_count, found_count = EXCLUDED.found_count,
               finish_time = EXCLUDED.finish_time
"""


class Progress(Struct, frozen=True):
    """How far a backfill has come."""

    begin_time: datetime
    """When the streak was defined that it is of."""
    user_id: str = ""
    looked_count: int = 0
    found_count: int = 0
    finish_time: datetime | None = None


class BackfillStore:
    """Backfills on their way."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def finished(self, connection: Connection | None = None) -> set[tuple[str, datetime]]:
        """Those that have come to their end: the streak, and when it was defined."""
        rows = await (connection or self._pool).fetch(FINISHED)
        return {(row["streak"], row["begin_time"]) for row in rows}

    async def progress(
        self, streak: str, begin_time: datetime, connection: Connection | None = None
    ) -> Progress:
        """How far the backfill has come of a streak that was defined then."""
        row = await (connection or self._pool).fetchrow(GET, streak)
        if row is None or row["begin_time"] != begin_time:
            return Progress(begin_time)
        return Progress(**dict(row))

    async def lock(self, connection: Connection) -> None:
        """Nobody else goes on with a backfill meanwhile."""
        await connection.execute(LOCK_MAINTENANCE, MAINTENANCE_LOCK)

    async def users(self, connection: Connection, after: str, limit: int) -> list[str]:
        """The users behind one, by id."""
        return [row["user_id"] for row in await connection.fetch(USERS, after, limit)]

    async def count(
        self, connection: Connection, users: Sequence[str], streak: str, metrics: Sequence[str]
    ) -> list[str]:
        """Count the events of these users for the streak; the users that have any which were not counted."""
        rows = await connection.fetch(COUNT, users, streak, metrics)
        return sorted({row["user_id"] for row in rows})

    async def come_to(self, connection: Connection, streak: str, progress: Progress) -> None:
        """Note how far it has come."""
        await connection.execute(
            COME_TO,
            streak,
            progress.begin_time,
            progress.user_id,
            progress.looked_count,
            progress.found_count,
            progress.finish_time,
        )
