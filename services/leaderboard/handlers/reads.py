"""What can be read: from the sorted sets where they are complete, else from PostgreSQL; past runs from the archive."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from typing import Final

from msgspec import Struct

from services.leaderboard.convert.common import DOMAIN
from services.leaderboard.domain.boards import WHOLE, Board, Boards, segment_text
from services.leaderboard.domain.entries import Move, RunKey
from services.leaderboard.domain.ranks import (
    Member,
    MemberPage,
    Place,
    Placement,
    SegmentKey,
    look,
    numbered,
    position_of,
    ranked_count,
)
from services.leaderboard.domain.runs import RunState, finalize_time, run_of
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.projection import Projection, Stamp
from services.leaderboard.results import (
    ArchivedPlace,
    RankedMembers,
    RankEvent,
    Segment,
    Selector,
    UserStanding,
)
from services.leaderboard.store.archive import ArchiveStore
from services.leaderboard.store.events import EventStore
from services.leaderboard.store.reads import ReadStore
from services.leaderboard.store.standings import StandingStore
from shared.clock import Clock
from shared.errors import NotFound
from shared.pages import Page
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool

_LAST_INDEX: Final = 2**40
"""No segment has as many members; page tokens are clients' words."""


class _List(Struct, frozen=True):
    """A selector that was understood."""

    board: Board
    run: RunState
    key: SegmentKey


