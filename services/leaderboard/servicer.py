"""The transport of laurel.leaderboard.v1: message, handler, message."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.leaderboard.v1 import leaderboard_service_pb2_grpc

from services.leaderboard.convert import requests, responses
from services.leaderboard.definitions import LEADERBOARD
from services.leaderboard.handlers.leagues import Leagues
from services.leaderboard.handlers.reads import ReadHandlers
from services.leaderboard.handlers.verify import Verifier
from services.leaderboard.handlers.watching import Watchers
from shared.postgres.definitions import Definitions
from shared.rpc.admin import asking


class LeaderboardServicer(leaderboard_service_pb2_grpc.LeaderboardServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(
        self,
        reading: ReadHandlers,
        leagues: Leagues,
        watchers: Watchers,
        verifier: Verifier,
        boards: Definitions,
    ) -> None:
        self._reading = reading
        self._leagues = leagues
        self._watchers = watchers
        self._verifier = verifier
        self._boards = boards

    async def GetLeaderboard(
        self, request: pb.GetLeaderboardRequest, _context: Any
    ) -> pb.GetLeaderboardResponse:
        """Gets a definition."""
        return pb.GetLeaderboardResponse(leaderboard=await self._boards.get(LEADERBOARD, request.key))

    async def ListLeaderboards(
        self, request: pb.ListLeaderboardsRequest, _context: Any
    ) -> pb.ListLeaderboardsResponse:
        """Lists definitions."""
        found, token = await self._boards.list(LEADERBOARD, request.page_size, request.page_token)
        return pb.ListLeaderboardsResponse(leaderboards=found, next_page_token=token)

    async def ListRankedMembers(
        self, request: pb.ListRankedMembersRequest, _context: Any
    ) -> pb.ListRankedMembersResponse:
        """Lists members from a rank on."""
        selector, page = requests.ranked_members_request(request)
        return responses.ranked_members_response(*await self._reading.list_ranked_members(selector, page))

    async def ListMembersAround(
        self, request: pb.ListMembersAroundRequest, _context: Any
    ) -> pb.ListMembersAroundResponse:
        """Lists the members around a user."""
        wanted = requests.members_around_request(request)
        return responses.members_around_response(await self._reading.list_members_around(*wanted))

    async def GetMember(self, request: pb.GetMemberRequest, _context: Any) -> pb.GetMemberResponse:
        """Gets one user's place."""
        selector, user_id = requests.member_request(request)
        return responses.member_response(await self._reading.get_member(selector, user_id))

    async def BatchGetMembers(
        self, request: pb.BatchGetMembersRequest, _context: Any
    ) -> pb.BatchGetMembersResponse:
        """Gets the places of chosen users."""
        selector, user_ids = requests.chosen_members_request(request)
        return responses.chosen_members_response(await self._reading.batch_get_members(selector, user_ids))

    async def GetRunStatistics(
        self, request: pb.GetRunStatisticsRequest, _context: Any
    ) -> pb.GetRunStatisticsResponse:
        """Gets what is said of all members together."""
        selector, range_count = requests.statistics_request(request)
        return responses.statistics_response(*await self._reading.run_statistics(selector, range_count))

    async def WatchLeaderboard(
        self, request: pb.WatchLeaderboardRequest, _context: Any
    ) -> AsyncIterator[pb.WatchLeaderboardResponse]:
        """Streams the top of a segment."""
        async with aclosing(self._watchers.watch(*requests.watch_request(request))) as tops:
            async for found in tops:
                yield responses.watch_response(found)

    async def ListUserStandings(
        self, request: pb.ListUserStandingsRequest, _context: Any
    ) -> pb.ListUserStandingsResponse:
        """Lists a user's standings."""
        user_id, run_date, page = requests.user_standings_request(request)
        standings, archived = await self._reading.list_user_standings(user_id, run_date)
        return responses.user_standings_response(user_id, standings, archived, page)

    async def ListRuns(self, request: pb.ListRunsRequest, _context: Any) -> pb.ListRunsResponse:
        """Lists a board's runs."""
        board, page = requests.runs_request(request)
        return responses.runs_response(*await self._reading.list_runs(board, page))

    async def GetLeagueStanding(
        self, request: pb.GetLeagueStandingRequest, _context: Any
    ) -> pb.GetLeagueStandingResponse:
        """Gets where a user stands in a league."""
        return responses.league_response(await self._leagues.standing(*requests.league_request(request)))

    async def ListRankedGroups(
        self, request: pb.ListRankedGroupsRequest, _context: Any
    ) -> pb.ListRankedGroupsResponse:
        """Lists a run's groups by rank."""
        wanted, groups, token = await self._reading.list_ranked_groups(
            *requests.ranked_groups_request(request)
        )
        return responses.ranked_groups_response(wanted.board, wanted.run, groups, token)

    async def ListDailyRanks(
        self, request: pb.ListDailyRanksRequest, _context: Any
    ) -> pb.ListDailyRanksResponse:
        """Lists where a user stood at the end of each date."""
        selector, user_id, page = requests.daily_ranks_request(request)
        board, ranks = await self._reading.list_daily_ranks(selector, user_id, page)
        return responses.daily_ranks_response(board, ranks, page)

    async def ListDailyMembers(
        self, request: pb.ListDailyMembersRequest, _context: Any
    ) -> pb.ListDailyMembersResponse:
        """Lists who was on the ranks of a date."""
        selector, page = requests.daily_members_request(request)
        return responses.daily_members_response(*await self._reading.list_daily_members(selector, page))

    async def ListClimbers(self, request: pb.ListClimbersRequest, _context: Any) -> pb.ListClimbersResponse:
        """Lists who has come up most in a run."""
        climbers, profiles = await self._reading.list_climbers(*requests.climbers_request(request))
        return responses.climbers_response(climbers, profiles)

    async def ListPrizes(self, request: pb.ListPrizesRequest, _context: Any) -> pb.ListPrizesResponse:
        """Lists the prizes of a run."""
        selector, user_id, page = requests.prizes_request(request)
        return responses.prizes_response(await self._reading.list_prizes(selector, user_id, page), page)

    async def ListSegments(self, request: pb.ListSegmentsRequest, _context: Any) -> pb.ListSegmentsResponse:
        """Lists a run's segments."""
        selector, page = requests.segments_request(request)
        segments, beyond_count = await self._reading.list_segments(selector, page)
        return responses.segments_response(segments, beyond_count, page)

    async def ListRankEvents(
        self, request: pb.ListRankEventsRequest, _context: Any
    ) -> pb.ListRankEventsResponse:
        """Lists a user's rank changes."""
        user_id, board, page = requests.rank_events_request(request)
        events, boards = await self._reading.list_rank_events(user_id, board, page)
        return responses.rank_events_response(events, boards, page)

    async def RebuildProjection(
        self, request: pb.RebuildProjectionRequest, _context: Any
    ) -> pb.RebuildProjectionResponse:
        """Fills the sorted sets anew."""
        board = requests.board_or_all(request.leaderboard)
        return pb.RebuildProjectionResponse(member_count=await self._reading.rebuild(board, asking()))

    async def VerifyProjection(
        self, request: pb.VerifyProjectionRequest, _context: Any
    ) -> pb.VerifyProjectionResponse:
        """Compares the sorted sets with PostgreSQL."""
        board = requests.board_or_all(request.leaderboard)
        return responses.verify_response(await self._verifier.verify(board))
