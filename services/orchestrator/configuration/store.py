"""Writes of definitions that are decided, until every owner has its part."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from laurel.participant.v1 import definition_service_pb2 as pb
from msgspec import Struct

from shared.postgres.locks import lock_key
from shared.postgres.pool import Connection, Pool

LOCK: Final = lock_key("configuration", "definitions")
"""Held by whoever checks, decides or finishes a write of definitions."""

METRIC_IN_USE: Final = "SELECT EXISTS (SELECT FROM entries WHERE metric = $1)"

_DECIDE: Final = """
    INSERT INTO definition_writes (write_id, owner, request, create_time)
    SELECT $1::uuid, owner, request, $4::timestamptz
      FROM unnest($2::text[], $3::bytea[]) AS parts (owner, request)
"""
_UNFINISHED: Final = """
    SELECT write_id, owner, request FROM definition_writes WHERE finish_time IS NULL ORDER BY create_time, write_id
"""
_FINISH: Final = """
    UPDATE definition_writes SET finish_time = clock_timestamp() WHERE write_id = $1 AND owner = $2
"""
_ANY_UNFINISHED: Final = "SELECT EXISTS (SELECT FROM definition_writes WHERE finish_time IS NULL)"


class Part(Struct, frozen=True):
    """What one owner has to write."""

    write_id: UUID
    owner: str
    request: pb.WriteDefinitionsRequest


async def decide(
    connection: Connection, write_id: UUID, requests: Mapping[str, pb.WriteDefinitionsRequest], now: datetime
) -> None:
    """Make durable what is to be written. From here on it will be."""
    bodies = [request.SerializeToString(deterministic=True) for request in requests.values()]
    await connection.execute(_DECIDE, write_id, list(requests), bodies, now)


async def unfinished(connection: Connection) -> list[Part]:
    """What is decided and not yet written."""
    return [
        Part(row["write_id"], row["owner"], pb.WriteDefinitionsRequest.FromString(row["request"]))
        for row in await connection.fetch(_UNFINISHED)
    ]


async def finish(connection: Connection, part: Part) -> None:
    """Note that the owner has written its part."""
    await connection.execute(_FINISH, part.write_id, part.owner)


async def any_unfinished(pool: Pool) -> bool:
    """Whether anything is decided and not yet written."""
    found: bool = await pool.fetchval(_ANY_UNFINISHED)
    return found
