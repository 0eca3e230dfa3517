"""Stubs of the services."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import grpc
from laurel.achievement.v1.achievement_service_pb2_grpc import AchievementServiceStub
from laurel.leaderboard.v1.leaderboard_service_pb2_grpc import LeaderboardServiceStub
from laurel.notification.v1.notification_service_pb2_grpc import NotificationServiceStub
from laurel.orchestrator.v1.access_service_pb2_grpc import AccessServiceStub
from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub
from laurel.participant.v1.audit_service_pb2_grpc import AuditServiceStub
from laurel.points.v1.points_service_pb2_grpc import PointsServiceStub
from laurel.streak.v1.streak_service_pb2_grpc import StreakServiceStub

from services.cli import plugins
from services.cli.errors import NotToldError, UnavailableError
from services.cli.targets import SERVICES, Target, behind, find_targets, of_stack, refusal
from shared.config import ConfigurationError
from shared.rpc.channel import target_of
from shared.rpc.outgoing import AUTHORIZATION, BEARER
from shared.rpc.tls import Certificates, channel_credentials

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
MAX_PAGE_SIZE: Final = 1000
EVERYTHING: Final = 1_000_000
"""A limit for lists that are shown whole."""
API_KEY: Final = "LAUREL_API_KEY"
"""The variable with the key to show."""
STACK_NAME: Final = "localhost"
"""For which the certificates of stacks on this machine are."""
READS: Final = ("Get", "BatchGet", "List", "Watch", "Export", "Find")
"""How the names of methods begin that change nothing."""

Page = TypeVar("Page", bound=Any)


class ShowsKey(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Shows a key with each call."""

    def __init__(self, credential: str) -> None:
        self._shown = (AUTHORIZATION, BEARER + credential)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_key(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_key(details), request)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(self._with_key(details), requests)

    def _with_key(self, details: Any) -> Any:
        return details._replace(metadata=[*(details.metadata or ()), self._shown])


class OnlyReads(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Lets reads through to an address that nobody named, saying so, and refuses whatever may change something.

    It stands in the channel, so that no command can forget it.
    """

    def __init__(
        self, target: Target, launcher: plugins.Launcher | None, told: set[str] | None = None
    ) -> None:
        """`told` are the systems of which the user was told, which is enough once in a command."""
        self._target = target
        self._launcher = launcher
        self._told = set() if told is None else told

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self._check(details.method, dry_run=getattr(request, "validate_only", False))
        return continuation(details, request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        self._check(details.method)
        return continuation(details, request)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        self._check(details.method)
        return continuation(details, requests)

    def _check(self, method: str, *, dry_run: bool = False) -> None:
        if not (dry_run or method.rpartition("/")[2].startswith(READS)):
            raise refusal(self._target, self._launcher)
        asked = behind(self._target, self._launcher)
        system = asked.partition(" ")[2]
        if system not in self._told:
            self._told.add(system)
            click.echo(f"No system was named: asking {asked}.", err=True)


def dial(target: Target, launcher: plugins.Launcher | None) -> grpc.Channel:
    """A channel, with TLS where a stack on this machine encrypts, or where the environment names certificates as it
    does for services. Raises `NotToldError`, and `ConfigurationError` for an address that is none.
    """
    assert target.address is not None
    address = target_of(target.address)
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
    certificate, key, authorities = (
        _path(f"LAUREL_TLS_{name}_FILE") for name in ("CERTIFICATE", "KEY", "CA")
    )
    server_name = os.environ.get("LAUREL_TLS_SERVER_NAME")
    if target.is_stack:
        certificate, key, authorities, server_name = None, None, target.authority, STACK_NAME
    elif not (certificate or authorities) and launcher is not None and (port := _port_here(target.address)):
        authorities = launcher.authority_behind(port)
    if not (certificate or authorities):
        return grpc.insecure_channel(address, options=options)
    try:
        files = Certificates(certificate, key, authorities)
    except ConfigurationError as error:
        raise NotToldError(*error.problems) from error
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    return grpc.secure_channel(address, channel_credentials(files.newest()), options=options)


def _port_here(address: str) -> int | None:
    """The port of one address of this machine."""
    host, _, port = address.rpartition(":")
    return int(port) if host in ("127.0.0.1", "localhost") and port.isdecimal() else None


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


@dataclass(frozen=True)
class Connections:
    """Stubs that connect when they are first used. `timeout_seconds` is the deadline of every call.

    `chosen` are addresses that win over those that `find_targets` would find; `chosen_by` is where they stand.
    `stack` is one that is known already, and then all there is.
    """

    chosen: Mapping[str, str]
    timeout_seconds: float
    chosen_by: str = "--target"
    stack: plugins.LocalStack | None = None
    _channels: list[grpc.Channel] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)

    @cached_property
    def orchestrator(self) -> OrchestratorServiceStub:
        return OrchestratorServiceStub(self._channel("orchestrator"))

    @cached_property
    def access(self) -> AccessServiceStub:
        return AccessServiceStub(self._channel("orchestrator"))

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
    def notification(self) -> NotificationServiceStub:
        return NotificationServiceStub(self._channel("notification"))

    def audit_of(self, service: str) -> AuditServiceStub:
        """What was done by hand to a service itself."""
        return AuditServiceStub(self._channel(service))

    @cached_property
    def launcher(self) -> plugins.Launcher | None:
        return plugins.launcher()

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """Where each service is, and who says so. Raises what the launcher raises."""
        if self.stack is not None:
            return {name: of_stack(self.stack, name) for name in SERVICES}
        return find_targets(
            self.chosen,
            self.chosen_by,
            os.environ,
            lambda: self.launcher.stack_here() if self.launcher is not None else None,
        )

    def where(self, service: str) -> str:
        """Address of a service, and who says so."""
        target = self.targets[service]
        return f"{target.address} ({target.source})"

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def _channel(self, service: str) -> grpc.Channel:
        target = self.targets[service]
        if target.address is None:
            raise UnavailableError(f"failed: {target.problem}")
        try:
            channel = dial(target, self.launcher)
        except ConfigurationError as error:
            raise NotToldError(f"{target.source}: {service}: {error.problems[0]}") from error
        self._channels.append(channel)
        credential = os.environ.get(API_KEY) or target.credential
        if credential:
            channel = grpc.intercept_channel(channel, ShowsKey(credential))
        if target.is_guess:
            return grpc.intercept_channel(channel, OnlyReads(target, self.launcher, self._told))
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
