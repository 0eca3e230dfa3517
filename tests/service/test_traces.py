"""What each service says of its tables, held against the catalogue: nothing new can be forgotten (RULES 2.7)."""

import importlib
from collections.abc import AsyncIterator, Mapping
from typing import Final
from uuid import UUID

import pytest

from shared.errors import InvalidArgument
from shared.postgres.pool import Pool, create_pool
from shared.postgres.traces import Shape, TraceStore
from shared.traces import Table, Traces
from tests.conftest import ServiceDatabase
from tests.contract.test_stored_messages import STORED
from tests.fixtures.databases import ServiceDatabases

Catalogue = Mapping[str, Mapping[str, Shape]]

SERVICES: Final = tuple(STORED)
OF_USERS: Final = {"user_id", "user_ids", "other_user_ids", "lane"}
"""How columns are called that hold users."""
NOBODYS: Final = UUID(int=1)
UNTOLD: Final = {"digest", "secret_hash", "previous_hash"}
"""Columns of bytes that are no messages."""
BY_KIND: Final = {"sagas.reply"}
"""Of which only the entry tells what message they hold."""


def traces_of(service: str) -> Traces:
    traces: Traces = importlib.import_module(f"services.{service}.traces").TRACES
    return traces


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def pool(service: str, service_database: ServiceDatabase) -> AsyncIterator[Pool]:
    dsn = await service_database(service)
    pool = await create_pool(dsn, application_name="test", size=2, statement_timeout_ms=10_000)
    yield pool
    await pool.close()


@pytest.fixture(scope="module")
async def catalogue(service_databases: ServiceDatabases) -> Catalogue:
    """The tables of each service."""
    found = {}
    for service in SERVICES:
        dsn = await service_databases.create(service)
        pool = await create_pool(dsn, application_name="test", size=1, statement_timeout_ms=10_000)
        found[service] = await TraceStore(pool, traces_of(service)).shapes()
        await pool.close()
        await service_databases.drop(dsn)
    return found


@pytest.fixture
def shapes(catalogue: Catalogue, service: str) -> Mapping[str, Shape]:
    return catalogue[service]


def test_a_service_declares_every_table_once_and_no_other(service: str, shapes: Mapping[str, Shape]) -> None:
    traces = traces_of(service)
    assert traces.declared == set(shapes)
    names = [table.name for table in traces.all]
    assert len(names) + len(traces.impersonal) == len(traces.declared)


def test_a_table_with_a_column_for_users_has_rows_of_users(service: str, shapes: Mapping[str, Shape]) -> None:
    traces = traces_of(service)
    personal = {name for name, shape in shapes.items() if OF_USERS & set(shape.columns)}
    assert personal <= {table.name for table in traces.tables}


def test_what_bytes_of_users_hold_is_said(service: str, shapes: Mapping[str, Shape]) -> None:
    for table in traces_of(service).all:
        stored = {
            column
            for column, kind in shapes[table.name].columns.items()
            if kind.startswith("bytea") and column not in UNTOLD
        }
        assert {column for column in stored if f"{table.name}.{column}" not in BY_KIND} <= set(
            table.messages
        ), table.name


def test_rows_that_stay_lose_the_user_in_every_column(service: str, shapes: Mapping[str, Shape]) -> None:
    for table in traces_of(service).tables:
        if table.kept is None:
            continue
        columns = shapes[table.name].columns
        said = {column for column in columns if column in OF_USERS or column in table.messages}
        assert said <= set(table.kept), table.name


async def test_what_is_declared_can_be_asked_of_the_database(pool: Pool, service: str) -> None:
    """Every statement that is made of a declaration, on a database with no user in it."""
    store = TraceStore(pool, traces_of(service))
    for entry_ids in ([], [NOBODYS]):
        assert [row async for row in store.rows("nobody", entry_ids)] == []
        assert await store.erase("nobody", "erased-1", entry_ids) == (0, False)
    found = [each async for each in store.search("nobody")]
    assert {each.table for each in found} == traces_of(service).declared
    assert [each for each in found if each.rows] == []


@pytest.mark.parametrize("service", ["orchestrator"], indirect=True)
async def test_a_secret_is_shown_to_nobody(pool: Pool, service: str) -> None:
    await pool.execute(
        "INSERT INTO keys (key_id, name, scopes, user_id, secret_hash, create_time)"
        " VALUES ('k', 'device', '{1}', 'alice', '\\x01', now())"
    )
    store = TraceStore(pool, traces_of(service))
    [(table, text)] = [row async for row in store.rows("alice", [])]
    assert table == "keys"
    assert "device" in text
    assert "secret_hash" not in text


@pytest.mark.parametrize("service", ["leaderboard"], indirect=True)
async def test_a_pseudonym_that_is_somebodys_id_is_refused_and_changes_nothing(
    pool: Pool, service: str
) -> None:
    await pool.execute(
        "INSERT INTO runs (board, start_date, end_date, finalize_time, finalized)"
        " VALUES ('weekly', '2026-03-02', '2026-03-08', now(), true)"
    )
    await pool.execute(
        "INSERT INTO seats (board, run_start, user_id, is_projected)"
        " SELECT 'weekly', '2026-03-02', unnest('{ann,bob}'::text[]), true"
    )
    with pytest.raises(InvalidArgument) as refused:
        await TraceStore(pool, traces_of(service)).erase("ann", "bob", [])
    assert [each.field for each in refused.value.violations] == ["pseudonym"]
    assert await pool.fetchval("SELECT array_agg(user_id ORDER BY user_id) FROM seats") == ["ann", "bob"]


def test_a_table_by_entries_needs_them() -> None:
    assert Table("request_log", where="user_id = $1 AND entry_id = ANY($3::uuid[])").by_entry
    assert not Table("users").by_entry
