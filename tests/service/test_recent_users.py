"""Users who are kept in memory between batches: they are not read again, and nothing comes out differently."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import asyncpg
import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from redis.asyncio import Redis

from services.achievement import convert as achievement_convert
from services.achievement import traces as achievement_traces
from services.leaderboard import traces as leaderboard_traces
from services.leaderboard.convert import entries as leaderboard_convert
from services.points import convert as points_convert
from services.points import traces as points_traces
from services.streak import convert as streak_convert
from services.streak import traces as streak_traces
from shared.postgres.partitions import Partitions
from shared.postgres.pool import Pool, create_pool
from shared.postgres.traces import TraceStore
from tests.conftest import ServiceDatabase
from tests.fixtures import participants
from tests.fixtures.set_clock import SetClock
from tests.service.achievement import messages as a
from tests.service.leaderboard import messages as b
from tests.service.lives import BUILDERS, NOW, REPLICAS
from tests.service.points import messages as p
from tests.service.streak import messages as s

KEEPING: Final = ("streak", "achievement", "points", "leaderboard")
TABLES: Final = """
    SELECT relname FROM pg_class
     WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace
       AND relname NOT IN ('definitions', 'mutation_log', 'projection')
     ORDER BY relname
"""

Live = Callable[[int], Awaitable[tuple[dict[str, list[str]], int]]]


@pytest.fixture
async def live(
    request: pytest.FixtureRequest, service_database: ServiceDatabase, valkey_url: str
) -> AsyncIterator[Live]:
    """A life on a fresh database, with so many users kept: all rows that it leaves, and how often users were loaded."""
    pools: list[Pool] = []

    async def lived(recent_users: int) -> tuple[dict[str, list[str]], int]:
        dsn = await service_database(request.param)
        pool = await create_pool(dsn, application_name="recent", size=1, statement_timeout_ms=10_000)
        pools.append(pool)
        partitioned = await pool.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace"
        )
        await Partitions(pool, SetClock(NOW), dict.fromkeys(row["relname"] for row in partitioned)).keep()
        loads = 0

        def count(record: Any) -> None:
            nonlocal loads
            loads += "AS configuration" in record.query and "INSERT" not in record.query

        async with pool.acquire() as connection:
            connection.add_query_logger(count)
        async with Redis.from_url(valkey_url) as sets:
            life = await BUILDERS[request.param](pool, sets, recent_users)
            async for _ in life("a/"):
                pass
        return await rows(dsn), loads

    yield lived
    for pool in pools:
        await pool.close()


async def rows(dsn: str) -> dict[str, list[str]]:
    """All that is stored, but for the definitions and which sorted sets are complete."""
    connection = await asyncpg.connect(dsn)
    found = {}
    for (table,) in await connection.fetch(TABLES):
        stored = await connection.fetch(f"SELECT to_jsonb(t) FROM {table} t")
        found[table] = sorted(row[0] for row in stored)
    await connection.close()
    return found


@pytest.mark.parametrize("live", KEEPING, indirect=True)
async def test_keeping_users_saves_loading_them_and_leaves_the_same_rows(live: Live) -> None:
    without, loads = await live(0)
    kept, fewer = await live(100)
    assert kept == without
    assert fewer < loads


CONVERTS: Final[Mapping[str, Any]] = {
    "streak": streak_convert,
    "achievement": achievement_convert,
    "points": points_convert,
    "leaderboard": leaderboard_convert,
}
TRACES: Final = {
    "streak": streak_traces.TRACES,
    "achievement": achievement_traces.TRACES,
    "points": points_traces.TRACES,
    "leaderboard": leaderboard_traces.TRACES,
}
LIVES_OF_ONE: Final[Mapping[str, tuple[str, list[participant_pb.Command]]]] = {
    "streak": ("alice", [s.event("before", s.at(3)), s.event("back", s.at(4)), s.event("again", s.at(5))]),
    "achievement": (
        "alice",
        [
            a.event("before", 8, version=1, total=8, attributes={"state": "merged"}),
            a.event("back", 1, version=1, total=1, attributes={"state": "merged"}),
            a.event("again", 2, version=2, total=3, attributes={"state": "merged"}),
        ],
    ),
    "points": ("alice", [p.event("before", 2), p.event("back", 1), p.event("again", 1, minutes=1)]),
    "leaderboard": ("ada", [b.event("before", 5), b.event("back", 1), b.event("again", 2, minutes=1)]),
}
"""A user, an entry of the life that was deleted, and two of the one after it."""


@pytest.fixture
async def returned(
    request: pytest.FixtureRequest, service_database: ServiceDatabase, valkey_url: str
) -> AsyncIterator[Callable[[bool], Awaitable[bytes]]]:
    """A life on a fresh database, told to two processes that keep users; what comes of its last entry. Another one may
    have gone before it, and been deleted.
    """
    service = request.param
    user, (before, back, again) = LIVES_OF_ONE[service]
    pools: list[Pool] = []

    async def lived(has_past: bool) -> bytes:
        pool = await create_pool(
            await service_database(service), application_name="recent", size=2, statement_timeout_ms=10_000
        )
        pools.append(pool)
        async with Redis.from_url(valkey_url) as sets:
            await BUILDERS[service](pool, sets, 0)
            one, other = (REPLICAS[service](pool, sets, 100) for _ in range(2))

            async def tell(replica: Any, life: int, command: participant_pb.Command) -> bytes:
                command.entry.user.life = life
                work = participants.work(CONVERTS[service].command, command)
                outcome: bytes
                (outcome,) = await replica.apply_entries(work)
                return outcome

            if has_past:
                await tell(other, 1, before)
                await TraceStore(pool, TRACES[service]).erase(user, "nobody", [])
            await tell(one, 2, back)
            return await tell(other, 2, again)

    yield lived
    for pool in pools:
        await pool.close()


@pytest.mark.parametrize("returned", KEEPING, indirect=True)
async def test_who_was_deleted_and_comes_again_goes_on_from_nothing_on_every_replica(
    returned: Callable[[bool], Awaitable[bytes]],
) -> None:
    assert await returned(True) == await returned(False)
