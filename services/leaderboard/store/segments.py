"""Which segments a run has: a board may have so many, and whoever comes beyond is in the whole only (RULES 6.13).

A segment is let in before the entry is decided that needs it, so that the entry's own statement counts nothing. What
was seen of the table is remembered: rows of an open run go only where it is cleaned (`store.cleaning`), so an answer
from memory is right as long as the run's number of cleanings is the same. In the steady state nothing is asked.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from datetime import date
from typing import Final

from services.leaderboard.domain.boards import Board
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.states import RunKey
from shared.ids import digest
from shared.postgres.pool import Connection, Pool

KNOWN: Final = """
    SELECT segment FROM segments WHERE board = $1 AND run_start = $2 AND segment = ANY($3::text[])
"""
EVERY: Final = "SELECT segment FROM segments WHERE board = $1 AND run_start = $2 AND segment <> ''"
LOCK: Final = "SELECT pg_advisory_xact_lock($1)"
LET_IN: Final = """
    INSERT INTO segments (board, run_start, segment)
    SELECT $1, $2, segment FROM unnest($3::text[]) AS new (segment)
        ON CONFLICT (board, run_start, segment) DO NOTHING
"""
BEYOND: Final = """
    SELECT CASE WHEN finalized THEN beyond_count
                ELSE (SELECT count(*) FROM scores
                       WHERE scores.board = $1 AND scores.run_start = $2 AND beyond AND order_score IS NOT NULL) END
      FROM runs
     WHERE board = $1 AND start_date = $2
"""

_MOST_REMEMBERED: Final = 500_000
"""Segments; then memory begins anew."""


class SegmentStore:
    """Lets segments into runs, as far as there is room."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._seen: dict[RunKey, set[str]] = {}
        self._full: dict[RunKey, int] = {}
        """Runs of which every segment has been seen, and how many there were when one was refused."""
        self._cleanings: dict[RunKey, int] = {}
        """Of the runs of which something is remembered."""

    async def refused(
        self,
        boards: Mapping[str, Board],
        wanted: Collection[SegmentKey],
        cleanings: Mapping[RunKey, int],
        connection: Connection | None = None,
    ) -> frozenset[SegmentKey]:
        """Those of these segments for which there is no room. The others are in the table by then. `cleanings` are of
        the runs as they were loaded; a run that is not there yet has none. Who holds a connection gives it: waiting for
        another one, all could wait.
        """
        for run in {(key.board, key.run_start) for key in wanted}:
            if cleanings.get(run, 0) != self._cleanings.get(run, 0):
                self._seen.pop(run, None)
                self._full.pop(run, None)
                self._cleanings[run] = cleanings.get(run, 0)
        unknown: dict[RunKey, list[str]] = {}
        for key in wanted:
            run = (key.board, key.run_start)
            if key.segment not in self._seen.get(run, ()):
                unknown.setdefault(run, []).append(key.segment)
        refused: set[SegmentKey] = set()
        for run, segments in sorted(unknown.items()):
            out = await self._let_in(run, segments, boards[run[0]].segment_limit, connection)
            refused.update(SegmentKey(*run, segment) for segment in out)
        return frozenset(refused)

    async def beyond_count(self, run: RunKey) -> int:
        """How many members are in the whole only, because there was no room."""
        return await self._pool.fetchval(BEYOND, *run) or 0

    async def _let_in(
        self, run: RunKey, segments: Sequence[str], limit: int, given: Connection | None
    ) -> Sequence[str]:
        """Those that have to stay out."""
        if self._full.get(run, -1) >= limit:
            return segments
        if sum(map(len, self._seen.values())) > _MOST_REMEMBERED:
            self._seen.clear()
            self._full.clear()
        seen = self._seen.setdefault(run, set())
        seen.update(await _segments(given or self._pool, KNOWN, run, segments))
        new = [segment for segment in segments if segment not in seen]
        if not new:
            return new
        async with (
            nullcontext(given) if given else self._pool.acquire() as connection,
            connection.transaction(),
        ):
            await connection.execute(LOCK, _lock_of(run))
            known = await _segments(connection, EVERY, run)
            new = [segment for segment in new if segment not in known]
            room = max(0, limit - len(known))
            await connection.execute(LET_IN, *run, new[:room])
        seen.update(known, new[:room])
        if new[room:] and self._seen.get(run) is seen:
            self._full[run] = len(seen)
        return new[room:]


async def _segments(connection: Pool | Connection, query: str, run: RunKey, *rest: object) -> set[str]:
    return {row["segment"] for row in await connection.fetch(query, *run, *rest)}


def _lock_of(run: tuple[str, date]) -> int:
    return int.from_bytes(digest("segments", run[0], run[1].isoformat())[:8], signed=True)
