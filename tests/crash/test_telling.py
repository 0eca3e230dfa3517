"""What was committed is told, whoever dies: the service that tells, at each of its points, or who is told (RULES 8)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
from laurel.notification.v1 import contact_pb2, message_pb2, stream_pb2, webhook_pb2
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2

import services.notification.server
from deploy.local.ports import free_port
from deploy.local.stack import Stack
from shared.faults import CRASH_POINTS
from tests.crash.test_crash_points import die_at, revive
from tests.fixtures import clock
from tests.fixtures.clients import ingest, persist
from tests.fixtures.mailbox import Mailbox, receiving_mail
from tests.fixtures.receiver import Got, receiving
from tests.fixtures.redis_streams import entries_of
from tests.fixtures.system import System, event
from tests.fixtures.waiting import until

COMPOSED = services.notification.server
"""The process, with every point that it has."""

STREAMING = sorted(point for point in CRASH_POINTS if point.startswith("notification.stream."))
MESSAGES = sorted(
    point for point in CRASH_POINTS if point.startswith(("notification.plan.", "notification.message."))
)
POINTS = sorted(
    point
    for point in CRASH_POINTS
    if point.startswith("notification.") and point not in (*STREAMING, *MESSAGES)
)
TYPES = ("metric.recorded", "achievement.completed", "points.changed")
USERS = 4
EVENTS_OF_A_USER = 12


class Told:
    """An endpoint whose receiver can be killed and come back on its port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted: list[Got] = []
        self._running = AsyncExitStack()

    async def start(self) -> None:
        receiver = await self._running.enter_async_context(receiving(self.port))
        receiver.accepted = self.accepted

    async def kill(self) -> None:
        await self._running.aclose()

    def of(self, user: str) -> list[str]:
        """The ids of a user's events, in the order in which they came first."""
        return list(dict.fromkeys(got.id for got in self.accepted if got.user == user))


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    receiver = Told(free_port())
    await receiver.start()
    yield receiver
    await receiver.kill()


async def told_by_the_feed(system: System, user: str) -> list[str]:
    """The ids of all that was committed about a user, in order."""
    page = orchestrator_service_pb2.ListDomainEventsResponse(more=True)
    ids: list[str] = []
    while page.more:
        page = await system.orchestrator.ListDomainEvents(
            orchestrator_service_pb2.ListDomainEventsRequest(
                after_cursor=page.cursor, page_size=1_000, types=TYPES, user_id=user
            )
        )
        ids += [message.id for message in page.events]
    return ids


async def subscribe(system: System, key: str, told: Told) -> None:
    endpoint = webhook_pb2.WebhookEndpoint(key=key, url=f"http://127.0.0.1:{told.port}/hook", types=TYPES)
    request = pb.CreateWebhookEndpointRequest(request_id=str(uuid4()), endpoint=endpoint)

    async def create() -> object:
        return await system.notification.CreateWebhookEndpoint(request, timeout=5)

    await persist(create)


async def joined(system: System, key: str) -> None:
    """The endpoint hears with the others: of itself it reads nothing more."""

    async def hears() -> bool:
        request = pb.GetWebhookEndpointRequest(key=key)
        shown = await system.notification.GetWebhookEndpoint(request, timeout=5)
        return not shown.endpoint.health.behind

    await until(hears, seconds=30, what="it hears with the others")


async def unsubscribe(system: System, key: str) -> None:
    request = pb.DeleteWebhookEndpointRequest(request_id=str(uuid4()), key=key)

    async def delete() -> object:
        return await system.notification.DeleteWebhookEndpoint(request, timeout=5)

    await persist(delete)


async def live(system: System, name: str) -> list[str]:
    """Users send one event after the other; their names."""

    async def user(number: int) -> str:
        one = f"{name}-{number}"
        for count in range(EVENTS_OF_A_USER):
            answer = await ingest(system, event(one, f"{count}"))
            assert isinstance(answer, event_pb2.IngestEventResponse)
        return one

    return await asyncio.gather(*(user(number) for number in range(USERS)))


