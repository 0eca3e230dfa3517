"""Groups ranked against one another (RULES 6.11): a board's segments, by what the scores of their members make."""

from collections.abc import Sequence
from typing import Final

from services.leaderboard.domain.boards import Board, GroupRule, Order
from services.leaderboard.domain.states import RunKey
from services.leaderboard.results import RankedGroup
from shared.postgres.pool import Pool

# Whoever has the same score is ordered by when the last of its members got there, then by name.
_GROUPS: Final = """
    WITH members AS (
        {members}
    ), grouped AS (
        SELECT segment, count(*) AS member_count,
               max(reach_time) FILTER (WHERE $4::bigint = 0 OR place <= $4) AS reach_time,
               CASE WHEN $3::text = 'average' THEN avg(score)
                    ELSE sum(score) FILTER (WHERE $4::bigint = 0 OR place <= $4) END AS score
          FROM members
         GROUP BY segment
        HAVING count(*) >= $5::bigint
    ), ranked AS (
        SELECT *,
               row_number() OVER (ORDER BY score * $6::integer, reach_time, segment) AS ordinal,
               rank() OVER (ORDER BY score * $6::integer) AS competition,
               dense_rank() OVER (ORDER BY score * $6::integer) AS dense
          FROM grouped
    )
    SELECT segment, member_count, score, (SELECT count(*) FROM grouped) AS group_count,
           CASE $7::text WHEN 'competition' THEN competition WHEN 'dense' THEN dense ELSE ordinal END AS rank
      FROM ranked
     WHERE ordinal > $8::bigint
     ORDER BY ordinal
     LIMIT $9
"""
LIVE: Final = _GROUPS.format(
    members="""
        SELECT segment, score, reach_time,
               row_number() OVER (PARTITION BY segment ORDER BY order_score, reach_time, user_id) AS place
          FROM scores
         WHERE board = $1 AND run_start = $2 AND segment <> '' AND order_score IS NOT NULL"""
)
ARCHIVED: Final = _GROUPS.format(
    members="""
        SELECT segment, score, reach_time, ordinal AS place
          FROM archive
         WHERE board = $1 AND run_start = $2 AND segment > ''"""
)


class GroupStore:
    """The SQL of groups. It reads all scores of a run."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, board: Board, rule: GroupRule, run: RunKey, first_index: int, count: int, *, finalized: bool
    ) -> Sequence[RankedGroup]:
        """So many groups from an index (from 0) on."""
        found = await self._pool.fetch(
            ARCHIVED if finalized else LIVE,
            *run,
            rule.aggregation.value,
            rule.best_count,
            rule.least_member_count,
            -1 if board.order is Order.DESC else 1,
            board.rank_mode.value,
            first_index,
            count,
        )
        return [
            RankedGroup(
                row["rank"], row["segment"], float(row["score"]), row["member_count"], row["group_count"]
            )
            for row in found
        ]
