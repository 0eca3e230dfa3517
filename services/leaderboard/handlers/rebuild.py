"""The sorted sets filled from PostgreSQL: at start, when they were lost, and on demand (RULES 6.7).

One replica at a time rebuilds. Events go on meanwhile: they are answered from PostgreSQL, and write to the sets as
always. What they write is committed before; so what was written before the sets are emptied is read again from
PostgreSQL, and what is written after stays, because it is not older than what is read.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from services.leaderboard.config import REBUILD_BATCH
from services.leaderboard.domain.boards import WHOLE, Boards
from services.leaderboard.domain.ranks import SegmentKey, Step, position_of
from services.leaderboard.projection import Projection, marker_of
from services.leaderboard.store import rebuild as store
from shared import faults
from shared.ids import digest
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Connection, Pool
from shared.random_ids import new_id

_LOGGER: Final = logging.getLogger(__name__)
_LOCK_KEY: Final = int.from_bytes(digest("leaderboard", "rebuild")[:8], signed=True)

BEFORE_MARK: Final = faults.declare(
    "leaderboard.rebuild.before_mark", "the sorted sets are filled, nothing says so yet"
)


class Rebuilder:
    """Looks whether the sorted sets are complete, and fills them where they are not."""

    def __init__(
        self,
        pool: Pool,
        catalogue: Catalogue[Boards],
        projection: Projection,
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._projection = projection
        self._requested = asyncio.Event()

    def request(self) -> None:
        """Look at once: somebody found the sets incomplete."""
        self._requested.set()

    async def run(self, interval_seconds: float) -> None:
        """Look at start, every `interval_seconds`, and when asked to; never returns.

        A failure is logged and tried again at the next look: the sets, or PostgreSQL, may be away.
        """
        while True:
            self._requested.clear()
            try:
                await self.ensure()
            except Exception:
                _LOGGER.exception("the sorted sets could not be looked after")
                await asyncio.sleep(interval_seconds)
                continue
            try:
                async with asyncio.timeout(interval_seconds):
                    await self._requested.wait()
            except TimeoutError:
                continue

    async def ensure(self) -> None:
        """Fill the sets unless they are complete, or another replica is about it."""
        async with self._pool.acquire() as connection:
            if await self._is_complete(connection):
                return
            async with _lock(connection, wait=False) as is_ours:
                if is_ours and not await self._is_complete(connection):
                    await self._rebuild(connection)

    async def rebuild(self) -> int:
        """Fill the sets anew, whatever they say; the number of scores read. Waits for one that is under way."""
        async with self._pool.acquire() as connection, _lock(connection, wait=True):
            return await self._rebuild(connection)

    async def _is_complete(self, connection: Connection) -> bool:
        marker = await store.marker(connection)
        return (await self._projection.stamp()).is_complete(marker)

    async def _rebuild(self, connection: Connection) -> int:
        server = (await self._projection.stamp()).server
        _LOGGER.info("rebuilding the sorted sets")
        await self._projection.clear()
        count = 0
        last: store.StoredScore | None = None
        while scores := await store.page(connection, last, REBUILD_BATCH):
            boards = await self._catalogue.latest()
            await self._projection.place(_steps(boards, scores), boards.by_key.__getitem__)
            count += sum(score.held.score.is_member for score in scores)
            last = scores[-1]
        await BEFORE_MARK.reach()
        marker = marker_of(str(new_id()), server)
        await store.set_marker(connection, marker)
        await self._projection.mark(marker)
        _LOGGER.info("rebuilt the sorted sets", extra={"members": count})
        return count


def _steps(boards: Boards, scores: Sequence[store.StoredScore]) -> list[Step]:
    """What to set; of those who left, that they did, so that nothing older brings them back."""
    steps: list[Step] = []
    for score in scores:
        board = boards.by_key.get(score.run[0])
        if board is None:
            continue
        position = position_of(board.order, score.user_id, score.held.score)
        steps.extend(
            Step(SegmentKey(*score.run, segment), score.user_id, score.version, None, position)
            for segment in dict.fromkeys((WHOLE, score.held.segment))
        )
    return steps


@asynccontextmanager
async def _lock(connection: Connection, *, wait: bool) -> AsyncIterator[bool]:
    """The right to rebuild, for the block; whether it is ours. It ends with the connection at the latest."""
    if wait:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
    elif not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        yield False
        return
    try:
        yield True
    finally:
        try:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK_KEY)
        except BaseException:
            connection.terminate()  # ends the session, and with it the lock
            raise
