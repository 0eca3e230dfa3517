"""Ranks at the end of each UTC date (RULES 6.9), for boards that keep them."""

from collections.abc import Sequence
from datetime import date
from typing import Final

from services.leaderboard.domain.boards import Board
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.results import Climber, DailyMember, DailyRank
from shared.pages import Page
from shared.postgres.pool import Connection, Pool

TAKE: Final = (
    "INSERT INTO kept_days (board, day) VALUES ($1, $2) ON CONFLICT (board, day) DO NOTHING RETURNING true"
)
IS_KEPT: Final = "SELECT count(*) FROM kept_days WHERE board = ANY($1::text[]) AND day = $2"
KEEP_WHOLE: Final = """
    INSERT INTO daily_ranks (board, run_start, segment, day, user_id, rank, score)
    SELECT $1, top.run_start, '', $2, top.user_id,
           CASE $4::text WHEN 'competition' THEN rank() OVER ties WHEN 'dense' THEN dense_rank() OVER ties
                         ELSE row_number() OVER (PARTITION BY top.run_start
                                                 ORDER BY order_score, reach_time, user_id) END,
           top.score
      FROM runs
     CROSS JOIN LATERAL (
           SELECT run_start, user_id, score, order_score, reach_time FROM scores
            WHERE board = $1 AND run_start = runs.start_date AND order_score IS NOT NULL
            ORDER BY order_score, reach_time, user_id
            LIMIT $3) AS top
     WHERE runs.board = $1 AND NOT finalized AND start_date <= $2 AND end_date >= $2
    WINDOW ties AS (PARTITION BY top.run_start ORDER BY top.order_score)
"""
KEEP_SEGMENTS: Final = """
    INSERT INTO daily_ranks (board, run_start, segment, day, user_id, rank, score)
    SELECT $1, top.run_start, segments.segment, $2, top.user_id,
           CASE $4::text WHEN 'competition' THEN rank() OVER ties WHEN 'dense' THEN dense_rank() OVER ties
                         ELSE row_number() OVER (PARTITION BY top.run_start, segments.segment
                                                 ORDER BY order_score, reach_time, user_id) END,
           top.score
      FROM runs JOIN segments ON segments.board = runs.board AND segments.run_start = runs.start_date
     CROSS JOIN LATERAL (
           SELECT run_start, user_id, score, order_score, reach_time FROM scores
            WHERE board = $1 AND run_start = runs.start_date AND scores.segment = segments.segment
              AND scores.segment <> '' AND order_score IS NOT NULL
            ORDER BY order_score, reach_time, user_id
            LIMIT $3) AS top
     WHERE runs.board = $1 AND NOT finalized AND start_date <= $2 AND end_date >= $2 AND segments.segment <> ''
    WINDOW ties AS (PARTITION BY top.run_start, segments.segment ORDER BY top.order_score)
"""
UNLIMITED: Final = "SET LOCAL statement_timeout = 0"
FORGET: Final = """
    DELETE FROM daily_ranks
     WHERE (board, run_start, segment, day, user_id) IN (
           SELECT board, run_start, segment, day, user_id FROM daily_ranks WHERE board = $1 AND day < $2 LIMIT 10000)
"""
OF_USER: Final = """
    SELECT day, run_start, rank, score FROM daily_ranks
     WHERE user_id = $1 AND board = $2 AND segment = $3 AND (day, run_start) < ($4, $5)
     ORDER BY day DESC, run_start DESC
     LIMIT $6
"""
OF_DAY: Final = """
    SELECT rank, user_id, score FROM daily_ranks
     WHERE board = $1 AND run_start = $2 AND segment = $3 AND day = $4 AND (rank, user_id) > ($5, $6)
     ORDER BY rank, user_id
     LIMIT $7
"""
# From the first date of which somebody's rank is kept to the newest of the run.
CLIMBERS: Final = """
    WITH last AS (
        SELECT user_id, rank, day FROM daily_ranks
         WHERE board = $1 AND run_start = $2 AND segment = $3
           AND day = (SELECT max(day) FROM daily_ranks WHERE board = $1 AND run_start = $2 AND segment = $3)
    )
    SELECT last.user_id, first.day AS first_day, first.rank AS first_rank, last.day, last.rank
      FROM last
     CROSS JOIN LATERAL (
           SELECT day, rank FROM daily_ranks
            WHERE user_id = last.user_id AND board = $1 AND segment = $3 AND run_start = $2
            ORDER BY day LIMIT 1) AS first
     WHERE first.rank > last.rank
     ORDER BY first.rank - last.rank DESC, last.rank, last.user_id
     LIMIT $4
"""


class DailyStore:
    """The SQL of daily ranks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def is_kept(self, boards: Sequence[Board], day: date) -> bool:
        """Whether the date is kept of all these boards."""
        count: int = await self._pool.fetchval(IS_KEPT, [board.key for board in boards], day)
        return count == len(boards)

    async def keep(self, connection: Connection, board: Board, day: date) -> bool:
        """Keep the present ranks as those of a date, inside a transaction; False where that was done before."""
        if not await connection.fetchval(TAKE, board.key, day):
            return False
        await connection.execute(UNLIMITED)
        arguments = (board.key, day, min(board.daily_depth, board.participant_limit or board.daily_depth))
        await connection.execute(KEEP_WHOLE, *arguments, board.rank_mode.value)
        if board.segment_names:
            await connection.execute(KEEP_SEGMENTS, *arguments, board.rank_mode.value)
        return True

    async def forget(self, connection: Connection, board: Board, before: date) -> None:
        """Delete a bounded part of what is older."""
        await connection.execute(FORGET, board.key, before)

    async def of_user(
        self, user_id: str, board: str, segment: str, until: date, page: Page
    ) -> list[DailyRank]:
        """A user's dates, newest first; one more than the page holds where there are more."""
        after = page.after or (until, date.max)
        found = await self._pool.fetch(OF_USER, user_id, board, segment, *after, page.size + 1)
        return [DailyRank(row["day"], row["run_start"], row["rank"], row["score"]) for row in found]

    async def of_day(
        self, key: SegmentKey, day: date, after: tuple[int, str], limit: int
    ) -> list[DailyMember]:
        """Who was on the ranks of a date, behind a rank and a user."""
        found = await self._pool.fetch(OF_DAY, key.board, key.run_start, key.segment, day, *after, limit)
        return [DailyMember(row["rank"], row["user_id"], row["score"]) for row in found]

    async def climbers(self, key: SegmentKey, limit: int) -> list[Climber]:
        """Who has come up most in a run."""
        found = await self._pool.fetch(CLIMBERS, key.board, key.run_start, key.segment, limit)
        return [Climber(*row) for row in found]
