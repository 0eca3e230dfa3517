"""What messages are written with: read from the services at the moment in which one is decided."""

from collections.abc import Mapping
from datetime import datetime

import grpc.aio
from laurel.orchestrator.v1 import orchestrator_service_pb2, orchestrator_service_pb2_grpc
from laurel.streak.v1 import streak_pb2, streak_service_pb2, streak_service_pb2_grpc

from services.notification import message_convert as convert
from services.notification.domain.messages import User
from services.notification.domain.reminders import WINDOW, Streak
from shared.errors import NotFound
from shared.rpc.channel import call
from shared.rpc.convert import to_timestamp

_MOST = 1_000
_WINDOW_HOURS = int(WINDOW.total_seconds()) // 3_600


class Reader:
    """Reads of users. Raises what the services answer, as `shared.rpc.channel.call` does."""

    def __init__(
        self, orchestrator: grpc.aio.Channel, streak: grpc.aio.Channel, timeout_seconds: float
    ) -> None:
        self._orchestrator = orchestrator_service_pb2_grpc.OrchestratorServiceStub(orchestrator)
        self._streak = streak_service_pb2_grpc.StreakServiceStub(streak)
        self._timeout_seconds = timeout_seconds

    async def user(self, user_id: str) -> User | None:
        """The user as of now; None: there is none any more."""
        request = orchestrator_service_pb2.GetUserRequest(user_id=user_id)
        try:
            answer = await call(self._orchestrator.GetUser, request, timeout_seconds=self._timeout_seconds)
        except NotFound:
            return None
        return convert.user_of(answer.user)

    async def streak_names(self) -> dict[str, str]:
        """The names of the streaks that are evaluated, by their keys."""
        names: dict[str, str] = {}
        request = streak_service_pb2.ListStreaksRequest(page_size=_MOST)
        while True:
            page = await call(self._streak.ListStreaks, request, timeout_seconds=self._timeout_seconds)
            names |= {
                streak.key: streak.name
                for streak in page.streaks
                if streak.status == streak_pb2.STREAK_STATUS_ACTIVE
            }
            if not page.next_page_token:
                return names
            request.page_token = page.next_page_token

    async def streaks(self, user_id: str, names: Mapping[str, str]) -> list[Streak]:
        """The streaks of a user as of now, of those that have a name here."""
        request = streak_service_pb2.ListUserStreaksRequest(user_id=user_id, page_size=_MOST)
        page = await call(self._streak.ListUserStreaks, request, timeout_seconds=self._timeout_seconds)
        return [
            convert.streak_of(state, names[state.streak]) for state in page.streaks if state.streak in names
        ]

    async def at_risk(
        self, streak: str, begin: datetime, page_token: str
    ) -> streak_service_pb2.ListStreaksAtRiskResponse:
        """A page of the users whose streak ends in the window that begins then, unless they do something."""
        request = streak_service_pb2.ListStreaksAtRiskRequest(
            streak=streak,
            within_hours=_WINDOW_HOURS,
            read_time=to_timestamp(begin),
            page_size=_MOST,
            page_token=page_token,
        )
        return await call(self._streak.ListStreaksAtRisk, request, timeout_seconds=self._timeout_seconds)
