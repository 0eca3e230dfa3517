"""Users who are kept in memory: a guess that storing checks, whatever another replica has done meanwhile."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from laurel.leaderboard.v1.leaderboard_pb2 import Leaderboard
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from redis.asyncio import Redis

from services.leaderboard.convert import entries
from services.leaderboard.definitions import KINDS, LEADERBOARD, catalogue_of
from services.leaderboard.handlers.entries import EntryHandlers
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.handlers.tracking import Tracker
from services.leaderboard.projection import Projection
from services.leaderboard.store import events
from services.leaderboard.store.archive import ArchiveStore
from services.leaderboard.store.segments import SegmentStore
from shared.clock import SystemClock
from shared.entries import Reversal
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool, create_pool
from tests.conftest import ServiceDatabase
from tests.fixtures import participants
from tests.service.leaderboard.messages import NOON, WEEKLY, entry_id, event, user_update
from tests.service.lives import define

MONDAY: Final = datetime(2026, 3, 2, tzinfo=UTC).date()
HOUR: Final = timedelta(hours=1)


class Replicas:
    """Two of them, on one database, each of which keeps users."""

    def __init__(self, pool: Pool, sets: Redis) -> None:
        self.pool = pool
        self.loads = 0
        self.one = self._replica(sets)
        self.other = self._replica(sets)

    async def define(self, key: str, **fields: Any) -> None:
        await define(self.pool, LEADERBOARD, Leaderboard(key=key, name=key, metric="commits", **fields))

    async def score(self, board: str = "weekly", user: str = "ada") -> int:
        scored = "SELECT score FROM scores WHERE board = $1 AND user_id = $2"
        return int(await self.pool.fetchval(scored, board, user) // 1_000_000)

    def count(self, record: object) -> None:
        self.loads += getattr(record, "query", "") == events.LOAD

    def _replica(self, sets: Redis) -> EntryHandlers:
        catalogue = Catalogue(self.pool, KINDS, catalogue_of)
        projection = Projection(sets)
        rebuilder = Rebuilder(self.pool, catalogue, projection)
        tracker = Tracker(self.pool, catalogue, projection, SystemClock(), HOUR)
        return EntryHandlers(
            self.pool, catalogue, projection, rebuilder, SegmentStore(self.pool), tracker, HOUR, 10
        )


@pytest.fixture
async def replicas(service_database: ServiceDatabase, valkey_url: str) -> AsyncIterator[Replicas]:
    dsn = await service_database("leaderboard")
    pool = await create_pool(dsn, application_name="recent", size=1, statement_timeout_ms=10_000)
    async with Redis.from_url(valkey_url) as sets:
        replicas = Replicas(pool, sets)
        async with pool.acquire() as connection:
            connection.add_query_logger(replicas.count)
        await replicas.define("weekly", schedule=WEEKLY, breakdown_attributes=["team"])
        yield replicas
    await pool.close()


async def told(replica: EntryHandlers, *commands: participant_pb.Command) -> list[participant_pb.Outcome]:
    outcomes = await replica.apply_entries(participants.work(entries.command, *commands))
    return list(map(participant_pb.Outcome.FromString, outcomes))


async def test_who_comes_again_is_not_loaded_again_unless_something_else_is_touched(
    replicas: Replicas,
) -> None:
    await told(replicas.one, event("a", 1))
    loads = replicas.loads
    await told(replicas.one, event("b", 1), event("c", 1))
    assert replicas.loads == loads
    await told(replicas.one, event("d", 1, at=NOON + timedelta(days=7)))
    assert replicas.loads == loads + 1
    await told(replicas.one, event("e", 1), event("f", 1, at=NOON + timedelta(days=7)))
    assert replicas.loads == loads + 1


async def test_what_another_replica_has_stored_is_not_lost(replicas: Replicas) -> None:
    await told(replicas.one, event("a", 1))
    await told(replicas.other, event("b", 1), event("next", 5, at=NOON + timedelta(days=7)))
    await told(replicas.one, event("c", 1), user_update("moves", {"team": "red"}))
    query = "SELECT segment LIKE '%red%', score / 1000000 FROM scores ORDER BY run_start"
    assert [tuple(row) for row in await replicas.pool.fetch(query)] == [(True, 3), (True, 5)]


@pytest.mark.parametrize("is_same", [True, False])
async def test_what_was_undone_stays_undone(replicas: Replicas, is_same: bool) -> None:
    await told(replicas.one, event("a", 1), event("b", 5))
    undone = [Reversal(entry_id("a"), "ada", NOON)]
    await (replicas.one if is_same else replicas.other).revert_entries(undone)
    await told(replicas.one, event("c", 1))
    assert await replicas.score() == 6


async def test_a_run_that_was_archived_meanwhile_takes_nothing_more(replicas: Replicas) -> None:
    await told(replicas.one, event("a", 1))
    catalogue = Catalogue(replicas.pool, KINDS, catalogue_of)
    board = (await catalogue.latest()).by_key["weekly"]
    async with replicas.pool.acquire() as connection, connection.transaction():
        assert await ArchiveStore(replicas.pool).finalize(connection, board, ("weekly", MONDAY), 10)
    (outcome,) = await told(replicas.one, event("b", 1))
    assert [standing.run_finalized for standing in outcome.effects.leaderboards] == [True]
    assert not await replicas.pool.fetchval("SELECT count(*) FROM scores")
    await told(replicas.one, event("c", 1, at=NOON + timedelta(days=7)))
    assert await replicas.score() == 1


async def test_a_board_that_is_new_counts_the_next_event(replicas: Replicas) -> None:
    await told(replicas.one, event("a", 2))
    await replicas.define("all-time")
    await told(replicas.one, event("b", 1))
    assert await replicas.score("all-time") == 3


async def test_a_segment_that_went_when_everybody_had_left_is_let_in_anew(replicas: Replicas) -> None:
    await told(replicas.one, event("a", 1, attributes={"team": "red"}))
    await told(replicas.one, user_update("moves", {"team": "blue"}))
    await replicas.pool.execute("UPDATE runs SET cleanings = cleanings + 1")
    await replicas.pool.execute("DELETE FROM segments WHERE segment LIKE '%red%'")
    await told(replicas.one, user_update("back", {"team": "red"}, snapshot=3))
    assert await replicas.pool.fetchval("SELECT count(*) FROM segments WHERE segment LIKE '%red%'") == 1
