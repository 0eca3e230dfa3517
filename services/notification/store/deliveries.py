"""What waits: written by those who follow, taken by workers, each lane by one of them at a time.

Whoever adds to a lane locks its row first, and so does who ends it: so a lane is there exactly as long as something
waits in it. Rows are locked in the order of their keys.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.notification import convert
from services.notification.domain.endpoints import Endpoint
from services.notification.domain.events import Event
from shared.postgres.pool import Connection, Pool

TRIMMED_AT_ONCE: Final = 1_000
MOST_OF_A_LANE: Final = 20
"""How many events of a lane are taken at once."""

_NEXT_IDS: Final = "SELECT nextval('webhook_message_ids') FROM generate_series(1, $1)"
_ADD_MESSAGES: Final = """
    INSERT INTO webhook_messages (message_id, event_id, type, user_id, body, create_time)
    SELECT * FROM unnest($1::webhook_message_row[])
"""
_TOUCH_LANES: Final = """
    INSERT INTO webhook_lanes (endpoint_id, lane, due_time)
    SELECT endpoint_id, lane, due_time FROM unnest($1::webhook_lane_row[])
     ORDER BY endpoint_id, lane
        ON CONFLICT (endpoint_id, lane) DO UPDATE SET due_time = EXCLUDED.due_time WHERE false
"""
_ADD: Final = """
    INSERT INTO webhook_deliveries (endpoint_id, lane, message_id)
    SELECT * FROM unnest($1::webhook_delivery_row[])
        ON CONFLICT DO NOTHING
"""
_DUE: Final = """
    SELECT endpoint.endpoint_id
      FROM unnest($1::uuid[]) AS endpoint (endpoint_id)
     CROSS JOIN LATERAL (
               SELECT due_time FROM webhook_lanes
                WHERE webhook_lanes.endpoint_id = endpoint.endpoint_id
                ORDER BY due_time
                LIMIT 1
           ) AS first
     WHERE first.due_time <= $2
"""
_CLAIM: Final = """
    WITH due AS (
        SELECT lane FROM webhook_lanes
         WHERE endpoint_id = $1 AND due_time <= $2
         ORDER BY due_time
         LIMIT $3
           FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE webhook_lanes SET due_time = $4, claim_id = $5
          FROM due
         WHERE webhook_lanes.endpoint_id = $1 AND webhook_lanes.lane = due.lane
        RETURNING webhook_lanes.lane
    )
    SELECT claimed.lane, waiting.*, message.event_id, message.type, message.body
      FROM claimed
      LEFT JOIN LATERAL (
               SELECT message_id, attempt_count, first_attempt_time FROM webhook_deliveries
                WHERE endpoint_id = $1 AND webhook_deliveries.lane = claimed.lane
                ORDER BY message_id
                LIMIT $6
           ) AS waiting ON true
      LEFT JOIN webhook_messages AS message ON message.message_id = waiting.message_id
     ORDER BY claimed.lane, waiting.message_id
"""
# In this order, so that no two who record meet crosswise.
_LOCK_LANES: Final = """
    SELECT own.endpoint_id, own.lane
      FROM unnest($1::webhook_lane_row[]) AS own
      JOIN webhook_lanes AS there ON there.endpoint_id = own.endpoint_id AND there.lane = own.lane
     WHERE there.claim_id = own.claim_id
     ORDER BY own.endpoint_id, own.lane
       FOR UPDATE OF there
"""
_REMOVE: Final = """
    DELETE FROM webhook_deliveries AS waiting
     USING unnest($1::webhook_delivery_row[]) AS done
     WHERE waiting.endpoint_id = done.endpoint_id AND waiting.lane = done.lane
       AND waiting.message_id = done.message_id
"""
_NOTE_FAILURES: Final = """
    UPDATE webhook_deliveries AS waiting
       SET attempt_count = failed.attempt_count, first_attempt_time = failed.first_attempt_time
      FROM unnest($1::webhook_failure_row[]) AS failed
     WHERE waiting.endpoint_id = failed.endpoint_id AND waiting.lane = failed.lane
       AND waiting.message_id = failed.message_id
"""
_END_LANES: Final = """
    DELETE FROM webhook_lanes AS lane
     USING unnest($1::webhook_lane_row[]) AS own
     WHERE lane.endpoint_id = own.endpoint_id AND lane.lane = own.lane AND lane.claim_id = own.claim_id
       AND NOT EXISTS (
               SELECT FROM webhook_deliveries AS waiting
                WHERE waiting.endpoint_id = own.endpoint_id AND waiting.lane = own.lane
           )
"""
_FREE_LANES: Final = """
    UPDATE webhook_lanes AS lane
       SET due_time = own.due_time, claim_id = NULL
      FROM unnest($1::webhook_lane_row[]) AS own
     WHERE lane.endpoint_id = own.endpoint_id AND lane.lane = own.lane AND lane.claim_id = own.claim_id
