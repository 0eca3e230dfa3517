"""`schema.sql` is what the migrations make, in every service."""

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.generate import ROOT
from deploy.local.postgres import PostgresServer
from deploy.local.postgres_install import locate_install
from shared.postgres.upkeep import create_functions
from tests.conftest import ServiceDatabase
from tests.fixtures.databases import owner_of

PG_DUMP = locate_install(None, Path()) / "bin" / "pg_dump"
SERVICES = ("achievement", "leaderboard", "notification", "orchestrator", "points", "streak")


def dump(dsn: str) -> str:
    """The schema as PostgreSQL itself writes it down, without the table that counts migrations."""
    done = subprocess.run(
        [str(PG_DUMP), "--schema-only", "--no-owner", "--no-acl", "--exclude-table=schema_migrations", dsn],
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"^(--.*|\\.*|SET .*|SELECT pg_catalog.*)?\n", "", done.stdout, flags=re.M)


def test_no_migration_alters_a_row_type() -> None:
    """Replicas of the last release go on writing it (docs/adr/0012)."""
    migrations = [*(ROOT / "services").glob("*/migrations/*.sql")]
    assert {path.parts[-3] for path in migrations} == set(SERVICES)
    assert [path.name for path in migrations if re.search("ALTER +TYPE", path.read_text(), re.I)] == []


@pytest.mark.parametrize("service", SERVICES)
async def test_the_migrations_make_the_schema(
    service: str, service_database: ServiceDatabase, postgres_server: PostgresServer
) -> None:
    migrated = await service_database(service)
    administrator = await asyncpg.connect(postgres_server.admin_dsn)
    name = f"schema_of_{service}"
    await administrator.execute(f'CREATE DATABASE "{name}"')
    try:
        written = urlsplit(postgres_server.admin_dsn)._replace(path=f"/{name}").geturl()
        connection = await asyncpg.connect(written)
        await connection.execute((ROOT / "services" / service / "schema.sql").read_text())
        await create_functions(connection)
        await connection.close()
        assert dump(owner_of(migrated)) == dump(written)
    finally:
        await administrator.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await administrator.close()
