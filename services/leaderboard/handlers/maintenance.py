"""Runs that are over: archived whole, then gone from the sorted sets (RULES 6.2)."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Final

from services.leaderboard.config import (
    ARCHIVE_TIMEOUT_SECONDS,
    ENDING_BATCHES_PER_PASS,
    RUNS_PER_PASS,
)
from services.leaderboard.convert.changes import run_change
from services.leaderboard.domain.boards import Board, Boards, ScoreRule
from services.leaderboard.domain.runs import RunState, begin_of, finalize_time, run_begun, run_of
from services.leaderboard.domain.states import RunKey
from services.leaderboard.handlers.carrying import Carrier
from services.leaderboard.handlers.cleaning import Cleaner
from services.leaderboard.handlers.endings import Endings
from services.leaderboard.handlers.leagues import Leagues
from services.leaderboard.projection import Projection
from services.leaderboard.store import due, endings, starts
from services.leaderboard.store.archive import ArchiveStore
from services.leaderboard.store.daily import DailyStore
from services.leaderboard.store.segments import SegmentStore
from services.leaderboard.store.starts import StartStore
from shared import faults
from shared.clock import Clock
from shared.passes import Pass
from shared.postgres.definitions import Catalogue
from shared.postgres.feed import Feed
from shared.postgres.pool import Pool

BEFORE_COMMIT: Final = faults.declare(
    "leaderboard.maintenance.before_commit", "a run is archived, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "leaderboard.maintenance.after_commit", "a run is archived, its sorted sets are still there"
)


class MaintenanceHandlers:
    """The time-driven work. Any number of replicas may do it at once: a run's row decides who archives it."""

    def __init__(
        self,
        pool: Pool,
        catalogue: Catalogue[Boards],
        projection: Projection,
        clock: Clock,
        leagues: Leagues,
        cleaner: Cleaner,
        segments: SegmentStore,
        grace: timedelta,
        history: timedelta | None,
        kept: timedelta | None,
    ) -> None:
        """For how long are kept the ranks at the end of each date (`history`), and the members of archived runs
        (`kept`). None: for ever.
        """
        self._pool = pool
        self._archive = ArchiveStore(pool)
        self._endings = Endings(pool)
        self._catalogue = catalogue
        self._projection = projection
        self._clock = clock
        self._daily = DailyStore(pool)
        self._history = history
        self._kept = kept
        self._leagues = leagues
        self._cleaner = cleaner
        self._carrier = Carrier(pool, catalogue, projection, segments)
        self._grace = grace
        self._starts = StartStore(pool)
        self._feed = Feed(pool)

    async def run(self, now: datetime, history: bool = False) -> Pass:
        """A bounded part of what is due at `now`, as `part` has it."""
        return await self.part(now, RUNS_PER_PASS, history=history)

    async def part(self, now: datetime, most: int, *, history: bool = False) -> Pass:
        """Archive so many runs at most of those that are due at `now`, each in one transaction, and go through a
        bounded part of what is archived: prizes are given, users of leagues go up or down, and who waited for that is
        put into a cohort. Segments of open runs go that everybody has left.
        """
        boards = await self._catalogue.latest()
        await self._keep_day(boards, now.date() - timedelta(days=1))
        begun = self._begun(boards, now)
        if not await due.anything(self._pool, now, list(begun)):
            await self._cleaner.clean(boards, now)
            return Pass()
        runs = await self._archive.due(now, most)
        await self._tell_starts(boards, begun, history)
        done = sum([await self._finalize(boards, run, now, history) for run in runs])
        await self._drop_finalized()
        # In proportion: many batches at a stretch would keep events waiting, too.
        ended, more = await self._endings.run(max(1, ENDING_BATCHES_PER_PASS * most // RUNS_PER_PASS))
        seated = await self._leagues.seat_waiting(boards)
        await self._cleaner.clean(boards, now)
        return Pass(done + ended + seated, more=more or len(runs) == most)

    async def _keep_day(self, boards: Boards, day: date) -> None:
        """The ranks at the end of a UTC date are those of the first pass after it. One look-up where they are kept."""
        keeping = [board for board in boards.by_key.values() if board.daily_depth and board.active]
        if not keeping or await self._daily.is_kept(keeping, day):
            return
        for board in keeping:
            async with self._pool.acquire() as connection, connection.transaction():
                await self._daily.keep(connection, board, day)
                if self._history is not None:
                    await self._daily.forget(connection, board, day - self._history)

    def _begun(self, boards: Boards, now: datetime) -> dict[RunKey, RunState]:
        """The newest run of each board that has begun."""
        return {
            (board.key, run.start): RunState(board.key, run, finalize_time(run, self._grace))
            for board in boards.by_key.values()
            if board.active and (run := run_begun(board.schedule, now)) is not None
        }

    async def _tell_starts(self, boards: Boards, begun: Mapping[RunKey, RunState], history: bool) -> None:
        """Once the streaks that are alive are on it. Of an import's history it is only noted, and nobody sees the live
        board of a run that is long over.
        """
        for key in await self._starts.untold(list(begun)) if begun else ():
            board = boards.by_key[key[0]]
            is_seen = not history or not begun[key].is_closed(self._clock.now())
            if board.rule is ScoreRule.LENGTH and is_seen:
                await self._carrier.begin(board, begun[key])
            change = None if history else run_change(begun[key], begin_of(begun[key].run))
            async with self._pool.acquire() as connection, connection.transaction():
                await starts.tell(connection, self._feed, key, change)

    async def expire(self, now: datetime, most: int) -> Pass:
        """Delete the members of so many archived runs at most that are kept no longer, each in one transaction."""
        if self._kept is None:
            return Pass()
        gone = await self._archive.expire(now - self._kept, most, ARCHIVE_TIMEOUT_SECONDS)
        return Pass(gone, more=gone > 0)

    async def _carry_on(self, board: Board, start: date, now: datetime) -> None:
        """Also those into the run after this one who came alive in it when that had begun elsewhere."""
        run = run_of(board.schedule, start)
        following = run and run_of(board.schedule, run.end + timedelta(days=1))
        if following and board.active:
            state = RunState(board.key, following, finalize_time(following, self._grace))
            if not state.is_closed(now):
                await self._carrier.begin(board, state)

    async def _finalize(self, boards: Boards, run: RunKey, now: datetime, history: bool) -> bool:
        board = boards.by_key[run[0]]
        if board.rule is ScoreRule.LENGTH:
            await self._carrier.complete(board, run[1])
            if not history:
                await self._carry_on(board, run[1], now)
        async with self._pool.acquire() as connection, connection.transaction():
            done = await self._archive.finalize(connection, board, run, ARCHIVE_TIMEOUT_SECONDS)
            if done and (board.prizes or board.league):
                await endings.begin(connection, board, run, history=history)
            if done and not history:
                state, member_count = await self._archive.finished(connection, run)
                assert state.finalize_time is not None  # it was due
                await self._feed.append(connection, [run_change(state, state.finalize_time, member_count)])
            await BEFORE_COMMIT.reach()
        await AFTER_COMMIT.reach()
        return done

    async def _drop_finalized(self) -> None:
        """Also what an earlier pass did not come to."""
        keys = await self._archive.to_drop()
        if keys:
            await self._projection.drop(keys)
            await self._archive.mark_dropped(keys)
