"""Streams over a real channel and a real database, to a real Valkey and a real NATS server (RULES 8.5)."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import nats
import pytest
from laurel.common.v1 import filter_pb2
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import stream_pb2
from nats.js.errors import NotFoundError
from redis.asyncio import Redis

from shared.clock import SystemClock
from shared.rpc.convert import to_timestamp
from tests.fixtures.nats import NatsServer, nats_running
from tests.fixtures.redis_streams import entries_of
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Feed, Service, refused

pytestmark = pytest.mark.servers

REDIS = stream_pb2.RedisStreamSink(stream="events")
NATS = stream_pb2.NatsStreamSink(stream="LAUREL", subject="laurel.events")


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_running(tmp_path) as server:
        yield server


@pytest.fixture
def settings(valkey_url: str, nats_server: NatsServer) -> dict[str, Any]:
    return {
        "redis_url": valkey_url,
        "nats_url": nats_server.url,
        "kafka_url": "kafka://127.0.0.1:1",
        "stream_timeout_seconds": 2,
    }


async def create(service: Service, key: str, *types: str, **fields: Any) -> stream_pb2.EventStream:
    stream = stream_pb2.EventStream(key=key, types=types or ("metric.recorded",), **fields)
    request = pb.CreateEventStreamRequest(request_id=str(uuid4()), stream=stream)
    return (await service.stub.CreateEventStream(request)).stream


async def get(service: Service, key: str) -> stream_pb2.EventStream:
    return (await service.stub.GetEventStream(pb.GetEventStreamRequest(key=key))).stream


async def update(service: Service, key: str, *paths: str, **fields: Any) -> stream_pb2.EventStream:
    request = pb.UpdateEventStreamRequest(
        request_id=str(uuid4()), stream=stream_pb2.EventStream(key=key, **fields)
    )
    request.update_mask.paths.extend(paths)
    return (await service.stub.UpdateEventStream(request)).stream


async def published(service: Service, key: str, count: int, *, seconds: float = 30) -> None:
    """So many have been published and noted."""

    async def are() -> bool:
        return (await get(service, key)).health.published_count >= count

    await until(are, seconds=seconds, what=f"{count} events are published to {key}")


async def in_redis(url: str) -> list[dict[str, Any]]:
    """All CloudEvents of the stream, in its order."""
    return [json.loads(fields["event"]) for fields in await entries_of(url, "events")]


async def in_nats(server: NatsServer) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """Subject, headers and CloudEvent of all messages of the stream, in its order."""
    client = await nats.connect(server.url)
    try:
        stream = client.jetstream()
        count = (await stream.stream_info("LAUREL")).state.messages
        consumer = await stream.subscribe("laurel.events.>", ordered_consumer=True)
        messages = [await consumer.next_msg(timeout=10) for _ in range(count)]
        return [
            (message.subject, dict(message.headers or {}), json.loads(message.data)) for message in messages
        ]
    finally:
        await client.close()


def of_users(events: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The entries of each user in the order in which they came first."""
    found: dict[str, dict[str, None]] = {}
    for event in events:
        found.setdefault(event["subject"], {})[event["entryid"]] = None
    return {user: list(entries) for user, entries in found.items()}


def told_of_users(feed: Feed) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for user, entry_id in feed.told:
        found.setdefault(user, []).append(str(entry_id))
    return found


async def test_redis_gets_each_event_as_a_cloud_event(service: Service, feed: Feed, valkey_url: str) -> None:
    await create(service, "bus", "*", redis=REDIS)
    (entry_id,) = await feed.tell("ada", points=10)
    await published(service, "bus", 2)
    metric, points = await in_redis(valkey_url)
    assert UUID(metric.pop("id")) != UUID(points["id"])
    assert metric.pop("time").endswith("Z")
    assert metric == {
        "specversion": "1.0",
        "source": "/laurel",
        "type": "metric.recorded",
        "datacontenttype": "application/json",
        "subject": "ada",
        "partitionkey": "ada",
        "usersequence": "1",
        "entryid": str(entry_id),
        "control": False,
        "data": {"metric": "steps", "value": 1.0, "totalBefore": 0.0, "totalAfter": 1.0, "attributes": {}},
    }
    fields, _ = await entries_of(valkey_url, "events")
    assert (fields["type"], fields["user"]) == ("metric.recorded", "ada")
    assert fields["id"] == json.loads(fields["event"])["id"]


async def test_jetstream_gets_each_event_under_its_type_with_its_id(
    service: Service, feed: Feed, nats_server: NatsServer
) -> None:
    await create(service, "bus", "*", nats=NATS)
    await feed.tell("ada", points=10)
    await published(service, "bus", 2)
    got = await in_nats(nats_server)
    assert [subject for subject, _, _ in got] == [
        "laurel.events.metric.recorded",
        "laurel.events.points.changed",
    ]
    for _, headers, event in got:
        assert headers["Nats-Msg-Id"] == event["id"]
        assert headers["Content-Type"] == "application/cloudevents+json"


