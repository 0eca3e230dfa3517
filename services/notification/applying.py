"""Endpoints, streams and messages as a configuration file has them: all of it in one transaction, or nothing.

What is written goes through the same functions as what is written one by one.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from google.protobuf.message import Message
from laurel.common.v1 import configuration_pb2
from laurel.notification.v1 import notification_service_pb2 as pb

from services.notification import convert, message_convert
from services.notification.domain.contacts import MessageType
from services.notification.domain.endpoints import SwitchOff
from services.notification.feed import FeedReader
from services.notification.handlers import Handlers
from services.notification.message_handlers import MessageHandlers
from services.notification.mutations import mutate, newest
from services.notification.stream_handlers import StreamHandlers
from shared.clock import Clock
from shared.definition_changes import field_changes
from shared.errors import Violations
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import check_request_id

_ENDPOINT: Final = "webhook_endpoint"
_STREAM: Final = "event_stream"
_MESSAGE: Final = "message"
_CREATE: Final = configuration_pb2.CONFIGURATION_ACTION_CREATE
_UPDATE: Final = configuration_pb2.CONFIGURATION_ACTION_UPDATE
_DELETE: Final = configuration_pb2.CONFIGURATION_ACTION_DELETE
_KEEP: Final = configuration_pb2.CONFIGURATION_ACTION_KEEP

_Change = configuration_pb2.ConfigurationChange


class _OnlyTried(Exception):
    """Undoes what was done."""


class ConfigurationHandlers:
    """The use case of `laurel apply`."""

    def __init__(
        self,
        pool: Pool,
        feed: FeedReader,
        endpoints: Handlers,
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
        endpoint_cursors = [
            await newest(self._feed, each.types, f"webhook_endpoints[{index}]")
            for index, each in enumerate(request.webhook_endpoints)
        ]
        stream_cursors = [
            await newest(self._feed, each.types, f"event_streams[{index}]")
            for index, each in enumerate(request.event_streams)
        ]
        now = self._clock.now()

        async def work(connection: Connection) -> pb.ApplyConfigurationResponse:
            return pb.ApplyConfigurationResponse(
                changes=[
                    *await self._apply_endpoints(connection, request, endpoint_cursors, now),
                    *await self._apply_streams(connection, request, stream_cursors, now),
                    *await self._apply_messages(connection, request, now),
                ]
            )

        if request.validate_only:
            return await self._tried(work)
        response = pb.ApplyConfigurationResponse()
        await mutate(self._pool, "apply_configuration", request, now, work, response)
        for change in response.changes:
            # No secret is in a reply that is stored.
            if change.kind == _ENDPOINT and change.action == _CREATE:
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

    async def _apply_endpoints(
        self,
        connection: Connection,
        request: pb.ApplyConfigurationRequest,
        cursors: Sequence[str],
        now: datetime,
    ) -> list[_Change]:
        rows = {row["key"]: row for row in await self._endpoints.locked(connection)}
        changes, deleted = [], []
        if request.prune_webhook_endpoints:
            for key in rows.keys() - {each.key for each in request.webhook_endpoints}:
                await self._endpoints.remove(connection, rows[key])
                deleted.append(_Change(kind=_ENDPOINT, key=key, action=_DELETE))
        for message, cursor in zip(request.webhook_endpoints, cursors, strict=True):
            wanted = _said(message, convert.OUTPUT_ONLY)
            row = rows.get(wanted.key)
            if row is None:
                await self._endpoints.insert(connection, wanted, cursor, now)
                changes.append(_Change(kind=_ENDPOINT, key=wanted.key, action=_CREATE))
                continue
            before = convert.EndpointMessage.FromString(row["body"])
            # What the service has switched off by itself is no difference, and stays off.
            before.switched_off = row["switch_off"] == SwitchOff.OPERATOR
            changes.append(_compared(_ENDPOINT, wanted.key, before, wanted))
            if changes[-1].action == _UPDATE:
                wanted.switched_off |= row["switch_off"] not in (SwitchOff.ON, SwitchOff.OPERATOR)
                await self._endpoints.write(connection, row, wanted, now)
        return [*changes, *sorted(deleted, key=lambda change: change.key)]

    async def _apply_streams(
        self,
        connection: Connection,
        request: pb.ApplyConfigurationRequest,
        cursors: Sequence[str],
        now: datetime,
    ) -> list[_Change]:
        rows = {row["key"]: row for row in await self._streams.locked(connection)}
        changes, deleted = [], []
        violations = Violations()
        if request.prune_event_streams:
            for key in rows.keys() - {each.key for each in request.event_streams}:
                await self._streams.remove(connection, key)
                deleted.append(_Change(kind=_STREAM, key=key, action=_DELETE))
        for index, (message, cursor) in enumerate(zip(request.event_streams, cursors, strict=True)):
            wanted = _said(message, convert.STREAM_OUTPUT_ONLY)
            row = rows.get(wanted.key)
            if row is None:
                await self._streams.insert(connection, wanted, cursor, now)
                changes.append(_Change(kind=_STREAM, key=wanted.key, action=_CREATE))
                continue
            before = convert.StreamMessage.FromString(row["body"])
            before.switched_off = row["switched_off"]
            convert.check_sink_stays(before, wanted, f"event_streams[{index}]", violations)
            changes.append(_compared(_STREAM, wanted.key, before, wanted))
            if changes[-1].action == _UPDATE:
                await self._streams.write(connection, wanted, now)
        violations.raise_if_any()
        return [*changes, *sorted(deleted, key=lambda change: change.key)]

    async def _apply_messages(
        self, connection: Connection, request: pb.ApplyConfigurationRequest, now: datetime
    ) -> list[_Change]:
        changes = []
        for message in request.messages:
            wanted = _said(message, message_convert.OUTPUT_ONLY)
            row = await self._messages.locked(connection, wanted.type, now)
            before = _said(message_convert.shown(row), message_convert.OUTPUT_ONLY)
            changes.append(_compared(_MESSAGE, MessageType(wanted.type).name.lower(), before, wanted))
            if changes[-1].action == _UPDATE:
                await self._messages.write(connection, row, wanted, now)
        return changes


def _check_once(section: str, field: str, names: Sequence[object], violations: Violations) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            violations.add(f"{section}[{index}].{field}", "must not come twice")


def _compared(kind: str, key: str, before: Message, wanted: Message) -> _Change:
    fields = field_changes(before, wanted)
    return _Change(kind=kind, key=key, action=_UPDATE if fields else _KEEP, fields=fields)


def _said(message: Any, output_only: Sequence[str]) -> Any:
    """A copy without what is output."""
    copy = type(message)()
    copy.CopyFrom(message)
    for name in output_only:
        copy.ClearField(name)
    return copy
