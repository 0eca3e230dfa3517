"""Sorted sets compared with PostgreSQL, for an operator (RULES 6.7)."""

from contextlib import aclosing

from services.leaderboard.config import MAX_DIFFERENCES, VERIFY_BATCH, VERIFY_LOOKS
from services.leaderboard.domain.boards import Boards
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
            count, difference = await self._compare(segment)
            members += count
            memory += await self._projection.memory_bytes(segment)
            if difference is not None and len(differences) < MAX_DIFFERENCES:
                differences.append(difference)
        return Verified(len(segments), members, differences, memory)

    async def _compare(self, key: SegmentKey) -> tuple[int, Difference | None]:
        """How many members there should be, and what differs in each of several looks: what is being written differs in
        one of them.
        """
        count, missing, surplus = await self._look(key)
        for _ in range(VERIFY_LOOKS - 1):
            if not missing and not surplus:
                break
            count, still_missing, still_surplus = await self._look(key)
            missing, surplus = missing & still_missing, surplus & still_surplus
        return count, Difference(key, len(missing), len(surplus)) if missing or surplus else None

    async def _look(self, key: SegmentKey) -> tuple[int, set[bytes], set[bytes]]:
        """How many members there should be, those that are missing, and those that are too many. Both sides are in the
        same order: a part of one is held against the part of the other that lies between the same bounds.
        """
        count = 0
        missing: set[bytes] = set()
        surplus: set[bytes] = set()
        last: bytes | None = None
        async with aclosing(self._store.positions(key, VERIFY_BATCH)) as parts:
            async for stored in parts:
                projected = await self._projection.positions(key, last, stored[-1])
                if stored != projected:
                    missing.update(set(stored).difference(projected))
                    surplus.update(set(projected).difference(stored))
                count += len(stored)
                last = stored[-1]
        surplus.update(await self._projection.positions(key, last, None))
        return count, missing, surplus
