"""Redis and NATS, to which streams are published. Each publishes a page: all of it, or it raises, and it comes again.

A page that comes again brings doubles of what had been published, and changes the order of no user's events in which
they come first: an event of a user is sent when the one before it has been acknowledged, or together with it.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import Header, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.notification.domain.events import Event
from services.notification.domain.streams import (
    CONTENT_TYPE,
    NatsStream,
    RedisStream,
    cloud_event,
    waves,
)
from shared.redis.client import create_client
from shared.tenants import shown, tenant_of

_AT_ONCE: Final = 256
"""Messages that are under way to NATS at once."""
_KEPT_SECONDS: Final = 7 * 86_400.0
_DOUBLES_KNOWN_SECONDS: Final = 120.0
_CLOSE_SECONDS: Final = 1.0


class SinkAwayError(Exception):
    """The broker did not take everything. It says why, without addresses and passwords."""


class Publisher(Protocol):
    """A broker, as a stream uses it."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Publish all of a page. Raises `SinkAwayError`; then some of it may have been."""

    async def close(self) -> None:
        """Let go of connections."""


_ADD_ENTRIES: Final = """
    for _, entry in ipairs(cmsgpack.unpack(ARGV[2])) do
        redis.call('XADD', KEYS[1], '*', unpack(entry))
    end
    redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[1])
"""
"""Adds entries, each a list of fields and values, and leaves about so many. One command for a page: to write a command
for each and to read as many answers cost more than all the rest of publishing.
"""


class RedisPublisher:
    """Publishes to a stream of Redis, a page by one script."""

    def __init__(self, url: str, sink: RedisStream, source: str, timeout_seconds: float) -> None:
        self._sink = sink
        self._source = source
        self._client: Redis = create_client(
            url, client_name="laurel-notification", timeout_seconds=timeout_seconds, max_connections=1
        )
        self._add = self._client.register_script(_ADD_ENTRIES)

    async def publish(self, events: Sequence[Event]) -> None:
        """A page at once: what the server refuses, it refuses as a whole."""
        if not events:
            return
        entries = msgspec.msgpack.encode([self._entry(event) for event in events])
        try:
            await self._add(keys=[self._sink.stream], args=[self._sink.max_length, entries])
        except (RedisError, OSError, TimeoutError) as error:
            raise SinkAwayError(reason_of(error)) from error

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    def _entry(self, event: Event) -> list[str]:
        """Fields and their values."""
        entry = ["id", str(event.event_id), "type", event.type, "user", shown(event.user_id)]
        if tenant := tenant_of(event.user_id):
            entry += ("tenant", tenant)
        return [*entry, "event", body_of(event, self._source).decode()]


class NatsPublisher:
    """Publishes to a stream of JetStream; makes it where there is none."""

    def __init__(self, url: str, sink: NatsStream, source: str, timeout_seconds: float) -> None:
        self._url = url
        self._sink = sink
        self._source = source
        self._timeout_seconds = timeout_seconds
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None

    async def publish(self, events: Sequence[Event]) -> None:
        """Many users' events at once, each user's one after the other."""
        if not events:
            return
        try:
            stream = self._stream or await self._connected()
            for wave in waves(events):
                for start in range(0, len(wave), _AT_ONCE):
                    async with asyncio.TaskGroup() as sending:
                        for event in wave[start : start + _AT_ONCE]:
                            sending.create_task(self._send(stream, event))
        except (nats.errors.Error, OSError, TimeoutError, ExceptionGroup) as error:
            await self.close()
            # The client keeps its error, and so this page, until the garbage collector comes by.
            error.__traceback__ = None
            raise SinkAwayError(reason_of(error)) from error

    async def close(self) -> None:
        """Close the connection; what waits in it is not sent any more."""
        client, self._client, self._stream = self._client, None, None
        if client is not None:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                await asyncio.wait_for(client.close(), _CLOSE_SECONDS)

    async def _connected(self) -> JetStreamContext:
        # No reconnecting in the background: it would send later what has been given up meanwhile. Nor does the client
        # try for two minutes by itself: that nobody is there is known at once, and tried again by whoever publishes.
        self._client = await nats.connect(
            self._url,
            name="laurel-notification",
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=max(1, round(self._timeout_seconds)),
            error_cb=_nobody_needs_to_know,
        )
        stream = self._client.jetstream(timeout=self._timeout_seconds)
        try:
            await stream.stream_info(self._sink.stream)
        except NotFoundError:
            await stream.add_stream(
                StreamConfig(
                    name=self._sink.stream,
                    subjects=[f"{self._sink.subject}.>"],
                    storage=StorageType.FILE,
                    max_age=_KEPT_SECONDS,
                    duplicate_window=_DOUBLES_KNOWN_SECONDS,
                )
            )
        self._stream = stream
        return stream

    async def _send(self, stream: JetStreamContext, event: Event) -> None:
        await stream.publish(
            f"{self._sink.subject}.{event.type}",
            body_of(event, self._source),
            timeout=self._timeout_seconds,
            stream=self._sink.stream,
            headers={Header.MSG_ID: str(event.event_id), "Content-Type": CONTENT_TYPE},
        )


def body_of(event: Event, source: str) -> bytes:
    """The CloudEvent as it is published."""
    return msgspec.json.encode(cloud_event(event, source))


def reason_of(error: BaseException) -> str:
    """What was wrong, by its kind: a text may have an address with a password. Of several, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__


async def _nobody_needs_to_know(_error: Exception) -> None:
    """Whoever publishes hears of it."""
