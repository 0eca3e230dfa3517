"""What the sorted sets are compared with: the positions of a segment's members, as they follow from the scores."""

from typing import Final

from services.leaderboard.domain.boards import WHOLE, Board
from services.leaderboard.domain.ranks import SegmentKey, position_of
from services.leaderboard.domain.scores import Score
from shared.postgres.pool import Pool

SEGMENTS: Final = """
    SELECT segments.board, segments.run_start, segments.segment
      FROM runs JOIN segments ON segments.board = runs.board AND segments.run_start = runs.start_date
     WHERE NOT runs.finalized AND ($1 = '' OR runs.board = $1)
     ORDER BY segments.board, segments.run_start, segments.segment
"""
MEMBERS_OF_WHOLE: Final = """
    SELECT user_id, score, reach_time FROM scores
     WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL AND $3::text = ''
"""
MEMBERS_OF_SEGMENT: Final = """
    SELECT user_id, score, reach_time FROM scores
     WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL AND segment = $3 AND segment <> ''
"""


class VerifyStore:
    """The truth, for comparing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def segments(self, board: str) -> list[SegmentKey]:
        """The segments of open runs, of one board or ("") of all."""
        return [SegmentKey(*row) for row in await self._pool.fetch(SEGMENTS, board)]

    async def positions(self, board: Board, key: SegmentKey) -> set[str]:
        """What the sorted set of a segment should have."""
        query = MEMBERS_OF_WHOLE if key.segment == WHOLE else MEMBERS_OF_SEGMENT
        found = await self._pool.fetch(query, key.board, key.run_start, key.segment)
        positions = (position_of(board.order, row[0], Score(row[1], row[2])) for row in found)
        return {position for position in positions if position is not None}
