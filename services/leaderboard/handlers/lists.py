"""One segment of one run as a list: read from the sorted sets where they are complete, else from PostgreSQL; of a run
that is over from the archive.

In the common case two round trips. The sets are asked for what the definitions mean that are held here, and of a run
that is taken to be open; one statement then tells whether that held, and brings the profiles along.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from services.leaderboard.convert.common import DOMAIN
from services.leaderboard.domain.boards import Board, Boards, segment_text
from services.leaderboard.domain.ranks import (
    Member,
    MemberPage,
    MemberPlace,
    SegmentKey,
    numbered,
    ranked_count,
    shown_rank,
)
from services.leaderboard.domain.runs import RunState, finalize_time, run_of
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.projection import Projection, Stamp
from services.leaderboard.results import MemberList, RankedMembers, Selector
from services.leaderboard.store.archive import ArchiveStore
from services.leaderboard.store.reads import ReadStore, Seen
from services.leaderboard.store.standings import StandingStore
from shared.clock import Clock
from shared.errors import NotFound
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool

T = TypeVar("T")

LAST_INDEX: Final = 2**40
"""No segment has as many members; page tokens are clients' words."""


class _Ranked(Struct, frozen=True):
    """An answer, wherever it comes from."""

    members: Sequence[tuple[int, Member]]
    member_count: int
    better_counts: Sequence[int] = ()


class _Question(Struct, frozen=True):
    """What is asked of a list, by whom of those who can answer."""

    sets: Callable[[MemberList], Awaitable[tuple[_Ranked, Stamp]]]
    scores: Callable[[MemberList], Awaitable[_Ranked]]
    archive: Callable[[MemberList], Awaitable[_Ranked]]


class _Read(Struct, Generic[T], frozen=True):
    """What was read, or that there is no such list; and the version of the definitions when it was."""

    configuration_version: int
    found: T | NotFound


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

        async def look(wanted: MemberList) -> _Read[MemberList]:
            seen = await self._reads.seen(wanted.key, ())
            return _Read(seen.configuration_version, _as_stored(wanted, seen))

        return await self._by_newest(selector, start, look)

    async def page(
        self, selector: Selector, first: int, size: int, start: date | None = None
    ) -> RankedMembers:
        """So many members from an index (from 0) on. Raises `NotFound`."""
        return await self._asked(selector, start, self._page(first, size))

    async def page_of(self, wanted: MemberList, first: int, size: int) -> RankedMembers:
        """The same of a list that was understood."""
        return (await self._answered(wanted, self._page(first, size)))[1]

    async def around(self, selector: Selector, user_id: str, radius: int) -> RankedMembers:
        """The user and the members on both sides. Raises `NotFound`, also for a user who is not ranked."""
        found = await self._asked(selector, None, self._around(user_id, radius))
        if all(member.user_id != user_id for _, member in found.members):
            raise not_ranked(found.board)
        return found

    async def members(self, selector: Selector, user_ids: Sequence[str]) -> RankedMembers:
        """Those of these users who are ranked, best first. Raises `NotFound`."""
        return await self._asked(selector, None, self._members(user_ids))

    def now(self) -> datetime:
        """The present instant."""
        return self._clock.now()

    def today(self) -> date:
        """The present date in UTC."""
        return self.now().date()

    async def _asked(self, selector: Selector, start: date | None, question: _Question) -> RankedMembers:
        async def ask(wanted: MemberList) -> _Read[RankedMembers]:
            return _Read(*await self._answered(wanted, question))

        return await self._by_newest(selector, start, ask)

    async def _by_newest(
        self, selector: Selector, start: date | None, read: Callable[[MemberList], Awaitable[_Read[T]]]
    ) -> T:
        """What is read of the list that the newest definitions mean. Those that are held are tried first; what is read
        tells whether they still hold.
        """

        async def load(boards: Boards, _version: int) -> _Read[T]:
            try:
                wanted = self._meant(boards, selector, start or selector.run_date or self.today())
            except NotFound as error:
                return _Read(await self._reads.configuration_version(), error)
            return await read(wanted)

        _, state = await self._catalogue.with_state(load)
        if isinstance(state.found, NotFound):
            raise state.found
        return state.found

    def _meant(self, boards: Boards, selector: Selector, day: date) -> MemberList:
        """What a selector means by these definitions, in a run that is taken to be open."""
        board = boards.find(selector.board)
        if board is None:
            raise unknown_board(selector.board)
        if selector.segment and set(selector.segment) != set(board.segment_names):
            raise not_found("the board has other breakdown attributes", "SEGMENT_NOT_FOUND", board.key)
        run = run_of(board.schedule, day)
        if run is None:
            raise not_found("the board has no run on this date", "RUN_NOT_FOUND", board.key)
        state = RunState(board.key, run, finalize_time(run, self._grace))
        return MemberList(board, state, SegmentKey(board.key, run.start, segment_text(selector.segment)))

    async def _answered(self, wanted: MemberList, question: _Question) -> tuple[int, RankedMembers]:
        """The answer, and the version of the definitions by then."""
        if not wanted.run.finalized and wanted.run.is_closed(self.now()):
            # Past runs can be read without the sets.
            wanted = _as_stored(wanted, await self._reads.seen(wanted.key, ()))
        is_rebuilding = False
        if not wanted.run.finalized:
            ranked, stamp = await question.sets(wanted)
            seen = await self._seen(wanted, ranked)
            # Sets of a run go after it has been archived: it was read whole where it is still open.
            wanted = _as_stored(wanted, seen)
            if not wanted.run.finalized:
                if stamp.is_complete(seen.marker):
                    return seen.configuration_version, _found(wanted, ranked, seen)
                self._rebuilder.request(stamp.unready)
                is_rebuilding = True
        ranked = await (question.scores if is_rebuilding else question.archive)(wanted)
        seen = await self._seen(wanted, ranked)
        return seen.configuration_version, _found(wanted, ranked, seen, is_rebuilding=is_rebuilding)

    async def _seen(self, wanted: MemberList, ranked: _Ranked) -> Seen:
        user_ids = [member.user_id for _, member in ranked.members]
        return await self._reads.seen(wanted.key, user_ids, with_attributes=bool(wanted.board.shown))

    def _page(self, first: int, size: int) -> _Question:
        def count(wanted: MemberList) -> int:
            return max(0, min(size, (wanted.board.participant_limit or LAST_INDEX) - first))

        return self._of_pages(
            lambda wanted: self._projection.page(wanted.board, wanted.key, first, count(wanted)),
            lambda wanted: self._standings.page(wanted.board, wanted.key, first, count(wanted)),
            lambda wanted: self._archive.page(wanted.key, first, size),
        )

    def _around(self, user_id: str, radius: int) -> _Question:
        return self._of_pages(
            lambda wanted: self._projection.around(wanted.board, wanted.key, user_id, radius),
            lambda wanted: self._standings.around(wanted.board, wanted.key, user_id, radius),
            lambda wanted: self._archive.around(wanted.key, user_id, radius),
        )

    def _of_pages(
        self,
        ask_sets: Callable[[MemberList], Awaitable[tuple[MemberPage, Stamp]]],
        ask_scores: Callable[[MemberList], Awaitable[MemberPage]],
        ask_archive: Callable[[MemberList], Awaitable[Sequence[tuple[int, Member]]]],
    ) -> _Question:
        async def sets(wanted: MemberList) -> tuple[_Ranked, Stamp]:
            page, stamp = await ask_sets(wanted)
            return _of_page(wanted.board, page), stamp

        async def scores(wanted: MemberList) -> _Ranked:
            return _of_page(wanted.board, await ask_scores(wanted))

        async def archive(wanted: MemberList) -> _Ranked:
            return _Ranked(await ask_archive(wanted), await self._archive.member_count(wanted.key))

        return _Question(sets, scores, archive)

    def _members(self, user_ids: Sequence[str]) -> _Question:
        async def sets(wanted: MemberList) -> tuple[_Ranked, Stamp]:
            places, size, stamp = await self._projection.members(wanted.board, wanted.key, user_ids)
            return _of_places(_shown(wanted.board, places), ranked_count(wanted.board, size)), stamp

        async def scores(wanted: MemberList) -> _Ranked:
            places, size = await self._standings.members(wanted.board, wanted.key, user_ids)
            return _of_places(_shown(wanted.board, places), ranked_count(wanted.board, size))

        async def archive(wanted: MemberList) -> _Ranked:
            places = await self._archive.members(wanted.key, user_ids)
            return _of_places(places, await self._archive.member_count(wanted.key))

        return _Question(sets, scores, archive)


