"""Streams to a real broker of Kafka (RULES 8.5), where there is one: `make kafka`."""

import json
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from laurel.notification.v1 import stream_pb2

from services.notification.brokers import Brokers
from services.notification.domain.events import Event
from services.notification.domain.streams import KafkaTopic
from services.notification.sinks import SinkAwayError
from shared.clock import SystemClock
from tests.fixtures.guides import printing, program
from tests.fixtures.kafka import PARTITIONS, KafkaServer, kafka_running
from tests.fixtures.redis_streams import entries_of
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Feed, Service
from tests.service.notification.test_streams import create, get, of_users, published, told_of_users
from tests.service.notification.test_streams_guide import printed

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]

KAFKA = stream_pb2.KafkaTopicSink(topic="laurel-events")
REDIS = stream_pb2.RedisStreamSink(stream="events")
PLACES = [TopicPartition(KAFKA.topic, number) for number in range(PARTITIONS)]
SECONDS = 120
"""A broker that has just begun makes its first topic slowly, on a busy machine."""


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[KafkaServer]:
    async with kafka_running(tmp_path) as server:
        yield server


@pytest.fixture
def settings(valkey_url: str, kafka: KafkaServer) -> dict[str, Any]:
    return {"redis_url": valkey_url, "kafka_url": kafka.known_url, "stream_timeout_seconds": 10}


async def in_kafka(server: KafkaServer) -> list[ConsumerRecord]:
    """All records of the topic, of each partition in its order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=server.servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(PLACES)
        ends = await consumer.end_offsets(PLACES)
        records: list[ConsumerRecord] = []
        while any([await consumer.position(place) < ends[place] for place in PLACES]):
            for page in (await consumer.getmany(timeout_ms=1_000)).values():
                records.extend(page)
        return records
    finally:
        await consumer.stop()


async def acknowledged(server: KafkaServer, count: int) -> bool:
    """Whether the group of the guide has acknowledged so many."""
    consumer = AIOKafkaConsumer(bootstrap_servers=server.servers, group_id="crm", enable_auto_commit=False)
    await consumer.start()
    try:
        return sum([await consumer.committed(place) or 0 for place in PLACES]) == count
    finally:
        await consumer.stop()


def event_of(told: dict[str, Any]) -> Event:
    """An event like one that was told."""
    envelope = {
        "timestamp": told["time"],
        "userSequence": told["usersequence"],
        "entryId": told["entryid"],
        "control": False,
    }
    return Event(
        event_id=UUID(told["id"]),
        type=told["type"],
        user_id=told["subject"],
        subject="",
        time=SystemClock().now(),
        attributes={},
        envelope=envelope,
        data=told["data"],
    )


async def test_kafka_gets_each_event_with_its_user_as_key_and_gets_in_order_what_was_told_while_it_was_away(
    service: Service, feed: Feed, valkey_url: str, kafka: KafkaServer
) -> None:
    await create(service, "kafka", "*", kafka=KAFKA)
    await create(service, "redis", "*", redis=REDIS)
    (entry_id,) = await feed.tell("ada", points=10)
    await published(service, "kafka", 2, seconds=SECONDS)
    metric, points = await in_kafka(kafka)
    assert (metric.key, points.key) == (b"ada", b"ada")
    assert metric.partition == points.partition
    assert dict(metric.headers) == {"content-type": b"application/cloudevents+json"}
    event = json.loads(metric.value)
    assert (event["type"], event["subject"], event["entryid"]) == ("metric.recorded", "ada", str(entry_id))

    for _ in range(5):
        await feed.tell(*(f"user-{number % 20}" for number in range(60)))
    await published(service, "kafka", 302, seconds=SECONDS)
    await kafka.kill()
    for _ in range(5):
        await feed.tell("ada", "bob", "ada")
    await published(service, "redis", 317)

    async def is_failing() -> bool:
        return (await get(service, "kafka")).health.HasField("failing_since")

    await until(is_failing, seconds=SECONDS, what="its absence is noted")
    assert not (await get(service, "redis")).health.HasField("failing_since")
    await kafka.start()
    await published(service, "kafka", 317, seconds=SECONDS)

    async def has_recovered() -> bool:
        return not await is_failing()

    await until(has_recovered, seconds=SECONDS, what="its return is noted")
    told = [json.loads(record.value) for record in await in_kafka(kafka)]
    assert of_users([event for event in told if event["type"] == "metric.recorded"]) == told_of_users(feed)
    heard = {json.loads(fields["event"])["id"] for fields in await entries_of(valkey_url, "events")}
    assert {event["id"] for event in told} == heard

    wrong = Brokers(None, None, kafka.known_url.replace("laurel:", "stranger:"), "PLAIN", "/laurel", 5)
    stranger = wrong.publisher(KafkaTopic(KAFKA.topic))
    with pytest.raises(SinkAwayError, match=r"^[A-Za-z]+$"):
        await stranger.publish([event_of(told[0])])
    await stranger.close()
    plain = Brokers(None, None, kafka.known_url, "PLAIN", "/laurel", 10).publisher(KafkaTopic(KAFKA.topic))
    await plain.publish([event_of(told[0])])
    await plain.close()
    assert len(await in_kafka(kafka)) == len(told) + 1


async def test_the_guides_consumer_of_kafka_prints_each_event_and_goes_on_where_it_was(
    service: Service, feed: Feed, kafka: KafkaServer
) -> None:
    await create(service, "crm", "*", kafka=KAFKA)
    await feed.tell("ada", points=5)
    await published(service, "crm", 2, seconds=SECONDS)
    command = sys.executable, "-c", program("streams.md", "python kafka")
    async with printing(*command, environment={"KAFKA_SERVERS": kafka.servers}) as output:
        assert await printed(output, 2, seconds=SECONDS) == ["metric.recorded ada", "points.changed ada"]
        await until(partial(acknowledged, kafka, 2), seconds=SECONDS, what="all is acknowledged")
    await feed.tell("cyd", "dan")
    async with printing(*command, environment={"KAFKA_SERVERS": kafka.servers}) as output:
        assert sorted(await printed(output, 2, seconds=SECONDS)) == [
            "metric.recorded cyd",
            "metric.recorded dan",
        ]
