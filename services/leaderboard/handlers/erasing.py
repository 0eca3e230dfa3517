"""What is kept of users beside the tables, or is to be set right before rows go (RULES 2.7): places in the sorted sets,
and seats in leagues whose run is open, which others may take.
"""

from collections.abc import Sequence
from typing import Final

from services.leaderboard.projection import Projection
from shared.postgres.pool import Pool
from shared.postgres.traces import Found

SORTED_SETS: Final = "sorted sets"
"""What a search calls them, as though they were a table."""

# An archived run keeps its seats, under a pseudonym.
_GIVE_UP_SEATS: Final = """
    WITH given AS (
        DELETE FROM seats s
         USING runs r
         WHERE (s.board, s.run_start, s.user_id) IN (SELECT board, start_date, $1 FROM runs)
           AND r.board = s.board AND r.start_date = s.run_start AND NOT r.finalized
        RETURNING s.board, s.run_start, s.division, s.cohort
    ), smaller AS (
        UPDATE cohorts c
           SET member_count = c.member_count - 1
          FROM given g
         WHERE c.board = g.board AND c.run_start = g.run_start AND c.division = g.division AND c.cohort = g.cohort
    )
    SELECT count(*) FROM given
"""


class Erasing:
    """Takes users out of open runs."""

    def __init__(self, pool: Pool, projection: Projection) -> None:
        self._pool = pool
        self._projection = projection

    async def erase(self, user_id: str) -> int:
        """Seats that were given up and places that were left. Rows of scores go after it: a rebuild that is under way
        may still bring the user back, and is looked for again.
        """
        seats: int = await self._pool.fetchval(_GIVE_UP_SEATS, user_id)
        return seats + await self._projection.forget(user_id)

    async def search(self, user_id: str) -> Sequence[Found]:
        """The sorted sets, as though they were a table."""
        count = len(await self._projection.holding(user_id))
        return [Found(SORTED_SETS, count, ("held",) if count else ())]
