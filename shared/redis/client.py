"""Clients of Redis and Valkey, and what their failures mean to a caller."""

from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TimeoutError,
    TryAgainError,
)

from shared.errors import LaurelError, Unavailable

_AWAY: Final = (
    AskError,
    MovedError,
    RedisClusterException,
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


def create_cluster_client(
    url: str, *, client_name: str, timeout_seconds: float = 2.0, max_connections: int = 16
) -> RedisCluster:
    """A client of the cluster to which the server at redis://HOST:PORT belongs; connections open when they are first
    needed. It sends nothing twice by itself.
    """
    return RedisCluster.from_url(
        url,
        client_name=client_name,
        max_connections=max_connections,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        socket_keepalive=True,
        health_check_interval=0,
        retry=Retry(ConstantBackoff(0.01), 0),
    )


class EvictingServerError(Exception):
    """The server throws away what was written, whenever its memory is full."""


async def answers_and_keeps(client: Redis | RedisCluster) -> None:
    """A readiness check: raises unless the server answers, and keeps what is written; of a cluster every master.

    Policies named volatile-* throw away only what has a time to live, and nothing here has one.
    """
    if isinstance(client, RedisCluster):
        await client.initialize()
        told = await client.info("memory", target_nodes=client.get_primaries())
        of_each = told.values() if "maxmemory" not in told else [told]
    else:
        of_each = [await client.info("memory")]
    for memory in of_each:
        _check_kept(memory)


def _check_kept(memory: Mapping[str, Any]) -> None:
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
