"""Finalised runs: how they are archived, and what is read of them (RULES 6.2)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from services.leaderboard.domain.boards import Board
from services.leaderboard.domain.ranks import Member, MemberPlace, Place, SegmentKey
from services.leaderboard.domain.runs import RunState
from services.leaderboard.domain.states import RunKey
from services.leaderboard.store import rows
from shared.postgres.pool import Connection, Pool

DUE: Final = """
    SELECT board, start_date FROM runs
     WHERE NOT finalized AND finalize_time <= $1
     ORDER BY finalize_time, board
     LIMIT $2
"""
# Waits for writers that hold a share lock on the run; later ones find it closed.
CLOSE: Final = """
    UPDATE runs SET finalized = true WHERE board = $1 AND start_date = $2 AND NOT finalized RETURNING true
"""
COUNT_BEYOND: Final = """
    UPDATE runs
       SET beyond_count = (SELECT count(*) FROM scores
                            WHERE scores.board = $1 AND scores.run_start = $2 AND beyond AND order_score IS NOT NULL)
     WHERE board = $1 AND start_date = $2
"""
# A statement after the one that closed the run, and so with a snapshot in which all its scores are committed.
ARCHIVE: Final = """
    WITH members AS (
        SELECT ''::text COLLATE "C" AS segment, user_id, score, order_score, reach_time
          FROM scores WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL
         UNION ALL
        SELECT segment, user_id, score, order_score, reach_time
          FROM scores WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL AND segment <> ''
    ), ranked AS (
        SELECT *,
               row_number() OVER (PARTITION BY segment ORDER BY order_score, reach_time, user_id) AS ordinal,
               rank() OVER (PARTITION BY segment ORDER BY order_score) AS competition,
               dense_rank() OVER (PARTITION BY segment ORDER BY order_score) AS dense
          FROM members
    )
    INSERT INTO archive (board, run_start, segment, ordinal, rank, user_id, score, reach_time)
    SELECT $1, $2, segment, ordinal,
           CASE WHEN $4::bigint > 0 AND ordinal > $4 THEN 0
                WHEN $3 = 'competition' THEN competition
                WHEN $3 = 'dense' THEN dense
                ELSE ordinal END,
           user_id, score, reach_time
      FROM ranked
"""
COUNT_SEGMENTS: Final = """
    UPDATE segments
       SET member_count = (SELECT count(*) FROM archive
                            WHERE archive.board = $1 AND archive.run_start = $2
                              AND archive.segment = segments.segment AND archive.rank > 0)
     WHERE board = $1 AND run_start = $2
"""
FINISHED: Final = """
    SELECT board, start_date, end_date, finalize_time, finalized,
           (SELECT member_count FROM segments WHERE board = $1 AND run_start = $2 AND segment = '') AS member_count
      FROM runs WHERE board = $1 AND start_date = $2
"""
REMOVE_TOPS: Final = "DELETE FROM tracked_tops WHERE board = $1 AND run_start = $2"
REMOVE_SCORES: Final = "DELETE FROM scores WHERE board = $1 AND run_start = $2"
UNLIMITED: Final = "SET LOCAL statement_timeout = 0"

TO_DROP: Final = """
    SELECT runs.board, runs.start_date, segments.segment
      FROM runs LEFT JOIN segments ON segments.board = runs.board AND segments.run_start = runs.start_date
     WHERE finalized AND NOT dropped
"""
DROPPED: Final = """
    UPDATE runs SET dropped = true
      FROM unnest($1::text[], $2::date[]) AS gone (board, start_date)
     WHERE runs.board = gone.board AND runs.start_date = gone.start_date
"""

# The newest run of a board stays: the next one may be carried on from it. So does one of which something is to be done.
TO_EXPIRE: Final = """
    SELECT board, start_date FROM runs
     WHERE dropped AND NOT expired AND finalize_time < $1
       AND EXISTS (SELECT FROM runs AS later
                    WHERE later.board = runs.board AND later.start_date > runs.start_date AND later.finalized)
       AND NOT EXISTS (SELECT FROM endings
                        WHERE endings.board = runs.board AND endings.run_start = runs.start_date AND NOT done)
     ORDER BY finalize_time
     LIMIT $2
"""
EXPIRE: Final = """
    WITH gone AS (
        DELETE FROM archive WHERE board = $1 AND run_start = $2
    ), days AS (
        DELETE FROM daily_ranks WHERE board = $1 AND run_start = $2
    )
    UPDATE runs SET expired = true WHERE board = $1 AND start_date = $2
"""

PAGE: Final = """
    SELECT rank, user_id, score, reach_time
      FROM archive
     WHERE board = $1 AND run_start = $2 AND segment = $3 AND ordinal > $4 AND ordinal <= $5 AND rank > 0
     ORDER BY ordinal
