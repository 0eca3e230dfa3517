"""The promise of `request_id` (RULES 2.4): sent again, a mutation gives its first reply and does nothing.

Every service's migrations create

    CREATE TABLE mutation_log (
        method      text COLLATE "C" NOT NULL,
        request_id  text COLLATE "C" NOT NULL,
        digest      bytea NOT NULL,
        response    bytea NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (method, request_id)
    )
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from shared.errors import AlreadyExists
from shared.postgres.pool import Connection

# The claim is also the lock: a concurrent twin waits here until this transaction has ended.
_CLAIM: Final = """
    INSERT INTO mutation_log (method, request_id, digest, response, create_time)
    VALUES ($1, $2, $3, '', $4)
        ON CONFLICT (method, request_id) DO NOTHING
    RETURNING true
"""
_RECORD: Final = "UPDATE mutation_log SET response = $3 WHERE method = $1 AND request_id = $2"
_RECALL: Final = "SELECT digest, response FROM mutation_log WHERE method = $1 AND request_id = $2"


async def once(
    connection: Connection,
    method: str,
    request_id: str,
    digest: bytes,
    now: datetime,
    work: Callable[[], Awaitable[bytes]],
) -> bytes:
    """The reply of `work`, which runs once for each (method, request id); later ones get the same bytes.

    Call it first in a READ COMMITTED transaction and do the work on the same connection: effect and record
    are one. What `work` raises rolls both back, so a failure is not remembered. Raises `AlreadyExists`
    (`REQUEST_ID_REUSED`) when the request id came before with another digest.
    """
    if await connection.fetchval(_CLAIM, method, request_id, digest, now):
        response = await work()
        await connection.execute(_RECORD, method, request_id, response)
        return response
    first_response = await recall(connection, method, request_id, digest)
    assert first_response is not None  # the claim met its row
    return first_response


async def recall(connection: Connection, method: str, request_id: str, digest: bytes) -> bytes | None:
    """The first reply to a mutation; None where it never came. Raises `AlreadyExists` as `once` does."""
    earlier = await connection.fetchrow(_RECALL, method, request_id)
    if earlier is None:
        return None
    if earlier["digest"] != digest:
        raise AlreadyExists(
            "the request id was used before with other content",
            reason="REQUEST_ID_REUSED",
            metadata={"request_id": request_id, "method": method},
        )
    first_response: bytes = earlier["response"]
    return first_response
