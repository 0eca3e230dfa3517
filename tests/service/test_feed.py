"""A feed on a real PostgreSQL: transactions commit in any order, and whoever follows misses nothing."""

import asyncio
import json
import random
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from asyncpg.transaction import Transaction

from deploy.local.postgres import PostgresServer
from deploy.local.postgres_install import locate_install
from shared.postgres.feed import (
    KEPT_AFTER_FOLLOWED,
    TRIMMED_AT_ONCE,
    Changes,
    Feed,
    FollowedFeed,
    Place,
    begin_lives,
    place_of,
)
from shared.postgres.pool import Connection, Pool, create_pool
from tests.conftest import ServiceDatabase
from tests.fixtures.databases import owner_of

PG_DUMP = locate_install(None, Path()) / "bin" / "pg_dump"
# A server of some age: it has begun many transactions.
GROW_OLD = """
    DO $$ BEGIN FOR number IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$
"""
FILL = """
    INSERT INTO feed (body, create_time)
    SELECT '', clock_timestamp() - $2::interval FROM generate_series(1, $1::integer)
"""
# The statement that says how long rows have waited comes after the one that found none.
HAS_ASKED = """
    SELECT EXISTS (SELECT FROM pg_stat_activity
                    WHERE pid <> pg_backend_pid() AND datname = current_database()
                      AND query LIKE '%clock_timestamp() - create_time%')
"""


@pytest.fixture
async def dsn(service_database: ServiceDatabase) -> str:
    return await service_database("points")


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    opened = await create_pool(dsn, application_name="test", size=8, statement_timeout_ms=10_000)
    yield opened
    await opened.close()


class Writer:
    """A session whose transactions write to the feed and end whenever the test says."""

    def __init__(self, connection: Connection, feed: Feed) -> None:
        self._connection = connection
        self._feed = feed
        self._transaction: Transaction | None = None
        self.written: list[bytes] = []

    @property
    def busy(self) -> bool:
        return self._transaction is not None

    async def write(self, *bodies: bytes) -> None:
        if self._transaction is None:
            self._transaction = self._connection.transaction()
            await self._transaction.start()
        await self._feed.append(self._connection, bodies)
        self.written += bodies

    async def end(self, *, commit: bool = True) -> list[bytes]:
        """What is durable now."""
        assert self._transaction is not None
        await (self._transaction.commit() if commit else self._transaction.rollback())
        self._transaction = None
        written, self.written = self.written, []
        return written if commit else []


@pytest.fixture
async def writers(dsn: str, pool: Pool) -> AsyncIterator[list[Writer]]:
    connections = [await asyncpg.connect(dsn) for _ in range(5)]
    yield [Writer(connection, Feed(pool)) for connection in connections]
    for connection in connections:
        await connection.close()


def dumped(dsn: str) -> str:
    """A database as SQL, without the commands that are for psql alone."""
    done = subprocess.run(
        [str(PG_DUMP), "--inserts", "--no-owner", "--no-acl", dsn], capture_output=True, text=True, check=True
    )
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("\\"))


