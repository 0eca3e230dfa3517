"""Channels that say who calls: the token between services, and certificates that may change (RULES 9.1)."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio
from msgspec import Struct

from shared.config import Settings
from shared.rpc.tls import Certificates, Material, certificates

AUTHORIZATION: Final = "authorization"
BEARER: Final = "Bearer "
_LEAVE_SECONDS: Final = 60.0
"""How long calls over a connection with an old certificate may take to end."""


class Credentials(Struct, frozen=True):
    """What a process shows to the services that it calls."""

    token: str | None = None
    files: Certificates | None = None
    server_name: str | None = None
    """The name that the others' certificates have to be for; None: the host in the target."""


NONE: Final = Credentials()
"""Shows nothing, and encrypts nothing."""


def credentials(settings: Settings) -> Credentials:
    """What these settings say. Raises `ConfigurationError`."""
    tokens = settings.service_tokens
    return Credentials(tokens[0] if tokens else None, certificates(settings), settings.tls_server_name)


class ServiceChannel(grpc.aio.Channel):
    """A channel that shows the token with each call, and connects anew when the certificates have changed."""

    def __init__(
        self,
        token: str | None,
        files: Certificates | None,
        connect: Callable[[Material | None], grpc.aio.Channel],
    ) -> None:
        self._metadata = ((AUTHORIZATION, BEARER + token),) if token else ()
        self._files = files
        self._connect = connect
        self._material = files.newest() if files else None
        self._channel = connect(self._material)
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> grpc.aio.Channel:
        """The channel with the newest certificates."""
        if self._files is not None and (newest := self._files.newest()) is not self._material:
            left = asyncio.get_running_loop().create_task(self._channel.close(_LEAVE_SECONDS))
            self._leaving.add(left)
            left.add_done_callback(self._leaving.discard)
            self._material, self._channel = newest, self._connect(newest)
        return self._channel

    async def __aenter__(self) -> "ServiceChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close this connection and those that were on their way out."""
        for left in self._leaving:
            left.cancel()
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As of the current connection."""
        return self.current.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As of the current connection."""
        await self.current.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As of the current connection."""
        await self.current.channel_ready()

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        """A method."""
        return _Method(self, "unary_unary", arguments, named, self._metadata)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        """A method."""
        return _Method(self, "unary_stream", arguments, named, self._metadata)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        """A method."""
        return _Method(self, "stream_unary", arguments, named, self._metadata)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        """A method."""
        return _Method(self, "stream_stream", arguments, named, self._metadata)


class _Method:
    """A method of the current channel."""

    def __init__(
        self,
        channel: ServiceChannel,
        kind: str,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        metadata: tuple[tuple[str, str], ...],
    ) -> None:
        self._owner = channel
        self._make = (kind, arguments, named)
        self._metadata = metadata
        self._of: grpc.aio.Channel | None = None
        self._method: Any = None

    def __call__(self, *arguments: Any, metadata: Any = None, **named: Any) -> Any:
        channel = self._owner.current
        if channel is not self._of:
            kind, how, further = self._make
            self._of, self._method = channel, getattr(channel, kind)(*how, **further)
        return self._method(*arguments, metadata=(*(metadata or ()), *self._metadata), **named)
