"""Who serves changes rows and no table, but for months and lives by the owner's functions (docs/adr/0030)."""

from collections.abc import AsyncIterator
from datetime import date
from itertools import product
from pathlib import Path

import asyncpg
import pytest

from deploy.generate import ROOT
from deploy.local.databases import SERVICES
from shared.postgres.migrations import migrate
from shared.postgres.months import Month, lowest_id, partition_name
from shared.postgres.upkeep import begin_life, make_month
from tests.conftest import ServiceDatabase
from tests.fixtures.databases import owner_of

MAY_TOO_MUCH = """
    SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
        OR has_schema_privilege('public', 'CREATE')
        OR has_database_privilege(current_database(), 'CREATE')
        OR has_database_privilege(current_database(), 'TEMPORARY')
        OR EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid)
        OR EXISTS (SELECT FROM pg_proc WHERE proowner = pg_roles.oid)
        OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid)
      FROM pg_roles WHERE rolname = current_user
"""
TABLES = """
    SELECT relname, has_table_privilege(oid, 'SELECT') AS reads,
           has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')
               AND has_table_privilege(oid, 'DELETE') AS writes,
           has_table_privilege(oid, 'TRUNCATE, REFERENCES, TRIGGER') AS more
      FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
"""
RIGHTS_OF_FUNCTIONS = """
    SELECT proname, proconfig, has_function_privilege('pg_monitor', oid, 'EXECUTE') AS anybody
      FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace
"""

FORBIDDEN = (
    "CREATE TABLE own (id int)",
    "CREATE TEMP TABLE own (id int)",
    "CREATE FUNCTION own() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA own",
    "ALTER TABLE entries ADD COLUMN own int",
    "DROP TABLE sagas_default",
    "TRUNCATE entries",
    "DELETE FROM schema_migrations",
)
OF_A_MONTH = ("make_month", "drop_month", "open_month", "begin_condensing", "end_condensing")
FIRST = date(2026, 11, 1)
NO_MONTHS = (
    ("users", FIRST),  # a table without months
    ("sagas_default", FIRST),
    ("pg_catalog.pg_class", FIRST),
    ("sagas; DROP TABLE users", FIRST),
    ("nothing", FIRST),
    ("sagas", date(2026, 11, 2)),
    ("sagas", date(1969, 12, 1)),
    ("sagas", None),
)


@pytest.fixture
async def serving(service_database: ServiceDatabase) -> AsyncIterator[asyncpg.Connection]:
    """The orchestrator's database as the service has it."""
    connection = await asyncpg.connect(await service_database("orchestrator"))
    yield connection
    await connection.close()


@pytest.mark.parametrize("service", SERVICES)
async def test_who_serves_owns_and_makes_nothing_and_may_change_every_row_but_the_migrations(
    service: str, service_database: ServiceDatabase
) -> None:
    connection = await asyncpg.connect(await service_database(service))
    assert await connection.fetchval(MAY_TOO_MUCH) is False
    tables = await connection.fetch(TABLES)
    assert len(tables) > 5
    for table in tables:
        writes = table["relname"] != "schema_migrations"
        assert (table["reads"], table["writes"], table["more"]) == (True, writes, False), table["relname"]
    await connection.close()


async def test_what_who_serves_may_not_do(serving: asyncpg.Connection) -> None:
    for statement in FORBIDDEN:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await serving.execute(statement)


async def test_what_a_migration_creates_later_can_be_served(
    service_database: ServiceDatabase, tmp_path: Path
) -> None:
    dsn = await service_database("streak")
    for path in (ROOT / "services" / "streak" / "migrations").glob("*.sql"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "9999_later.sql").write_text("CREATE TABLE later (id serial); CREATE SEQUENCE more;")
    await migrate(owner_of(dsn), tmp_path, served_by=dsn)
    connection = await asyncpg.connect(dsn)
    await connection.execute("INSERT INTO later DEFAULT VALUES")
    assert await connection.fetchval("SELECT id + nextval('more') FROM later") == 2
    await connection.close()


async def test_a_month_is_the_same_to_the_functions_as_to_the_service(serving: asyncpg.Connection) -> None:
    for month in (Month(1970, 1), Month(2026, 11), Month(2026, 12), Month(2028, 2)):
        assert await make_month(serving, "sagas", month)
        assert not await make_month(serving, "sagas", month)
        name = partition_name("sagas", month)
        bounds = await serving.fetchval(
            "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = $1", name
        )
        assert bounds == f"FOR VALUES FROM ('{lowest_id(month.begin)}') TO ('{lowest_id(month.end)}')"
        await serving.execute(f"DELETE FROM {name}")


async def test_a_function_takes_a_table_with_months_and_the_first_day_of_one(
    serving: asyncpg.Connection,
) -> None:
    for function, (table, day) in product(OF_A_MONTH, NO_MONTHS):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await serving.execute(f"SELECT {function}($1::text, $2::date)", table, day)


async def test_a_life_begins_of_a_feed_and_of_nothing_else(serving: asyncpg.Connection) -> None:
    life = await serving.fetchval("SELECT life FROM feed_lives WHERE feed = 'domain_events'")
    assert await begin_life(serving, "domain_events") == life + 1
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await begin_life(serving, "users")


async def test_the_functions_are_for_who_serves_and_find_their_names_in_one_schema(
    serving: asyncpg.Connection,
) -> None:
    functions = await serving.fetch(RIGHTS_OF_FUNCTIONS)
    assert len(functions) == 7
    for function in functions:
        assert function["proconfig"] == ["search_path=public, pg_temp"], function["proname"]
        assert not function["anybody"], function["proname"]


async def test_one_role_may_be_both(empty_database: str) -> None:
    """As where a service is tried by itself: then nothing is granted, and the functions work all the same."""
    await migrate(empty_database, ROOT / "services" / "points" / "migrations", served_by=empty_database)
    connection = await asyncpg.connect(empty_database)
    assert await make_month(connection, "request_log", Month(2026, 11))
    await connection.close()
