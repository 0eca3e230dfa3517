"""Whether a connection is a session of the server's own, or a pooler's, who may give every transaction another one.

Laurel needs sessions: it prepares each statement once, keeps settings that hold for all of them, and holds locks for
longer than a transaction. Where transactions are pooled, none of this would fail at once, and all of it now and then.
"""

from typing import Final

import asyncpg

_ROUNDS: Final = 5
_TIMEOUT_SECONDS: Final = 2.0
_BACKEND: Final = "SELECT pg_backend_pid()"

_FOREIGN_STATEMENT: Final = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""What a statement fails with that was prepared in another session than it runs in."""


class NoSessionError(Exception):
    """There is a pooler in between that pools transactions."""

    def __init__(self) -> None:
        super().__init__(
            "LAUREL_POSTGRES_DSN leads to a pooler that gives every transaction another session, and Laurel needs "
            "sessions of its own: set its pool_mode to session, or name the server itself (docs/servers.md)"
        )


async def require_session(
    connection: "asyncpg.Connection[asyncpg.Record]", dsn: str, statement: str = _BACKEND, *arguments: object
) -> None:
    """Raise `NoSessionError` where another connection is given the same session, or this one another.

    The statement's first column is the server's process. It is the one that greeted the connection, unless there is a
    pooler: then a second connection is opened, and both ask in turn.
    """
    try:
        backend = await connection.fetchval(statement, *arguments)
        if connection.get_server_pid() != backend:
            await _compare(connection, backend, dsn)
    except _FOREIGN_STATEMENT as error:
        raise NoSessionError from error


async def _compare(connection: "asyncpg.Connection[asyncpg.Record]", backend: int, dsn: str) -> None:
    try:
        other: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn, timeout=_TIMEOUT_SECONDS)
    except TimeoutError:
        return  # it waits for the session that this one has
    try:
        for _ in range(_ROUNDS):
            if await other.fetchval(_BACKEND, timeout=_TIMEOUT_SECONDS) == backend:
                raise NoSessionError
            if await connection.fetchval(_BACKEND) != backend:
                raise NoSessionError
    except TimeoutError:
        return
    finally:
        other.terminate()
