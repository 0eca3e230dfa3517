"""Kafka, which streams are published to, where its client is installed: `aiokafka` is an extra (`laurel[kafka]`)."""

import asyncio
from collections.abc import Sequence
from ssl import create_default_context
from typing import Final
from urllib.parse import unquote, urlsplit

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from services.notification.domain.events import Event
from services.notification.domain.streams import CONTENT_TYPE, KafkaTopic, partition_key, waves
from services.notification.sinks import SinkAwayError, body_of, reason_of

_CLOSE_SECONDS: Final = 1.0
_HEADERS: Final = [("content-type", CONTENT_TYPE.encode())]


class Cluster(Struct, frozen=True):
    """Where brokers are, and as whom they know the publisher."""

    servers: str
    encrypted: bool
    user: str
    password: str
    mechanism: str

    @property
    def protocol(self) -> str:
        """As Kafka calls it."""
        return ("SASL_" if self.user else "") + ("SSL" if self.encrypted else "PLAINTEXT")


def cluster_of(url: str, mechanism: str) -> Cluster:
    """What a URL says: kafka://USER:PASSWORD@HOST:9092,HOST:9092, or kafkas:// for TLS."""
    parts = urlsplit(url)
    known, _, servers = parts.netloc.rpartition("@")
    user, _, password = known.partition(":")
    return Cluster(servers, parts.scheme == "kafkas", unquote(user), unquote(password), mechanism)


class KafkaPublisher:
    """Publishes to a topic. The user is the key, so that each user's events are in one partition, in order."""

    def __init__(self, cluster: Cluster, sink: KafkaTopic, source: str, timeout_seconds: float) -> None:
        self._cluster = cluster
        self._sink = sink
        self._source = source
        self._timeout_seconds = timeout_seconds
        self._producer: AIOKafkaProducer | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    async def publish(self, events: Sequence[Event]) -> None:
        """Many users' events at once, each user's one after the other."""
        if not events:
            return
        try:
            async with asyncio.timeout(self._timeout_seconds):
                producer = await self._started()
            for wave in waves(events):
                async with asyncio.timeout(self._timeout_seconds):
                    await self._send(producer, wave)
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise SinkAwayError(reason_of(error)) from error

    async def close(self) -> None:
        """Close the connections. What is under way is left to itself: it comes, as a double, or its time runs out."""
        producer, self._producer = self._producer, None
        if producer is not None:
            stopping = asyncio.create_task(producer.stop())
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopped)
            await asyncio.wait([stopping], timeout=_CLOSE_SECONDS)

    def _stopped(self, stopping: asyncio.Task[None]) -> None:
        self._stopping.discard(stopping)
        if not stopping.cancelled():
            stopping.exception()  # whoever publishes has heard of it

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            cluster = self._cluster
            # Not idempotent: such a producer gives up nothing for as long as the brokers are away (docs/adr/0026).
            self._producer = AIOKafkaProducer(
                bootstrap_servers=cluster.servers,
                client_id="laurel-notification",
                acks="all",
                request_timeout_ms=round(self._timeout_seconds * 1_000),
                security_protocol=cluster.protocol,
                ssl_context=create_default_context() if cluster.encrypted else None,
                sasl_mechanism=cluster.mechanism if cluster.user else "PLAIN",
                sasl_plain_username=cluster.user or None,
                sasl_plain_password=cluster.password or None,
            )
            await self._producer.start()
        return self._producer

    async def _send(self, producer: AIOKafkaProducer, wave: Sequence[Event]) -> None:
        """Returns when all of it is acknowledged by all replicas that are in step."""
        sent = [
            await producer.send(
                self._sink.topic,
                body_of(event, self._source),
                key=partition_key(event).encode() or None,
                headers=_HEADERS,
            )
            for event in wave
        ]
        await asyncio.gather(*sent)
