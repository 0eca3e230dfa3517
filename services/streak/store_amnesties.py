"""The SQL of amnesties: what was closed without them, and how far they have come."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final

from laurel.streak.v1 import streak_pb2
from msgspec import Struct

from services.streak.domain import Amnesty, Judged
from services.streak.revisions import is_for, window_of
from services.streak.store_maintenance import LOCK_MAINTENANCE, MAINTENANCE_LOCK
from shared.postgres.pool import Connection, Pool

IS_PENDING: Final = """
    SELECT EXISTS (SELECT FROM definition_history AS change
                     LEFT JOIN amnesty_passes AS pass ON pass.number = change.number
                    WHERE change.kind = 'amnesty' AND pass.finish_time IS NULL)
"""
PENDING: Final = """
    SELECT change.number, change.change_time, coalesce(change.body, before.body) AS body,
           pass.streak, pass.start_date, pass.user_id
      FROM definition_history AS change
      LEFT JOIN amnesty_passes AS pass ON pass.number = change.number
      LEFT JOIN LATERAL (
           SELECT body FROM definition_history AS earlier
            WHERE earlier.kind = 'amnesty' AND earlier.key = change.key AND earlier.number < change.number
            ORDER BY earlier.number DESC LIMIT 1
     ) AS before ON true
     WHERE change.kind = 'amnesty' AND pass.finish_time IS NULL
     ORDER BY change.number LIMIT 1
"""
AT_STAKE: Final = """
    SELECT start_date, user_id FROM periods
     WHERE streak = $1 AND start_date BETWEEN $2 AND $3 AND status >= 6 AND (start_date, user_id) > ($4, $5)
     ORDER BY start_date, user_id
     LIMIT $6
"""
COME_TO: Final = """
    INSERT INTO amnesty_passes (number, streak, start_date, user_id, judged_count, saved_count, refunded_count,
                                finish_time)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (number) DO UPDATE
           SET streak = EXCLUDED.streak, start_date = EXCLUDED.start_date, user_id = EXCLUDED.user_id,
               judged_count = amnesty_passes.judged_count + EXCLUDED.judged_count,
               saved_count = amnesty_passes.saved_count + EXCLUDED.saved_count,
               refunded_count = amnesty_passes.refunded_count + EXCLUDED.refunded_count,
               finish_time = EXCLUDED.finish_time
"""
# Frozen or broken in the window. A day is 24 hours here: whoever looks closer sees whether the window touches it.
_AFFECTED: Final = """
      FROM periods
     WHERE streak = $1 AND start_date BETWEEN $2 AND $3 AND status IN (6, 7) AND status >= 6
       AND settle_time > $4 AND settle_time - (end_date - start_date + 1) * interval '24 hours' < $5
"""
COUNT_AFFECTED: Final = f"SELECT count(DISTINCT user_id) {_AFFECTED}"
AFFECTED: Final = f"SELECT DISTINCT user_id {_AFFECTED} ORDER BY user_id LIMIT $6"
PROGRESS: Final = """
    SELECT newest.key, pass.judged_count, pass.saved_count, pass.refunded_count,
           pass.finish_time IS NOT NULL AS finished
      FROM (SELECT DISTINCT ON (key) key, number FROM definition_history
             WHERE kind = 'amnesty' AND key = ANY($1::text[]) ORDER BY key, number DESC) AS newest
      LEFT JOIN amnesty_passes AS pass ON pass.number = newest.number
"""


class Place(Struct, frozen=True, order=True):
    """A period of a user's streak, in the order in which an amnesty goes over them."""

    streak: str
    start_date: date
    user_id: str


FIRST: Final = Place("", date.min, "")


class Pending(Struct, frozen=True):
    """An amnesty that was declared or withdrawn, and up to where closed periods have been judged anew."""

    number: int
    change_time: datetime
    message: streak_pb2.Amnesty
    come_to: Place

    @property
    def amnesty(self) -> Amnesty:
        """The window."""
        return window_of(self.message, self.change_time)

    def is_for(self, streak: str) -> bool:
        """Whether it is for this streak."""
        return is_for(self.message, streak)


class AmnestyStore:
    """Amnesties on their way."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def is_pending(self) -> bool:
        """Whether closed periods are to be judged anew."""
        found: bool = await self._pool.fetchval(IS_PENDING)
        return found

    async def pending(self, connection: Connection) -> Pending | None:
        """The oldest amnesty that has not come to its end; nobody else goes on with it meanwhile."""
        await connection.execute(LOCK_MAINTENANCE, MAINTENANCE_LOCK)
        row = await connection.fetchrow(PENDING)
        if row is None:
            return None
        known = row["streak"] is not None
        return Pending(
            row["number"],
            row["change_time"],
            streak_pb2.Amnesty.FromString(row["body"]),
            Place(row["streak"], row["start_date"], row["user_id"]) if known else FIRST,
        )

    async def at_stake(self, connection: Connection, after: Place, last: date, limit: int) -> list[Place]:
        """Closed periods of a streak behind a place, that begin up to a date and at which something was at stake."""
        rows = await connection.fetch(
            AT_STAKE, after.streak, after.start_date, last, after.start_date, after.user_id, limit
        )
        return [Place(after.streak, row["start_date"], row["user_id"]) for row in rows]

    async def come_to(
        self, connection: Connection, pending: Pending, place: Place, judged: Judged, now: datetime
    ) -> None:
        """Note how far an amnesty has come."""
        await connection.execute(
            COME_TO,
            pending.number,
            place.streak,
            place.start_date,
            place.user_id,
            judged.judged_count,
            judged.saved_count,
            judged.refunded_count,
            now if judged.finished else None,
        )

    async def affected(
        self, streak: str, dates: tuple[date, date], window: Amnesty, limit: int
    ) -> tuple[int, Sequence[str]]:
        """How many users lost a streak or spent a freeze in a window, and the first of them by id."""
        wanted = (streak, *dates, window.start_time, window.end_time)
        count: int = await self._pool.fetchval(COUNT_AFFECTED, *wanted)
        return count, [row["user_id"] for row in await self._pool.fetch(AFFECTED, *wanted, limit)]

    async def progress(self, keys: Sequence[str]) -> Mapping[str, Judged]:
        """What has come of amnesties so far, by key."""
        rows = await self._pool.fetch(PROGRESS, keys)
        return {
            row["key"]: Judged(
                row["judged_count"] or 0, row["saved_count"] or 0, row["refunded_count"] or 0, row["finished"]
            )
            for row in rows
        }
