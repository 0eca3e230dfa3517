"""What the service does for each call about streams."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import stream_pb2

from services.notification import convert
from services.notification.brokers import Brokers
from services.notification.config import MAX_STREAMS
from services.notification.feed import FeedReader
from services.notification.keyed_handlers import KeyedHandlers, Kind
from services.notification.mutations import mutate, note
from services.notification.store.following import FollowingStore
from services.notification.store.streams import StreamStore
from shared.clock import Clock
from shared.errors import AlreadyExists, FailedPrecondition, NotFound, Violations
from shared.postgres.pool import Connection, Pool
from shared.random_ids import new_id
from shared.rpc.convert import instant_field


class StreamHandlers(KeyedHandlers[stream_pb2.EventStream]):
    """The use cases of operators about streams."""

    kind = Kind("event_stream", "stream", convert.STREAM_OUTPUT_ONLY, MAX_STREAMS)

    def __init__(
        self,
        pool: Pool,
        streams: StreamStore,
        following: FollowingStore,
        feed: FeedReader,
        brokers: Brokers,
        clock: Clock,
    ) -> None:
        super().__init__(pool, feed, clock)
        self._streams = streams
        self._following = following
        self._brokers = brokers

    async def rewind(self, request: pb.RewindEventStreamRequest) -> pb.RewindEventStreamResponse:
        """Publish all again that was told since an instant. Raises `NotFound`."""
        violations = Violations()
        since = instant_field(request, "since_time", "", violations)
        self._check_named(request, violations)
        assert since is not None
        now = self._clock.now()
        cursor = await self._feed.newest() if since >= now else await self._following.waypoint(since)
        method = "rewind_event_stream"

        async def work(connection: Connection) -> Message:
            await self._known(request.key, connection)
            await self._streams.rewind(connection, request.key, cursor)
            await note(connection, method, f"event_stream/{request.key}", now)
            return pb.RewindEventStreamResponse()

        response = pb.RewindEventStreamResponse()
        await mutate(self._pool, method, request, now, work, response)
        return response

    # What streams say for themselves

    def check(self, message: stream_pb2.EventStream, path: str, violations: Violations) -> None:
        """Everything that is wrong with a stream here."""
        convert.check_stream(message, path, violations)
        if kind := message.WhichOneof("sink"):
            missing = self._brokers.missing(convert.sink_of(message))
            if missing is not None:
                violations.add(f"{path}.{kind}", missing)

    def check_change(
        self,
        before: stream_pb2.EventStream,
        wanted: stream_pb2.EventStream,
        path: str,
        violations: Violations,
    ) -> None:
        """Its sink stays of one kind."""
        convert.check_sink_stays(before, wanted, path, violations)

    def types(self, message: stream_pb2.EventStream) -> Sequence[str]:
        """The types of events that it names."""
        return message.types

    def unknown(self, key: str) -> NotFound:
        """There is no such stream."""
        return NotFound(f"there is no stream {key!r}", reason="EVENT_STREAM_NOT_FOUND", metadata={"key": key})

    def taken(self, key: str) -> AlreadyExists:
        """There is such a stream already."""
        return AlreadyExists(
            f"there is a stream {key!r}", reason="EVENT_STREAM_EXISTS", metadata={"key": key}
        )

    def too_many(self) -> FailedPrecondition:
        """There are as many as there may be."""
        return FailedPrecondition(f"there are {MAX_STREAMS} streams already", reason="TOO_MANY_EVENT_STREAMS")

    async def _row(self, key: str, connection: Connection | None = None) -> Any | None:
        return await self._streams.get(key, connection)

    async def _rows(self, source: Pool | Connection, after: str, limit: int) -> Sequence[Any]:
        return await self._streams.list(source, after, limit)

    async def _shown(self, _source: Pool | Connection, row: Any, _now: datetime) -> stream_pb2.EventStream:
        return convert.shown_stream(row)

    def _stored(self, row: Any) -> stream_pb2.EventStream:
        message = convert.StreamMessage.FromString(row["body"])
        message.switched_off = row["switched_off"]
        return message

    async def _insert(
        self, connection: Connection, message: stream_pb2.EventStream, cursor: str, now: datetime
    ) -> bool:
        body, off = convert.stored_stream(message), message.switched_off
        return await self._streams.insert(connection, new_id(), message.key, body, off, cursor, now)

    async def _count(self, connection: Connection) -> int:
        return await self._streams.count(connection)

    async def _write(
        self, connection: Connection, _row: Any, wanted: stream_pb2.EventStream, now: datetime
    ) -> None:
        body = convert.stored_stream(wanted)
        await self._streams.update(connection, wanted.key, body, wanted.switched_off, now)

    async def _remove(self, connection: Connection, row: Any) -> None:
        await self._streams.delete(connection, row["key"])
