"""The transport of laurel.achievement.v1: message, handler, message."""

from typing import Any

from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.achievement.v1 import achievement_service_pb2_grpc

from services.achievement import convert
from services.achievement.handlers import Definitions, Handlers


class AchievementServicer(achievement_service_pb2_grpc.AchievementServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(self, handlers: Handlers, definitions: Definitions) -> None:
        self._handlers = handlers
        self._definitions = definitions

    async def ApplyConfiguration(
        self, request: pb.ApplyConfigurationRequest, _context: Any
    ) -> pb.ApplyConfigurationResponse:
        """Checks or applies definitions."""
        changes = await self._handlers.apply_configuration(
            request.achievements, validate_only=request.validate_only
        )
        return pb.ApplyConfigurationResponse(changes=changes)

    async def CreateAchievement(
        self, request: pb.CreateAchievementRequest, _context: Any
    ) -> pb.CreateAchievementResponse:
        """Creates an achievement."""
        return pb.CreateAchievementResponse(
            achievement=await self._definitions.create(request.achievement, request.request_id)
        )

    async def GetAchievement(
        self, request: pb.GetAchievementRequest, _context: Any
    ) -> pb.GetAchievementResponse:
        """Gets a definition."""
        return pb.GetAchievementResponse(achievement=await self._definitions.get(request.key))

    async def ListAchievements(
        self, request: pb.ListAchievementsRequest, _context: Any
    ) -> pb.ListAchievementsResponse:
        """Lists definitions."""
        found, token = await self._definitions.list(request.page_size, request.page_token)
        return pb.ListAchievementsResponse(achievements=found, next_page_token=token)

    async def UpdateAchievement(
        self, request: pb.UpdateAchievementRequest, _context: Any
    ) -> pb.UpdateAchievementResponse:
        """Changes a definition."""
        return pb.UpdateAchievementResponse(
            achievement=await self._handlers.update_achievement(
                request.achievement, request.update_mask, request.request_id
            )
        )

    async def DeleteAchievement(
        self, request: pb.DeleteAchievementRequest, _context: Any
    ) -> pb.DeleteAchievementResponse:
        """Deletes a definition."""
        await self._definitions.delete(request.key, request.request_id)
        return pb.DeleteAchievementResponse()

    async def ListUserAchievements(
        self, request: pb.ListUserAchievementsRequest, _context: Any
    ) -> pb.ListUserAchievementsResponse:
        """Lists a user's achievements."""
        convert.check_user(request.user_id)
        shown, token = await self._handlers.list_user_achievements(
            request.user_id,
            completed_only=request.completed_only,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListUserAchievementsResponse(
            achievements=map(convert.progress_to_proto, shown), next_page_token=token
        )
