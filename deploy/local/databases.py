"""A database for each service, closed to everybody else, with a role that serves and one that owns the tables."""

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
WRITE_CREATE_DATABASE = "SELECT format('CREATE DATABASE %I OWNER %I', $1::text, $2::text)"
WRITE_CLOSE_DATABASE = "SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $1::text)"
WRITE_LET_CONNECT = "SELECT format('GRANT CONNECT ON DATABASE %I TO %I', $1::text, $2::text)"
# An administrator who is no superuser must be a member of the role to make it the owner of a database.
WRITE_JOIN_ROLE = "SELECT format('GRANT %I TO CURRENT_USER', $1::text)"
IS_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"

T = TypeVar("T")


def create_service_databases(
    admin_dsn: str,
    services: Iterable[str] = SERVICES,
    *,
    passwords: Mapping[str, str] | None = None,
    owner_passwords: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Create what is missing of each service's roles and database; the connection strings by service.

    A service in `owner_passwords` gets a second role, which owns the database and migrates it (`owner_dsn`); else the
    one that serves is both. A database that there is keeps its owner.

    Idempotent. A service without an entry in `passwords` gets a new password, which ends the validity of its
    old connection strings. Raises the driver's errors when the server is away or refuses.
    """
    chosen = {name: (passwords or {}).get(name) or secrets.token_hex(16) for name in services}
    run_blocking(_create_all(admin_dsn, chosen, owner_passwords or {}))
    return {name: service_dsn(admin_dsn, name, password) for name, password in chosen.items()}


def database_name(service: str) -> str:
    """The name of a service's database, and of the login role that serves it."""
    return f"laurel_{service}"


def owner_name(service: str) -> str:
    """The name of the login role that owns a service's database, where that is another."""
    return f"{database_name(service)}_owner"


def service_dsn(admin_dsn: str, service: str, password: str, *, database: str | None = None) -> str:
    """The administrator's connection string turned into a service's: same server, own role and database."""
    return _dsn(admin_dsn, database_name(service), password, database or database_name(service))


def owner_dsn(admin_dsn: str, service: str, password: str, *, database: str | None = None) -> str:
    """Likewise that of the owner of the service's database."""
    return _dsn(admin_dsn, owner_name(service), password, database or database_name(service))


def _dsn(admin_dsn: str, role: str, password: str, database: str) -> str:
    parts = urlsplit(admin_dsn)
    server = parts.netloc.rpartition("@")[2]
    identity = {"user", "password", "dbname", "database"}
    query = urlencode([(key, value) for key, value in parse_qsl(parts.query) if key not in identity])
    return urlunsplit(
        (parts.scheme, f"{role}:{quote(password, safe='')}@{server}", f"/{database}", query, "")
    )


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from plain code, also below a running event loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _create_all(
    admin_dsn: str, passwords: Mapping[str, str], owner_passwords: Mapping[str, str]
) -> None:
    connection = await asyncpg.connect(admin_dsn)
    try:
        is_superuser = await connection.fetchval(IS_SUPERUSER)
        for service, password in passwords.items():
            name = owner = database_name(service)
            roles = {name: password}
            if service in owner_passwords:
                owner = owner_name(service)
                roles[owner] = owner_passwords[service]
            for role, its_password in roles.items():
                exists = await connection.fetchval(ROLE_EXISTS, role)
                await _execute_written(
                    connection, WRITE_ALTER_ROLE if exists else WRITE_CREATE_ROLE, role, its_password
                )
            if not is_superuser:
                await _execute_written(connection, WRITE_JOIN_ROLE, owner)
            if not await connection.fetchval(DATABASE_EXISTS, name):
                await _execute_written(connection, WRITE_CREATE_DATABASE, name, owner)
            await _execute_written(connection, WRITE_CLOSE_DATABASE, name)
            await _execute_written(connection, WRITE_LET_CONNECT, name, name)
    finally:
        await connection.close()


async def _execute_written(
    connection: "asyncpg.Connection[asyncpg.Record]", writer: str, *values: str
) -> None:
    statement = await connection.fetchval(writer, *values)
    await connection.execute(statement)