async def all_is_told(system: System, told: Told, users: list[str]) -> None:
    """Everything that was committed, nothing else, and each user's events in order."""

    async def came() -> bool:
        return all([told.of(user) == await told_by_the_feed(system, user) for user in users])

    await until(came, seconds=90, what="all that was committed is told, in order")


@pytest.mark.parametrize("point", POINTS)
async def test_a_service_that_dies_while_it_tells_loses_nothing_and_tells_in_order(
    stack: Stack, system: System, told: Told, point: str
) -> None:
    key = f"p{POINTS.index(point)}"
    await subscribe(system, key, told)
    await joined(system, key)
    await die_at(stack, point)
    living = asyncio.create_task(live(system, f"told-{key}-{uuid4().hex[:8]}"))
    if ".catch_up." in point:
        # Whoever is new reads for itself until it has come to where the others are.
        await subscribe(system, f"{key}-new", told)
    await revive(stack, point)
    await all_is_told(system, told, await living)
    # Nothing is to be left that the next process could die of while it starts.
    await unsubscribe(system, key)
    await unsubscribe(system, f"{key}-new")


async def told_by_the_stream(url: str, name: str, user: str) -> list[str]:
    """The ids of a user's events, in the order in which they came first."""
    entries = await entries_of(url, name)
    return list(dict.fromkeys(fields["id"] for fields in entries if fields["user"] == user))


@pytest.mark.parametrize("point", STREAMING)
async def test_a_service_that_dies_between_publishing_and_its_cursor_loses_nothing_and_keeps_the_order(
    stack: Stack, system: System, point: str
) -> None:
    key = f"s{STREAMING.index(point)}"
    sink = stream_pb2.RedisStreamSink(stream=key)
    create = pb.CreateEventStreamRequest(
        request_id=str(uuid4()), stream=stream_pb2.EventStream(key=key, types=TYPES, redis=sink)
    )
    await system.notification.CreateEventStream(create, timeout=5)
    await die_at(stack, point)
    living = asyncio.create_task(live(system, f"published-{key}-{uuid4().hex[:8]}"))
    await revive(stack, point)
    users = await living
    valkey = stack.valkey
    assert valkey is not None
    url = valkey.url

    async def came() -> bool:
        return all(
            [
                await told_by_the_stream(url, key, user) == await told_by_the_feed(system, user)
                for user in users
            ]
        )

    await until(came, seconds=90, what="all that was committed is published, in order")
    delete = pb.DeleteEventStreamRequest(request_id=str(uuid4()), key=key)

    async def deleted() -> object:
        return await system.notification.DeleteEventStream(delete, timeout=5)

    await persist(deleted)


async def test_a_receiver_that_dies_and_comes_back_gets_all_in_order(system: System, told: Told) -> None:
    await subscribe(system, "dying", told)
    living = asyncio.create_task(live(system, f"told-dying-{uuid4().hex[:8]}"))

    async def some_came() -> bool:
        return len(told.accepted) > 20

    async def is_failing() -> bool:
        shown = await system.notification.GetWebhookEndpoint(pb.GetWebhookEndpointRequest(key="dying"))
        return shown.endpoint.health.HasField("failing_since")

    await until(some_came, seconds=30, what="some came")
    await told.kill()
    await until(is_failing, seconds=30, what="its absence is noted")
    await told.start()
    users = await living
    await all_is_told(system, told, users)
    await unsubscribe(system, "dying")


ACHIEVEMENT, REMINDER = contact_pb2.MESSAGE_TYPE_ACHIEVEMENT, contact_pb2.MESSAGE_TYPE_STREAK_REMINDER
SENT, UNKNOWN = message_pb2.MESSAGE_STATE_SENT, message_pb2.MESSAGE_STATE_UNKNOWN
MAKE_DUE = """
    UPDATE planned_messages
       SET look_time = '2000-01-01Z',
           plan = jsonb_set(jsonb_set(plan::jsonb, '{first_time}', to_jsonb($2::text)),
                            '{last_time}', to_jsonb($2::text))::text
     WHERE user_id = $1
"""
EMAILS = {"notification.message.noted": 0}
"""How many a user gets whose process dies at a point; else one."""


