"""Endpoints, streams and messages as a configuration file has them: all of it in one transaction, or nothing.

What is written goes through the same functions as what is written one by one.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from laurel.notification.v1 import notification_service_pb2 as pb

from services.notification import message_convert
from services.notification.domain.contacts import MessageType
from services.notification.endpoint_handlers import EndpointHandlers
from services.notification.feed import FeedReader
from services.notification.keyed_handlers import APPLY, CREATE, UPDATE, Change, compared, said
from services.notification.message_handlers import MessageHandlers
from services.notification.mutations import mutate, newest
from services.notification.stream_handlers import StreamHandlers
from shared.clock import Clock
from shared.errors import Violations
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import check_request_id

_MESSAGE: Final = "message"


class _OnlyTried(Exception):
    """Undoes what was done."""


class ConfigurationHandlers:
    """The use case of `laurel apply`."""

    def __init__(
        self,
        pool: Pool,
        feed: FeedReader,
        endpoints: EndpointHandlers,
        streams: StreamHandlers,
        messages: MessageHandlers,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._feed = feed
        self._endpoints = endpoints
        self._streams = streams
        self._messages = messages
        self._clock = clock
        self._wake = wake

    async def apply(self, request: pb.ApplyConfigurationRequest) -> pb.ApplyConfigurationResponse:
        """Make it so. Raises `InvalidArgument` that names every field, and `FailedPrecondition` for too many."""
        self._check(request)
        endpoint_cursors = await self._cursors("webhook_endpoints", request.webhook_endpoints)
        stream_cursors = await self._cursors("event_streams", request.event_streams)
        now = self._clock.now()

        async def work(connection: Connection) -> pb.ApplyConfigurationResponse:
            return pb.ApplyConfigurationResponse(
                changes=[
                    *await self._endpoints.apply(
                        connection,
                        request.webhook_endpoints,
                        endpoint_cursors,
                        now,
                        prune=request.prune_webhook_endpoints,
                    ),
                    *await self._streams.apply(
                        connection,
                        request.event_streams,
                        stream_cursors,
                        now,
                        prune=request.prune_event_streams,
                    ),
                    *await self._apply_messages(connection, request, now),
                ]
            )

        if request.validate_only:
            return await self._tried(work)
        response = pb.ApplyConfigurationResponse()
        await mutate(self._pool, APPLY, request, now, work, response)
        for change in response.changes:
            # No secret is in a reply that is stored.
            if change.kind == self._endpoints.kind.name and change.action == CREATE:
                response.secrets.add(key=change.key, secret=await self._endpoints.newest_secret(change.key))
        self._wake()
        return response

    def _check(self, request: pb.ApplyConfigurationRequest) -> None:
        violations = Violations()
        if not request.validate_only:
            check_request_id(request.request_id, "request_id", violations)
        for index, endpoint in enumerate(request.webhook_endpoints):
            self._endpoints.check(endpoint, f"webhook_endpoints[{index}]", violations)
        for index, stream in enumerate(request.event_streams):
            self._streams.check(stream, f"event_streams[{index}]", violations)
        for index, message in enumerate(request.messages):
            message_convert.check_definition(message, f"messages[{index}]", violations)
        _check_once("webhook_endpoints", "key", [each.key for each in request.webhook_endpoints], violations)
        _check_once("event_streams", "key", [each.key for each in request.event_streams], violations)
        _check_once("messages", "type", [each.type for each in request.messages], violations)
        violations.raise_if_any()

    async def _cursors(self, section: str, messages: Sequence[Any]) -> list[str]:
        """Where the feed is now for each. Raises `InvalidArgument` for types that the orchestrator does not tell."""
        return [
            await newest(self._feed, each.types, f"{section}[{index}]") for index, each in enumerate(messages)
        ]

    async def _tried(
        self, work: Callable[[Connection], Awaitable[pb.ApplyConfigurationResponse]]
    ) -> pb.ApplyConfigurationResponse:
        """What would come of it: it is done, and undone."""
        response = pb.ApplyConfigurationResponse()
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                response = await work(connection)
                raise _OnlyTried
        except _OnlyTried:
            return response

    async def _apply_messages(
        self, connection: Connection, request: pb.ApplyConfigurationRequest, now: datetime
    ) -> list[Change]:
        changes = []
        for message in request.messages:
            wanted = said(message, message_convert.OUTPUT_ONLY)
            row = await self._messages.locked(connection, wanted.type, now)
            before = said(message_convert.shown(row), message_convert.OUTPUT_ONLY)
            changes.append(compared(_MESSAGE, MessageType(wanted.type).name.lower(), before, wanted))
            if changes[-1].action == UPDATE:
                await self._messages.write(connection, APPLY, row, wanted, now)
        return changes


def _check_once(section: str, field: str, names: Sequence[object], violations: Violations) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            violations.add(f"{section}[{index}].{field}", "must not come twice")
