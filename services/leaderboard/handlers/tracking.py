"""Who was overtaken is found behind the replies, segment by segment, at most once in a board's interval (RULES 6.8).

A replica looks at what its own entries touched. What a process that dies had not looked at yet is found with the next
entry that touches the segment: each look tells what became of the one before.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from services.leaderboard.convert.changes import ranks_change
from services.leaderboard.domain.boards import Board, Boards
from services.leaderboard.domain.ranks import Placement, SegmentKey, numbered, shown_rank
from services.leaderboard.domain.tracking import Compared, Moved, Spot, Tracking, compared, suspects
from services.leaderboard.projection import Projection
from services.leaderboard.store import tracking as store
from services.leaderboard.store.events import EventStore
from services.leaderboard.store.standings import StandingStore
from shared import faults
from shared.clock import Clock
from shared.ids import derived_id_at
from shared.postgres.definitions import Catalogue
from shared.postgres.errors import log_failure
from shared.postgres.feed import Feed
from shared.postgres.pool import Pool
from shared.redis.client import translate

_LOGGER: Final = logging.getLogger(__name__)

_ON_THEIR_WAY: Final = timedelta(minutes=1)
"""So much older than the look before may be what its user's entries made of a rank, and not have been there then."""

BEFORE_COMMIT: Final = faults.declare(
    "leaderboard.tracking.before_commit", "who was overtaken is written, not yet committed"
)


class Tracker:
    """Looks at what was touched."""

    def __init__(
        self, pool: Pool, catalogue: Catalogue[Boards], projection: Projection, clock: Clock, pause: timedelta
    ) -> None:
        """`pause`: how often it looks at all."""
        self._pool = pool
        self._catalogue = catalogue
        self._projection = projection
        self._standings = StandingStore(pool)
        self._events = EventStore(pool)
        self._feed = Feed(pool)
        self._clock = clock
        self._pause = pause
        self._touched: dict[SegmentKey, None] = {}

    def touch(self, board: Board, key: SegmentKey, placement: Placement) -> None:
        """Something moved in a segment. What lies beyond the depth concerns nobody whom the board tracks."""
        tracking = board.tracking
        if tracking is None:
            return
        places = (place for place in (placement.before, placement.after) if place is not None)
        if any(place.ordinal <= tracking.depth for place in places):
            self._touched[key] = None

    async def run(self) -> None:
        """Look, again and again; never returns. A failure is logged, and what was not looked at stays touched."""
        while True:
            await asyncio.sleep(self._pause.total_seconds())
            try:
                await self.look()
            except Exception as error:
                log_failure(_LOGGER, "who was overtaken could not be found out", translate(error) or error)

    async def look(self) -> None:
        """Look at every segment that was touched, and whose turn it is."""
        if not self._touched:
            return
        boards = await self._catalogue.latest()
        for key in list(self._touched):
            board = boards.by_key.get(key.board)
            # Whatever touches it from here on is looked at again.
            self._touched.pop(key, None)
            if board is None or board.tracking is None:
                continue
            try:
                is_done = await self._look_at(board, board.tracking, key)
            except BaseException:
                self._touched[key] = None
                raise
            if not is_done:
                self._touched[key] = None

    async def _look_at(self, board: Board, tracking: Tracking, key: SegmentKey) -> bool:
        """False where it has to be looked again: it is too early, or an entry is on its way."""
        now = self._clock.now()
        async with self._pool.acquire() as connection, connection.transaction():
            interval = tracking.interval or self._pause
            before = await store.take(connection, key, now, interval)
            if before is None:
                return await connection.fetchval(store.RUN, key.board, key.run_start) is None
            after = await self._top(board, key, tracking.depth)
            looks = Compared([], after)
            if before.members is not None and (users := suspects(before.members, after)):
                own = await store.own(connection, key, users, before.time - _ON_THEIR_WAY)
                elsewhere = await self._elsewhere(board, key, users - after.keys())
                looks = compared(users, before.members, after, elsewhere, own)
            found = looks.moved
            passed = [one for one in found if one.passed_from is not None]
            if passed:
                await store.write(connection, [_row(key, one, now) for one in passed])
            told = found if tracking.interval else passed
            if told:
                change = ranks_change(
                    board, before.run, key.segment, told, now, at_look=bool(tracking.interval)
                )
                await self._feed.append(connection, [change])
            await store.keep(connection, key, now, looks.kept)
            await BEFORE_COMMIT.reach()
        return not any(spot.waits for spot in looks.kept.values())

    async def _top(self, board: Board, key: SegmentKey, depth: int) -> dict[str, Spot]:
        depth = min(depth, board.participant_limit or depth)
        page, stamp = await self._projection.page(board, key, 0, depth)
        if not stamp.is_complete(await self._events.marker()):
            page = await self._standings.page(board, key, 0, depth)
        ranked = numbered(board.rank_mode, page.members, page.first)
        return {member.user_id: Spot(rank, member.amount) for rank, member in ranked}

    async def _elsewhere(self, board: Board, key: SegmentKey, users: Iterable[str]) -> dict[str, Spot]:
        """Where those stand who are on the tracked ranks no more."""
        asked = sorted(users)
        if not asked:
            return {}
        places, _, stamp = await self._projection.members(board, key, asked)
        if not stamp.is_complete(await self._events.marker()):
            places, _ = await self._standings.members(board, key, asked)
        return {one.member.user_id: Spot(shown_rank(board, one.place), one.member.amount) for one in places}


def _row(key: SegmentKey, one: Moved, now: datetime) -> tuple[object, ...]:
    name = derived_id_at(
        now, "passed", key.board, key.run_start.isoformat(), key.segment, one.user_id, now.isoformat()
    )
    place = (key.board, key.run_start, key.segment)
    return (one.user_id, now, name, *place, one.passed_from, one.rank, one.score)
