"""What the service does for each call about streams."""

from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import stream_pb2

from services.notification import convert
from services.notification.brokers import Brokers
from services.notification.config import MAX_STREAMS
from services.notification.feed import FeedReader
from services.notification.mutations import mutate, newest
from services.notification.store.following import FollowingStore
from services.notification.store.streams import StreamStore
from shared.clock import Clock
from shared.errors import AlreadyExists, FailedPrecondition, NotFound, Violations
from shared.masks import updated
from shared.pages import read_page
from shared.postgres.pool import Connection, Pool
from shared.random_ids import new_id
from shared.rpc.convert import check_key, check_request_id, instant_field


class StreamHandlers:
    """The use cases of operators. Each mutation is one transaction, idempotent by its request id."""

    def __init__(
        self,
        pool: Pool,
        streams: StreamStore,
        following: FollowingStore,
        feed: FeedReader,
        brokers: Brokers,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._streams = streams
        self._following = following
        self._feed = feed
        self._brokers = brokers
        self._clock = clock

    async def create(self, request: pb.CreateEventStreamRequest) -> pb.CreateEventStreamResponse:
        """A new stream. Raises `AlreadyExists`, or `FailedPrecondition` for one too many."""
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        self.check(request.stream, "stream", violations)
        violations.raise_if_any()
        cursor = await newest(self._feed, request.stream.types, "stream")
        now = self._clock.now()
        key = request.stream.key

        async def work(connection: Connection) -> Message:
            await self.insert(connection, request.stream, cursor, now)
            return pb.CreateEventStreamResponse(stream=convert.shown_stream(await self._row(key, connection)))

        response = pb.CreateEventStreamResponse()
        await mutate(self._pool, "create_event_stream", request, now, work, response)
        return response

    async def get(self, key: str) -> stream_pb2.EventStream:
        """A stream. Raises `NotFound`."""
        violations = Violations()
        check_key(key, "key", violations)
        violations.raise_if_any()
        return convert.shown_stream(await self._row(key))

    async def list_streams(self, page_size: int, page_token: str) -> tuple[list[stream_pb2.EventStream], str]:
        """A page of streams by key, and the token of the next one."""
        page = read_page(page_size, page_token, keyset=[str], query=["event_streams"])
        rows = await self._streams.list(page.after[0] if page.after else "", page.size + 1)
        shown = rows[: page.size]
        token = page.next_token(shown[-1]["key"]) if len(rows) > page.size else ""
        return [convert.shown_stream(row) for row in shown], token

    async def update(self, request: pb.UpdateEventStreamRequest) -> pb.UpdateEventStreamResponse:
        """Change a stream, switch it on or off. Raises `NotFound`."""
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        check_key(request.stream.key, "stream.key", violations)
        violations.raise_if_any()
        key = request.stream.key
        wanted = self._updated(await self.get(key), request)
        await newest(self._feed, wanted.types, "stream")  # its types are known to the orchestrator
        now = self._clock.now()

        async def work(connection: Connection) -> Message:
            wanted = self._updated(convert.shown_stream(await self._row(key, connection)), request)
            await self.write(connection, wanted, now)
            return pb.UpdateEventStreamResponse(stream=convert.shown_stream(await self._row(key, connection)))

        response = pb.UpdateEventStreamResponse()
        await mutate(self._pool, "update_event_stream", request, now, work, response)
        return response

    async def delete(self, request: pb.DeleteEventStreamRequest) -> pb.DeleteEventStreamResponse:
        """Delete a stream. Raises `NotFound`."""
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        check_key(request.key, "key", violations)
        violations.raise_if_any()

        async def work(connection: Connection) -> Message:
            await self._row(request.key, connection)
            await self.remove(connection, request.key)
            return pb.DeleteEventStreamResponse()

        response = pb.DeleteEventStreamResponse()
        await mutate(self._pool, "delete_event_stream", request, self._clock.now(), work, response)
        return response

    async def rewind(self, request: pb.RewindEventStreamRequest) -> pb.RewindEventStreamResponse:
        """Publish all again that was told since an instant. Raises `NotFound`."""
        violations = Violations()
        since = instant_field(request, "since_time", "", violations)
        check_request_id(request.request_id, "request_id", violations)
        check_key(request.key, "key", violations)
        violations.raise_if_any()
        assert since is not None
        now = self._clock.now()
        cursor = await self._feed.newest() if since >= now else await self._following.waypoint(since)

        async def work(connection: Connection) -> Message:
            await self._row(request.key, connection)
            await self._streams.rewind(connection, request.key, cursor)
            return pb.RewindEventStreamResponse()

        response = pb.RewindEventStreamResponse()
        await mutate(self._pool, "rewind_event_stream", request, now, work, response)
        return response

    # Within a transaction

    def check(self, stream: stream_pb2.EventStream, path: str, violations: Violations) -> None:
        """Everything that is wrong with a stream here."""
        convert.check_stream(stream, path, violations)
        if kind := stream.WhichOneof("sink"):
            missing = self._brokers.missing(convert.sink_of(stream))
            if missing is not None:
                violations.add(f"{path}.{kind}", missing)

    async def insert(
        self, connection: Connection, stream: stream_pb2.EventStream, cursor: str, now: datetime
    ) -> None:
        """A new stream. Raises `AlreadyExists`, or `FailedPrecondition` for one too many."""
        key, body, off = stream.key, convert.stored_stream(stream), stream.switched_off
        if not await self._streams.insert(connection, new_id(), key, body, off, cursor, now):
            raise AlreadyExists(
                f"there is a stream {key!r}", reason="EVENT_STREAM_EXISTS", metadata={"key": key}
            )
        if await self._streams.count(connection) > MAX_STREAMS:
            raise FailedPrecondition(
                f"there are {MAX_STREAMS} streams already", reason="TOO_MANY_EVENT_STREAMS"
            )

    async def write(self, connection: Connection, wanted: stream_pb2.EventStream, now: datetime) -> None:
        """The stream is as it is wanted."""
        body = convert.stored_stream(wanted)
        await self._streams.update(connection, wanted.key, body, wanted.switched_off, now)

    async def remove(self, connection: Connection, key: str) -> None:
        """The stream is gone."""
        await self._streams.delete(connection, key)

    async def locked(self, connection: Connection) -> list[Any]:
        """The rows of all streams."""
        listed = await self._streams.list("", MAX_STREAMS, connection)
        rows = [await self._streams.get(row["key"], connection) for row in listed]
        return [row for row in rows if row is not None]

    # Parts

    def _updated(
        self, before: stream_pb2.EventStream, request: pb.UpdateEventStreamRequest
    ) -> stream_pb2.EventStream:
        """What an update makes of a stream. Raises `InvalidArgument`."""
        wanted = updated(
            before,
            request.stream,
            request.update_mask,
            immutable=["key"],
            output_only=convert.STREAM_OUTPUT_ONLY,
        )
        violations = Violations()
        self.check(wanted, "stream", violations)
        convert.check_sink_stays(before, wanted, "stream", violations)
        violations.raise_if_any()
        return wanted

    async def _row(self, key: str, connection: Connection | None = None) -> Any:
        row = await self._streams.get(key, connection)
        if row is None:
            raise NotFound(
                f"there is no stream {key!r}", reason="EVENT_STREAM_NOT_FOUND", metadata={"key": key}
            )
        return row