async def test_every_event_comes_once_and_each_users_in_order_though_replicas_are_several(
    service: Service, feed: Feed, valkey_url: str, nats_server: NatsServer
) -> None:
    await service.start()
    await create(service, "redis", redis=REDIS)
    await create(service, "nats", nats=NATS)
    for _ in range(10):
        await feed.tell(*(f"user-{number % 20}" for number in range(60)))
    await published(service, "redis", 600)
    await published(service, "nats", 600)
    for got in (await in_redis(valkey_url), [event for _, _, event in await in_nats(nats_server)]):
        assert len(got) == 600
        assert of_users(got) == told_of_users(feed)


async def test_only_what_is_wanted_is_published(service: Service, feed: Feed, valkey_url: str) -> None:
    wanted = filter_pb2.AttributeFilter(attribute="plan", equals="pro")
    await create(service, "bus", "metric.recorded", redis=REDIS, filters=[wanted])
    await feed.tell("ada", points=5)
    await feed.tell("bob", points=5, plan="pro")
    await published(service, "bus", 1)
    assert [(one["subject"], one["type"]) for one in await in_redis(valkey_url)] == [
        ("bob", "metric.recorded")
    ]


async def test_a_broker_that_is_away_holds_up_itself_alone_and_gets_all_in_order(
    service: Service, feed: Feed, valkey_url: str, nats_server: NatsServer
) -> None:
    await create(service, "redis", redis=REDIS)
    await create(service, "nats", nats=NATS)
    await feed.tell("ada", "bob")
    await published(service, "nats", 2)
    await nats_server.kill()
    for _ in range(5):
        await feed.tell("ada", "bob", "ada")
    await published(service, "redis", 17)

    async def is_failing() -> bool:
        return (await get(service, "nats")).health.HasField("failing_since")

    await until(is_failing, seconds=30, what="its absence is noted")
    assert (await get(service, "nats")).health.failure
    assert not (await get(service, "redis")).health.HasField("failing_since")
    assert (await get(service, "nats")).health.HasField("behind_since")
    assert not (await get(service, "redis")).health.HasField("behind_since")
    await nats_server.start()
    await published(service, "nats", 17)
    assert not await is_failing()
    assert not (await get(service, "nats")).health.HasField("behind_since")
    assert of_users([event for _, _, event in await in_nats(nats_server)]) == told_of_users(feed)
    assert of_users(await in_redis(valkey_url)) == told_of_users(feed)


async def test_what_redis_does_not_take_is_published_when_it_does(
    service: Service, feed: Feed, valkey_url: str
) -> None:
    async with Redis.from_url(valkey_url) as client:
        await client.set("events", "not a stream")
        await create(service, "bus", redis=REDIS)
        await feed.tell("ada", "ada")

        async def is_failing() -> bool:
            return (await get(service, "bus")).health.failure == "ResponseError"

        await until(is_failing, seconds=30, what="the refusal is noted")
        await client.delete("events")
    await published(service, "bus", 2)
    assert of_users(await in_redis(valkey_url)) == told_of_users(feed)


async def test_a_stream_that_was_off_goes_on_where_it_was(
    service: Service, feed: Feed, valkey_url: str
) -> None:
    await create(service, "bus", redis=REDIS)
    await feed.tell("ada")
    await published(service, "bus", 1)
    assert (await update(service, "bus", "switched_off", switched_off=True)).switched_off
    await feed.tell("ada")
    await create(service, "other", redis=stream_pb2.RedisStreamSink(stream="others"), switched_off=False)
    await feed.tell("bob")
    await published(service, "other", 1)
    assert len(await in_redis(valkey_url)) == 1
    await update(service, "bus", "switched_off", switched_off=False)
    await published(service, "bus", 3)
    assert of_users(await in_redis(valkey_url)) == told_of_users(feed)


async def test_all_is_published_again_since_an_instant_and_jetstream_drops_doubles(
    service: Service, feed: Feed, valkey_url: str, nats_server: NatsServer
) -> None:
    await create(service, "redis", redis=REDIS)
    await create(service, "nats", nats=NATS)
    await feed.tell("ada", "bob")
    for key in ("redis", "nats"):
        await published(service, key, 2)
        request = pb.RewindEventStreamRequest(request_id=str(uuid4()), key=key)
        request.since_time.CopyFrom(to_timestamp(SystemClock().now() - timedelta(hours=1)))
        await service.stub.RewindEventStream(request)
        await published(service, key, 4)
    assert [one["subject"] for one in await in_redis(valkey_url)] == ["ada", "bob", "ada", "bob"]
    assert len(await in_nats(nats_server)) == 2


