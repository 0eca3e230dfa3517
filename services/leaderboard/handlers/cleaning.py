"""Segments that everybody has left are removed from open runs (RULES 6.13)."""

from datetime import datetime
from typing import Final

from services.leaderboard.config import CLEANING_INTERVAL
from services.leaderboard.domain.boards import Boards
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.states import RunKey
from services.leaderboard.handlers.rebuild import may_change_sets
from services.leaderboard.projection import Projection, marker_of, servers_in
from services.leaderboard.store import cleaning
from services.leaderboard.store import rebuild as markers
from shared import faults
from shared.postgres.pool import Connection, Pool
from shared.random_ids import new_id

BEFORE_COMMIT: Final = faults.declare(
    "leaderboard.cleaning.before_commit", "the sorted sets of left segments are gone, nothing says so yet"
)


class Cleaner:
    """Looks now and then. Several replicas may: one at a time removes something."""

    def __init__(self, pool: Pool, projection: Projection) -> None:
        self._pool = pool
        self._projection = projection
        self._last: datetime | None = None

    async def clean(self, boards: Boards, now: datetime) -> None:
        """Look at all open runs of boards with segments, unless that was done a moment ago."""
        if self._last is not None and abs(now - self._last) < CLEANING_INTERVAL:
            return
        self._last = now
        segmented = [board.key for board in boards.by_key.values() if board.breakdown]
        if not segmented:
            return
        for run in await cleaning.runs_to_look_at(self._pool, segmented):
            async with (
                self._pool.acquire() as connection,
                may_change_sets(connection, wait=False) as is_ours,
            ):
                if is_ours:
                    await self._clean(connection, run)

    async def _clean(self, connection: Connection, run: RunKey) -> None:
        """The sets become others to whoever has read the marker before, as with a rebuild: who writes late what was
        decided before looks again. The sets go first. If what follows is lost, they are not complete, and are filled
        again from the segments that are still there.
        """
        async with connection.transaction():
            if not await cleaning.begin(connection, run):
                return
            marker = await markers.marker(connection)
            if marker is None:
                return
            segments = await cleaning.left(connection, run)
            following = marker_of(str(new_id()), servers_in(marker))
            if not await self._projection.mark(marker, following):
                return  # they are lost, and will be filled
            await self._projection.drop([SegmentKey(*run, segment) for segment in segments])
            await cleaning.remove(connection, run, segments)
            await markers.set_marker(connection, following)
            await BEFORE_COMMIT.reach()
