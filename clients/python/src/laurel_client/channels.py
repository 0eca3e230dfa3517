"""Channels that know how Laurel wants to be called."""

import json
import os
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from laurel_client import asynchronous, blocking

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
"""Of a call with one response that has no `timeout` of its own; all its attempts together."""
KEY_VARIABLE: Final = "LAUREL_API_KEY"
"""Where the key stands that a channel shows, unless it is given one."""
AUTHORITY_VARIABLE: Final = "LAUREL_TLS_CA_FILE"
"""Where the file stands whose authorities a channel believes, in PEM, unless it is given credentials."""
MAX_ATTEMPTS: Final = 5
"""How often a call is sent at most."""

_MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024

# UNAVAILABLE alone: nothing definite was decided, and the key makes a second arrival harmless. Anything else is an
# answer. gRPC draws each wait at random up to the backoff. The throttle stops this when most attempts fail, so that
# retries never add to an outage.
_SERVICE_CONFIG: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": MAX_ATTEMPTS,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2},
    }
)
_OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A service that comes back is found within seconds, however long it was away; gRPC's own limit is two minutes.
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


def channel(
    target: str,
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    credentials: grpc.ChannelCredentials | None = None,
    key: str | None = None,
) -> grpc.Channel:
    """A channel for blocking stubs. It connects when it is first used; close it, or use it as a context manager.

    `target` is HOST:PORT (of a name, every address is used in turn), or anything else that gRPC resolves. Without
    `credentials` the authorities in the file that LAUREL_TLS_CA_FILE names are believed; where it names none, nothing
    is encrypted. `key` is shown with each call, as `laurel keys create` prints it; unset, the one in the variable
    LAUREL_API_KEY, if there is one.
    """
    credentials = credentials or _believed()
    opened = (
        grpc.insecure_channel(target, _OPTIONS)
        if credentials is None
        else grpc.secure_channel(target, credentials, _OPTIONS)
    )
    return grpc.intercept_channel(opened, blocking.Interceptor(timeout_seconds, _shown(key)))


def aio_channel(
    target: str,
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    credentials: grpc.ChannelCredentials | None = None,
    key: str | None = None,
) -> grpc.aio.Channel:
    """As `channel`, for stubs whose calls are awaited."""
    credentials = credentials or _believed()
    interceptors = asynchronous.interceptors(timeout_seconds, _shown(key))
    if credentials is None:
        return grpc.aio.insecure_channel(target, _OPTIONS, interceptors=interceptors)
    return grpc.aio.secure_channel(target, credentials, _OPTIONS, interceptors=interceptors)


def _believed() -> grpc.ChannelCredentials | None:
    """Raises `OSError` where the file cannot be read."""
    file = os.environ.get(AUTHORITY_VARIABLE)
    return grpc.ssl_channel_credentials(Path(file).read_bytes()) if file else None


def _shown(key: str | None) -> list[tuple[str, str]]:
    """The metadata of every call."""
    credential = os.environ.get(KEY_VARIABLE, "") if key is None else key
    return [("authorization", f"Bearer {credential}")] if credential else []
