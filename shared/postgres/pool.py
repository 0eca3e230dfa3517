"""Connection pools."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg

from shared.postgres.sessions import require_session

if TYPE_CHECKING:
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


class KeptAtHand(Pool):
    """asyncpg's pool, which keeps the connection that was put back last at hand for whoever comes next.

    asyncpg puts each back by a task of its own and winds up a timer for when it has rested too long: a third of what
    the client takes for a statement that comes alone. One that is at rest needs nothing done. While somebody waits,
    none is kept.
    """

    _at_hand: "PoolConnectionProxy[asyncpg.Record] | None" = None
    _waiting = 0

    async def _acquire(self, timeout: float | None) -> "PoolConnectionProxy[asyncpg.Record]":
        connection, self._at_hand = self._at_hand, None
        if connection is not None:
            if _is_at_rest(connection):
                return connection
            await super().release(connection)
        self._waiting += 1
        try:
            return cast(
                "PoolConnectionProxy[asyncpg.Record]",
                await super()._acquire(timeout),  # type: ignore[misc]
            )
        finally:
            self._waiting -= 1

    async def release(
        self, connection: "PoolConnectionProxy[asyncpg.Record]", *, timeout: float | None = None
    ) -> None:
        is_wanted = self._at_hand is None and not self._waiting and not self.is_closing()
        if is_wanted and _is_at_rest(connection):
            self._at_hand = connection
        else:
            await super().release(connection, timeout=timeout)

    async def close(self) -> None:
        connection, self._at_hand = self._at_hand, None
        if connection is not None:
            await super().release(connection)
        await super().close()


def _is_at_rest(connection: Any) -> bool:
    """Whether nothing has to be waited for, taken back or renewed before somebody has it."""
    session = connection._con
    return not (
        session is None  # put back already
        or session.is_closed()
        or session.is_in_transaction()
        or session._protocol._is_cancelling()
        or session._protocol.queries_count >= _MAX_STATEMENTS
    )


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