async def rows_in(pool: Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM feed")
    return count


async def bodies_after(feed: Feed, cursor: str, limit: int = 100) -> tuple[list[bytes], str]:
    page = await feed.after(place_of(cursor, "after_cursor"), limit)
    return [row["body"] for row in page.rows], page.cursor


async def test_what_commits_late_is_not_skipped(pool: Pool, writers: list[Writer]) -> None:
    feed, (first, second, *_) = Feed(pool), writers
    await first.write(b"1")
    await second.write(b"2")
    await second.end()
    assert await bodies_after(feed, "") == ([], "")
    await first.end()
    bodies, cursor = await bodies_after(feed, "")
    assert bodies == [b"1", b"2"]
    assert await bodies_after(feed, cursor) == ([], cursor)


async def test_who_begins_first_and_writes_last_is_not_skipped(pool: Pool, writers: list[Writer]) -> None:
    feed, (slow, quick, *_) = Feed(pool), writers
    await slow.write(b"slow 1")
    await quick.write(b"quick")
    await quick.end()
    await slow.write(b"slow 2")
    assert await bodies_after(feed, "") == ([], "")
    await slow.end()
    assert (await bodies_after(feed, ""))[0] == [b"slow 1", b"slow 2", b"quick"]


@pytest.mark.parametrize("seed", range(8))
async def test_everything_durable_is_read_once_and_in_one_order(
    pool: Pool, writers: list[Writer], seed: int
) -> None:
    """Five sessions write, commit and roll back at random; two followers with pages of their own read in between."""
    chance, feed = random.Random(seed), Feed(pool)
    durable: list[bytes] = []
    read: dict[int, list[bytes]] = {1: [], 50: []}
    cursors = dict.fromkeys(read, "")
    for number in range(150):
        writer = chance.choice(writers)
        if writer.busy and chance.random() < 0.5:
            durable += await writer.end(commit=chance.random() < 0.8)
        else:
            await writer.write(*(f"{number}.{part}".encode() for part in range(chance.randint(1, 3))))
        for limit in read:
            bodies, cursors[limit] = await bodies_after(feed, cursors[limit], limit)
            read[limit] += bodies
    for writer in writers:
        if writer.busy:
            durable += await writer.end()
    for limit, cursor in cursors.items():
        while (more := await bodies_after(feed, cursor, limit))[0]:
            read[limit] += more[0]
            cursor = more[1]
    rows = await pool.fetch("SELECT body FROM feed ORDER BY life, xid, sequence")
    assert sorted(read[1]) == sorted(durable)
    assert read[1] == read[50] == [row["body"] for row in rows]


async def test_a_transaction_that_writes_elsewhere_holds_readers_back_and_the_lag_says_so(
    pool: Pool, dsn: str
) -> None:
    feed = Feed(pool)
    other = await asyncpg.connect(dsn)
    async with other.transaction():
        await other.execute("SELECT pg_current_xact_id()")
        async with pool.acquire() as connection:
            await feed.append(connection, [b"1"])
        assert await bodies_after(feed, "") == ([], "")
        assert await feed.lag() > timedelta()
    await other.close()
    assert await feed.lag() == timedelta()
    assert (await bodies_after(feed, ""))[0] == [b"1"]


async def test_a_transaction_that_only_reads_holds_nobody_back(pool: Pool, dsn: str) -> None:
    other = await asyncpg.connect(dsn)
    async with other.transaction(isolation="repeatable_read"), pool.acquire() as connection:
        await other.fetch("SELECT FROM feed")
        await Feed(pool).append(connection, [b"1"])
        assert (await bodies_after(Feed(pool), ""))[0] == [b"1"]
    await other.close()


async def test_from_the_newest_on_only_what_is_new_is_read(pool: Pool) -> None:
    feed = Feed(pool)
    assert await feed.newest() == Place()
    async with pool.acquire() as connection:
        await feed.append(connection, [b"1", b"2"])
        newest = await feed.newest()
        await feed.append(connection, [b"3"])
    assert (await bodies_after(feed, newest.cursor))[0] == [b"3"]


async def test_what_was_followed_goes_when_it_is_old(pool: Pool) -> None:
    for age in (KEPT_AFTER_FOLLOWED * 2, KEPT_AFTER_FOLLOWED * 2, timedelta()):
        await pool.execute(FILL, 2, age)
    first = await FollowedFeed(Feed(pool)).list_changes("", 3)
    assert await rows_in(pool) == 6
    rest = await FollowedFeed(Feed(pool)).list_changes(first.cursor, 10)
    assert (len(first.bodies), len(rest.bodies)) == (3, 3)
    assert (first.complete, rest.complete) == (False, True)
    # The third is where the follower stood: it stays until the follower has gone on.
    assert await rows_in(pool) == 4


async def test_old_rows_are_looked_for_now_and_then_only(pool: Pool) -> None:
    followed = FollowedFeed(Feed(pool))
    await followed.list_changes("", 10)
    await pool.execute(FILL, 3, KEPT_AFTER_FOLLOWED * 2)
    cursor = (await followed.list_changes("", 10)).cursor
    await followed.list_changes(cursor, 10)
    assert await rows_in(pool) == 3


async def test_what_nobody_has_followed_stays_however_old_it_is(pool: Pool) -> None:
    await pool.execute(FILL, 3, KEPT_AFTER_FOLLOWED * 50)
    await FollowedFeed(Feed(pool)).list_changes("", 10)
    assert await rows_in(pool) == 3


async def test_who_asks_after_a_commit_sees_it_once_older_transactions_have_ended(
    pool: Pool, writers: list[Writer]
) -> None:
    followed, (older, later, *_) = FollowedFeed(Feed(pool)), writers
    await older.write(b"1")
    await later.write(b"2")
    await later.end()
    asked = asyncio.create_task(followed.list_changes("", 10))
    async with asyncio.timeout(10):
        while not await pool.fetchval(HAS_ASKED):
            assert not asked.done()
    await older.end()
    found = await asked
    assert (found.bodies, found.more) == ([b"1", b"2"], False)


async def test_who_asks_while_an_older_transaction_goes_on_is_told_to_ask_again(
    pool: Pool, writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.postgres.feed._READS", 1)
    followed, (older, later, *_) = FollowedFeed(Feed(pool)), writers
    await older.write(b"1")
    await later.write(b"2")
    await later.end()
    assert await followed.list_changes("", 10) == Changes([], "", more=True)
    await older.end()
    assert not (await followed.list_changes("", 10)).more


async def test_trimming_deletes_a_bounded_number_and_never_the_newest(pool: Pool) -> None:
    await pool.execute(FILL, TRIMMED_AT_ONCE + 5, timedelta(hours=2))
    feed, beyond, age = Feed(pool), Place(life=9), timedelta(hours=1)
    assert await feed.trim(beyond, age) == TRIMMED_AT_ONCE
    assert await feed.trim(beyond, age) == 4
    assert await feed.trim(beyond, age) == 0
    assert await rows_in(pool) == 1


@pytest.mark.parametrize("rows", [0, 20_000])
async def test_every_statement_reads_by_index_whatever_the_size(pool: Pool, dsn: str, rows: int) -> None:
    if rows:
        await pool.execute(FILL, rows, timedelta())
        owner = await asyncpg.connect(owner_of(dsn))
        await owner.execute("ANALYZE feed")
        await owner.close()
    feed = Feed(pool)
    async with pool.acquire() as connection:
        for statement, arguments in (
            (feed._after, (1, 5, 5, 10)),
            (feed._newest, ()),
            (feed._lag, ()),
            (feed._trim, (1, 5, 5, timedelta(), 10)),
        ):
            plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments))
            nodes = [node for node in _nodes(plan[0]["Plan"]) if node.get("Relation Name") == "feed"]
            scans = [node for node in nodes if node["Node Type"] != "ModifyTable"]
            assert scans
            assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
            assert all("Index Cond" in node and "Filter" not in node for node in scans), statement


