"""The transport of laurel.points.v1: message, handler, message."""

from typing import Any

from laurel.points.v1 import points_service_pb2 as pb
from laurel.points.v1 import points_service_pb2_grpc

from services.points import convert
from services.points.definitions import POINTS_SYSTEM
from services.points.handlers import Handlers
from shared.pages import read_page
from shared.participant import Work
from shared.postgres.definitions import Definitions


class PointsServicer(points_service_pb2_grpc.PointsServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(self, handlers: Handlers, definitions: Definitions) -> None:
        self._handlers = handlers
        self._definitions = definitions

    async def ApplyEvents(self, request: pb.ApplyEventsRequest, _context: Any) -> pb.ApplyEventsResponse:
        """Applies entries."""
        commands = convert.commands_from_proto(request)
        work = [one for one in commands if isinstance(one, Work)]
        answers = iter(await self._handlers.apply_events(work))
        return pb.ApplyEventsResponse(
            outcomes=[
                pb.ApplyEventsOutcome.FromString(
                    next(answers)
                    if isinstance(one, Work)
                    else convert.refused_outcome(message.entry.entry_id, one)
                )
                for one, message in zip(commands, request.commands, strict=True)
            ]
        )

    async def RevertEvents(self, request: pb.RevertEventsRequest, _context: Any) -> pb.RevertEventsResponse:
        """Undoes entries."""
        outcomes = await self._handlers.revert_events(convert.reversals_from_proto(request))
        return pb.RevertEventsResponse(
            outcomes=[pb.RevertEventsOutcome.FromString(outcome) for outcome in outcomes]
        )

    async def RunMaintenance(
        self, request: pb.RunMaintenanceRequest, _context: Any
    ) -> pb.RunMaintenanceResponse:
        """Keeps the hold of an import; nothing here is driven by time."""
        convert.check_maintenance(request)
        await self._handlers.run_maintenance(
            request.hold_seconds if request.HasField("hold_seconds") else None
        )
        return pb.RunMaintenanceResponse()

    async def GetPointsSystem(
        self, request: pb.GetPointsSystemRequest, _context: Any
    ) -> pb.GetPointsSystemResponse:
        """Gets a definition."""
        return pb.GetPointsSystemResponse(
            points_system=await self._definitions.get(POINTS_SYSTEM, request.key)
        )

    async def ListPointsSystems(
        self, request: pb.ListPointsSystemsRequest, _context: Any
    ) -> pb.ListPointsSystemsResponse:
        """Lists definitions."""
        found, token = await self._definitions.list(POINTS_SYSTEM, request.page_size, request.page_token)
        return pb.ListPointsSystemsResponse(points_systems=found, next_page_token=token)

    async def ListUserPoints(
        self, request: pb.ListUserPointsRequest, _context: Any
    ) -> pb.ListUserPointsResponse:
        """Gets a user's balances and levels."""
        convert.check_read(user_id=request.user_id)
        configuration, standings = await self._handlers.list_user_points(request.user_id)
        return pb.ListUserPointsResponse(
            points=[convert.user_points_to_proto(configuration, key, one) for key, one in standings]
        )

    async def ListAwards(self, request: pb.ListAwardsRequest, _context: Any) -> pb.ListAwardsResponse:
        """Lists a user's awards."""
        convert.check_read(user_id=request.user_id, points_system=request.points_system or None)
        page = read_page(
            request.page_size,
            request.page_token,
            keyset=[int],
            query=["list_awards", request.user_id, request.points_system],
        )
        awards, token = await self._handlers.list_awards(request.user_id, request.points_system, page)
        return pb.ListAwardsResponse(awards=map(convert.award_to_proto, awards), next_page_token=token)

    async def GetLevelDistribution(
        self, request: pb.GetLevelDistributionRequest, _context: Any
    ) -> pb.GetLevelDistributionResponse:
        """Counts users by level."""
        convert.check_read(points_system=request.points_system)
        return convert.distribution_to_proto(*await self._handlers.level_distribution(request.points_system))
