"""What is said of all ranked members of a segment together (RULES 6.9)."""

from typing import Final

from services.leaderboard.domain.boards import WHOLE
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.results import RunStatistics
from shared.postgres.pool import Pool

# The ranges are equally wide; the highest score belongs to the last. Where all are equal there is one.
_STATISTICS: Final = """
    WITH ranked AS MATERIALIZED (
        {members}
    ), sums AS (
        SELECT count(*) AS member_count, coalesce(sum(score), 0) AS total,
               coalesce(avg(score), 0)::double precision AS average,
               coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY score), 0) AS median,
               coalesce(min(score), 0) AS lowest, coalesce(max(score), 0) AS highest
          FROM ranked
    ), ranges AS (
        SELECT least($5::integer, coalesce(1 + floor((score::numeric - lowest) * $5::integer
                                                     / nullif(highest::numeric - lowest, 0)), 1)::integer) AS number,
               count(*) AS member_count
          FROM ranked CROSS JOIN sums
         GROUP BY 1
    )
    SELECT sums.*, ARRAY(SELECT number FROM ranges ORDER BY number) AS numbers,
           ARRAY(SELECT member_count FROM ranges ORDER BY number) AS counts
      FROM sums
"""
LIVE_WHOLE: Final = _STATISTICS.format(
    members="""
        SELECT score FROM scores
         WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL AND $3::text = ''
         ORDER BY order_score, reach_time, user_id LIMIT nullif($4::bigint, 0)"""
)
LIVE_SEGMENT: Final = _STATISTICS.format(
    members="""
        SELECT score FROM scores
         WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL AND segment = $3 AND segment <> ''
         ORDER BY order_score, reach_time, user_id LIMIT nullif($4::bigint, 0)"""
)
ARCHIVED: Final = _STATISTICS.format(
    members="""
        SELECT score FROM archive
         WHERE board = $1 AND run_start = $2 AND segment = $3 AND rank > 0 LIMIT nullif($4::bigint, 0)"""
)


class StatisticsStore:
    """The SQL of statistics."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of(
        self, key: SegmentKey, *, finalized: bool, participant_limit: int, range_count: int
    ) -> RunStatistics:
        """The statistics of a segment. It reads all of its scores."""
        query = ARCHIVED if finalized else LIVE_WHOLE if key.segment == WHOLE else LIVE_SEGMENT
        row = await self._pool.fetchrow(
            query, key.board, key.run_start, key.segment, participant_limit, range_count
        )
        assert row is not None  # an aggregate has one row
        counts = dict(zip(row["numbers"], row["counts"], strict=True))
        ranges = 0 if not counts else 1 if row["lowest"] == row["highest"] else range_count
        return RunStatistics(
            row["member_count"],
            int(row["total"]),
            row["average"],
            row["median"],
            row["lowest"],
            row["highest"],
            [counts.get(number, 0) for number in range(1, ranges + 1)],
        )
