"""Whether a service answers SERVING to the standard health check (grpc.health.v1)."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

CHECK_TIMEOUT_SECONDS = 2.0
POLL_SECONDS = 0.1

# A connection of its own, straight to the address, retried as often as we ask.
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)


def is_serving(address: str, credentials: grpc.ChannelCredentials | None = None, name: str = "") -> bool:
    """Ask once; a service that is away or slow is not serving. `credentials`: of one that encrypts; `name`: which its
    certificate is for, where the address is another.
    """
    with _channel(address, credentials, name) as channel:
        return _check(channel) == "SERVING"


def await_serving(
    address: str,
    deadline: float,
    is_alive: Callable[[], bool],
    credentials: grpc.ChannelCredentials | None = None,
) -> str:
    """Ask until the service serves, its process has ended, or the deadline (`time.monotonic`) has passed.

    Returns the last answer: `SERVING`, another health status, or the code of a failed call.
    """
    with _channel(address, credentials) as channel:
        while True:
            answer = _check(channel)
            if answer == "SERVING" or not is_alive() or time.monotonic() >= deadline:
                return answer
            time.sleep(POLL_SECONDS)


def own_credentials(environment: Mapping[str, str]) -> grpc.ChannelCredentials | None:
    """What a container shows when it asks itself, by its own settings; None: it does not encrypt. Raises `OSError`."""
    certificate = environment.get("LAUREL_TLS_CERTIFICATE_FILE")
    if not certificate:
        return None
    authorities = environment.get("LAUREL_TLS_CA_FILE", certificate)
    key = environment.get("LAUREL_TLS_KEY_FILE", "")
    return grpc.ssl_channel_credentials(
        *(Path(file).read_bytes() for file in (authorities, key, certificate))
    )


def _channel(
    address: str, credentials: grpc.ChannelCredentials | None = None, name: str = ""
) -> grpc.Channel:
    if credentials is None:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    named = (("grpc.ssl_target_name_override", name),) if name else ()
    return grpc.secure_channel(address, credentials, options=(*CHANNEL_OPTIONS, *named))


def _check(channel: grpc.Channel) -> str:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = check(health_pb2.HealthCheckRequest(), timeout=CHECK_TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        return str(error.code().name)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


if __name__ == "__main__":
    # For the health checks of containers: python -m deploy.local.health HOST:PORT [NAME IN THE CERTIFICATE]
    asked, certified = sys.argv[1], "".join(sys.argv[2:])
    raise SystemExit(0 if is_serving(asked, own_credentials(os.environ), certified) else 1)
