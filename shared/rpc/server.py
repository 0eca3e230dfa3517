"""The life of a service: bind, become ready, serve, drain, close."""

import asyncio
import gc
import ipaddress
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from msgspec import Struct, field

from shared import faults
from shared.config import ConfigurationError, Settings
from shared.rpc.access import Gate, Keys, gate
from shared.rpc.boundary import Boundary, Limits, Translator
from shared.rpc.channel import open_channel
from shared.rpc.keys import CachedKeys, asking
from shared.rpc.outgoing import credentials
from shared.rpc.readiness import Check, Readiness
from shared.rpc.record import Recorder
from shared.rpc.supervisor import Supervisor, Work
from shared.rpc.tls import certificates, server_credentials
from shared.telemetry import Telemetry, off

_LOGGER: Final = logging.getLogger(__name__)
_CLOSE_TIMEOUT_SECONDS: Final = 5.0
_LEAST_STREAMS: Final = 100
"""Under way on one connection, as HTTP/2 recommends."""
_NEW_OBJECTS_PER_COLLECTION: Final = 50_000
"""A group of 256 events makes tens of thousands of objects, none of them in cycles. At Python's own 700 a fifth of a
loaded process's time went into looking through them."""


class Servicer(Struct, frozen=True):
    """One gRPC service: what the generated code registers it with, who serves it, and its full name."""

    add: Callable[[Any, grpc.aio.Server], None]
    servicer: object
    full_name: str
    """Such as laurel.streak.v1.StreakService; `pb2.DESCRIPTOR.services_by_name["StreakService"].full_name`.
    """


class Application(Struct, frozen=True):
    """Everything that makes up a process, put together by a service's server.py."""

    name: str
    """The service, such as "streak"; errors come in the name of `<name>.laurel`."""
    servicers: Sequence[Servicer]
    checks: Mapping[str, Check] = field(default_factory=dict)
    """What has to be so to serve; each raises while it is not."""
    background: Mapping[str, Work] = field(default_factory=dict)
    """What runs beside the calls; started when the process is up, started again when it crashes."""
    drain: Sequence[Callable[[], None]] = ()
    """What to tell that no new calls will come: streams without an end come to one."""
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    """What to close at the end, in this order."""
    translators: Sequence[Translator] = ()
    """What failures of its dependencies mean, such as `shared.postgres.errors.translate`."""
    keys: Keys | None = None
    """Who knows the keys that callers show; None: the orchestrator is asked."""
    telemetry: Telemetry = field(default_factory=off)


class Running(Struct, frozen=True):
    """A server that accepts calls."""

    port: int
    readiness: Readiness
    boundary: Boundary


