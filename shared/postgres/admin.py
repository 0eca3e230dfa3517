"""What was done by hand: who, when, from where, what changed, why (RULES 9.4)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from laurel.common.v1 import configuration_pb2
from msgspec import Struct

from shared.postgres.pool import Connection, Pool

_RECORD: Final = """
    INSERT INTO admin_operations (create_time, method, subject, actor, peer, reason, fields)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_COLUMNS: Final = "sequence, create_time, method, subject, actor, peer, reason, fields"
_LIST: Final = f"""
    SELECT {_COLUMNS} FROM admin_operations WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2
"""
_LIST_OF: Final = f"""
    SELECT {_COLUMNS} FROM admin_operations WHERE subject = $3 AND sequence < $1 ORDER BY sequence DESC LIMIT $2
"""


class Asking(Struct, frozen=True):
    """Who asks for something, from where, and why."""

    actor: str = ""
    peer: str = ""
    reason: str = ""


class AdminOperation(Struct, frozen=True):
    """One thing that was done."""

    sequence: int
    create_time: datetime
    method: str
    subject: str
    actor: str
    peer: str
    reason: str
    fields: Sequence[bytes]
    """`laurel.common.v1.FieldChange`, serialized."""


async def record(
    connection: Connection,
    method: str,
    subject: str,
    asking: Asking,
    now: datetime,
    fields: Sequence[configuration_pb2.FieldChange] = (),
) -> None:
    """Keeps what is done, in the transaction that does it."""
    changes = [field.SerializeToString() for field in fields]
    await connection.execute(_RECORD, now, method, subject, asking.actor, asking.peer, asking.reason, changes)


async def list_newest(pool: Pool, before: int, limit: int, subject: str) -> list[AdminOperation]:
    """What was done before a place, newest first; to one subject or ("") to any."""
    if subject:
        rows = await pool.fetch(_LIST_OF, before, limit, subject)
    else:
        rows = await pool.fetch(_LIST, before, limit)
    return [AdminOperation(**dict(row)) for row in rows]
