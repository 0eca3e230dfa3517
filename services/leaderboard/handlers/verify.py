"""Sorted sets compared with PostgreSQL, for an operator (RULES 6.7)."""

from services.leaderboard.config import MAX_DIFFERENCES, VERIFY_LOOKS
from services.leaderboard.domain.boards import Board, Boards
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.handlers.lists import unknown_board
from services.leaderboard.projection import Projection
from services.leaderboard.results import Difference, Verified
from services.leaderboard.store.verify import VerifyStore
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool


class Verifier:
    """Reads all members of all segments that are compared, segment by segment."""

    def __init__(self, pool: Pool, catalogue: Catalogue[Boards], projection: Projection) -> None:
        self._store = VerifyStore(pool)
        self._catalogue = catalogue
        self._projection = projection

    async def verify(self, key: str) -> Verified:
        """Of one board, or ("") of all. Raises `NotFound`."""
        boards = await self._catalogue.latest()
        if key and key not in boards.by_key:
            raise unknown_board(key)
        segments = [found for found in await self._store.segments(key) if found.board in boards.by_key]
        members = memory = 0
        differences: list[Difference] = []
        for segment in segments:
            count, difference = await self._compare(boards.by_key[segment.board], segment)
            members += count
            memory += await self._projection.memory_bytes(segment)
            if difference is not None and len(differences) < MAX_DIFFERENCES:
                differences.append(difference)
        return Verified(len(segments), members, differences, memory)

    async def _compare(self, board: Board, key: SegmentKey) -> tuple[int, Difference | None]:
        """How many members there should be, and what differs at the end of several looks."""
        for _ in range(VERIFY_LOOKS):
            projected = await self._projection.positions(key)
            stored = await self._store.positions(board, key)
            if stored == projected:
                break
        missing, surplus = len(stored - projected), len(projected - stored)
        return len(stored), Difference(key, missing, surplus) if missing or surplus else None
