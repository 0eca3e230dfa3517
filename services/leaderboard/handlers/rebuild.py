"""The sorted sets filled from PostgreSQL: at start, when they were lost, and on demand (RULES 6.7).

One replica at a time rebuilds. Events go on meanwhile: they are answered from PostgreSQL, and write to the sets as
always. What they write is committed before; so what was written before the sets are emptied is read again from
PostgreSQL, and what is written after stays, because it is not older than what is read.

Where only a segment is found to lack something, its run alone is filled anew, and all other boards go on being
answered from their sets. The marker becomes another all the same: whoever had read the old one, and writes only
after the fill what it decided before, sees that it has to look again.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Final, TypeVar

from msgspec.structs import replace

from services.leaderboard.config import REBUILD_BATCH, REBUILD_PAGE
from services.leaderboard.domain.boards import WHOLE, Boards
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.states import RunKey
from services.leaderboard.projection import Projection, Stamp, marker_of, servers_in
from services.leaderboard.store import rebuild as store
from shared import faults
from shared.ids import digest
from shared.postgres import admin
from shared.postgres.admin import Asking
from shared.postgres.definitions import Catalogue
from shared.postgres.errors import log_failure
from shared.postgres.pool import Connection, Pool
from shared.random_ids import new_id
from shared.redis.client import translate

_LOGGER: Final = logging.getLogger(__name__)
_LOCK_KEY: Final = int.from_bytes(digest("leaderboard", "rebuild")[:8], signed=True)

P = TypeVar("P")
T = TypeVar("T")

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
        self._incomplete: set[RunKey] = set()
        self.rebuild_count = 0
        """Of this process, of one run or of all."""

    def request(self, unready: Iterable[SegmentKey] = ()) -> None:
        """Look at once: somebody found the sets incomplete, and these segments in particular."""
        self._incomplete.update((key.board, key.run_start) for key in unready)
        self._requested.set()

    async def run(self, interval_seconds: float) -> None:
        """Look at start, every `interval_seconds`, and when asked to; never returns.

        A failure is logged and tried again at the next look: the sets, or PostgreSQL, may be away. After each look
        there is a pause as long as the look was: filling sets that a server loses again and again takes no more than
        half of the time.
        """
        now = asyncio.get_running_loop().time
        while True:
            self._requested.clear()
            start = now()
            try:
                await self.ensure()
            except Exception as error:
                log_failure(_LOGGER, "the sorted sets could not be looked after", translate(error) or error)
                await asyncio.sleep(interval_seconds)
                continue
            await asyncio.sleep(now() - start)
            try:
                async with asyncio.timeout(interval_seconds):
                    await self._requested.wait()
            except TimeoutError:
                continue

    async def ensure(self) -> None:
        """Fill the sets, or the runs that were found to lack something, unless another replica is about it."""
        runs, self._incomplete = self._incomplete, set()
        async with self._pool.acquire() as connection:
            if not runs and await self._is_complete(connection):
                return
            async with may_change_sets(connection, wait=False) as is_ours:
                if not is_ours:
                    return
                if not await self._is_complete(connection):
                    await self._rebuild(connection)
                    return
                for run in sorted(runs):
                    await self._mend(connection, run)

    async def distrust(self) -> None:
        """Take the sets for incomplete whatever they say: PostgreSQL was put back behind what they were filled with."""
        async with self._pool.acquire() as connection:
            await store.set_marker(connection, None)
        self.request()

    async def asked(self, board: str, asking: Asking, now: datetime) -> None:
        """Keep that somebody has it done by hand (RULES 9.4), of one board or ("") of all, before it begins."""
        subject = f"leaderboard/{board}" if board else "leaderboards"
        async with self._pool.acquire() as connection:
            await admin.record(connection, "rebuild_projection", subject, asking, now)

    async def rebuild(self) -> int:
        """Fill the sets anew, whatever they say; the number of scores read. Waits for one that is under way."""
        async with self._pool.acquire() as connection, may_change_sets(connection, wait=True):
            return await self._rebuild(connection)

    async def rebuild_board(self, key: str) -> int:
        """Fill the sets of one board's open runs anew; the number of scores read. All other boards go on being answered
        from their sets. Waits for a rebuild that is under way.
        """
        async with self._pool.acquire() as connection, may_change_sets(connection, wait=True):
            if not await self._is_complete(connection):
                return await self._rebuild(connection)
            count = 0
            for run in await store.open_runs(connection, key):
                segments = await store.segments_of_run(connection, run)
                stamp = await self._projection.stamp()
                count += await self._fill(connection, stamp, segments)
            return count

    async def _is_complete(self, connection: Connection) -> bool:
        marker = await store.marker(connection)
        return (await self._projection.stamp()).is_of(marker)

    async def _rebuild(self, connection: Connection) -> int:
        """Fill all sets."""
        self.rebuild_count += 1
        _LOGGER.info("rebuilding the sorted sets")
        await self._projection.clear()
        await self._projection.mark(None, str(new_id()))
        stamp = await self._projection.stamp()
        segments = await store.segments(connection)
        count = await self._fill(connection, stamp, segments)
        _LOGGER.info("rebuilt the sorted sets", extra={"members": count})
        return count

    async def _mend(self, connection: Connection, run: RunKey) -> None:
        """Fill the sets of one run, unless nothing is missing there any more, or the run is over."""
        board = (await self._catalogue.latest(connection)).by_key.get(run[0])
        segments = await store.segments_of_run(connection, run)
        if board is None or not segments:
            return
        marker = await store.marker(connection)
        _, stamp = await self._projection.member_counts(board, segments)
        if marker is None or not stamp.is_of(marker):
            self.request()  # all is gone by now
            return
        stamp = replace(stamp, servers=servers_in(marker))  # those of other runs stay filled
        if not stamp.unready:
            return
        found = {"leaderboard": board.key, "run_start": run[1].isoformat(), "segments": len(stamp.unready)}
        _LOGGER.warning(
            "keys of a board are gone from the sorted sets; rebuilding this run of it", extra=found
        )
        self.rebuild_count += 1
        count = await self._fill(connection, stamp, segments)
        _LOGGER.info("rebuilt a run of a board", extra={**found, "members": count})

    async def _fill(self, connection: Connection, stamp: Stamp, segments: Sequence[SegmentKey]) -> int:
        """Empty these segments and fill them with the scores, which are read only then; how many members came."""
        rebuild_id = str(new_id())
        boards = await self._catalogue.latest(connection)
        known = [key for key in segments if key.board in boards.by_key]
        for keys in _parts(known):
            await self._projection.begin(rebuild_id, keys)
        count = 0
        runs = dict.fromkeys((key.board, key.run_start) for key in known)
        async with aclosing(_ahead(store.entries(connection, runs, REBUILD_PAGE))) as pages:
            async for run, page in pages:
                by_segment = _by_segment(run, page)
                mode = boards.by_key[run[0]].rank_mode
                await self._projection.fill(
                    rebuild_id,
                    ((key, mode, part) for key, own in by_segment.items() for part in _parts(own)),
                )
                count += sum(map(store.is_member, by_segment[SegmentKey(*run, WHOLE)]))
        await BEFORE_MARK.reach()
        marker = marker_of(rebuild_id, stamp.servers)
        await store.set_marker(connection, marker)
        if not await self._projection.mark(stamp.marker, marker):
            _LOGGER.warning("the register of the sorted sets was lost while they were filled")
            return count  # nobody takes them for complete: all is filled at the next look
        for keys in _parts(known):
            await self._projection.finish(rebuild_id, keys, boards.by_key.__getitem__)
        return count


def _by_segment(run: RunKey, page: Sequence[tuple[str, str]]) -> dict[SegmentKey, list[str]]:
    """The entries for the whole board, and for each segment. Of those who left it is said too, so that nothing older
    brings them back.
    """
    by_segment = {SegmentKey(*run, WHOLE): [entry for _, entry in page]}
    for segment, entry in page:
        if segment != WHOLE:
            by_segment.setdefault(SegmentKey(*run, segment), []).append(entry)
    return by_segment


async def _ahead(pages: AsyncGenerator[P, None]) -> AsyncGenerator[P, None]:
    """The same, each read while the one before is still in use."""
    async with aclosing(pages):
        following = asyncio.ensure_future(anext(pages, None))
        try:
            while (page := await following) is not None:
                following = asyncio.ensure_future(anext(pages, None))
                yield page
        finally:
            following.cancel()
            await asyncio.wait([following])


def _parts(items: Sequence[T]) -> list[Sequence[T]]:
    """As many at a time as the server should take at once."""
    return [items[first : first + REBUILD_BATCH] for first in range(0, len(items), REBUILD_BATCH)]


@asynccontextmanager
async def may_change_sets(connection: Connection, *, wait: bool) -> AsyncIterator[bool]:
    """The right to rebuild, or to remove segments, for the block; whether it is ours. It ends with the connection at
    the latest.
    """
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
