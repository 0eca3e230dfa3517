"""Which server each kind of sink is at."""

from importlib.util import find_spec

from services.notification.domain.streams import NatsStream, RedisStream, Sink
from services.notification.sinks import NatsPublisher, Publisher, RedisPublisher, SinkAwayError


class Brokers:
    """The servers that the process was told of."""

    def __init__(
        self,
        redis_url: str | None,
        nats_url: str | None,
        kafka_url: str | None,
        kafka_mechanism: str,
        source: str,
        timeout_seconds: float,
    ) -> None:
        self._redis_url = redis_url
        self._nats_url = nats_url
        self._kafka_url = kafka_url
        self._kafka_mechanism = kafka_mechanism
        self._source = source
        self._timeout_seconds = timeout_seconds

    def missing(self, sink: Sink) -> str | None:
        """What a stream there would need, where there is not all of it."""
        match sink:
            case RedisStream():
                setting, url = "LAUREL_REDIS_URL", self._redis_url
            case NatsStream():
                setting, url = "LAUREL_NATS_URL", self._nats_url
            case _:
                if find_spec("aiokafka") is None:
                    return "needs aiokafka beside the notification service: pip install 'laurel[kafka]'"
                setting, url = "LAUREL_KAFKA_URL", self._kafka_url
        return None if url else f"needs {setting}, which the notification service was not given"

    def publisher(self, sink: Sink) -> Publisher:
        """What publishes there. Raises `SinkAwayError` where something is missing."""
        if missing := self.missing(sink):
            raise SinkAwayError(missing)
        match sink:
            case RedisStream():
                return RedisPublisher(self._redis_url or "", sink, self._source, self._timeout_seconds)
            case NatsStream():
                return NatsPublisher(self._nats_url or "", sink, self._source, self._timeout_seconds)
            case _:
                # Its client is an extra.
                from services.notification.kafka import KafkaPublisher, cluster_of

                cluster = cluster_of(self._kafka_url or "", self._kafka_mechanism)
                return KafkaPublisher(cluster, sink, self._source, self._timeout_seconds)
