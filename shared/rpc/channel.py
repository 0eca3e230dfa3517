"""Channels to other services, and calls over them."""

import ipaddress
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from shared.config import ConfigurationError
from shared.errors import from_rpc_error
from shared.rpc.outgoing import NONE, Credentials, ServiceChannel
from shared.rpc.tls import Material, channel_credentials
from shared.telemetry import Telemetry
from shared.telemetry.propagation import inject

Request = TypeVar("Request")
Response = TypeVar("Response")

# UNAVAILABLE alone is sent again: every mutation carries an id, so a second arrival only gets its answer.
# The throttle stops this when most attempts fail, so that retries never add to an outage.
_SERVICE_CONFIG: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2},
    }
)


def open_channel(
    targets: str, *, max_message_bytes: int, telemetry: Telemetry, credentials: Credentials = NONE
) -> grpc.aio.Channel:
    """A channel to all replicas of a service, taken in turn; connections open when they are first needed.

    `targets` is one HOST:PORT (of a name, every address counts), a list of IP:PORT with commas, or unix:PATH.
    Raises `ConfigurationError`.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A service that comes back is found within a second.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    ]
    propagation = [_PropagateUnary(), _PropagateResponses()]
    interceptors: list[Any] = propagation if telemetry.enabled else []
    address = target_of(targets)
    if credentials.server_name is not None:
        options.append(("grpc.ssl_target_name_override", credentials.server_name))

    def connect(material: Material | None) -> grpc.aio.Channel:
        if material is None:
            return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
        # Else two channels of one process share a connection, and with it the older's certificate.
        own = [*options, ("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(
            address, channel_credentials(material), options=own, interceptors=interceptors
        )

    if credentials.token is None and credentials.files is None:
        return connect(None)
    return ServiceChannel(credentials.token, credentials.files, connect)


def target_of(targets: str) -> str:
    """The name that gRPC resolves to these addresses. Raises `ConfigurationError`."""
    parts = [part.strip().replace("localhost:", "127.0.0.1:") for part in targets.split(",")]
    for part in parts:
        if part.startswith("unix:"):
            continue
        host, _, port = part.rpartition(":")
        if not host or not port.isascii() or not port.isdigit():
            within = f"{targets!r}: " if len(parts) > 1 else ""
            raise ConfigurationError([f"{within}{part!r} is not HOST:PORT"])
    versions = {_ip_version(part) for part in parts}
    if len(versions) == 1 and versions <= {4, 6}:
        return f"ipv{versions.pop()}:{','.join(parts)}"
    if len(parts) > 1:
        raise ConfigurationError(
            [f"{targets!r}: a list is of IP addresses of one version; a name stands alone"]
        )
    return parts[0] if parts[0].startswith("unix:") else f"dns:///{parts[0]}"


async def call(
    method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]", request: Request, *, timeout_seconds: float
) -> Response:
    """The response, or the `LaurelError` that the other service (or the way to it) answered with."""
    try:
        return await method(request, timeout=timeout_seconds)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


def _ip_version(address: str) -> int:
    """4 or 6; 0 for a name or a socket file."""
    try:
        return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).version
    except ValueError:
        return 0


def _with_trace(details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        method=details.method,
        timeout=details.timeout,
        metadata=grpc.aio.Metadata(*inject(details.metadata)),
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


class _PropagateUnary(grpc.aio.UnaryUnaryClientInterceptor):
    """Sends the current trace context with each call."""

    async def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(_with_trace(client_call_details), request)


class _PropagateResponses(grpc.aio.UnaryStreamClientInterceptor):
    """Sends the current trace context with each call that answers in a stream."""

    async def intercept_unary_stream(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(_with_trace(client_call_details), request)
