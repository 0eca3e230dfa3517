"""The transport of laurel.achievement.v1: message, handler, message."""

from typing import Any

from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.achievement.v1 import achievement_service_pb2_grpc

from services.achievement import convert
from services.achievement.backfilling import Backfills
from services.achievement.calibrating import Calibration
from services.achievement.definitions import ACHIEVEMENT
from services.achievement.handlers import Handlers
from shared.postgres.definitions import Definitions


class AchievementServicer(achievement_service_pb2_grpc.AchievementServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(
        self, handlers: Handlers, backfills: Backfills, calibration: Calibration, definitions: Definitions
    ) -> None:
        self._handlers = handlers
        self._backfills = backfills
        self._calibration = calibration
        self._definitions = definitions

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
        shown, token = await self._handlers.list_user_achievements(
            request.user_id,
            completed_only=request.completed_only,
            unseen_only=request.unseen_only,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListUserAchievementsResponse(
            achievements=map(convert.progress_to_proto, shown), next_page_token=token
        )

    async def ListCompletions(
        self, request: pb.ListCompletionsRequest, _context: Any
    ) -> pb.ListCompletionsResponse:
        """Lists the history of completions."""
        found, token = await self._handlers.list_completions(
            convert.history_query(request), request.page_size, request.page_token
        )
        return pb.ListCompletionsResponse(
            completions=map(convert.history_to_proto, found), next_page_token=token
        )

    async def PreviewAchievement(
        self, request: pb.PreviewAchievementRequest, _context: Any
    ) -> pb.PreviewAchievementResponse:
        """Says who would qualify."""
        proposed = convert.proposal_of(request)
        searched = await self._backfills.preview(request.key, proposed)
        return convert.preview_to_proto(
            searched.found,
            looked_at=searched.looked_at,
            user_count=searched.user_count,
            holder_count=searched.holder_count,
            seconds=searched.seconds,
            sample_size=request.sample_size,
        )

    async def GetAchievementStatistics(
        self, request: pb.GetAchievementStatisticsRequest, _context: Any
    ) -> pb.GetAchievementStatisticsResponse:
        """Gets what there is to calibrate an achievement by."""
        read_time, first, last = convert.statistics_query(request)
        achievement, found, looked_at, user_count = await self._calibration.statistics(
            request.achievement, read_time, first, last
        )
        return convert.statistics_to_proto(achievement, found, looked_at=looked_at, user_count=user_count)

    async def GetBackfill(self, request: pb.GetBackfillRequest, _context: Any) -> pb.GetBackfillResponse:
        """Gets a backfill."""
        convert.check_achievement_key(request.achievement)
        found = await self._backfills.get(request.achievement)
        return pb.GetBackfillResponse(backfill=convert.backfill_to_proto(found))

    async def ListBackfills(
        self, request: pb.ListBackfillsRequest, _context: Any
    ) -> pb.ListBackfillsResponse:
        """Lists backfills."""
        found, token = await self._backfills.page(
            running_only=request.running_only, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListBackfillsResponse(
            backfills=map(convert.backfill_to_proto, found), next_page_token=token
        )

    async def EndBackfill(self, request: pb.EndBackfillRequest, _context: Any) -> pb.EndBackfillResponse:
        """Ends a backfill."""
        ended = await self._backfills.end(request.achievement, convert.now_of(request))
        return pb.EndBackfillResponse(backfill=convert.backfill_to_proto(ended))
