"""What the service does for each call."""

import base64
import secrets as secret_source
from collections.abc import Callable
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
from services.notification.mutations import mutate, newest
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
from shared.masks import updated
from shared.pages import read_page
from shared.postgres.pool import Connection, Pool
from shared.random_ids import new_id
from shared.rpc.convert import check_key, check_request_id, instant_field, uuid_field

_SECRET_BYTES: Final = 32


class Handlers:
    """The use cases of operators. Each mutation is one transaction, idempotent by its request id."""

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
        self._pool = pool
        self._endpoints = endpoints
        self._deliveries = deliveries
        self._attempts = attempts
        self._following = following
        self._feed = feed
        self._sender = sender
        self._settings = settings
        self._clock = clock
        self._wake = wake

    async def create(self, request: pb.CreateWebhookEndpointRequest) -> pb.CreateWebhookEndpointResponse:
        """A new endpoint and its secret. Raises `AlreadyExists`, or `FailedPrecondition` for one too many."""
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        self.check(request.endpoint, "endpoint", violations)
        violations.raise_if_any()
        cursor = await self._newest(request.endpoint)
        now = self._clock.now()
        key = request.endpoint.key

        async def work(connection: Connection) -> Message:
            await self.insert(connection, request.endpoint, cursor, now)
            return pb.CreateWebhookEndpointResponse(endpoint=await self._shown(connection, key, now))

        response = pb.CreateWebhookEndpointResponse()
        await self._once("create_webhook_endpoint", request, now, work, response)
        response.secret = await self._secret_of(response.endpoint)
        return response

    async def get(self, key: str) -> webhook_pb2.WebhookEndpoint:
        """An endpoint. Raises `NotFound`."""
        violations = Violations()
        check_key(key, "key", violations)
        violations.raise_if_any()
        async with self._pool.acquire() as connection:
            return await self._shown(connection, key, self._clock.now(), lock=False)

    async def list_endpoints(
        self, page_size: int, page_token: str
    ) -> tuple[list[webhook_pb2.WebhookEndpoint], str]:
        """A page of endpoints by key, and the token of the next one."""
        page = read_page(page_size, page_token, keyset=[str], query=["webhook_endpoints"])
        rows = await self._endpoints.list(page.after[0] if page.after else "", page.size + 1)
        shown = rows[: page.size]
        now = self._clock.now()
        by_id = await self._endpoints.secrets(self._pool, [row["endpoint_id"] for row in shown])
        result = [
            convert.shown(
                row, by_id.get(row["endpoint_id"], []), await self._waiting(row["endpoint_id"]), now
            )
            for row in shown
        ]
        return result, page.next_token(shown[-1]["key"]) if len(rows) > page.size else ""

    async def update(self, request: pb.UpdateWebhookEndpointRequest) -> pb.UpdateWebhookEndpointResponse:
        """Change an endpoint, switch it on or off. Raises `NotFound`."""
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        check_key(request.endpoint.key, "endpoint.key", violations)
        violations.raise_if_any()
        key = request.endpoint.key
        before = await self.get(key)
        await self._newest(self._updated(before, request))  # its types are known to the orchestrator
        now = self._clock.now()

        async def work(connection: Connection) -> Message:
            row = await self._row(connection, key)
            wanted = self._updated(await self._shown(connection, key, now), request)
            await self.write(connection, row, wanted, now)
            return pb.UpdateWebhookEndpointResponse(endpoint=await self._shown(connection, key, now))

        response = pb.UpdateWebhookEndpointResponse()
        await self._once("update_webhook_endpoint", request, now, work, response)
        self._wake()
        return response

    async def delete(self, request: pb.DeleteWebhookEndpointRequest) -> pb.DeleteWebhookEndpointResponse:
        """Delete an endpoint and what waits for it. Raises `NotFound`."""
        self._check(request)

        async def work(connection: Connection) -> Message:
            await self.remove(connection, await self._row(connection, request.key))
            return pb.DeleteWebhookEndpointResponse()

        response = pb.DeleteWebhookEndpointResponse()
        await self._once("delete_webhook_endpoint", request, self._clock.now(), work, response)
        return response

    async def rotate(self, request: pb.RotateWebhookSecretRequest) -> pb.RotateWebhookSecretResponse:
        """A new secret; the newest before signs beside it for a while. Raises `NotFound`."""
        overlap = request.overlap_seconds if request.HasField("overlap_seconds") else DEFAULT_OVERLAP_SECONDS
        violations = Violations()
        if not 0 <= overlap <= MAX_OVERLAP_SECONDS:
            violations.add("overlap_seconds", f"must be 0 to {MAX_OVERLAP_SECONDS}")
        self._check(request, violations)
        now = self._clock.now()

        async def work(connection: Connection) -> Message:
            endpoint_id = (await self._row(connection, request.key))["endpoint_id"]
            known = (await self._endpoints.secrets(connection, [endpoint_id])).get(endpoint_id, [])
            kept = known[0].secret_id if known and overlap else None
            end = now + timedelta(seconds=overlap)
            await self._endpoints.end_secrets(connection, endpoint_id, kept, end)
            await self._endpoints.add_secret(connection, endpoint_id, _new_secret(now))
            return pb.RotateWebhookSecretResponse(endpoint=await self._shown(connection, request.key, now))

        response = pb.RotateWebhookSecretResponse()
        await self._once("rotate_webhook_secret", request, now, work, response)
        response.secret = await self._secret_of(response.endpoint)
        return response

    async def test(self, key: str) -> webhook_pb2.WebhookAttempt:
        """Send something now, once; nothing of it is kept. Raises `NotFound`."""
        await self.get(key)
        endpoint = await self._known(key)
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
        self._check(request, violations)
        assert event_id is not None
        now = self._clock.now()

        async def work(connection: Connection) -> Message:
            row = await self._row(connection, request.key)
            message = await self._deliveries.message_of(connection, row["endpoint_id"], event_id)
            if message is None:
                raise NotFound(
                    f"{request.key!r} was not sent the event, or it is not kept any more",
                    reason="WEBHOOK_EVENT_NOT_FOUND",
                    metadata={"key": request.key, "event_id": request.event_id},
                )
            endpoint = await self._known(request.key)
            await self._deliveries.add_again(connection, endpoint, *message, now)
            return pb.ResendWebhookEventResponse()

        response = pb.ResendWebhookEventResponse()
        await self._once("resend_webhook_event", request, now, work, response)
        self._wake()
        return response

    async def rewind(self, request: pb.RewindWebhookEndpointRequest) -> pb.RewindWebhookEndpointResponse:
        """Send all again that was told since an instant, instead of what waits. Raises `NotFound`."""
        violations = Violations()
        since = instant_field(request, "since_time", "", violations)
        self._check(request, violations)
        assert since is not None
        now = self._clock.now()
        newest = await self._feed.newest() if since >= now else ""

        async def work(connection: Connection) -> Message:
            row = await self._row(connection, request.key)
            cursor = newest if since >= now else await self._following.waypoint(since, connection)
            await self._deliveries.drop(connection, row["endpoint_id"])
            await self._endpoints.set_cursor(connection, row["endpoint_id"], cursor)
            return pb.RewindWebhookEndpointResponse()

        response = pb.RewindWebhookEndpointResponse()
        await self._once("rewind_webhook_endpoint", request, now, work, response)
        return response

    async def list_attempts(
        self, request: pb.ListWebhookAttemptsRequest
    ) -> tuple[list[webhook_pb2.WebhookAttempt], str]:
        """A page of attempts, newest first, and the token of the next one. Raises `NotFound`."""
        violations = Violations()
        event_id = uuid_field(request.event_id, "event_id", violations) if request.event_id else None
        violations.raise_if_any()
        row = await self._endpoints.get(request.key)
        if row is None:
            raise _unknown(request.key)
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

    # Within a transaction

    def check(self, endpoint: webhook_pb2.WebhookEndpoint, path: str, violations: Violations) -> None:
        """Everything that is wrong with an endpoint here."""
        convert.check_endpoint(endpoint, path, violations, allow_http=self._settings.webhook_allow_http)

    async def insert(
        self, connection: Connection, endpoint: webhook_pb2.WebhookEndpoint, cursor: str, now: datetime
    ) -> None:
        """A new endpoint. Raises `AlreadyExists`, or `FailedPrecondition` for one too many."""
        endpoint_id, key = new_id(), endpoint.key
        off = SwitchOff.OPERATOR if endpoint.switched_off else SwitchOff.ON
        body = convert.stored(endpoint)
        if not await self._endpoints.insert(connection, endpoint_id, key, body, off, cursor, now):
            raise AlreadyExists(
                f"there is an endpoint {key!r}", reason="WEBHOOK_ENDPOINT_EXISTS", metadata={"key": key}
            )
        if await self._endpoints.count(connection) > MAX_ENDPOINTS:
            raise FailedPrecondition(
                f"there are {MAX_ENDPOINTS} endpoints already", reason="TOO_MANY_WEBHOOK_ENDPOINTS"
            )
        await self._endpoints.add_secret(connection, endpoint_id, _new_secret(now))

    async def write(
        self, connection: Connection, locked: Any, wanted: webhook_pb2.WebhookEndpoint, now: datetime
    ) -> None:
        """The endpoint of a locked row is as it is wanted."""
        row = {**locked, "body": convert.stored(wanted)}
        is_off = row["switch_off"] != SwitchOff.ON
        if wanted.switched_off and not is_off:
            row |= {"switch_off": SwitchOff.OPERATOR, "switch_off_time": now}
            row["cursor"] = row["cursor"] or await self._following.cursor(connection)
        elif is_off and not wanted.switched_off:
            row |= {"switch_off": SwitchOff.ON, "switch_off_time": None, "failing_since": None}
        await self._endpoints.update(connection, row, now)

    async def remove(self, connection: Connection, row: Any) -> None:
        """The endpoint of a locked row is gone, with what waits for it."""
        await self._endpoints.delete(connection, row["key"])
        await self._deliveries.drop(connection, row["endpoint_id"])

    async def locked(self, connection: Connection) -> list[Any]:
        """The rows of all endpoints."""
        listed = await self._endpoints.list("", MAX_ENDPOINTS, connection)
        rows = [await self._endpoints.get(row["key"], connection) for row in listed]
        return [row for row in rows if row is not None]

    async def newest_secret(self, key: str) -> str:
        """Where the endpoint still is."""
        try:
            return await self._secret_of(await self.get(key))
        except NotFound:
            return ""

    # Parts

    async def _once(
        self,
        method: str,
        request: Any,
        now: datetime,
        work: Callable[[Connection], Any],
        response: Message,
    ) -> None:
        await mutate(self._pool, method, request, now, work, response)

    def _check(self, request: Any, violations: Violations | None = None) -> None:
        found = violations or Violations()
        check_request_id(request.request_id, "request_id", found)
        check_key(request.key, "key", found)
        found.raise_if_any()

    def _updated(
        self, before: webhook_pb2.WebhookEndpoint, request: pb.UpdateWebhookEndpointRequest
    ) -> webhook_pb2.WebhookEndpoint:
        """What an update makes of an endpoint. Raises `InvalidArgument`."""
        wanted = updated(
            before,
            request.endpoint,
            request.update_mask,
            immutable=["key"],
            output_only=convert.OUTPUT_ONLY,
        )
        violations = Violations()
        self.check(wanted, "endpoint", violations)
        violations.raise_if_any()
        return wanted

    async def _newest(self, endpoint: webhook_pb2.WebhookEndpoint) -> str:
        """Where the feed is now. Raises `InvalidArgument` for types that the orchestrator does not tell."""
        return await newest(self._feed, endpoint.types, "endpoint")

    async def _row(self, connection: Connection, key: str) -> Any:
        row = await self._endpoints.get(key, connection)
        if row is None:
            raise _unknown(key)
        return row

    async def _known(self, key: str) -> Endpoint:
        for endpoint in (await self._endpoints.load(self._pool)).all:
            if endpoint.key == key:
                return endpoint
        raise _unknown(key)

    async def _shown(
        self, connection: Connection, key: str, now: datetime, *, lock: bool = True
    ) -> webhook_pb2.WebhookEndpoint:
        # Never a second connection beside one that is held: callers who all hold one would wait for ever.
        row = await self._endpoints.get(key, connection, lock=lock)
        if row is None:
            raise _unknown(key)
        endpoint_id = row["endpoint_id"]
        secrets = (await self._endpoints.secrets(connection, [endpoint_id])).get(endpoint_id, [])
        return convert.shown(row, secrets, await self._waiting(endpoint_id, connection), now)

    async def _waiting(self, endpoint_id: UUID, connection: Connection | None = None) -> int:
        return await self._deliveries.count(endpoint_id, self._settings.webhook_max_waiting, connection)

    async def _secret_of(self, shown: webhook_pb2.WebhookEndpoint) -> str:
        """The newest secret that a reply speaks of, where it still is. It is in no reply that is stored."""
        if not shown.secrets:
            return ""
        return await self._endpoints.secret(UUID(shown.secrets[0].secret_id)) or ""


def _new_secret(now: datetime) -> Secret:
    secret = base64.b64encode(secret_source.token_bytes(_SECRET_BYTES)).decode()
    return Secret(new_id(), f"whsec_{secret}", now)


def _unknown(key: str) -> NotFound:
    return NotFound(
        f"there is no endpoint {key!r}", reason="WEBHOOK_ENDPOINT_NOT_FOUND", metadata={"key": key}
    )
