"""Who has a streak alive in a run is ranked in it, also of whom nothing was said in it (RULES 6.3): on the live board
from the run's beginning on, and at the latest before it is archived.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Final

from services.leaderboard.config import CARRY_BATCH
from services.leaderboard.domain.boards import WHOLE, Board, Boards
from services.leaderboard.domain.ranks import LOOK_ONLY, SegmentKey, Step
from services.leaderboard.domain.runs import RunState, run_of
from services.leaderboard.handlers.refreshing import bring_up_to_date
from services.leaderboard.projection import Projection
from services.leaderboard.store import carrying
from services.leaderboard.store.segments import SegmentStore
from services.leaderboard.store.standings import StandingStore
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool

_DAY: Final = timedelta(days=1)


class Carrier:
    """Carries streaks from one run into the next, some users in a transaction. What is done twice is done once."""

    def __init__(
        self, pool: Pool, catalogue: Catalogue[Boards], projection: Projection, segments: SegmentStore
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._projection = projection
        self._segments = segments
        self._standings = StandingStore(pool)

    async def begin(self, board: Board, state: RunState) -> None:
        """Put those on the live board of a run who had the streak alive in the run before, whether that is archived or
        not. What is said of them later takes the place of what was carried.

        Who has a score already is told to the sorted sets all the same: a crash may have come between the two.
        """
        before = run_of(board.schedule, state.run.start - _DAY)
        if before is None:
            return
        alive = await carrying.alive(self._pool, board, before)
        for user_ids in _batches(alive):
            there = await carrying.segments_of(self._pool, board, state.run, user_ids)
            if missing := [user_id for user_id in user_ids if user_id not in there]:
                if not await self._open(state):
                    return
                async with self._pool.acquire() as connection, connection.transaction():
                    await carrying.carry(connection, self._segments, board, state.run, missing)
                there = await carrying.segments_of(self._pool, board, state.run, user_ids)
            steps = [
                Step(SegmentKey(board.key, state.run.start, part), user_id, LOOK_ONLY, None, None)
                for user_id, segment in there.items()
                for part in dict.fromkeys((WHOLE, segment))
            ]
            await bring_up_to_date(self._projection, self._standings, steps, lambda _: board)

    async def _open(self, state: RunState) -> bool:
        async with self._pool.acquire() as connection, connection.transaction():
            return await carrying.open_run(connection, self._catalogue, state)

    async def complete(self, board: Board, start: date) -> None:
        """Before a run is archived: also those who came too late for its beginning."""
        run, before = run_of(board.schedule, start), run_of(board.schedule, start - _DAY)
        if run is None or before is None:
            return
        async with self._pool.acquire() as connection:
            for user_ids in _batches(await carrying.candidates(connection, board, run, before)):
                async with connection.transaction():
                    await carrying.carry(connection, self._segments, board, run, user_ids)


def _batches(user_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(user_ids), CARRY_BATCH):
        yield user_ids[first : first + CARRY_BATCH]
