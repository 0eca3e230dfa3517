"""Backfills of achievements: ending one, and what the achievement service asks others by way of the orchestrator."""

from typing import Final

import grpc.aio
from laurel.achievement.v1 import achievement_service_pb2, achievement_service_pb2_grpc
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.streak.v1 import streak_service_pb2, streak_service_pb2_grpc

from shared.clock import Clock
from shared.ids import digest
from shared.postgres import admin
from shared.postgres.admin import Asking
from shared.postgres.mutations import once, recall
from shared.postgres.pool import Pool
from shared.rpc.channel import call
from shared.rpc.convert import to_timestamp

_METHOD: Final = "cancel_backfill"


class Backfills:
    """The use cases. They raise `LaurelError` when the service that is asked does not answer."""

    def __init__(
        self,
        pool: Pool,
        achievement: grpc.aio.Channel,
        streak: grpc.aio.Channel,
        clock: Clock,
        timeout_seconds: float,
    ) -> None:
        self._pool = pool
        self._achievements = achievement_service_pb2_grpc.AchievementServiceStub(achievement)
        self._streaks = streak_service_pb2_grpc.StreakServiceStub(streak)
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    async def cancel(self, request: pb.CancelBackfillRequest, asking: Asking) -> pb.CancelBackfillResponse:
        """Ends a backfill, and keeps who asked for it. Raises `NotFound` where there was none."""
        now, sent = self._clock.now(), digest(request.achievement, asking.reason)
        async with self._pool.acquire() as connection:
            known = await recall(connection, _METHOD, request.request_id, sent)
        if known is not None:
            return pb.CancelBackfillResponse.FromString(known)
        # Ending it twice is ending it once: it comes first, so no transaction waits for another service.
        ended = await call(
            self._achievements.EndBackfill,
            achievement_service_pb2.EndBackfillRequest(
                achievement=request.achievement, now=to_timestamp(now)
            ),
            timeout_seconds=self._timeout_seconds,
        )
        async with self._pool.acquire() as connection, connection.transaction():

            async def work() -> bytes:
                await admin.record(connection, _METHOD, f"achievement/{request.achievement}", asking, now)
                return pb.CancelBackfillResponse(backfill=ended.backfill).SerializeToString()

            body = await once(connection, _METHOD, request.request_id, sent, now, work)
        return pb.CancelBackfillResponse.FromString(body)

    async def reaches(self, request: pb.ListStreakReachesRequest) -> pb.ListStreakReachesResponse:
        """What the streak service says of who first reached what."""
        answer = await call(
            self._streaks.ListFirstReaches,
            streak_service_pb2.ListFirstReachesRequest(
                streak=request.streak,
                user_ids=request.user_ids,
                least_length=request.least_length,
                most_count=request.most_count,
            ),
            timeout_seconds=self._timeout_seconds,
        )
        return pb.ListStreakReachesResponse(users=answer.users)
