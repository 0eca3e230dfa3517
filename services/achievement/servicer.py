"""The transport of laurel.achievement.v1: message, handler, message."""

from typing import Any

from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.achievement.v1 import achievement_service_pb2_grpc

from services.achievement import convert
from services.achievement.definitions import ACHIEVEMENT
from services.achievement.handlers import Handlers
from shared.participant import Work
from shared.postgres.definitions import Definitions


class AchievementServicer(achievement_service_pb2_grpc.AchievementServiceServicer):
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

    async def GetAchievement(
        self, request: pb.GetAchievementRequest, _context: Any
    ) -> pb.GetAchievementResponse:
        """Gets a definition."""
        return pb.GetAchievementResponse(achievement=await self._definitions.get(ACHIEVEMENT, request.key))

    async def ListAchievements(
        self, request: pb.ListAchievementsRequest, _context: Any
    ) -> pb.ListAchievementsResponse:
        """Lists definitions."""
        found, token = await self._definitions.list(ACHIEVEMENT, request.page_size, request.page_token)
        return pb.ListAchievementsResponse(achievements=found, next_page_token=token)

    async def ListUserAchievements(
        self, request: pb.ListUserAchievementsRequest, _context: Any
    ) -> pb.ListUserAchievementsResponse:
        """Lists a user's achievements."""
        convert.check_user(request.user_id)
        shown = await self._handlers.list_user_achievements(
            request.user_id, completed_only=request.completed_only
        )
        return pb.ListUserAchievementsResponse(achievements=map(convert.progress_to_proto, shown))