async def test_a_reader_does_not_look_at_what_is_held_back(pool: Pool, dsn: str) -> None:
    other = await asyncpg.connect(dsn)
    async with other.transaction():
        await other.execute("SELECT pg_current_xact_id()")
        await pool.execute(FILL, 20_000, timedelta())
        explained = await pool.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {Feed(pool)._after}", 0, 0, 0, 10
        )
    await other.close()
    plan = json.loads(explained)[0]["Plan"]
    assert plan["Actual Rows"] == 0
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 10


async def test_a_restored_database_shows_its_old_rows_and_puts_new_ones_behind_them(
    pool: Pool, dsn: str, tmp_path: Path
) -> None:
    """A dump goes to a server that has begun far fewer transactions."""
    await pool.execute(GROW_OLD)
    async with pool.acquire() as connection:
        for body in (b"1", b"2", b"3"):
            await Feed(pool).append(connection, [body])
    read, cursor = await bodies_after(Feed(pool), "", 2)
    assert read == [b"1", b"2"]
    dump = dumped(owner_of(dsn))
    server = PostgresServer.start(tmp_path / "young", fsync=False)
    try:
        session = await asyncpg.connect(server.admin_dsn)
        await session.execute(dump)
        await session.execute("RESET search_path")
        assert await begin_lives(session) == ["feed"]
        assert await begin_lives(session) == []
        restored = await create_pool(
            server.admin_dsn, application_name="test", size=2, statement_timeout_ms=10_000
        )
        feed = Feed(restored)
        await feed.append(session, [b"4"])
        read, cursor = await bodies_after(feed, cursor, 1)
        assert read == [b"3"]
        assert (await bodies_after(feed, cursor))[0] == [b"4"]
        assert (await bodies_after(feed, ""))[0] == [b"1", b"2", b"3", b"4"]
        await restored.close()
        await session.close()
    finally:
        server.erase()


async def test_a_new_life_waits_for_whoever_writes_to_the_old_one(pool: Pool, dsn: str) -> None:
    """Rows of an ended life are all shown: there must be none to come."""
    await pool.execute("INSERT INTO feed (xid, body) VALUES ('99999999999', '')")
    writer = await asyncpg.connect(dsn)
    async with writer.transaction():
        await Feed(pool).append(writer, [b"under way"])
        async with pool.acquire() as connection:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await begin_lives(connection)
    async with pool.acquire() as connection:
        assert await begin_lives(connection) == ["feed"]
    await writer.close()


async def test_a_database_on_its_own_server_keeps_its_life(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await Feed(pool).append(connection, [b"1"])
        assert await begin_lives(connection) == []


def _nodes(plan: dict[str, object]) -> list[dict[str, object]]:
    found = [plan]
    children = plan.get("Plans", [])
    assert isinstance(children, list)
    for child in children:
        found += _nodes(child)
    return found