"""
ORDINAL: Final = """
    SELECT ordinal FROM archive
     WHERE user_id = $4 AND board = $1 AND run_start = $2 AND segment = $3 AND rank > 0
"""
MEMBERS: Final = """
    SELECT chosen.user_id, chosen.score, chosen.reach_time, chosen.ordinal, chosen.rank,
           coalesce((SELECT ordinal FROM archive
                      WHERE board = $1 AND run_start = $2 AND segment = $3 AND ordinal < chosen.ordinal
                        AND rank < chosen.rank
                      ORDER BY ordinal DESC LIMIT 1), 0) AS better_count
      FROM archive AS chosen
     WHERE user_id = ANY($4::text[]) AND board = $1 AND run_start = $2 AND segment = $3 AND rank > 0
"""
MEMBER_COUNT: Final = """
    SELECT member_count FROM segments WHERE board = $1 AND run_start = $2 AND segment = $3
"""


class ArchiveStore:
    """The SQL of maintenance, and of reads of finalised runs."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self, now: datetime, limit: int) -> list[RunKey]:
        """Runs that are to be archived, oldest first. One look-up by index when there are none."""
        return [(row["board"], row["start_date"]) for row in await self._pool.fetch(DUE, now, limit)]

    async def finalize(
        self, connection: Connection, board: Board, run: RunKey, timeout_seconds: float
    ) -> bool:
        """Archive a run whole and end its live state, inside a transaction; False where that was done before."""
        await connection.execute(UNLIMITED)
        if not await connection.fetchval(CLOSE, *run, timeout=timeout_seconds):
            return False
        mode, limit = board.rank_mode.value, board.participant_limit
        await connection.execute(ARCHIVE, *run, mode, limit, timeout=timeout_seconds)
        await connection.execute(COUNT_SEGMENTS, *run, timeout=timeout_seconds)
        if board.breakdown:
            await connection.execute(COUNT_BEYOND, *run, timeout=timeout_seconds)
        await connection.execute(REMOVE_TOPS, *run)
        await connection.execute(REMOVE_SCORES, *run, timeout=timeout_seconds)
        return True

    async def finished(self, connection: Connection, run: RunKey) -> tuple[RunState, int]:
        """A run that is over, and how many were ranked."""
        row = await connection.fetchrow(FINISHED, *run)
        assert row is not None  # it was just archived
        return rows.run_state(row), row["member_count"] or 0

    async def expire(self, before: datetime, limit: int, timeout_seconds: float) -> int:
        """Delete the members of so many runs at most that were archived before an instant; how many runs there were."""
        found = await self._pool.fetch(TO_EXPIRE, before, limit)
        for row in found:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(UNLIMITED)
                await connection.execute(EXPIRE, row["board"], row["start_date"], timeout=timeout_seconds)
        return len(found)

    async def to_drop(self) -> list[SegmentKey]:
        """The segments of finalised runs whose sorted sets may still be there."""
        found = await self._pool.fetch(TO_DROP)
        return [SegmentKey(row["board"], row["start_date"], row["segment"] or "") for row in found]

    async def mark_dropped(self, keys: Sequence[SegmentKey]) -> None:
        """Note that the sorted sets of these runs are gone."""
        runs = sorted({(key.board, key.run_start) for key in keys})
        await self._pool.execute(DROPPED, [board for board, _ in runs], [start for _, start in runs])

    async def page(self, key: SegmentKey, first_index: int, count: int) -> list[tuple[int, Member]]:
        """The ranked members from an index (from 0) on, with their ranks."""
        found = await self._pool.fetch(PAGE, *_values(key), first_index, first_index + count)
        return [(row["rank"], rows.member(tuple(row)[1:])) for row in found]

    async def around(self, key: SegmentKey, user_id: str, radius: int) -> list[tuple[int, Member]]:
        """The ranked members around a user; none where the user is not one of them."""
        ordinal = await self._pool.fetchval(ORDINAL, *_values(key), user_id)
        if ordinal is None:
            return []
        first = max(0, ordinal - 1 - radius)
        return await self.page(key, first, ordinal + radius - first)

    async def members(self, key: SegmentKey, user_ids: Sequence[str]) -> list[MemberPlace]:
        """The places of those of these users who were ranked."""
        found = await self._pool.fetch(MEMBERS, *_values(key), list(user_ids))
        return [
            MemberPlace(rows.member(tuple(row)[:3]), Place(row["ordinal"], row["rank"]), row["better_count"])
            for row in found
        ]

    async def member_count(self, key: SegmentKey) -> int:
        """How many were ranked."""
        return await self._pool.fetchval(MEMBER_COUNT, *_values(key)) or 0


def _values(key: SegmentKey) -> tuple[object, ...]:
    return key.board, key.run_start, key.segment