"""
# An endpoint that answers again gets what waits, spread over some seconds.
_HURRY: Final = """
    UPDATE webhook_lanes SET due_time = $2 + random() * $3::interval
     WHERE endpoint_id = $1 AND claim_id IS NULL AND due_time > $2 + $3::interval
"""
_ADD_ATTEMPTS: Final = """
    INSERT INTO webhook_attempts (endpoint_id, event_id, type, number, attempt_time, latency_micros, outcome,
                                  status_code, detail)
    SELECT * FROM unnest($1::webhook_attempt_row[])
"""
_COUNT: Final = """
    SELECT count(*) FROM (
        SELECT FROM webhook_deliveries WHERE endpoint_id = $1 LIMIT $2
    ) AS waiting
"""
_DROP: Final = "DELETE FROM webhook_deliveries WHERE endpoint_id = $1"
_DROP_LANES: Final = "DELETE FROM webhook_lanes WHERE endpoint_id = $1"
_DROP_PACES: Final = "DELETE FROM webhook_paces WHERE endpoint_id = $1"
_NEWEST_MESSAGE: Final = """
    SELECT message_id, user_id FROM webhook_messages WHERE event_id = $1 ORDER BY message_id DESC LIMIT 1
"""
_WAS_SENT: Final = "SELECT EXISTS (SELECT FROM webhook_attempts WHERE event_id = $1 AND endpoint_id = $2)"
_OLD_MESSAGES: Final = """
    SELECT message_id, create_time FROM webhook_messages WHERE message_id >= $1 ORDER BY message_id LIMIT $2
"""
_WAITING_BEFORE: Final = "DELETE FROM webhook_deliveries WHERE endpoint_id = $1 AND message_id <= $2"
_DELETE_MESSAGES: Final = "DELETE FROM webhook_messages WHERE message_id <= $1"
_TRIM_ATTEMPTS: Final = """
    DELETE FROM webhook_attempts
     USING (SELECT attempt_id, attempt_time FROM webhook_attempts ORDER BY attempt_id LIMIT $2) AS oldest
     WHERE oldest.attempt_time < $1 AND webhook_attempts.attempt_id = oldest.attempt_id
