"""What every change of a definition has in common."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
from google.protobuf.message import Message
from laurel.common.v1.configuration_pb2 import FieldChange

from services.notification import convert
from services.notification.feed import FeedReader
from shared.errors import InvalidArgument, Violations
from shared.postgres import admin
from shared.postgres.errors import is_conflict
from shared.postgres.mutations import once
from shared.postgres.pool import Connection, Pool
from shared.rpc.admin import asking
from shared.rpc.convert import digest_of

_ATTEMPTS: Final = 3


async def mutate(
    pool: Pool,
    method: str,
    request: Any,
    now: datetime,
    work: Callable[[Connection], Any],
    response: Message,
) -> None:
    """Do `work` in a transaction, once for its request id, and fill in the reply.

    Whoever delivers locks in an order of its own, so a deletion may be the one that a deadlock ends: it is tried again.
    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            async with pool.acquire() as connection, connection.transaction():

                async def serialized(connection: Connection = connection) -> bytes:
                    done: Message = await work(connection)
                    return done.SerializeToString()

                body = await once(connection, method, request.request_id, digest_of(request), now, serialized)
            response.ParseFromString(body)
            return
        except asyncpg.PostgresError as error:
            if not left or not is_conflict(error):
                raise


async def note(
    connection: Connection, method: str, subject: str, now: datetime, fields: Sequence[FieldChange] = ()
) -> None:
    """Keep that it was done by hand, and by whom, in the transaction that does it (RULES 9.4)."""
    await admin.record(connection, method, subject, asking(), now, fields)


async def newest(feed: FeedReader, types: Sequence[str], path: str) -> str:
    """Where the feed is now. Raises `InvalidArgument` for types that the orchestrator does not tell."""
    asked = convert.domain_types(types)
    try:
        return await feed.newest(asked)
    except InvalidArgument as error:
        places = list(types)
        found = Violations()
        for violation in error.violations:
            where = _path(violation.field, asked, places, path)
            found.add(where, violation.description, violation.reason)
        raise found.error(error.reason) from None


def _path(field: str, asked: list[str], places: list[str], path: str) -> str:
    """`types[0]` of what was asked for, as it stands in the definition."""
    number = field.removeprefix("types[").removesuffix("]")
    if not number.isdecimal():
        return field
    return f"{path}.types[{places.index(asked[int(number)])}]"
