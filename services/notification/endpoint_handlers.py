"""What the service does for each call."""

import base64
import secrets as secret_source
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from google.protobuf.message import Message
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import webhook_pb2

from services.notification import convert
from services.notification.config import (
    DEFAULT_OVERLAP_SECONDS,
    MAX_ENDPOINTS,
    MAX_OVERLAP_SECONDS,
    Settings,
)
from services.notification.domain.endpoints import Endpoint, Outcome, Secret, SwitchOff
from services.notification.feed import FeedReader
from services.notification.keyed_handlers import KeyedHandlers, Kind
from services.notification.mutations import mutate, note
from services.notification.sender import Sender
from services.notification.store.attempts import AttemptStore
from services.notification.store.deliveries import DeliveryStore
from services.notification.store.endpoints import EndpointStore
from services.notification.store.following import FollowingStore
from shared.clock import Clock
from shared.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Violations,
)
from shared.pages import read_page
from shared.postgres.pool import Connection, Pool
from shared.random_ids import new_id
from shared.rpc.convert import instant_field, optional_uuid_field, uuid_field

_SECRET_BYTES: Final = 32


class EndpointHandlers(KeyedHandlers[webhook_pb2.WebhookEndpoint]):
    """The use cases of operators about webhook endpoints."""

    kind = Kind("webhook_endpoint", "endpoint", convert.OUTPUT_ONLY, MAX_ENDPOINTS)

    def __init__(
        self,
        pool: Pool,
        endpoints: EndpointStore,
        deliveries: DeliveryStore,
        attempts: AttemptStore,
        following: FollowingStore,
        feed: FeedReader,
        sender: Sender,
        settings: Settings,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        super().__init__(pool, feed, clock)
        self._endpoints = endpoints
        self._deliveries = deliveries
        self._attempts = attempts
        self._following = following
        self._sender = sender
        self._settings = settings
        self._wake = wake

    async def create(self, request: Any, response: Any) -> None:
        """With its secret, which is in no reply that is stored."""
        await super().create(request, response)
        response.secret = await self._secret_of(response.endpoint)

    async def update(self, request: Any, response: Message) -> None:
        """What came while it was off is looked for at once."""
        await super().update(request, response)
        self._wake()

    async def rotate(self, request: pb.RotateWebhookSecretRequest) -> pb.RotateWebhookSecretResponse:
        """A new secret; the newest before signs beside it for a while. Raises `NotFound`."""
        overlap = request.overlap_seconds if request.HasField("overlap_seconds") else DEFAULT_OVERLAP_SECONDS
        violations = Violations()
        if not 0 <= overlap <= MAX_OVERLAP_SECONDS:
            violations.add("overlap_seconds", f"must be 0 to {MAX_OVERLAP_SECONDS}")
        self._check_named(request, violations)
        now = self._clock.now()

        async def work(connection: Connection) -> Message:
            endpoint_id = (await self._known(request.key, connection))["endpoint_id"]
            known = (await self._endpoints.secrets(connection, [endpoint_id])).get(endpoint_id, [])
            kept = known[0].secret_id if known and overlap else None
            end = now + timedelta(seconds=overlap)
            await self._endpoints.end_secrets(connection, endpoint_id, kept, end)
            await self._endpoints.add_secret(connection, endpoint_id, _new_secret(now))
            await self._note_done(connection, "rotate_webhook_secret", request.key, now)
            return await self._reply(connection, pb.RotateWebhookSecretResponse(), request.key, now)

        response = pb.RotateWebhookSecretResponse()
        await mutate(self._pool, "rotate_webhook_secret", request, now, work, response)
        response.secret = await self._secret_of(response.endpoint)
        return response

    async def test(self, key: str) -> webhook_pb2.WebhookAttempt:
        """Send something now, once; nothing of it is kept. Raises `NotFound`."""
        await self.get(key)
        endpoint = await self._working(key)
        now = self._clock.now()
        event = convert.check_event(new_id(), key, now)
        answer = await self._sender.send(
            endpoint.url, str(event.event_id), convert.body_of(event), endpoint.live_secrets(now), now
        )
        outcome = Outcome.DELIVERED if answer.is_accepted else Outcome.GIVEN_UP
        return convert.attempt_to_proto(
            {
                "event_id": event.event_id,
                "type": event.type,
                "number": 1,
                "attempt_time": now,
                "latency_micros": answer.latency_micros,
                "outcome": outcome,
                "status_code": answer.status_code,
                "detail": answer.detail,
            }
        )

    async def resend(self, request: pb.ResendWebhookEventRequest) -> pb.ResendWebhookEventResponse:
        """Send one event again. Raises `NotFound`, also for an event that is not kept."""
        violations = Violations()
        event_id = uuid_field(request.event_id, "event_id", violations)
        self._check_named(request, violations)
        assert event_id is not None
        now = self._clock.now()

        async def work(connection: Connection) -> Message:
            row = await self._known(request.key, connection)
            message = await self._deliveries.message_of(connection, row["endpoint_id"], event_id)
            if message is None:
                raise NotFound(
                    f"{request.key!r} was not sent the event, or it is not kept any more",
                    reason="WEBHOOK_EVENT_NOT_FOUND",
                    metadata={"key": request.key, "event_id": request.event_id},
                )
            endpoint = await self._working(request.key)
            await self._deliveries.add_again(connection, endpoint, *message, now)
            await self._note_done(connection, "resend_webhook_event", request.key, now)
            return pb.ResendWebhookEventResponse()

        response = pb.ResendWebhookEventResponse()
        await mutate(self._pool, "resend_webhook_event", request, now, work, response)
        self._wake()
        return response

    async def rewind(self, request: pb.RewindWebhookEndpointRequest) -> pb.RewindWebhookEndpointResponse:
        """Send all again that was told since an instant, instead of what waits. Raises `NotFound`."""
        violations = Violations()
        since = instant_field(request, "since_time", "", violations)
        self._check_named(request, violations)
        assert since is not None
        now = self._clock.now()
        newest = await self._feed.newest() if since >= now else ""

        async def work(connection: Connection) -> Message:
            row = await self._known(request.key, connection)
            cursor = newest if since >= now else await self._following.waypoint(since, connection)
            await self._deliveries.drop(connection, row["endpoint_id"])
            await self._endpoints.set_cursor(connection, row["endpoint_id"], cursor)
            await self._note_done(connection, "rewind_webhook_endpoint", request.key, now)
            return pb.RewindWebhookEndpointResponse()

        response = pb.RewindWebhookEndpointResponse()
        await mutate(self._pool, "rewind_webhook_endpoint", request, now, work, response)
        return response

    async def list_attempts(
        self, request: pb.ListWebhookAttemptsRequest
    ) -> tuple[list[webhook_pb2.WebhookAttempt], str]:
        """A page of attempts, newest first, and the token of the next one. Raises `NotFound`."""
        violations = Violations()
        event_id = optional_uuid_field(request.event_id, "event_id", violations)
        violations.raise_if_any()
        row = await self._endpoints.get(request.key)
        if row is None:
            raise self.unknown(request.key)
        query = ["webhook_attempts", request.key, request.event_id, str(request.failed_only)]
        page = read_page(request.page_size, request.page_token, keyset=[int], query=query)
        rows = await self._attempts.list(
            row["endpoint_id"],
            event_id,
            failed_only=request.failed_only,
            before=page.after[0] if page.after else None,
            limit=page.size + 1,
        )
        shown = rows[: page.size]
        token = page.next_token(shown[-1]["attempt_id"]) if len(rows) > page.size else ""
        return [convert.attempt_to_proto(attempt) for attempt in shown], token

    # What endpoints say for themselves

    def check(self, message: webhook_pb2.WebhookEndpoint, path: str, violations: Violations) -> None:
        """Everything that is wrong with an endpoint here."""
        convert.check_endpoint(message, path, violations, allow_http=self._settings.webhook_allow_http)

    def types(self, message: webhook_pb2.WebhookEndpoint) -> Sequence[str]:
        """The types of events that it names."""
        return message.types

    def unknown(self, key: str) -> NotFound:
        """There is no such endpoint."""
        return NotFound(
            f"there is no endpoint {key!r}", reason="WEBHOOK_ENDPOINT_NOT_FOUND", metadata={"key": key}
        )

    def taken(self, key: str) -> AlreadyExists:
        """There is such an endpoint already."""
        return AlreadyExists(
            f"there is an endpoint {key!r}", reason="WEBHOOK_ENDPOINT_EXISTS", metadata={"key": key}
        )

    def too_many(self) -> FailedPrecondition:
        """There are as many as there may be."""
        return FailedPrecondition(
            f"there are {MAX_ENDPOINTS} endpoints already", reason="TOO_MANY_WEBHOOK_ENDPOINTS"
        )

    async def newest_secret(self, key: str) -> str:
        """Where the endpoint still is."""
        try:
            return await self._secret_of(await self.get(key))
        except NotFound:
            return ""

    async def _row(self, key: str, connection: Connection | None = None) -> Any | None:
        return await self._endpoints.get(key, connection)

    async def _rows(self, source: Pool | Connection, after: str, limit: int) -> Sequence[Any]:
        return await self._endpoints.list(source, after, limit)

    async def _shown(self, source: Pool | Connection, row: Any, now: datetime) -> webhook_pb2.WebhookEndpoint:
        endpoint_id = row["endpoint_id"]
        secrets = (await self._endpoints.secrets(source, [endpoint_id])).get(endpoint_id, [])
        waiting = await self._deliveries.count(source, endpoint_id, self._settings.webhook_max_waiting)
        return convert.shown(row, secrets, waiting, now)

    def _stored(self, row: Any) -> webhook_pb2.WebhookEndpoint:
        """What the service has switched off by itself is no difference."""
        message = convert.EndpointMessage.FromString(row["body"])
        message.switched_off = row["switch_off"] == SwitchOff.OPERATOR
        return message

    def _kept(self, row: Any, wanted: webhook_pb2.WebhookEndpoint) -> webhook_pb2.WebhookEndpoint:
        """What the service has switched off by itself stays off."""
        wanted.switched_off |= row["switch_off"] not in (SwitchOff.ON, SwitchOff.OPERATOR)
        return wanted

    async def _insert(
        self, connection: Connection, message: webhook_pb2.WebhookEndpoint, cursor: str, now: datetime
    ) -> bool:
        endpoint_id = new_id()
        off = SwitchOff.OPERATOR if message.switched_off else SwitchOff.ON
        body = convert.stored(message)
        is_free = await self._endpoints.insert(connection, endpoint_id, message.key, body, off, cursor, now)
        if is_free:
            await self._endpoints.add_secret(connection, endpoint_id, _new_secret(now))
        return is_free

    async def _count(self, connection: Connection) -> int:
        return await self._endpoints.count(connection)

    async def _write(
        self, connection: Connection, row: Any, wanted: webhook_pb2.WebhookEndpoint, now: datetime
    ) -> None:
        changed = {**row, "body": convert.stored(wanted)}
        is_off = changed["switch_off"] != SwitchOff.ON
        if wanted.switched_off and not is_off:
            changed |= {"switch_off": SwitchOff.OPERATOR, "switch_off_time": now}
            changed["cursor"] = changed["cursor"] or await self._following.cursor(connection)
        elif is_off and not wanted.switched_off:
            changed |= {"switch_off": SwitchOff.ON, "switch_off_time": None, "failing_since": None}
        await self._endpoints.update(connection, changed, now)

    async def _remove(self, connection: Connection, row: Any) -> None:
        await self._endpoints.delete(connection, row["key"])
        await self._deliveries.drop(connection, row["endpoint_id"])

    # Parts

    async def _note_done(self, connection: Connection, method: str, key: str, now: datetime) -> None:
        await note(connection, method, f"{self.kind.name}/{key}", now)

    async def _working(self, key: str) -> Endpoint:
        """As workers know it."""
        for endpoint in (await self._endpoints.load(self._pool)).all:
            if endpoint.key == key:
                return endpoint
        raise self.unknown(key)

    async def _secret_of(self, shown: webhook_pb2.WebhookEndpoint) -> str:
        """The newest secret that a reply speaks of, where it still is. It is in no reply that is stored."""
        if not shown.secrets:
            return ""
        return await self._endpoints.secret(UUID(shown.secrets[0].secret_id)) or ""


def _new_secret(now: datetime) -> Secret:
    secret = base64.b64encode(secret_source.token_bytes(_SECRET_BYTES)).decode()
    return Secret(new_id(), f"whsec_{secret}", now)