async def test_a_stream_of_redis_keeps_about_its_newest_entries(
    service: Service, feed: Feed, valkey_url: str
) -> None:
    await create(service, "bus", redis=stream_pb2.RedisStreamSink(stream="events", max_length=1))
    for _ in range(4):
        await feed.tell(*(["ada"] * 100))
    await published(service, "bus", 400)
    assert len(await in_redis(valkey_url)) < 300


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"key": "No", "redis": REDIS}, "stream.key"),
        ({"types": ["webhook.endpoint_switched_off"], "redis": REDIS}, "stream.types[0]"),
        ({"types": ["streak.invented"], "redis": REDIS}, "stream.types[0]"),
        ({"types": [], "redis": REDIS}, "stream.types"),
        ({}, "stream.sink"),
        ({"redis": stream_pb2.RedisStreamSink(stream="laurel:{b}")}, "stream.redis.stream"),
        ({"redis": stream_pb2.RedisStreamSink(stream="a", max_length=-1)}, "stream.redis.max_length"),
        ({"nats": stream_pb2.NatsStreamSink(stream="a.b", subject="a")}, "stream.nats.stream"),
        ({"nats": stream_pb2.NatsStreamSink(stream="a", subject="a.>")}, "stream.nats.subject"),
        ({"kafka": stream_pb2.KafkaTopicSink(topic="a b")}, "stream.kafka.topic"),
        ({"kafka": stream_pb2.KafkaTopicSink(topic="..")}, "stream.kafka.topic"),
    ],
)
async def test_what_is_wrong_with_a_stream_is_named(
    service: Service, fields: dict[str, Any], place: str
) -> None:
    stream = stream_pb2.EventStream(**{"key": "bus", "types": ["*"], **fields})
    request = pb.CreateEventStreamRequest(request_id=str(uuid4()), stream=stream)
    error = await refused(service.stub.CreateEventStream(request))
    assert [violation.field for violation in error.violations] == [place]


async def test_a_stream_is_created_once_listed_and_deleted(service: Service, nats_server: NatsServer) -> None:
    stream = stream_pb2.EventStream(key="bus", types=["*"], nats=NATS, description="for the others")
    request = pb.CreateEventStreamRequest(request_id="one", stream=stream)
    created = await service.stub.CreateEventStream(request)
    assert await service.stub.CreateEventStream(request) == created
    request.request_id = "another"
    assert (await refused(service.stub.CreateEventStream(request))).reason == "EVENT_STREAM_EXISTS"
    await create(service, "other", redis=REDIS)
    listed = await service.stub.ListEventStreams(pb.ListEventStreamsRequest(page_size=1))
    assert [one.key for one in listed.streams] == ["bus"]
    following = pb.ListEventStreamsRequest(page_size=1, page_token=listed.next_page_token)
    assert [one.key for one in (await service.stub.ListEventStreams(following)).streams] == ["other"]
    changed = pb.UpdateEventStreamRequest(
        request_id=str(uuid4()), stream=stream_pb2.EventStream(key="bus", redis=REDIS)
    )
    error = await refused(service.stub.UpdateEventStream(changed))
    assert [violation.field for violation in error.violations] == ["stream.sink"]
    await service.stub.DeleteEventStream(pb.DeleteEventStreamRequest(request_id=str(uuid4()), key="bus"))
    error = await refused(service.stub.GetEventStream(pb.GetEventStreamRequest(key="bus")))
    assert error.reason == "EVENT_STREAM_NOT_FOUND"
    client = await nats.connect(nats_server.url)
    with pytest.raises(NotFoundError):
        await client.jetstream().stream_info("LAUREL")  # nothing was told, so none was made
    await client.close()


async def test_there_are_only_so_many_streams(service: Service) -> None:
    for number in range(20):
        await create(service, f"s{number}", redis=REDIS, switched_off=True)
    stream = stream_pb2.EventStream(key="more", types=["*"], redis=REDIS)
    request = pb.CreateEventStreamRequest(request_id=str(uuid4()), stream=stream)
    assert (await refused(service.stub.CreateEventStream(request))).reason == "TOO_MANY_EVENT_STREAMS"


class TestWithoutBrokers:
    """A service that was told of no server."""

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {}

    @pytest.mark.parametrize(
        ("fields", "setting"),
        [
            ({"redis": REDIS}, "LAUREL_REDIS_URL"),
            ({"nats": NATS}, "LAUREL_NATS_URL"),
            ({"kafka": stream_pb2.KafkaTopicSink(topic="events")}, "LAUREL_KAFKA_URL"),
        ],
    )
    async def test_a_stream_without_a_server_is_refused_with_the_setting(
        self, service: Service, fields: dict[str, Any], setting: str
    ) -> None:
        stream = stream_pb2.EventStream(key="bus", types=["*"], **fields)
        request = pb.CreateEventStreamRequest(request_id=str(uuid4()), stream=stream)
        (violation,) = (await refused(service.stub.CreateEventStream(request))).violations
        assert violation.field in ("stream.redis", "stream.nats", "stream.kafka")
        assert setting in violation.description
