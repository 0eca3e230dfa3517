"""What the sorted sets are compared with: the positions of a segment's members, as they follow from the scores."""

from collections.abc import AsyncGenerator
from typing import Final

from services.leaderboard.domain.boards import WHOLE
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.store import rows
from services.leaderboard.store.rebuild import UNLIMITED
from shared.postgres.pool import Pool

SEGMENTS: Final = """
    SELECT segments.board, segments.run_start, segments.segment
      FROM runs JOIN segments ON segments.board = runs.board AND segments.run_start = runs.start_date
     WHERE NOT runs.finalized AND ($1 = '' OR runs.board = $1)
     ORDER BY segments.board, segments.run_start, segments.segment
"""
# As bytes, which sorted sets have: nothing is made of them but a comparison.
POSITIONS_OF_WHOLE: Final = f"""
    SELECT convert_to({rows.POSITION}, 'UTF8') FROM scores
     WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL AND $3::text = ''
     ORDER BY order_score, reach_time, user_id
"""
POSITIONS_OF_SEGMENT: Final = f"""
    SELECT convert_to({rows.POSITION}, 'UTF8') FROM scores
     WHERE board = $1 AND run_start = $2 AND order_score IS NOT NULL AND segment = $3 AND segment <> ''
     ORDER BY order_score, reach_time, user_id
"""


class VerifyStore:
    """The truth, for comparing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def segments(self, board: str) -> list[SegmentKey]:
        """The segments of open runs, of one board or ("") of all."""
        return [SegmentKey(*row) for row in await self._pool.fetch(SEGMENTS, board)]

    async def positions(self, key: SegmentKey, size: int) -> AsyncGenerator[list[bytes], None]:
        """What the sorted set of a segment should have, in order, `size` at a time."""
        query = POSITIONS_OF_WHOLE if key.segment == WHOLE else POSITIONS_OF_SEGMENT
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(UNLIMITED)
            cursor = await connection.cursor(query, key.board, key.run_start, key.segment)
            while found := await cursor.fetch(size):
                yield [row[0] for row in found]
