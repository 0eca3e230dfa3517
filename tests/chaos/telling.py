"""Who is told during a storm, an endpoint and a stream, and whether they heard exactly what was committed."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import asyncpg
import nats
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import stream_pb2, webhook_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2

from deploy.local.ports import free_port
from tests.fixtures.clients import persist
from tests.fixtures.nats import NatsServer, nats_running
from tests.fixtures.receiver import Got, receiving
from tests.fixtures.system import System
from tests.fixtures.waiting import until

TYPES: Final = ("metric.recorded", "event.voided", "achievement.completed", "points.level_changed")
"""What both hear of: something of every kind of entry, few enough that telling is not the storm."""
STREAM: Final = "STORM"
SUBJECT: Final = "storm.events"
DRAIN_SECONDS: Final = 120.0

Events = list[tuple[str, str]]
"""Users and ids, in the order in which they came."""


@dataclass
class Hearing:
    """The receiver and the broker."""

    port: int
    nats: NatsServer
    accepted: list[Got]
    running: AsyncExitStack
    told: dict[str, int] = field(default_factory=dict)
    """How much was committed, and how much of it came, once `wrong` has looked."""

    async def start(self) -> None:
        """The receiver listens, on its port."""
        receiver = await self.running.enter_async_context(receiving(self.port))
        receiver.accepted = self.accepted

    async def kill(self) -> None:
        """The receiver is gone."""
        await self.running.aclose()
        self.running = AsyncExitStack()

    async def begin(self, system: System) -> None:
        """From here on they hear everything."""
        endpoint = webhook_pb2.WebhookEndpoint(
            key="storm", url=f"http://127.0.0.1:{self.port}/hook", types=TYPES
        )
        sink = stream_pb2.NatsStreamSink(stream=STREAM, subject=SUBJECT)
        stream = stream_pb2.EventStream(key="storm", types=TYPES, nats=sink)
        create = pb.CreateWebhookEndpointRequest(request_id=str(uuid4()), endpoint=endpoint)
        beside = pb.CreateEventStreamRequest(request_id=str(uuid4()), stream=stream)

        async def subscribe() -> object:
            await system.notification.CreateWebhookEndpoint(create, timeout=10)
            return await system.notification.CreateEventStream(beside, timeout=10)

        await persist(subscribe)

    async def wrong(self, system: System) -> list[str]:
        """What was not heard, what was heard and never committed, and what came out of order, once all has come."""
        committed = await _committed(system)
        database = await asyncpg.connect(system.stack.service_dsn("notification"))

        async def all_came() -> bool:
            # What waits for its next attempt waits no longer: the storm is over.
            await database.execute("UPDATE webhook_lanes SET due_time = '2000-01-01Z' WHERE due_time > now()")
            return all(
                {event_id for _, event_id in committed} <= {event_id for _, event_id in heard}
                for heard in (self._by_webhook(), await self._by_stream())
            )

        try:
            await until(all_came, seconds=DRAIN_SECONDS, what="all that was committed is told")
        except AssertionError:
            pass  # what is missing is said below
        finally:
            await database.close()
        by_webhook, by_stream = self._by_webhook(), await self._by_stream()
        self.told = {
            "events that were committed": len(committed),
            "deliveries that were accepted": len(by_webhook),
            "of them doubles": len(by_webhook) - len(set(by_webhook)),
            "messages of the stream": len(by_stream),
            "of these doubles": len(by_stream) - len(set(by_stream)),
        }
        return [
            *differences("webhook", committed, first_of(by_webhook)),
            *differences("stream", committed, first_of(by_stream)),
        ]

    def _by_webhook(self) -> Events:
        return [(got.user, got.id) for got in self.accepted]

    async def _by_stream(self) -> Events:
        client = await nats.connect(self.nats.url)
        try:
            stream = client.jetstream()
            count = (await stream.stream_info(STREAM)).state.messages
            consumer = await stream.subscribe(f"{SUBJECT}.>", ordered_consumer=True)
            events = [json.loads((await consumer.next_msg(timeout=10)).data) for _ in range(count)]
            return [(event["subject"], event["id"]) for event in events]
        finally:
            await client.close()


@asynccontextmanager
async def hearing(directory: Path) -> AsyncIterator[Hearing]:
    """As long as the block lasts."""
    async with nats_running(directory) as server, AsyncExitStack() as running:
        heard = Hearing(free_port(), server, [], running)
        await heard.start()
        try:
            yield heard
        finally:
            await heard.kill()


def first_of(heard: Events) -> Events:
    """Each as it came first."""
    return list(dict.fromkeys(heard))


def differences(who: str, committed: Events, heard: Events) -> list[str]:
    """How what was heard differs from what was committed."""
    wrong = [f"{who}: {user} {event_id} was not told" for user, event_id in set(committed) - set(heard)]
    wrong += [
        f"{who}: {user} {event_id} was never committed" for user, event_id in set(heard) - set(committed)
    ]
    wanted, came = _by_user(committed), _by_user(heard)
    wrong += [
        f"{who}: the events of {user} came out of order"
        for user in wanted.keys() & came.keys()
        if set(wanted[user]) == set(came[user]) and wanted[user] != came[user]
    ]
    return sorted(wrong)


async def _committed(system: System) -> Events:
    page = orchestrator_service_pb2.ListDomainEventsResponse(more=True)
    events: Events = []
    while page.more:
        request = orchestrator_service_pb2.ListDomainEventsRequest(
            after_cursor=page.cursor, page_size=1_000, types=TYPES
        )
        page = await system.orchestrator.ListDomainEvents(request, timeout=30)
        events += [(event.user_id, event.id) for event in page.events]
    return events


def _by_user(events: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for user, event_id in events:
        found[user].append(event_id)
    return found
