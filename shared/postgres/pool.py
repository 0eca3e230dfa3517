"""Connection pools."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg

from shared.postgres.sessions import require_session

if TYPE_CHECKING:
    from collections.abc import Generator

    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

_CONNECT_TIMEOUT_SECONDS: Final = 5.0
_ANSWER_MARGIN_SECONDS: Final = 5.0
_MAX_STATEMENTS: Final = 50_000
"""Of a connection, before another takes its place."""
_MAX_REST_SECONDS: Final = 300.0
"""Of a connection, before it is closed."""
_KEPT_IN_A_ROW: Final = 100
"""How many times connections are put back between two looks of asyncpg at one."""

# The event path reads and writes by key, a batch at a time, on tables that begin empty. The planner would
# cache sequential scans and hash joins for them while they are small and keep those plans when they are not.
# With these off, only plans by index remain, at every size; a generic plan then is the plan, and planning is
# paid for once.
_EVENT_PATH: Final = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}

_BEGIN_SESSION: Final = """
    SELECT pg_backend_pid(), array_agg(set_config(name, value, false))
      FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
"""

# What asyncpg has to know of types that statements name: arrays of built-in types, then the database's own row types
# and the arrays of those, of which there are none before the migrations have run. A row type comes after those that it
# is made of.
_TYPES: Final = """
    WITH row_type AS (
        SELECT pg_class.oid AS made, relname::text AS name, reltype, typarray
          FROM pg_class JOIN pg_type ON pg_type.oid = reltype
         WHERE relkind = 'c' AND relnamespace = current_schema()::regnamespace
    )
    SELECT oid, typname::text AS name, 'pg_catalog' AS ns, typtype AS kind, typelem AS elemtype, typdelim AS elemdelim,
           NULL::oid[] AS attrtypoids, NULL::text[] AS attrnames, NULL::oid AS basetype, NULL::oid AS range_subtype,
           0::oid AS made
      FROM pg_type
     WHERE oid = ANY (
        '{record[],bigint[],bytea[],date[],float8[],integer[],smallint[],timestamptz[],uuid[]}'::regtype[]
     )
    UNION ALL
    SELECT reltype, name, current_schema(), 'c', NULL, NULL, fields.types, fields.names, NULL, NULL, made
      FROM row_type
     CROSS JOIN LATERAL (
        SELECT array_agg(atttypid ORDER BY attnum) AS types, array_agg(attname::text ORDER BY attnum) AS names
          FROM pg_attribute WHERE attrelid = made AND attnum > 0 AND NOT attisdropped
     ) AS fields
    UNION ALL
    SELECT typarray, name, current_schema(), 'b', reltype, ',', NULL, NULL, NULL, NULL, made
      FROM row_type
     ORDER BY made, kind DESC