def _as_stored(wanted: MemberList, seen: Seen) -> MemberList:
    """The list with what is stored of its run, if anything is."""
    return wanted if seen.run is None else replace(wanted, run=seen.run)


def _found(wanted: MemberList, ranked: _Ranked, seen: Seen, *, is_rebuilding: bool = False) -> RankedMembers:
    return RankedMembers(
        wanted.board,
        wanted.run,
        wanted.key,
        ranked.members,
        seen.profiles,
        ranked.member_count,
        is_rebuilding,
        ranked.better_counts,
    )


def _of_page(board: Board, page: MemberPage) -> _Ranked:
    """Members with their ranks, as far as the participant limit reaches."""
    ranked = numbered(board.rank_mode, page.members, page.first)
    if board.participant_limit and page.first is not None:
        ranked = ranked[: max(0, board.participant_limit - page.first.ordinal + 1)]
    return _Ranked(ranked, ranked_count(board, page.member_count))


def _of_places(places: Sequence[MemberPlace], member_count: int) -> _Ranked:
    """Members at their places, best first."""
    ordered = sorted(places, key=lambda one: one.place.ordinal)
    return _Ranked(
        [(one.place.rank, one.member) for one in ordered],
        member_count,
        [one.better_count for one in ordered],
    )


def _shown(board: Board, places: Sequence[MemberPlace]) -> list[MemberPlace]:
    return [one for one in places if shown_rank(board, one.place)]


def not_ranked(board: Board) -> NotFound:
    """For a user who has no rank in a segment."""
    return not_found("the user is not ranked in this segment", "MEMBER_NOT_FOUND", board.key)


def unknown_board(key: str) -> NotFound:
    """For a key that no board has."""
    return not_found(f"there is no leaderboard {key!r}", "LEADERBOARD_NOT_FOUND", key)


def not_found(message: str, reason: str, board: str) -> NotFound:
    """What a board does not have."""
    return NotFound(message, reason=reason, metadata={"leaderboard": board}, domain=DOMAIN)
