"""One segment of one run as a list: read from the sorted sets where they are complete, else from PostgreSQL; of a run
that is over from the archive.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct

from services.leaderboard.convert.common import DOMAIN
from services.leaderboard.domain.boards import Board, Boards, segment_text
from services.leaderboard.domain.ranks import (
    Member,
    MemberPage,
    MemberPlace,
    Place,
    SegmentKey,
    numbered,
    ranked_count,
    shown_rank,
)
from services.leaderboard.domain.runs import RunState, finalize_time, run_of
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.projection import Projection, Stamp
from services.leaderboard.results import RankedMembers, Selector
from services.leaderboard.store.archive import ArchiveStore
from services.leaderboard.store.reads import ReadStore
from services.leaderboard.store.standings import StandingStore
from shared.clock import Clock
from shared.errors import NotFound
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool

LAST_INDEX: Final = 2**40
"""No segment has as many members; page tokens are clients' words."""


class MemberList(Struct, frozen=True):
    """A selector that was understood."""

    board: Board
    run: RunState
    key: SegmentKey


class Lists:
    """The lists of members."""

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
        self._archive = ArchiveStore(pool)
        self._standings = StandingStore(pool)
        self._catalogue = catalogue
        self._projection = projection
        self._rebuilder = rebuilder
        self._clock = clock
        self._grace = grace

    async def understand(self, selector: Selector, start: date | None = None) -> MemberList:
        """What a selector means; `start`, the first date of a run, is from a page token. Raises `NotFound`."""
        board = (await self._catalogue.latest()).find(selector.board)
        if board is None:
            raise unknown_board(selector.board)
        if selector.segment and set(selector.segment) != set(board.segment_names):
            raise not_found("the board has other breakdown attributes", "SEGMENT_NOT_FOUND", board.key)
        run = run_of(board.schedule, start or selector.run_date or self.today())
        if run is None:
            raise not_found("the board has no run on this date", "RUN_NOT_FOUND", board.key)
        stored = await self._reads.run((board.key, run.start))
        state = stored or RunState(board.key, run, finalize_time(run, self._grace))
        return MemberList(board, state, SegmentKey(board.key, run.start, segment_text(selector.segment)))

    async def page(self, wanted: MemberList, first: int, size: int) -> RankedMembers:
        """So many members from an index (from 0) on."""
        if wanted.run.finalized:
            return await self._archived(wanted, await self._archive.page(wanted.key, first, size))
        count = max(0, min(size, (wanted.board.participant_limit or LAST_INDEX) - first))
        return await self._live(
            wanted,
            lambda: self._projection.page(wanted.board, wanted.key, first, count),
            lambda: self._standings.page(wanted.board, wanted.key, first, count),
        )

    async def around(self, wanted: MemberList, user_id: str, radius: int) -> RankedMembers:
        """The user and the members on both sides. Raises `NotFound` for a user who is not ranked."""
        if wanted.run.finalized:
            found = await self._archived(wanted, await self._archive.around(wanted.key, user_id, radius))
        else:
            found = await self._live(
                wanted,
                lambda: self._projection.around(wanted.board, wanted.key, user_id, radius),
                lambda: self._standings.around(wanted.board, wanted.key, user_id, radius),
            )
        if all(member.user_id != user_id for _, member in found.members):
            raise not_ranked(wanted.board)
        return found

    async def members(
        self, wanted: MemberList, user_ids: Sequence[str]
    ) -> tuple[RankedMembers, Sequence[MemberPlace]]:
        """Those of these users who are ranked, best first; and their places."""
        is_rebuilding = False
        if wanted.run.finalized:
            places = await self._archive.members(wanted.key, user_ids)
            member_count = await self._archive.member_count(wanted.key)
        else:
            places, size, stamp = await self._projection.members(wanted.board, wanted.key, user_ids)
            _, marker = await self._reads.profiles(())
            if not stamp.is_complete(marker):
                is_rebuilding = True
                self._rebuilder.request(stamp.unready)
                places, size = await self._standings.members(wanted.board, wanted.key, user_ids)
            member_count = ranked_count(wanted.board, size)
            places = [place for place in places if shown_rank(wanted.board, place.place)]
        places = sorted(places, key=lambda place: place.place.ordinal)
        profiles, _ = await self._reads.profiles([place.member.user_id for place in places])
        ranked = [(place.place.rank, place.member) for place in places]
        found = RankedMembers(wanted.board, wanted.run, ranked, profiles, member_count, is_rebuilding)
        return found, places

    def now(self) -> datetime:
        """The present instant."""
        return self._clock.now()

    def today(self) -> date:
        """The present date in UTC."""
        return self.now().date()

    async def _live(
        self,
        wanted: MemberList,
        ask_sets: Callable[[], Awaitable[tuple[MemberPage, Stamp]]],
        ask_truth: Callable[[], Awaitable[MemberPage]],
    ) -> RankedMembers:
        """A page of an open run, with profiles in one more query."""
        page, stamp = await ask_sets()
        profiles, marker = await self._reads.profiles([member.user_id for member in page.members])
        is_rebuilding = not stamp.is_complete(marker)
        if is_rebuilding:
            self._rebuilder.request(stamp.unready)
            page = await ask_truth()
            profiles, _ = await self._reads.profiles([member.user_id for member in page.members])
        return RankedMembers(
            wanted.board,
            wanted.run,
            _ranked(wanted.board, page.members, page.first),
            profiles,
            ranked_count(wanted.board, page.member_count),
            is_rebuilding,
        )

    async def _archived(self, wanted: MemberList, ranked: Sequence[tuple[int, Member]]) -> RankedMembers:
        profiles, _ = await self._reads.profiles([member.user_id for _, member in ranked])
        count = await self._archive.member_count(wanted.key)
        return RankedMembers(wanted.board, wanted.run, ranked, profiles, count)


def _ranked(board: Board, members: Sequence[Member], first: Place | None) -> list[tuple[int, Member]]:
    """Members with their ranks, as far as the participant limit reaches."""
    ranked = numbered(board.rank_mode, members, first)
    if not board.participant_limit or first is None:
        return ranked
    return ranked[: max(0, board.participant_limit - first.ordinal + 1)]


def not_ranked(board: Board) -> NotFound:
    """For a user who has no rank in a segment."""
    return not_found("the user is not ranked in this segment", "MEMBER_NOT_FOUND", board.key)


def unknown_board(key: str) -> NotFound:
    """For a key that no board has."""
    return not_found(f"there is no leaderboard {key!r}", "LEADERBOARD_NOT_FOUND", key)


def not_found(message: str, reason: str, board: str) -> NotFound:
    """What a board does not have."""
    return NotFound(message, reason=reason, metadata={"leaderboard": board}, domain=DOMAIN)
