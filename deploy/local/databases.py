"""A database and a login role for each service, closed to everybody else."""

import asyncio
import secrets
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

CORE = ("orchestrator", "streak", "achievement", "points", "leaderboard")
"""The services that an event passes."""
SERVICES = (*CORE, "notification")
"""All of them, in the order of their ports."""

ROLE_EXISTS = "SELECT true FROM pg_roles WHERE rolname = $1"
DATABASE_EXISTS = "SELECT true FROM pg_database WHERE datname = $1"
# DDL takes no parameters: the server quotes the values, then runs what it has written.
WRITE_CREATE_ROLE = "SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)"
WRITE_ALTER_ROLE = "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)"
WRITE_CREATE_DATABASE = "SELECT format('CREATE DATABASE %I OWNER %I', $1::text, $1::text)"
WRITE_CLOSE_DATABASE = "SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $1::text)"
# An administrator who is no superuser must be a member of the role to make it the owner of a database.
WRITE_JOIN_ROLE = "SELECT format('GRANT %I TO CURRENT_USER', $1::text)"
IS_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"

T = TypeVar("T")


def create_service_databases(
    admin_dsn: str, services: Iterable[str] = SERVICES, *, passwords: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Create what is missing of each service's role and database; the connection strings by service.

    Idempotent. A service without an entry in `passwords` gets a new password, which ends the validity of its
    old connection strings. Raises the driver's errors when the server is away or refuses.
    """
    chosen = {name: (passwords or {}).get(name) or secrets.token_hex(16) for name in services}
    run_blocking(_create_all(admin_dsn, chosen))
    return {name: service_dsn(admin_dsn, name, password) for name, password in chosen.items()}


def database_name(service: str) -> str:
    """The name of a service's database, and of the login role that owns it."""
    return f"laurel_{service}"


def service_dsn(admin_dsn: str, service: str, password: str, *, database: str | None = None) -> str:
    """The administrator's connection string turned into a service's: same server, own role and database."""
    parts = urlsplit(admin_dsn)
    server = parts.netloc.rpartition("@")[2]
    role = database_name(service)
    identity = {"user", "password", "dbname", "database"}
    query = urlencode([(key, value) for key, value in parse_qsl(parts.query) if key not in identity])
    return urlunsplit(
        (parts.scheme, f"{role}:{quote(password, safe='')}@{server}", f"/{database or role}", query, "")
    )


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from plain code, also below a running event loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _create_all(admin_dsn: str, passwords: Mapping[str, str]) -> None:
    connection = await asyncpg.connect(admin_dsn)
    try:
        is_superuser = await connection.fetchval(IS_SUPERUSER)
        for service, password in passwords.items():
            name = database_name(service)
            exists = await connection.fetchval(ROLE_EXISTS, name)
            await _execute_written(
                connection, WRITE_ALTER_ROLE if exists else WRITE_CREATE_ROLE, name, password
            )
            if not is_superuser:
                await _execute_written(connection, WRITE_JOIN_ROLE, name)
            if not await connection.fetchval(DATABASE_EXISTS, name):
                await _execute_written(connection, WRITE_CREATE_DATABASE, name)
            await _execute_written(connection, WRITE_CLOSE_DATABASE, name)
    finally:
        await connection.close()


async def _execute_written(
    connection: "asyncpg.Connection[asyncpg.Record]", writer: str, *values: str
) -> None:
    statement = await connection.fetchval(writer, *values)
    await connection.execute(statement)
