"""The runtime on a real PostgreSQL and a real Valkey."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from asyncpg.introspection import INTRO_LOOKUP_TYPES

from deploy.local.databases import SERVICES
from deploy.local.postgres import PostgresServer
from shared import errors
from shared.postgres import request_log
from shared.postgres.errors import is_conflict, log_failure, translate
from shared.postgres.leader import run_as_leader
from shared.postgres.migrations import MigrationError, migrate, pending, schema_is_current
from shared.postgres.pool import _TYPES, Pool, answers, create_pool
from shared.redis import client as redis_client
from tests.conftest import ServiceDatabase

REQUEST_LOG = """
    CREATE TABLE request_log (
        entry_id uuid PRIMARY KEY, user_id text NOT NULL, digest bytea NOT NULL, outcome bytea,
        state smallint NOT NULL, apply_time timestamptz NOT NULL, revert_outcome bytea
    )
"""


_OWN = "SELECT pg_backend_pid()"


@pytest.fixture
async def pool(empty_database: str) -> AsyncIterator[Pool]:
    opened = await create_pool(empty_database, application_name="test", size=4, statement_timeout_ms=5_000)
    yield opened
    opened.terminate()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (x int); INSERT INTO a VALUES (1);")
    (tmp_path / "0002_b.sql").write_text("CREATE TABLE b (x int);")
    return tmp_path


async def test_migrations_are_applied_once_in_order(empty_database: str, pool: Pool, directory: Path) -> None:
    assert await pending(pool, directory) == ["0001_a.sql", "0002_b.sql"]
    assert await migrate(empty_database, directory) == ["0001_a.sql", "0002_b.sql"]
    assert await migrate(empty_database, directory) == []
    (directory / "0003_c.sql").write_text("ALTER TABLE a ADD y int;")
    assert await pending(pool, directory) == ["0003_c.sql"]
    assert await migrate(empty_database, directory) == ["0003_c.sql"]
    assert await pool.fetchval("SELECT count(*) FROM a") == 1


async def test_several_may_migrate_at_once(empty_database: str, directory: Path) -> None:
    applied = await asyncio.gather(*(migrate(empty_database, directory) for _ in range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, 2]


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty_database: str, pool: Pool, directory: Path
) -> None:
    (directory / "0002_b.sql").write_text("CREATE TABLE b (x int); SELECT nonsense;")
    with pytest.raises(MigrationError, match=r"0002_b\.sql: .*nonsense"):
        await migrate(empty_database, directory)
    assert await pool.fetchval("SELECT to_regclass('b')") is None
    assert await pending(pool, directory) == ["0002_b.sql"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("0001_a.sql", "CREATE TABLE other (x int);", r"changed after it was applied: 0001_a\.sql"),
        ("0001_a.sql", None, r"newer than this program: it has 0001_a\.sql"),
        ("0000_z.sql", "SELECT 1;", r"0000_z\.sql would come before 0002_b\.sql"),
        ("0002_z.sql", "SELECT 1;", "have the same number"),
        ("later.sql", "SELECT 1;", "NNNN_what_it_does"),
    ],
)
async def test_files_that_do_not_belong_to_the_database_are_refused(
    empty_database: str, directory: Path, name: str, text: str | None, message: str
) -> None:
    await migrate(empty_database, directory)
    if text is None:
        (directory / name).unlink()
    else:
        (directory / name).write_text(text)
    with pytest.raises(MigrationError, match=message):
        await migrate(empty_database, directory)


async def test_a_schema_is_ready_when_its_migrations_are_applied(
    empty_database: str, pool: Pool, directory: Path
) -> None:
    check = schema_is_current(pool, directory)
    with pytest.raises(MigrationError, match=r"not applied yet: 0001_a\.sql, 0002_b\.sql"):
        await check()
    await migrate(empty_database, directory)
    await check()
    await check()


async def test_a_session_is_set_up_once_and_its_release_costs_no_round_trip(pool: Pool) -> None:
    expected = {"timezone": "UTC", "jit": "off", "enable_seqscan": "off", "statement_timeout": "5s"}
    async with pool.acquire() as connection:
        for name, value in expected.items():
            assert await connection.fetchval("SELECT current_setting($1)", name) == value
        transaction = connection.transaction()
        await transaction.start()
        statements: list[str] = []
        connection.add_query_logger(lambda record: statements.append(record.query))
        await transaction.rollback()
        await connection.fetchval("SELECT 1")
    async with pool.acquire() as connection:
        await connection.fetchval("SELECT 2")
    await answers(pool)  # statements are told of a moment later
    assert statements[:3] == ["ROLLBACK;", "SELECT 1", "SELECT 2"]


async def test_whoever_comes_next_gets_the_connection_that_was_put_back_and_whoever_comes_meanwhile_another(
    pool: Pool,
) -> None:
    first = await pool.fetchval(_OWN)
    async with pool.acquire() as held:
        assert await held.fetchval(_OWN) == first
        assert await pool.fetchval(_OWN) != first


async def test_who_waits_for_the_only_connection_gets_it_when_it_is_put_back(empty_database: str) -> None:
    pool = await create_pool(empty_database, application_name="test", size=1, statement_timeout_ms=5_000)
    first = await pool.fetchval(_OWN)
    async with pool.acquire():
        waiting = [asyncio.create_task(pool.fetchval(_OWN)) for _ in range(3)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*waiting) == [first] * 3
    await pool.close()


async def test_what_a_connection_was_left_in_is_taken_back_before_another_has_it(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("BEGIN")
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await pool.execute("SELECT pg_sleep(5)")
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_connection_that_was_cut_while_it_was_at_hand_is_replaced(
    pool: Pool, postgres_server: PostgresServer
) -> None:
    cut = asyncio.Event()
    async with pool.acquire() as connection:
        first = await connection.fetchval(_OWN)
        connection.add_termination_listener(lambda _: cut.set())
    admin = await asyncpg.connect(postgres_server.admin_dsn)
    await admin.execute("SELECT pg_terminate_backend($1)", first)
    await admin.close()
    await asyncio.wait_for(cut.wait(), timeout=5)
    assert await pool.fetchval(_OWN) != first


async def test_a_pool_with_a_connection_at_hand_closes_and_gives_none_afterwards(empty_database: str) -> None:
    pool = await create_pool(empty_database, application_name="test", size=2, statement_timeout_ms=5_000)
    await answers(pool)
    await pool.close()
    with pytest.raises(asyncpg.InterfaceError):
        await answers(pool)


async def test_a_database_that_is_away_does_not_keep_a_pool_from_opening() -> None:
    pool = await create_pool(
        "postgresql://u@127.0.0.1:1/none", application_name="test", size=2, statement_timeout_ms=1_000
    )
    with pytest.raises(OSError) as raised:  # noqa: PT011 - which one is up to the system
        await answers(pool)
    assert isinstance(translate(raised.value), errors.Unavailable)
    pool.terminate()


async def test_a_connection_knows_the_types_as_the_driver_would_find_them(
    service_database: ServiceDatabase,
) -> None:
    told = ("oid", "kind", "elemtype", "attrtypoids", "attrnames")
    for service in SERVICES:
        pool = await create_pool(
            await service_database(service), application_name="test", size=1, statement_timeout_ms=5_000
        )
        known = await pool.fetch(_TYPES)
        found = await pool.fetch(INTRO_LOOKUP_TYPES, [each["oid"] for each in known])
        by_driver = {each["oid"]: [each[name] or None for name in told] for each in found}
        assert len(known) > 9, "a service has row types of its own"
        assert [[each[name] for name in told] for each in known] == [by_driver[each["oid"]] for each in known]
        await pool.close()


async def test_rows_of_rows_are_known_and_what_has_odd_fields_is_asked_about(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    await connection.execute(
        "CREATE TYPE leaf AS (value bigint); CREATE TYPE branch AS (name text, leaves leaf[]);"
        " CREATE TYPE mood AS ENUM ('good'); CREATE TYPE odd AS (mood mood); CREATE TYPE last AS (value bigint)"
    )
    await connection.close()
    pool = await create_pool(empty_database, application_name="test", size=1, statement_timeout_ms=5_000)
    for statement, rows in (
        ("SELECT $1::branch[]", [("a", [(1,), (2,)])]),
        ("SELECT $1::odd[]", [("good",)]),
        ("SELECT $1::last[]", [(1,)]),
    ):
        assert await pool.fetchval(statement, rows) == rows
    await pool.close()


async def test_a_connection_that_was_cut_is_unavailable_and_the_next_call_gets_another(
    pool: Pool, postgres_server: PostgresServer
) -> None:
    admin = await asyncpg.connect(postgres_server.admin_dsn)
    async with pool.acquire() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await admin.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(
            (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
        ) as raised:
            await connection.execute("SELECT pg_sleep(5)")
        assert isinstance(translate(raised.value), errors.Unavailable)
        with pytest.raises(asyncpg.InterfaceError) as raised_again:
            await connection.execute("SELECT 1")
        assert isinstance(translate(raised_again.value), errors.Unavailable)
    await answers(pool)
    await admin.close()


async def test_a_statement_that_takes_too_long_is_unavailable(empty_database: str) -> None:
    pool = await create_pool(empty_database, application_name="test", size=2, statement_timeout_ms=20)
    with pytest.raises(asyncpg.QueryCanceledError) as raised:
        await pool.execute("SELECT pg_sleep(5)")
    assert isinstance(translate(raised.value), errors.Unavailable)
    pool.terminate()


async def test_input_that_slipped_through_is_the_callers_error_and_a_bug_is_not(pool: Pool) -> None:
    cases: list[tuple[str, object, type[errors.LaurelError] | None]] = [
        ("SELECT $1::text", "a\x00b", errors.InvalidArgument),
        ("SELECT $1::bigint * 9223372036854775807", 2, errors.OutOfRange),
        ("SELECT $1::int", "text", None),
        ("SELECT nonsense, $1::int", 1, None),
    ]
    for statement, argument, kind in cases:
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as raised:
            await pool.fetchval(statement, argument)
        answer = translate(raised.value)
        assert (None if answer is None else type(answer)) is kind


async def test_a_deadlock_is_a_conflict_that_another_attempt_resolves(pool: Pool) -> None:
    await pool.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)")
    both_hold_one = asyncio.Barrier(2)

    async def add(first: int, second: int, *, alone: bool = False) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE t SET n = n + 1 WHERE id = $1", first)
            if not alone:
                await both_hold_one.wait()
            await connection.execute("UPDATE t SET n = n + 1 WHERE id = $1", second)

    ends = await asyncio.gather(add(1, 2), add(2, 1), return_exceptions=True)
    (failed,) = [end for end in ends if end is not None]
    assert isinstance(failed, asyncpg.DeadlockDetectedError)
    assert is_conflict(failed)
    assert isinstance(translate(failed), errors.Aborted)
    await add(1, 2, alone=True)
    assert [row["n"] for row in await pool.fetch("SELECT n FROM t ORDER BY id")] == [2, 2]


async def test_only_the_request_log_makes_a_duplicate_key_a_conflict(pool: Pool) -> None:
    await pool.execute(REQUEST_LOG)
    await pool.execute("CREATE TABLE other (id int PRIMARY KEY)")
    entry = f"INSERT INTO request_log VALUES ('{uuid.uuid4()}', 'u', '', NULL, 1, now(), NULL)"
    for statement, conflict in ((entry, True), ("INSERT INTO other VALUES (1)", False)):
        await pool.execute(statement)
        with pytest.raises(asyncpg.UniqueViolationError) as raised:
            await pool.execute(statement)
        assert is_conflict(raised.value) == conflict


async def test_entries_of_the_request_log_are_read_by_id(pool: Pool) -> None:
    await pool.execute(REQUEST_LOG)
    first, absent = uuid.uuid4(), uuid.uuid4()
    await pool.execute(
        "INSERT INTO request_log VALUES ($1, 'u', 'd', 'answer', 2, now(), 'undone')",
        first,
    )
    async with pool.acquire() as connection:
        known = await request_log.load_known(connection, [first, absent])
    assert known == {first: request_log.Known(first, b"d", request_log.State.REVERTED, b"answer", b"undone")}


async def test_one_replica_leads_and_another_takes_over_when_its_connection_is_lost(pool: Pool) -> None:
    rounds: asyncio.Queue[str] = asyncio.Queue()

    def replica(name: str) -> asyncio.Task[None]:
        async def work() -> None:
            rounds.put_nowait(name)

        return asyncio.create_task(run_as_leader(pool, "closing", 0.02, work))

    first = replica("first")
    assert await rounds.get() == "first"
    second = replica("second")
    assert {await rounds.get() for _ in range(5)} == {"first"}
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    while await rounds.get() != "second":
        pass
    third = replica("third")
    await _cut_the_leader(pool)
    while not rounds.empty():
        rounds.get_nowait()
    assert await rounds.get() in ("second", "third")
    for task in (second, third):
        task.cancel()
    await asyncio.gather(second, third, return_exceptions=True)


async def _cut_the_leader(pool: Pool) -> None:
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )


async def test_a_leader_whose_work_fails_tries_again(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    rounds: asyncio.Queue[int] = asyncio.Queue()

    async def fails_at_first() -> None:
        rounds.put_nowait(1)
        if not caplog.records:
            raise RuntimeError("once")

    task = asyncio.create_task(run_as_leader(pool, "fragile", 0.01, fails_at_first))
    assert [await rounds.get() for _ in range(3)] == [1, 1, 1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [record.getMessage() for record in caplog.records] == ["time-driven work failed"]


@pytest.mark.parametrize(
    ("failure", "level", "traceback"),
    [
        (ConnectionRefusedError("refused"), "WARNING", False),
        (asyncpg.CannotConnectNowError("the database system is starting up"), "WARNING", False),
        (asyncpg.DeadlockDetectedError("deadlock"), "WARNING", False),
        (errors.Unavailable("away", reason="DEPENDENCY_UNAVAILABLE"), "WARNING", False),
        (errors.NotFound("gone", reason="GONE"), "ERROR", True),
        (asyncpg.UndefinedColumnError("no such column"), "ERROR", True),
        (RuntimeError("a defect"), "ERROR", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_only_what_does_not_pass_by_itself_is_logged_as_an_error_with_its_traceback(
    failure: Exception, level: str, traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    log_failure(logging.getLogger("test"), "some work failed", failure, work="some")
    [record] = caplog.records
    assert (record.getMessage(), record.levelname, bool(record.exc_info)) == (
        "some work failed",
        level,
        traceback,
    )


async def test_a_server_of_sorted_sets_that_is_away_is_unavailable(valkey_url: str) -> None:
    client = redis_client.create_client(valkey_url, client_name="test")
    await redis_client.answers_and_keeps(client)
    await client.aclose()
    away = redis_client.create_client("redis://127.0.0.1:1/0", client_name="test", timeout_seconds=0.2)
    with pytest.raises(redis.exceptions.RedisError) as raised:
        await redis_client.answers_and_keeps(away)
    assert isinstance(redis_client.translate(raised.value), errors.Unavailable)
    assert redis_client.translate(redis.exceptions.ResponseError("WRONGTYPE")) is None
    await away.aclose()


async def test_a_stale_connection_to_the_sorted_sets_is_replaced(valkey_url: str) -> None:
    client = redis_client.create_client(valkey_url, client_name="test")
    await client.set("key", 1)
    other = redis.asyncio.Redis.from_url(valkey_url)
    await other.client_kill_filter(_type="normal", skipme=True)
    assert await client.get("key") == b"1"
    await client.aclose()
    await other.aclose()
