"""Where the services are, and stubs for them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

import click
import grpc
from laurel.achievement.v1.achievement_service_pb2_grpc import AchievementServiceStub
from laurel.leaderboard.v1.leaderboard_service_pb2_grpc import LeaderboardServiceStub
from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub
from laurel.points.v1.points_service_pb2_grpc import PointsServiceStub
from laurel.streak.v1.streak_service_pb2_grpc import StreakServiceStub

from shared.config import ConfigurationError
from shared.rpc.channel import target_of

SERVICES: Final = ("orchestrator", "streak", "achievement", "points", "leaderboard")
DEFAULT_PORT_BASE: Final = 7400
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
MAX_PAGE_SIZE: Final = 1000
EVERYTHING: Final = 1_000_000
"""A limit for lists that are shown whole."""

Page = TypeVar("Page", bound=Any)


@dataclass(frozen=True)
class Connections:
    """Stubs that connect when they are first used. `timeout_seconds` is the deadline of every call.

    `chosen` are addresses that win over those that `find_targets` would find.
    """

    chosen: Mapping[str, str]
    timeout_seconds: float
    _channels: list[grpc.Channel] = field(default_factory=list)

    @cached_property
    def orchestrator(self) -> OrchestratorServiceStub:
        return OrchestratorServiceStub(self._channel("orchestrator"))

    @cached_property
    def streak(self) -> StreakServiceStub:
        return StreakServiceStub(self._channel("streak"))

    @cached_property
    def achievement(self) -> AchievementServiceStub:
        return AchievementServiceStub(self._channel("achievement"))

    @cached_property
    def points(self) -> PointsServiceStub:
        return PointsServiceStub(self._channel("points"))

    @cached_property
    def leaderboard(self) -> LeaderboardServiceStub:
        return LeaderboardServiceStub(self._channel("leaderboard"))

    @cached_property
    def targets(self) -> Mapping[str, str]:
        return find_targets(self.chosen)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def _channel(self, service: str) -> grpc.Channel:
        try:
            target = target_of(self.targets[service])
        except ConfigurationError as error:
            raise click.UsageError(f"address of {service}: {error.problems[0]}") from error
        channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ],
        )
        self._channels.append(channel)
        return channel

    def all_pages(self, method: Callable[..., Page], request: Any, items: str, limit: int) -> Page:
        """Up to `limit` items of a list method as one response, whose page token continues after them.

        `items` names the repeated field of the response.
        """
        result: Page | None = None
        while True:
            held = len(getattr(result, items)) if result is not None else 0
            request.page_size = min(limit - held, MAX_PAGE_SIZE)
            page = method(request, timeout=self.timeout_seconds)
            if result is None:
                result = page
            else:
                getattr(result, items).extend(getattr(page, items))
                result.next_page_token = page.next_page_token
            if not page.next_page_token or len(getattr(result, items)) >= limit:
                return result
            request.page_token = page.next_page_token


def find_targets(chosen: Mapping[str, str]) -> dict[str, str]:
    """The address of each service: the chosen one, else LAUREL_<SERVICE>_TARGET, else that of the local
    stack, else the default port.
    """
    local = _local_stack() if set(SERVICES) - set(chosen) else {}
    return {
        service: chosen.get(service)
        or os.environ.get(f"LAUREL_{service.upper()}_TARGET")
        or local.get(service)
        or f"127.0.0.1:{DEFAULT_PORT_BASE + index}"
        for index, service in enumerate(SERVICES)
    }


def _local_stack() -> dict[str, str]:
    """The addresses of the stack started on this machine; none where the launcher is not installed."""
    try:
        from deploy.local.config import StackConfig
        from deploy.local.errors import LaunchError
        from deploy.local.stack import Stack
    except ModuleNotFoundError:
        return {}
    try:
        stack = Stack(StackConfig.from_environment(os.environ))
        return {name: ",".join(found) for name in SERVICES if (found := stack.addresses(name))}
    except LaunchError as error:
        raise click.UsageError(str(error)) from error