class ReadHandlers:
    """The queries."""

    def __init__(
        self,
        pool: Pool,
        catalogue: Catalogue[Boards],
        projection: Projection,
        rebuilder: Rebuilder,
        clock: Clock,
        grace: timedelta,
    ) -> None:
        self._reads = ReadStore(pool)
        self._events = EventStore(pool)
        self._archive = ArchiveStore(pool)
        self._standings = StandingStore(pool)
        self._catalogue = catalogue
        self._projection = projection
        self._rebuilder = rebuilder
        self._clock = clock
        self._grace = grace

    async def list_ranked_members(self, selector: Selector, page: Page) -> tuple[RankedMembers, str]:
        """The members from a rank on, and the token of the next page ("" after the last).

        A token keeps to the run in which it was given, also when another has begun meanwhile. Raises `NotFound`.
        """
        start, index = page.after or (None, 0)
        wanted = await self._list(selector, start)
        first = min(max(index, 0), _LAST_INDEX)
        if wanted.run.finalized:
            ranked = await self._archive.page(wanted.key, first, page.size)
            found = await self._archived(wanted, ranked)
        else:
            count = max(0, min(page.size, (wanted.board.participant_limit or _LAST_INDEX) - first))
            found = await self._live(
                wanted,
                lambda: self._projection.page(wanted.board, wanted.key, first, count),
                lambda: self._standings.page(wanted.board, wanted.key, first, count),
            )
        following = first + len(found.members)
        is_last = not found.members or following >= found.member_count
        return found, "" if is_last else page.next_token(wanted.key.run_start, following)

    async def list_members_around(self, selector: Selector, user_id: str, radius: int) -> RankedMembers:
        """The user and the members on both sides. Raises `NotFound`, also for a user who is not ranked."""
        wanted = await self._list(selector, None)
        if wanted.run.finalized:
            ranked = await self._archive.around(wanted.key, user_id, radius)
            found = await self._archived(wanted, ranked)
        else:
            found = await self._live(
                wanted,
                lambda: self._projection.around(wanted.board, wanted.key, user_id, radius),
                lambda: self._standings.around(wanted.board, wanted.key, user_id, radius),
            )
        if all(member.user_id != user_id for _, member in found.members):
            raise _not_found("the user is not ranked in this segment", "MEMBER_NOT_FOUND", wanted.board.key)
        return found

    async def list_user_standings(
        self, user_id: str, run_date: date | None
    ) -> tuple[list[UserStanding], list[tuple[Board, ArchivedPlace]]]:
        """Where the user stands on every board, in open runs and in finalised ones."""
        boards = await self._catalogue.latest()
        day = run_date or self._today()
        runs: list[RunKey] = [
            (board.key, run.start)
            for board in boards.by_key.values()
            if (run := run_of(board.schedule, day)) is not None
        ]
        moves = [
            (state, segment, position)
            for state, held in await self._reads.user_scores(user_id, runs)
            for position in [position_of(boards.by_key[state.board].order, user_id, held.score)]
            for segment in dict.fromkeys((WHOLE, held.segment))
        ]
        standing = [Move(state, segment, None, position) for state, segment, position in moves]
        placements = await self._looked_up(boards, user_id, standing)
        archived = await self._reads.user_archive(user_id, runs)
        return (
            [
                UserStanding(boards.by_key[move.run.board], move, placement)
                for move, placement in zip(standing, placements, strict=True)
            ],
            [(boards.by_key[one.run.board], one) for one in archived],
        )

    async def list_runs(self, board: str, page: Page) -> list[RunState]:
        """The runs that were ever entered, newest first; one more than the page holds where there are more."""
        await self._board(board)
        return await self._reads.runs(board, page)

    async def list_segments(self, selector: Selector, page: Page) -> list[tuple[Segment, int]]:
        """The segments that have members, with their number; one more than the page holds where there are more."""
        start = page.after[0] if page.after else None
        wanted = await self._list(selector, start)
        segments = await self._reads.segments((wanted.board.key, wanted.key.run_start), page)
        live = [one.key for one in segments if one.member_count is None]
        counts = dict(zip(live, await self._member_counts(wanted.board, live), strict=True))
        return [
            (one, ranked_count(wanted.board, counts[one.key]) if one.key in counts else one.member_count or 0)
            for one in segments
        ]

    async def list_rank_events(self, user_id: str, board: str, page: Page) -> tuple[list[RankEvent], Boards]:
        """A user's rank changes, newest first; one more than the page holds where there are more."""
        boards = await self._catalogue.latest()
        if board and board not in boards.by_key:
            raise _unknown_board(board)
        return await self._reads.rank_events(user_id, board, page), boards

    async def rebuild(self) -> int:
        """Fill the sorted sets anew; the number of members."""
        return await self._rebuilder.rebuild()

    async def _board(self, key: str) -> Board:
        board = (await self._catalogue.latest()).by_key.get(key)
        if board is None:
            raise _unknown_board(key)
        return board

    async def _list(self, selector: Selector, start: date | None) -> _List:
        """Understand a selector; `start`, the first date of a run, is from a page token."""
        board = await self._board(selector.board)
        if selector.segment and set(selector.segment) != set(board.breakdown):
            raise _not_found("the board has other breakdown attributes", "SEGMENT_NOT_FOUND", board.key)
        run = run_of(board.schedule, start or selector.run_date or self._today())
        if run is None:
            raise _not_found("the board has no run on this date", "RUN_NOT_FOUND", board.key)
        stored = await self._reads.run((board.key, run.start))
        state = stored or RunState(board.key, run, finalize_time(run, self._grace))
        return _List(board, state, SegmentKey(board.key, run.start, segment_text(selector.segment)))

    async def _live(
        self,
        wanted: _List,
        ask_sets: Callable[[], Awaitable[tuple[MemberPage, Stamp]]],
        ask_truth: Callable[[], Awaitable[MemberPage]],
    ) -> RankedMembers:
        """A page of an open run, with names in one more query."""
        page, stamp = await ask_sets()
        names, marker = await self._reads.names([member.user_id for member in page.members])
        is_rebuilding = not stamp.is_complete(marker)
        if is_rebuilding:
            self._rebuilder.request(stamp.unready)
            page = await ask_truth()
            names, _ = await self._reads.names([member.user_id for member in page.members])
        return RankedMembers(
            wanted.board,
            wanted.run,
            _ranked(wanted.board, page.members, page.first),
            names,
            ranked_count(wanted.board, page.member_count),
            is_rebuilding,
        )

    async def _archived(self, wanted: _List, ranked: Sequence[tuple[int, Member]]) -> RankedMembers:
        names, _ = await self._reads.names([member.user_id for _, member in ranked])
        count = await self._archive.member_count(wanted.key)
        return RankedMembers(wanted.board, wanted.run, ranked, names, count)

    async def _looked_up(self, boards: Boards, user_id: str, standing: Sequence[Move]) -> Sequence[Placement]:
        """The places of a user's positions."""
        board_of = boards.by_key.__getitem__
        steps = [look(move.key, user_id, move.after) for move in standing]
        placements, stamp = await self._projection.place(steps, board_of)
        if stamp.is_complete(await self._events.marker()):
            return placements
        self._rebuilder.request(stamp.unready)
        return await self._standings.place(steps, board_of)

    async def _member_counts(self, board: Board, keys: Sequence[SegmentKey]) -> Sequence[int]:
        counts, stamp = await self._projection.member_counts(board, keys)
        if stamp.is_complete(await self._events.marker()):
            return counts
        self._rebuilder.request(stamp.unready)
        return await self._standings.member_counts(keys, board)

    def _today(self) -> date:
        return self._clock.now().date()


def _ranked(board: Board, members: Sequence[Member], first: Place | None) -> list[tuple[int, Member]]:
    """Members with their ranks, as far as the participant limit reaches."""
    ranked = numbered(board.rank_mode, members, first)
    if not board.participant_limit or first is None:
        return ranked
    return ranked[: max(0, board.participant_limit - first.ordinal + 1)]


def _unknown_board(key: str) -> NotFound:
    return _not_found(f"there is no leaderboard {key!r}", "LEADERBOARD_NOT_FOUND", key)


def _not_found(message: str, reason: str, board: str) -> NotFound:
    return NotFound(message, reason=reason, metadata={"leaderboard": board}, domain=DOMAIN)
