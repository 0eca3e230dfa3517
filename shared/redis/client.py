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


class EvictingServerError(Exception):
    """The server throws away what was written, whenever its memory is full."""


async def answers_and_keeps(client: Redis) -> None:
    """A readiness check: raises unless the server answers, and keeps what is written.

    Policies named volatile-* throw away only what has a time to live, and nothing here has one.
    """
    memory = await client.info("memory")
    policy, limit = memory.get("maxmemory_policy", ""), memory.get("maxmemory", 0)
    if limit and policy.startswith("allkeys-"):
        raise EvictingServerError(
            f"the server at LAUREL_REDIS_URL evicts keys (maxmemory-policy {policy}, maxmemory {limit}): set "
            "maxmemory-policy to noeviction, or to a policy named volatile-*"
        )


def translate(error: BaseException) -> LaurelError | None:
    """What this failure means to a caller, or None where it is a defect of ours."""
    if isinstance(error, _AWAY):
        return Unavailable("the sorted sets are not available", reason="DEPENDENCY_UNAVAILABLE")
    return None
