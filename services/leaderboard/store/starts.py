"""Runs that have begun: told once each, by the first pass of maintenance after it (RULES 8.1)."""

from collections.abc import Sequence
from typing import Final

from services.leaderboard.domain.states import RunKey
from shared.postgres.feed import Feed
from shared.postgres.pool import Connection, Pool

UNTOLD: Final = """
    SELECT board, run_start
      FROM unnest($1::text[], $2::date[]) AS begun (board, run_start)
     WHERE NOT EXISTS (
           SELECT FROM run_starts
            WHERE run_starts.board = begun.board AND run_starts.run_start = begun.run_start)
"""
TELL: Final = """
    INSERT INTO run_starts (board, run_start) VALUES ($1, $2) ON CONFLICT (board, run_start) DO NOTHING RETURNING true
"""


class StartStore:
    """The SQL of beginnings."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def untold(self, begun: Sequence[RunKey]) -> list[RunKey]:
        """Those of these runs of which it was not told that they began. One look-up when there are none."""
        found = await self._pool.fetch(UNTOLD, [board for board, _ in begun], [start for _, start in begun])
        return sorted((row["board"], row["run_start"]) for row in found)


async def tell(connection: Connection, feed: Feed, run: RunKey, change: bytes | None) -> None:
    """Tell that a run began, unless another replica has; without a change it is only noted."""
    if await connection.fetchval(TELL, *run) and change is not None:
        await feed.append(connection, [change])
