"""Clients of Redis and Valkey, and what their failures mean to a caller."""

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
    TryAgainError,
)

from shared.errors import LaurelError, Unavailable

_AWAY: Final = (
    ConnectionError,
    TimeoutError,
    ReadOnlyError,
    OutOfMemoryError,
    ClusterDownError,
    TryAgainError,
)


def create_client(
    url: str, *, client_name: str, timeout_seconds: float = 2.0, max_connections: int = 16
) -> Redis:
    """A client of the server at redis://HOST:PORT/DB or unix://PATH; connections open when they are first
    needed.

    A command is sent at most twice, the second time on a new connection: after a restart of the server every
    pooled one is stale. So send only what may be done twice. Callers wait for a connection, up to the
    time-out.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        client_name=client_name,
        max_connections=max_connections,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        socket_keepalive=True,
        health_check_interval=0,  # a PING before a command would cost a round trip
        retry=Retry(ConstantBackoff(0.01), 1),
    )
    return Redis.from_pool(pool)


async def answers(client: Redis) -> None:
    """A readiness check: raises unless the server answers."""
    await client.ping()


def translate(error: BaseException) -> LaurelError | None:
    """What this failure means to a caller, or None where it is a defect of ours."""
    if isinstance(error, _AWAY):
        return Unavailable("the sorted sets are not available", reason="DEPENDENCY_UNAVAILABLE")
    return None