"""


class Waiting(Struct, frozen=True):
    """An event that waits for an endpoint."""

    message_id: int
    event_id: UUID
    type: str
    body: str
    attempt_count: int
    first_attempt_time: datetime | None


class Lane(Struct, frozen=True):
    """A lane that was taken, and the first of what waits in it; nothing where another has just ended it."""

    endpoint: Endpoint
    lane: str
    claim_id: UUID
    waiting: Sequence[Waiting]
    lost: Sequence[int] = ()
    """Messages that are not kept any more."""


class Attempt(Struct, frozen=True):
    """What came of an attempt."""

    endpoint_id: UUID
    event_id: UUID
    type: str
    number: int
    attempt_time: datetime
    latency_micros: int
    outcome: int
    status_code: int
    detail: str

    @property
    def row(self) -> tuple[object, ...]:
        """As it is written."""
        return tuple(getattr(self, name) for name in self.__struct_fields__)


class Done(Struct, frozen=True):
    """What a worker has to record of a lane."""

    lane: Lane
    attempts: Sequence[Attempt]
    removed: Sequence[int]
    """Messages that were delivered or given up."""
    failed: Sequence[tuple[int, int, datetime]]
    """Message, attempts, and when the first was made."""
    due_time: datetime
    """When the lane goes on, where anything is left in it."""


class DeliveryStore:
    """The tables of messages, deliveries, lanes and attempts."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(
        self, connection: Connection, told: Sequence[tuple[Event, Sequence[Endpoint]]], now: datetime
    ) -> None:
        """Events and the endpoints that want them, in the order of the feed."""
        told = [(event, endpoints) for event, endpoints in told if endpoints]
        if not told:
            return
        ids = sorted(row["nextval"] for row in await connection.fetch(_NEXT_IDS, len(told)))
        messages = [
            (number, event.event_id, event.type, event.user_id, convert.body_of(event), now)
            for number, (event, _) in zip(ids, told, strict=True)
        ]
        deliveries = [
            (endpoint.endpoint_id, endpoint.lane(event.user_id, number), number)
            for number, (event, endpoints) in zip(ids, told, strict=True)
            for endpoint in endpoints
        ]
        await connection.execute(_ADD_MESSAGES, messages)
        await self._queue(connection, deliveries, now)

    async def add_again(
        self, connection: Connection, endpoint: Endpoint, message_id: int, user_id: str, now: datetime
    ) -> None:
        """A message that is there already."""
        await self._queue(
            connection, [(endpoint.endpoint_id, endpoint.lane(user_id, message_id), message_id)], now
        )

    async def _queue(
        self, connection: Connection, deliveries: Sequence[tuple[UUID, str, int]], now: datetime
    ) -> None:
        lanes = dict.fromkeys((endpoint_id, lane) for endpoint_id, lane, _ in deliveries)
        await connection.execute(_TOUCH_LANES, [(*lane, None, now) for lane in sorted(lanes)])
        await connection.execute(_ADD, deliveries)

    async def due(self, endpoint_ids: Sequence[UUID], now: datetime) -> list[UUID]:
        """The endpoints of these for which anything is due."""
        rows = await self._pool.fetch(_DUE, endpoint_ids, now)
        return [row["endpoint_id"] for row in rows]

    async def claim(
        self, endpoint: Endpoint, limit: int, now: datetime, lease_end: datetime, claim_id: UUID
    ) -> list[Lane]:
        """Take lanes that are due and that nobody has."""
        rows = await self._pool.fetch(
            _CLAIM, endpoint.endpoint_id, now, limit, lease_end, claim_id, MOST_OF_A_LANE
        )
        lanes: dict[str, list[Waiting]] = {}
        lost: dict[str, list[int]] = {}
        for row in rows:
            waiting = lanes.setdefault(row["lane"], [])
            if row["event_id"] is not None:
                waiting.append(Waiting(**{name: row[name] for name in Waiting.__struct_fields__}))
            elif row["message_id"] is not None:
                lost.setdefault(row["lane"], []).append(row["message_id"])
        return [
            Lane(endpoint, name, claim_id, waiting, lost.get(name, ())) for name, waiting in lanes.items()
        ]

    async def record(self, connection: Connection, done: Sequence[Done]) -> None:
        """What came of lanes, in the caller's transaction. One that another has taken meanwhile stays the other's."""
        lanes = sorted(
            (
                delivery.lane.endpoint.endpoint_id,
                delivery.lane.lane,
                delivery.lane.claim_id,
                delivery.due_time,
            )
            for delivery in done
        )
        await connection.fetch(_LOCK_LANES, lanes)
        removed = [
            (delivery.lane.endpoint.endpoint_id, delivery.lane.lane, message_id)
            for delivery in done
            for message_id in delivery.removed
        ]
        failed = [
            (delivery.lane.endpoint.endpoint_id, delivery.lane.lane, *failure)
            for delivery in done
            for failure in delivery.failed
        ]
        attempts = [attempt.row for delivery in done for attempt in delivery.attempts]
        if removed:
            await connection.execute(_REMOVE, removed)
        if failed:
            await connection.execute(_NOTE_FAILURES, failed)
        await connection.execute(_END_LANES, lanes)
        await connection.execute(_FREE_LANES, lanes)
        if attempts:
            await connection.execute(_ADD_ATTEMPTS, attempts)

    async def hurry(
        self, connection: Connection, endpoint_id: UUID, now: datetime, spread_seconds: float
    ) -> None:
        """What waits to be tried again is tried soon."""
        await connection.execute(_HURRY, endpoint_id, now, timedelta(seconds=spread_seconds))

    async def count(self, source: Pool | Connection, endpoint_id: UUID, limit: int) -> int:
        """How many events wait for an endpoint, counted up to a limit."""
        count: int = await source.fetchval(_COUNT, endpoint_id, limit)
        return count

    async def drop(self, connection: Connection, endpoint_id: UUID) -> None:
        """Forget all that waits for an endpoint."""
        await connection.execute(_DROP_LANES, endpoint_id)
        await connection.execute(_DROP, endpoint_id)
        await connection.execute(_DROP_PACES, endpoint_id)

    async def message_of(
        self, connection: Connection, endpoint_id: UUID, event_id: UUID
    ) -> tuple[int, str] | None:
        """The newest message of an event that the endpoint has had: id and user."""
        if not await connection.fetchval(_WAS_SENT, event_id, endpoint_id):
            return None
        row = await connection.fetchrow(_NEWEST_MESSAGE, event_id)
        return None if row is None else (row["message_id"], row["user_id"])

    async def trim(self, endpoint_ids: Sequence[UUID], before: datetime) -> bool:
        """Delete the oldest messages and attempts that were made before; whether there may be more."""
        status = await self._pool.execute(_TRIM_ATTEMPTS, before, TRIMMED_AT_ONCE)
        more = int(status.rsplit(" ", 1)[1]) == TRIMMED_AT_ONCE
        rows = await self._pool.fetch(_OLD_MESSAGES, 0, TRIMMED_AT_ONCE)
        old = [row["message_id"] for row in rows if row["create_time"] < before]
        if old:
            async with self._pool.acquire() as connection, connection.transaction():
                for endpoint_id in endpoint_ids:
                    await connection.execute(_WAITING_BEFORE, endpoint_id, old[-1])
                await connection.execute(_DELETE_MESSAGES, old[-1])
        return more or len(old) == TRIMMED_AT_ONCE