"""


class _Acquired:
    """What `KeptAtHand.acquire` gives: the connection of an `async with`, or to be awaited and put back by hand."""

    __slots__ = ("_connection", "_pool", "_timeout")

    def __init__(self, pool: "KeptAtHand", timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._connection: Any = None

    def __await__(self) -> "Generator[Any, None, PoolConnectionProxy[asyncpg.Record]]":
        return self._pool.take(self._timeout).__await__()

    async def __aenter__(self) -> "PoolConnectionProxy[asyncpg.Record]":
        self._connection = await self._pool.take(self._timeout)
        return cast("PoolConnectionProxy[asyncpg.Record]", self._connection)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        connection, self._connection = self._connection, None
        if kind is not None or not self._pool.keep(connection):
            await self._pool.release(connection)


class KeptAtHand(Pool):
    """asyncpg's pool, which keeps the connection that was put back last at hand for whoever comes next.

    asyncpg puts each back by a task of its own and winds up a timer for when it has rested too long: a third of what
    the client takes for a statement that comes alone. One that is at rest needs nothing done. While somebody waits,
    none is kept. Where something went wrong, and once in `_KEPT_IN_A_ROW` times, asyncpg has it back: it knows what
    has to be waited for, taken back or renewed.
    """

    _at_hand: "PoolConnectionProxy[asyncpg.Record] | None" = None
    _waiting = 0
    _kept = 0

    def acquire(self, *, timeout: float | None = None) -> _Acquired:  # type: ignore[override]
        """A connection, from within `async with` or awaited; `timeout` in seconds."""
        return _Acquired(self, timeout)

    async def take(self, timeout: float | None) -> "PoolConnectionProxy[asyncpg.Record]":
        """The connection that is at hand, or one of asyncpg's."""
        connection, self._at_hand = self._at_hand, None
        if connection is not None:
            if not _is_so_or_cut(connection.is_closed):
                return connection
            await self.release(connection)
        self._waiting += 1
        try:
            return await super().acquire(timeout=timeout)
        finally:
            self._waiting -= 1

    def keep(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> bool:
        """Whether it is at hand from now on; otherwise it is to be released."""
        if self._at_hand is not None or self._waiting or self.is_closing():
            return False
        self._kept = (self._kept + 1) % _KEPT_IN_A_ROW
        if self._kept == 0 or _is_so_or_cut(connection.is_in_transaction):
            return False
        self._at_hand = connection
        return True

    async def close(self) -> None:
        """Once every connection is back."""
        connection, self._at_hand = self._at_hand, None
        if connection is not None:
            await self.release(connection)
        await super().close()


def _is_so_or_cut(question: Callable[[], bool]) -> bool:
    """What a connection says of itself, or that it was cut: then it was taken from whoever had it, and says nothing."""
    try:
        return question()
    except asyncpg.InterfaceError:
        return True


async def create_pool(
    dsn: str, *, application_name: str, size: int, statement_timeout_ms: int, event_path: bool = True
) -> Pool:
    """A pool of at most `size` connections, which are opened when they are first needed: a database that is
    away does not keep a process from starting (its readiness says so instead).

    What a session needs is set once, when it is opened, and never reset: the usual reset query on each release would
    cost a round trip. It is set by a statement, for poolers refuse to pass on what comes with the connection. An open
    transaction is still rolled back. Whoever takes a session-level lock gives it back. Where a pooler gives no
    sessions, opening a connection raises `NoSessionError`.

    A new connection learns the types of arrays and rows before it is first used (docs/adr/0012).

    `event_path=False` leaves the planner free, for reports over many rows.
    """
    session = {
        "timezone": "UTC",
        "jit": "off",  # compiling takes longer than any statement here runs
        "statement_timeout": str(statement_timeout_ms),
        "idle_in_transaction_session_timeout": str(2 * statement_timeout_ms),
        **(_EVENT_PATH if event_path else {}),
    }

    async def open_session(connection: Connection) -> None:
        direct = cast("asyncpg.Connection[asyncpg.Record]", connection)
        await require_session(direct, dsn, _BEGIN_SESSION, list(session), list(session.values()))
        await _learn_types(connection)

    pool: Pool = await KeptAtHand(
        dsn,
        min_size=0,
        max_size=size,
        timeout=_CONNECT_TIMEOUT_SECONDS,
        # The server ends a statement first; this is for a server that has gone silent.
        command_timeout=statement_timeout_ms / 1_000 + _ANSWER_MARGIN_SECONDS,
        server_settings={"application_name": application_name},
        max_queries=_MAX_STATEMENTS,
        max_inactive_connection_lifetime=_MAX_REST_SECONDS,
        loop=asyncio.get_running_loop(),
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        init=open_session,
        reset=_keep_session,
        statement_cache_size=1_024,
        max_cached_statement_lifetime=0,
        max_cacheable_statement_size=65_536,
    )
    return pool


async def answers(pool: Pool) -> None:
    """A readiness check: raises unless the database answers."""
    await pool.fetchval("SELECT 1")


async def _learn_types(connection: Connection) -> None:
    """asyncpg asks the catalogue about each type that a statement is the first to name, on every connection, by a query
    that takes longer than all else that opening it takes. It is told of them here (docs/adr/0012).
    """
    types = await connection.fetch(_TYPES)
    # Somebody else's row type may have fields of a type that is not told of: asyncpg asks about it when it is named.
    with suppress(asyncpg.InternalClientError):
        connection.get_settings().register_data_types(types)


async def _keep_session(_connection: Any) -> None:
    """Nothing to reset; see `create_pool`."""
