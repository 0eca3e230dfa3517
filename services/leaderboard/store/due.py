"""Whether time has brought anything: most passes find nothing, and an import makes one for every day."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from services.leaderboard.domain.states import RunKey
from shared.postgres.pool import Pool

ANYTHING: Final = """
    SELECT EXISTS (SELECT FROM runs WHERE NOT finalized AND finalize_time <= $1)
        OR EXISTS (SELECT FROM runs WHERE finalized AND NOT dropped)
        OR EXISTS (SELECT FROM endings WHERE NOT done)
        OR EXISTS (SELECT FROM seats WHERE cohort IS NULL OR NOT is_projected)
        OR EXISTS (SELECT FROM unnest($2::text[], $3::date[]) AS begun (board, run_start)
                    WHERE NOT EXISTS (
                          SELECT FROM run_starts
                           WHERE run_starts.board = begun.board AND run_starts.run_start = begun.run_start))
"""


async def anything(pool: Pool, now: datetime, begun: Sequence[RunKey]) -> bool:
    """Whether a run is to be archived, told of as begun (`begun`: those that have), or gone on with. One look-up."""
    due: bool = await pool.fetchval(
        ANYTHING, now, [board for board, _ in begun], [start for _, start in begun]
    )
    return due
