"""Schema migrations: numbered SQL files, each applied once, in order, in a transaction of its own.

    migrations/0001_ledger.sql, migrations/0002_...

What was applied is written beside it, with a checksum: a file that changed afterwards, or a database that is
ahead of the code, is refused rather than guessed at. Whoever applies them owns the tables; the service may run as
another role, which changes rows alone.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import asyncpg
from msgspec import Struct

from shared.postgres.feed import begin_lives
from shared.postgres.pool import Connection, Pool
from shared.postgres.sessions import require_session
from shared.postgres.upkeep import create_functions, let_serve, missing_functions

_FILE: Final = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_LOCK: Final = 0x6C61_7572_656C  # "laurel": one migration of a database at a time

_CREATE: Final = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        name         text        PRIMARY KEY,
        checksum     text        NOT NULL,
        applied_time timestamptz NOT NULL DEFAULT now()
    )
"""
_EXISTS: Final = "SELECT to_regclass('schema_migrations') IS NOT NULL"
_APPLIED: Final = "SELECT name, checksum FROM schema_migrations ORDER BY name"
_ROLE: Final = "SELECT current_user"
_RECORD: Final = "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)"


class MigrationError(Exception):
    """The files and the database do not belong together, or a file is not valid SQL."""


class Migration(Struct, frozen=True):
    """One file."""

    name: str
    sql: str
    checksum: str


def read_migrations(directory: Path) -> list[Migration]:
    """The files of a directory in order. Raises `MigrationError` for a stray file or a number used twice."""
    paths = sorted(path for path in directory.iterdir() if path.suffix == ".sql")
    for before, path in zip([None, *paths], paths, strict=False):
        if not _FILE.fullmatch(path.name):
            raise MigrationError(f"{path.name}: a migration is named NNNN_what_it_does.sql")
        if before is not None and before.name[:4] == path.name[:4]:
            raise MigrationError(f"{before.name} and {path.name} have the same number")
    return [_read(path) for path in paths]


async def migrate(dsn: str, directory: Path, *, served_by: str | None = None) -> list[str]:
    """Bring the database up to date; the names of the files that were applied now. Safe to run at the same
    time from several places. Raises `MigrationError`, `NoSessionError`, and whatever keeps the database from being
    reached.

    `served_by` is the connection string with which the service runs, where that is of another role: it is given what
    serving needs and no more (`shared.postgres.upkeep`).
    """
    role = None if served_by is None else await _role_of(served_by)
    migrations = read_migrations(directory)
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        dsn, server_settings={"application_name": "migrate"}
    )
    try:
        await require_session(connection, dsn)
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_CREATE)
        applied = await _applied(connection)
        _refuse_mismatch(migrations, applied)
        await create_functions(connection)
        if role not in (None, await connection.fetchval(_ROLE)):
            await let_serve(connection, role)
        due = [migration for migration in migrations if migration.name not in applied]
        for migration in due:
            await _apply(connection, migration)
        await begin_lives(connection)
        return [migration.name for migration in due]
    finally:
        await connection.close()  # and with it the lock


async def pending(connection: Connection | Pool, directory: Path) -> list[str]:
    """The names of the files that are not applied yet, and of functions that are not there. Raises `MigrationError`
    where a file changed afterwards.

    A database that is ahead is fine here: old replicas serve on while new ones start.
    """
    migrations = read_migrations(directory)
    applied = await _applied(connection) if await connection.fetchval(_EXISTS) else {}
    _refuse_changed(migrations, applied)
    missing = [migration.name for migration in migrations if migration.name not in applied]
    return [*missing, *(await missing_functions(connection) if applied else ())]


def schema_is_current(pool: Pool, directory: Path) -> Callable[[], Awaitable[None]]:
    """A readiness check: raises until every migration is applied, then only asks whether the database
    answers. Feeds of a database that was restored from elsewhere begin a new life before it passes.
    """
    current = False

    async def check() -> None:
        nonlocal current
        if current:
            await pool.fetchval("SELECT 1")
            return
        missing = await pending(pool, directory)
        if missing:
            raise MigrationError(f"not applied yet: {', '.join(missing)}")
        async with pool.acquire() as connection:
            await begin_lives(connection)
        current = True

    return check


def _read(path: Path) -> Migration:
    data = path.read_bytes()
    return Migration(path.name, data.decode(), hashlib.sha256(data).hexdigest())


async def _applied(connection: Connection | Pool) -> dict[str, str]:
    return {row["name"]: row["checksum"] for row in await connection.fetch(_APPLIED)}


async def _role_of(dsn: str) -> str:
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    try:
        role: str = await connection.fetchval(_ROLE)
        return role
    finally:
        await connection.close()


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(_RECORD, migration.name, migration.checksum)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{migration.name}: {error}") from error


def _refuse_mismatch(migrations: list[Migration], applied: dict[str, str]) -> None:
    known = {migration.name for migration in migrations}
    unknown = sorted(set(applied) - known)
    if unknown:
        raise MigrationError(f"the database is newer than this program: it has {', '.join(unknown)}")
    _refuse_changed(migrations, applied)
    late = [name for name in sorted(known - set(applied)) if applied and name < max(applied)]
    if late:
        raise MigrationError(f"{', '.join(late)} would come before {max(applied)}, which is already applied")


def _refuse_changed(migrations: list[Migration], applied: dict[str, str]) -> None:
    changed = [m.name for m in migrations if applied.get(m.name, m.checksum) != m.checksum]
    if changed:
        raise MigrationError(f"changed after it was applied: {', '.join(changed)}")