@pytest.fixture
async def mailbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mailbox]:
    """Where the service sends to that is started from here on."""
    async with receiving_mail(Mailbox()) as listening:
        monkeypatch.setenv("LAUREL_SMTP_URL", listening.url)
        monkeypatch.setenv("LAUREL_MAIL_FROM", "Laurel <hello@example.com>")
        monkeypatch.setenv("LAUREL_UNSUBSCRIBE_URL", "https://example.com/{token}")
        yield listening


async def switch(system: System, type_: int, *, on: bool) -> None:
    message = message_pb2.MessageDefinition(
        type=type_,  # type: ignore[arg-type]
        switched_on=on,
        channels=[contact_pb2.MESSAGE_CHANNEL_EMAIL],
        send_time="00:00",
    )
    request = pb.UpdateMessageDefinitionRequest(request_id=str(uuid4()), message=message)
    request.update_mask.paths.extend(["switched_on", "channels", "send_time"])

    async def update() -> object:
        return await system.notification.UpdateMessageDefinition(request, timeout=5)

    await persist(update)


async def make_due(database: asyncpg.Connection, user: str) -> None:
    """What is planned for the user, as soon as it is."""

    async def is_planned() -> bool:
        query = "SELECT true FROM planned_messages WHERE user_id = $1"
        return bool(await database.fetchval(query, user))

    await until(is_planned, seconds=60, what="a message is planned")
    await database.execute("UPDATE message_definitions SET since = '2000-01-01Z'")
    ago = (clock.now() - timedelta(hours=2)).isoformat().replace("+00:00", "Z")
    await database.execute(MAKE_DUE, user, ago)


@pytest.mark.parametrize("point", MESSAGES)
async def test_a_service_that_dies_over_a_message_loses_none_that_is_planned_and_sends_it_at_most_once(
    stack: Stack, system: System, mailbox: Mailbox, point: str
) -> None:
    user = f"written-{uuid4().hex[:8]}"
    now = clock.now()
    noon = f"Etc/GMT{now.hour - 12:+d}"
    contact = contact_pb2.Contact(user_id=user, email=f"{user}@example.com")
    await system.notification.UpdateContact(
        pb.UpdateContactRequest(request_id=user, contact=contact), timeout=5
    )
    database = await asyncpg.connect(stack.service_dsn("notification"))
    if point.endswith("reminders_found"):
        # The day before yesterday, and a freeze yesterday: today the streak is at stake.
        await ingest(system, event(user, "before", zone=noon, at=(now - timedelta(days=2)).timestamp()))
        await die_at(stack, point)
        await switch(system, REMINDER, on=True)
        await revive(stack, point)
    else:
        await switch(system, ACHIEVEMENT, on=True)

        async def follows() -> bool:
            return await database.fetchval("SELECT cursor FROM message_following") is not None

        await until(follows, seconds=30, what="the feed is followed for messages")
        await die_at(stack, point)
        await ingest(system, event(user, "first", zone=noon))
        if ".message." in point:
            await make_due(database, user)
        await revive(stack, point)
        await make_due(database, user)

    async def sent() -> list[message_pb2.SentMessage]:
        request = pb.ListSentMessagesRequest(user_id=user)
        return list(
            (await system.notification.ListSentMessages(request, timeout=30, wait_for_ready=True)).messages
        )

    async def is_over() -> bool:
        query = "SELECT count(*) FROM planned_messages WHERE user_id = $1"
        return bool(await sent()) and await database.fetchval(query, user) == 0

    await until(is_over, seconds=60, what="the message is over")
    (message,) = await sent()
    assert message.state == (UNKNOWN if ".message." in point else SENT)
    assert [email["To"] for email in mailbox.emails if user in email["To"]] == (
        [f"{user}@example.com"] * EMAILS.get(point, 1)
    )
    await switch(system, ACHIEVEMENT, on=False)
    await switch(system, REMINDER, on=False)
    await database.close()
