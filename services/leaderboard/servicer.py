"""The transport of laurel.leaderboard.v1: message, handler, message."""

from typing import Any

from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.leaderboard.v1 import leaderboard_service_pb2_grpc

from services.leaderboard.convert import entries, reads
from services.leaderboard.definitions import LEADERBOARD
from services.leaderboard.handlers.events import EventHandlers
from services.leaderboard.handlers.maintenance import MaintenanceHandlers
from services.leaderboard.handlers.reads import ReadHandlers
from shared.participant import Work
from shared.postgres.definitions import Definitions


class LeaderboardServicer(leaderboard_service_pb2_grpc.LeaderboardServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(
        self,
        events: EventHandlers,
        reading: ReadHandlers,
        maintenance: MaintenanceHandlers,
        boards: Definitions,
    ) -> None:
        self._events = events
        self._reading = reading
        self._maintenance = maintenance
        self._boards = boards

    async def ApplyEvents(self, request: pb.ApplyEventsRequest, _context: Any) -> pb.ApplyEventsResponse:
        """Applies entries."""
        commands = entries.commands_from_proto(request)
        answers = iter(await self._events.apply_events([one for one in commands if isinstance(one, Work)]))
        return pb.ApplyEventsResponse(
            outcomes=[
                pb.ApplyEventsOutcome.FromString(
                    next(answers)
                    if isinstance(one, Work)
                    else entries.refused_outcome(message.entry.entry_id, one)
                )
                for one, message in zip(commands, request.commands, strict=True)
            ]
        )

    async def RevertEvents(self, request: pb.RevertEventsRequest, _context: Any) -> pb.RevertEventsResponse:
        """Undoes entries."""
        outcomes = await self._events.revert_events(entries.reversals_from_proto(request))
        return pb.RevertEventsResponse(
            outcomes=[pb.RevertEventsOutcome.FromString(outcome) for outcome in outcomes]
        )

    async def RunMaintenance(
        self, request: pb.RunMaintenanceRequest, _context: Any
    ) -> pb.RunMaintenanceResponse:
        """Archives the runs that are due."""
        count = await self._maintenance.run(*reads.maintenance_from_proto(request))
        return pb.RunMaintenanceResponse(finalized_count=count)

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
        wanted = reads.user_standings_request(request)
        return reads.user_standings_response(*await self._reading.list_user_standings(*wanted))

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
