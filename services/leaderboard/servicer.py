"""The transport of laurel.leaderboard.v1: message, handler, message."""

from typing import Any, Final

from laurel.leaderboard.v1 import leaderboard_pb2, leaderboard_service_pb2_grpc
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from services.leaderboard.convert import common, definitions, reads
from services.leaderboard.handlers.reads import ReadHandlers
from shared.postgres.definitions import DefinitionKind, Definitions

IN_USE: Final = "SELECT EXISTS (SELECT FROM runs WHERE board = $1)"

KIND: Final = DefinitionKind(
    name="leaderboard",
    message_type=leaderboard_pb2.Leaderboard,
    validate=definitions.check_leaderboard,
    normalise=definitions.normalised,
    immutable_fields=definitions.IMMUTABLE_FIELDS,
    domain=common.DOMAIN,
    not_found="LEADERBOARD_NOT_FOUND",
    exists="LEADERBOARD_EXISTS",
    in_use="LEADERBOARD_IN_USE",
    in_use_query=IN_USE,
)


class LeaderboardServicer(leaderboard_service_pb2_grpc.LeaderboardServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(
        self,
        reading: ReadHandlers,
        boards: Definitions[leaderboard_pb2.Leaderboard],
    ) -> None:
        self._reading = reading
        self._boards = boards

    async def ApplyConfiguration(
        self, request: pb.ApplyConfigurationRequest, _context: Any
    ) -> pb.ApplyConfigurationResponse:
        """Checks or applies definitions."""
        changes = await self._boards.apply(
            request.leaderboards, validate_only=request.validate_only, path="leaderboards"
        )
        return pb.ApplyConfigurationResponse(changes=changes)

    async def CreateLeaderboard(
        self, request: pb.CreateLeaderboardRequest, _context: Any
    ) -> pb.CreateLeaderboardResponse:
        """Creates a board."""
        created = await self._boards.create(request.leaderboard, request.request_id)
        return pb.CreateLeaderboardResponse(leaderboard=created)

    async def GetLeaderboard(
        self, request: pb.GetLeaderboardRequest, _context: Any
    ) -> pb.GetLeaderboardResponse:
        """Gets a definition."""
        return pb.GetLeaderboardResponse(leaderboard=await self._boards.get(request.key))

    async def ListLeaderboards(
        self, request: pb.ListLeaderboardsRequest, _context: Any
    ) -> pb.ListLeaderboardsResponse:
        """Lists definitions."""
        found, token = await self._boards.list(request.page_size, request.page_token)
        return pb.ListLeaderboardsResponse(leaderboards=found, next_page_token=token)

    async def UpdateLeaderboard(
        self, request: pb.UpdateLeaderboardRequest, _context: Any
    ) -> pb.UpdateLeaderboardResponse:
        """Changes a definition."""
        updated = await self._boards.update(request.leaderboard, request.update_mask, request.request_id)
        return pb.UpdateLeaderboardResponse(leaderboard=updated)

    async def DeleteLeaderboard(
        self, request: pb.DeleteLeaderboardRequest, _context: Any
    ) -> pb.DeleteLeaderboardResponse:
        """Deletes a definition."""
        await self._boards.delete(request.key, request.request_id)
        return pb.DeleteLeaderboardResponse()

    async def ListRankedMembers(
        self, request: pb.ListRankedMembersRequest, _context: Any
    ) -> pb.ListRankedMembersResponse:
        """Lists members from a rank on."""
        selector, page = reads.ranked_members_request(request)
        return reads.ranked_members_response(*await self._reading.list_ranked_members(selector, page))

    async def ListMembersAround(
        self, request: pb.ListMembersAroundRequest, _context: Any
    ) -> pb.ListMembersAroundResponse:
        """Lists the members around a user."""
        wanted = reads.members_around_request(request)
        return reads.members_around_response(await self._reading.list_members_around(*wanted))

    async def ListUserStandings(
        self, request: pb.ListUserStandingsRequest, _context: Any
    ) -> pb.ListUserStandingsResponse:
        """Lists a user's standings."""
        user_id, run_date, page = reads.user_standings_request(request)
        standings, archived = await self._reading.list_user_standings(user_id, run_date)
        return reads.user_standings_response(user_id, standings, archived, page)

    async def ListRuns(self, request: pb.ListRunsRequest, _context: Any) -> pb.ListRunsResponse:
        """Lists a board's runs."""
        board, page = reads.runs_request(request)
        return reads.runs_response(await self._reading.list_runs(board, page), page)

    async def ListSegments(self, request: pb.ListSegmentsRequest, _context: Any) -> pb.ListSegmentsResponse:
        """Lists a run's segments."""
        selector, page = reads.segments_request(request)
        return reads.segments_response(await self._reading.list_segments(selector, page), page)

    async def ListRankEvents(
        self, request: pb.ListRankEventsRequest, _context: Any
    ) -> pb.ListRankEventsResponse:
        """Lists a user's rank changes."""
        user_id, board, page = reads.rank_events_request(request)
        events, boards = await self._reading.list_rank_events(user_id, board, page)
        return reads.rank_events_response(events, boards, page)

    async def RebuildProjection(
        self, _request: pb.RebuildProjectionRequest, _context: Any
    ) -> pb.RebuildProjectionResponse:
        """Fills the sorted sets anew."""
        return pb.RebuildProjectionResponse(member_count=await self._reading.rebuild())
