"""What can be read: from the sorted sets where they are complete, else from PostgreSQL; past runs from the archive."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from msgspec.structs import replace

from services.leaderboard.domain.boards import WHOLE, Board, Boards, RankMode, segment_text
from services.leaderboard.domain.members import Profile
from services.leaderboard.domain.prizes import Finish, Prize, lists_with_prizes, next_ahead, wins
from services.leaderboard.domain.ranks import Member, Placement, SegmentKey, look, position_of, ranked_count
from services.leaderboard.domain.runs import RunState, run_of
from services.leaderboard.domain.states import Move, RunKey
from services.leaderboard.handlers.lists import (
    LAST_INDEX,
    Lists,
    not_found,
    not_ranked,
    unknown_board,
)
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.projection import Projection
from services.leaderboard.results import (
    ArchivedPlace,
    Climber,
    DailyMembers,
    DailyRank,
    GivenPrize,
    MemberList,
    MemberStanding,
    RankedGroup,
    RankedMembers,
    RankEvent,
    RunStatistics,
    Segment,
    Selector,
    UserStanding,
)
from services.leaderboard.store.daily import DailyStore
from services.leaderboard.store.endings import EndingStore
from services.leaderboard.store.events import EventStore
from services.leaderboard.store.groups import GroupStore
from services.leaderboard.store.reads import ReadStore
from services.leaderboard.store.segments import SegmentStore
from services.leaderboard.store.standings import StandingStore
from services.leaderboard.store.statistics import StatisticsStore
from shared.clock import Clock
from shared.pages import Page
from shared.postgres.admin import Asking
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool


class ReadHandlers:
    """The queries."""

    def __init__(
        self,
        pool: Pool,
        catalogue: Catalogue[Boards],
        projection: Projection,
        rebuilder: Rebuilder,
        lists: Lists,
        segments: SegmentStore,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._reads = ReadStore(pool)
        self._events = EventStore(pool)
        self._standings = StandingStore(pool)
        self._daily = DailyStore(pool)
        self._groups = GroupStore(pool)
        self._given = EndingStore(pool)
        self._statistics = StatisticsStore(pool)
        self._catalogue = catalogue
        self._projection = projection
        self._rebuilder = rebuilder
        self._lists = lists
        self._segments = segments

    async def list_ranked_members(self, selector: Selector, page: Page) -> tuple[RankedMembers, str]:
        """The members from a rank on, and the token of the next page ("" after the last).

        A token keeps to the run in which it was given, also when another has begun meanwhile. Raises `NotFound`.
        """
        start, index = page.after or (None, 0)
        first = min(max(index, 0), LAST_INDEX)
        found = await self._lists.page(selector, first, page.size, start)
        following = first + len(found.members)
        is_last = not found.members or following >= found.member_count
        return found, "" if is_last else page.next_token(found.key.run_start, following)

    async def list_members_around(self, selector: Selector, user_id: str, radius: int) -> RankedMembers:
        """The user and the members on both sides. Raises `NotFound`, also for a user who is not ranked."""
        return await self._lists.around(selector, user_id, radius)

    async def batch_get_members(self, selector: Selector, user_ids: Sequence[str]) -> RankedMembers:
        """Those of these users who are ranked, best first. Raises `NotFound`."""
        return await self._lists.members(selector, user_ids)

    async def get_member(self, selector: Selector, user_id: str) -> MemberStanding:
        """Where one user is, and who is before. Raises `NotFound`, also for a user who is not ranked."""
        found = await self._lists.members(selector, [user_id])
        if not found.members:
            raise not_ranked(found.board)
        ((rank, _),), (better_count,) = found.members, found.better_counts
        before = None
        if better_count:
            page = await self._lists.page_of(found, better_count - 1, 1)
            before = next((member for member in page.members if member[1].user_id != user_id), None)
            found = replace(found, profiles={**page.profiles, **found.profiles})
        prizes = lists_with_prizes(found.board.prizes, is_whole=found.key.segment == WHOLE)
        finish = Finish(rank, better_count, found.member_count)
        return MemberStanding(
            found,
            better_count,
            before,
            [prize for prize in prizes if wins(prize, finish)],
            await self._next_prize(found, prizes, finish),
        )

    async def list_ranked_groups(
        self, selector: Selector, page: Page
    ) -> tuple[MemberList, Sequence[RankedGroup], str]:
        """The groups of a run, and the token of the next page. Raises `NotFound`."""
        start, index = page.after or (None, 0)
        wanted = await self._lists.understand(selector, start)
        board, first = wanted.board, min(max(index, 0), LAST_INDEX)
        if board.groups is None:
            raise not_found(f"the leaderboard {board.key!r} ranks no groups", "GROUPS_NOT_FOUND", board.key)
        groups = await self._groups.page(
            board,
            board.groups,
            (board.key, wanted.key.run_start),
            first,
            page.size,
            finalized=wanted.run.finalized,
        )
        following = first + len(groups)
        is_last = not groups or following >= groups[0].group_count
        return wanted, groups, "" if is_last else page.next_token(wanted.key.run_start, following)

    async def list_daily_ranks(
        self, selector: Selector, user_id: str, page: Page
    ) -> tuple[Board, list[DailyRank]]:
        """Where a user stood at the end of each date, newest first; one more than the page holds where there are more.

        Raises `NotFound`.
        """
        board = (await self._catalogue.latest()).find(selector.board)
        if board is None:
            raise unknown_board(selector.board)
        segment = segment_text(selector.segment)
        until = selector.run_date or date.max
        return board, await self._daily.of_user(user_id, board.key, segment, until, page)

    async def list_daily_members(self, selector: Selector, page: Page) -> tuple[DailyMembers, str]:
        """Who was first at the end of a date, and the token of the next page, which keeps to it. Raises `NotFound`."""
        asked, *after = page.after or (selector.run_date or self._lists.today() - timedelta(days=1), 0, "")
        wanted = await self._lists.understand(replace(selector, run_date=asked))
        found = await self._daily.of_day(wanted.key, asked, (after[0], after[1]), page.size + 1)
        members = found[: page.size]
        token = (
            page.next_token(asked, members[-1].rank, members[-1].user_id) if len(found) > page.size else ""
        )
        profiles = await self._reads.profiles([member.user_id for member in members])
        return DailyMembers(wanted.board, wanted.run, asked, members, profiles), token

    async def list_climbers(
        self, selector: Selector, limit: int
    ) -> tuple[list[Climber], Mapping[str, Profile]]:
        """Who has come up most in a run, and their profiles. Raises `NotFound`."""
        wanted = await self._lists.understand(selector)
        found = await self._daily.climbers(wanted.key, limit)
        profiles = await self._reads.profiles([climber.user_id for climber in found])
        return found, profiles

    async def list_prizes(self, selector: Selector, user_id: str, page: Page) -> list[GivenPrize]:
        """The prizes of a run; one more than the page holds where there are more. Raises `NotFound`."""
        wanted = await self._lists.understand(selector, page.after[0] if page.after else None)
        return await self._given.given((wanted.board.key, wanted.key.run_start), user_id, page)

    async def _next_prize(
        self, wanted: MemberList, prizes: Sequence[Prize], finish: Finish
    ) -> tuple[Prize, Member] | None:
        """The prize next ahead, and the last who would be given it. Where ties close ranks up (`DENSE`), nobody says
        who that is but all who are before.
        """
        ahead = next_ahead(prizes, finish.rank)
        if ahead is None or wanted.board.rank_mode is RankMode.DENSE:
            return None
        page = await self._lists.page_of(wanted, ahead.last_rank - 1, 1)
        return next(((ahead, member) for _, member in page.members), None)

    async def run_statistics(
        self, selector: Selector, range_count: int
    ) -> tuple[Board, RunState, RunStatistics]:
        """What is said of all ranked members together. Raises `NotFound`."""
        wanted = await self._lists.understand(selector)
        statistics = await self._statistics.of(
            wanted.key,
            finalized=wanted.run.finalized,
            participant_limit=wanted.board.participant_limit,
            range_count=range_count,
        )
        return wanted.board, wanted.run, statistics

    async def list_user_standings(
        self, user_id: str, run_date: date | None
    ) -> tuple[list[UserStanding], list[tuple[Board, ArchivedPlace]]]:
        """Where the user stands on every board, in open runs and in finalised ones."""
        boards = await self._catalogue.latest()
        day = run_date or self._lists.today()
        runs: list[RunKey] = [
            (board.key, run.start)
            for board in boards.for_user(user_id)
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
            [(boards.by_key[place.run.board], place) for place in archived],
        )

    async def list_runs(self, board: str, page: Page) -> tuple[list[RunState], Page, datetime]:
        """The runs that were ever entered, newest first, one more than the page holds where there are more; and the
        present instant.
        """
        if (await self._catalogue.latest()).find(board) is None:
            raise unknown_board(board)
        return await self._reads.runs(board, page), page, self._lists.now()

    async def list_segments(self, selector: Selector, page: Page) -> tuple[list[tuple[Segment, int]], int]:
        """The segments that have members, with their number, one more than the page holds where there are more; and how
        many members there was no segment left for.
        """
        start = page.after[0] if page.after else None
        wanted = await self._lists.understand(selector, start)
        run = (wanted.board.key, wanted.key.run_start)
        segments = await self._reads.segments(run, page)
        beyond_count = await self._segments.beyond_count(run) if wanted.board.breakdown else 0
        live = [segment.key for segment in segments if segment.member_count is None]
        counts = dict(zip(live, await self._member_counts(wanted.board, live), strict=True))
        counted = [
            (
                segment,
                ranked_count(wanted.board, counts[segment.key])
                if segment.key in counts
                else segment.member_count or 0,
            )
            for segment in segments
        ]
        return counted, beyond_count

    async def list_rank_events(self, user_id: str, board: str, page: Page) -> tuple[list[RankEvent], Boards]:
        """A user's rank changes, newest first; one more than the page holds where there are more."""
        boards = await self._catalogue.latest()
        if board and boards.find(board) is None:
            raise unknown_board(board)
        return await self._reads.rank_events(user_id, board, page), boards

    async def rebuild(self, board: str, asking: Asking) -> int:
        """Fill the sorted sets of one board, or ("") of all, anew; the number of members. Raises `NotFound`."""
        if board and board not in (await self._catalogue.latest()).by_key:
            raise unknown_board(board)
        await self._rebuilder.asked(board, asking, self._clock.now())
        if not board:
            return await self._rebuilder.rebuild()
        return await self._rebuilder.rebuild_board(board)

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