async def serve(application: Application, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully. Raises `ConfigurationError` where it cannot
    listen.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(application, settings) as server:
            leave_startup_to_itself()
            _LOGGER.info("listening", extra={"address": settings.listen, "port": server.port})
            await stop.wait()
            _LOGGER.info("draining", extra={"in_flight": server.boundary.in_flight})
        _LOGGER.info("stopped")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def leave_startup_to_itself() -> None:
    """What is there now stays for good: the garbage collector need not look at it, nor at the rest so often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS_PER_COLLECTION)


@asynccontextmanager
async def running(application: Application, settings: Settings) -> AsyncIterator[Running]:
    """The application, serving inside the block; leaving the block stops it gracefully.

    NOT_SERVING first; then no new calls, and those in progress get `drain_grace_seconds`; then background
    work is cancelled; then pools are closed. Crash points of `LAUREL_FAULTS` are armed.
    """
    supervisor = Supervisor()
    names = [servicer.full_name for servicer in application.servicers]
    keys, leave = _keys(application, settings)
    rates = None
    if keys is not None:
        # Who has no keys has no limits: the client of Valkey takes a quarter of a second to import.
        from shared.redis.rate_limits import rate_limits

        rates = rate_limits(settings, application.telemetry)
    door = gate(settings, names, keys, rates)
    _check_address(settings, door)
    readiness = Readiness(application.checks, names)
    boundary = Boundary(
        domain=f"{application.name}.laurel",
        gate=door,
        limits=Limits(
            settings.max_concurrent_rpcs, settings.max_held_bytes, settings.default_deadline_seconds
        ),
        translators=application.translators,
        recorder=Recorder(application.telemetry),
    )
    try:
        faults.arm(os.environ.get(faults.ENVIRONMENT_VARIABLE, ""))
        await readiness.refuse()
        server = _server(application, settings, boundary, readiness)
        port = _bind(server, settings)
        await server.start()
        try:
            for name, work in application.background.items():
                supervisor.start(name, work)
            supervisor.start("readiness", readiness.run)
            yield Running(port, readiness, boundary)
        finally:
            await readiness.shut_down()
            for tell in (boundary.end_turns, *application.drain):
                tell()
            await server.stop(settings.drain_grace_seconds)
    finally:
        await supervisor.stop()
        counting = () if rates is None else (rates.close,)
        await _close([*application.close, *leave, *counting], application.telemetry)


def _keys(
    application: Application, settings: Settings
) -> tuple[Keys | None, Sequence[Callable[[], Awaitable[None]]]]:
    """Who knows the keys of callers, the process itself or the orchestrator, and what to close at the end."""
    if application.keys is not None or not (settings.service_tokens or settings.service_names):
        return application.keys, ()
    channel = open_channel(
        settings.orchestrator_target,
        max_message_bytes=settings.max_message_bytes,
        telemetry=application.telemetry,
        credentials=credentials(settings),
    )
    return CachedKeys(asking(channel), grace_seconds=settings.key_grace_seconds), (channel.close,)


def _server(
    application: Application, settings: Settings, boundary: Boundary, readiness: Readiness
) -> grpc.aio.Server:
    server = grpc.aio.server(interceptors=[boundary], options=_options(settings))
    for servicer in application.servicers:
        servicer.add(servicer.servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(readiness.servicer, server)
    names = [servicer.full_name for servicer in application.servicers]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return server


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # two processes on one port is a mistake to be told of
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # What one connection has too much waits in its caller, which costs nothing here; a refusal costs an RPC.
        ("grpc.max_concurrent_streams", max(_LEAST_STREAMS, settings.max_concurrent_rpcs)),
        # A stream counts until its call is forgotten here: in a storm of calls the transport would reset one that its
        # caller was entitled to, and whoever is refused is to hear why.
        ("grpc.http.overload_protection", 0),
        ("grpc.server.max_pending_requests", 20_000),
        ("grpc.server.max_pending_requests_hard_limit", 40_000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ]


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    """The port that was taken (1 for a socket file)."""
    files = certificates(settings)
    try:
        if files is None or settings.tls_certificate_file is None:
            return server.add_insecure_port(settings.listen)
        secure = server_credentials(files, require_client=settings.tls_require_client_certificate)
        return server.add_secure_port(settings.listen, secure)
    except RuntimeError as error:
        raise ConfigurationError(
            [f"LAUREL_LISTEN={settings.listen!r}: cannot listen there: {error}"]
        ) from error


def _check_address(settings: Settings, door: Gate) -> None:
    """Without credentials there is loopback and nothing else, unless that is said to be meant (RULES 9.1).

    Raises `ConfigurationError`.
    """
    if _is_loopback(settings.listen):
        if door.is_open:
            _LOGGER.info(
                "no credential is configured: whoever reaches this loopback address may call everything"
            )
        return
    problems = []
    if settings.tls_certificate_file is None and not settings.tls_off:
        problems.append("needs LAUREL_TLS_CERTIFICATE_FILE and LAUREL_TLS_KEY_FILE, or LAUREL_TLS_OFF=true")
    if door.is_open and not settings.keys_off:
        problems.append("needs LAUREL_SERVICE_TOKEN or LAUREL_TLS_SERVICE_NAMES, or LAUREL_KEYS_OFF=true")
    if problems:
        where = f"LAUREL_LISTEN={settings.listen!r} is not loopback: it"
        raise ConfigurationError([f"{where} {problem}" for problem in problems])
    if door.is_open:
        _LOGGER.warning("no credential is configured, as was said to be meant: anybody may call everything")


def _is_loopback(address: str) -> bool:
    """Whether only this machine reaches it. Another name than localhost may be anything."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _close(parts: Sequence[Callable[[], Awaitable[None]]], telemetry: Telemetry) -> None:
    """Close everything, also where closing one thing fails or hangs."""
    for close in parts:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS):
                await close()
        except Exception:
            _LOGGER.exception("closing failed")
    await asyncio.to_thread(telemetry.shutdown)
