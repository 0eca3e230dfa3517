"""RULES 6.8: those who were overtaken have rows in the rank history, and are told; coalesced, behind the reply."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.leaderboard.v1.leaderboard_service_pb2_grpc import LeaderboardServiceStub
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceStub
from redis.asyncio import Redis

from shared import faults
from tests.fixtures.clock import now
from tests.fixtures.databases import owner_of
from tests.fixtures.definitions import Administrator
from tests.fixtures.feeds import listed
from tests.fixtures.waiting import until
from tests.service.leaderboard.conftest import KEEP_CLOCK_OFF, Service, ServiceDatabase, served
from tests.service.leaderboard.messages import event
from tests.service.leaderboard.steps import applied, define, standings

LOOKED = "SELECT count(*) FROM tracked_tops WHERE members IS NOT NULL AND members LIKE $1"


@pytest.fixture
async def looking(service_database: ServiceDatabase, valkey_url: str) -> AsyncIterator[Service]:
    """A service that looks ten times a second."""
    dsn = await service_database("leaderboard")
    database = await asyncpg.connect(owner_of(dsn))
    await database.execute(KEEP_CLOCK_OFF)
    async with served(dsn, valkey_url, look_seconds=0.1) as channel, Redis.from_url(valkey_url) as sets:
        yield Service(
            LeaderboardServiceStub(channel),
            ParticipantServiceStub(channel),
            Administrator(channel),
            database,
            dsn,
            sets,
            valkey_url,
        )
    await database.close()


async def scored(service: Service, **scores: float) -> None:
    """One after the other, now."""
    at = datetime.now(UTC)
    for user, score in scores.items():
        await applied(service, event((user, at, score), score, user=user, at=at))


async def looked(service: Service, *fragments: str) -> None:
    """Until the look has seen all of this."""

    async def is_seen() -> bool:
        return bool(await service.database.fetchval(LOOKED, "%" + "%".join(fragments) + "%"))

    await until(is_seen, seconds=20, what=f"{fragments} is looked at")


async def history(service: Service, user: str) -> list[tuple[int, int, bool]]:
    """Rank before and after, and whether an entry of the user made it; oldest first."""
    response = await service.stub.ListRankEvents(pb.ListRankEventsRequest(user_id=user))
    return [(one.previous_rank, one.rank, bool(one.entry_id)) for one in reversed(response.rank_events)]


async def told(service: Service) -> list[tuple[str, int, int, bool]]:
    response = await listed(service, participant_pb.ListChangesRequest(page_size=1_000))
    return [
        (one.user_id, one.previous_rank, one.rank, one.passed)
        for change in response.changes
        for one in change.board_ranks.standings
    ]


async def raced(service: Service, **fields: Any) -> None:
    """c comes from the third rank to the first in two steps."""
    await define(service, "race", tracked_depth=10, **fields)
    await scored(service, a=9, b=5, c=1)
    await looked(service, '"c":[3,')
    await scored(service, c=5)
    await scored(service, c=9)
    await looked(service, '"c":[1,')


async def test_who_was_overtaken_has_a_row_for_a_look_and_is_told(looking: Service) -> None:
    await raced(looking)
    assert [row for row in await history(looking, "a") if not row[2]] == [(1, 2, False)]
    assert (await history(looking, "b"))[-1] == (2, 3, False)
    assert [row[1] for row in await history(looking, "c")] == [3, 2, 1]
    assert all(own for *_, own in await history(looking, "c"))
    found = await told(looking)
    assert ("a", 1, 2, True) in found
    assert found[-1][0] in "ab"


async def test_with_an_interval_all_is_told_at_the_look_and_nothing_with_the_entry(looking: Service) -> None:
    await raced(looking, event_interval_seconds=1)
    found = {user: (previous, rank, passed) for user, previous, rank, passed in await told(looking)}
    assert found == {"c": (3, 1, False), "a": (1, 2, True), "b": (2, 3, True)}
    at = now()
    (standing,) = await standings(looking, event("next", 1, user="c", at=at))
    assert standing.told_at_interval


async def test_beyond_the_depth_nobody_is_looked_for(looking: Service) -> None:
    await define(looking, "race", tracked_depth=1)
    await scored(looking, a=9, b=5, c=1)
    await looked(looking, '"a":[1,')
    await scored(looking, c=5)
    await scored(looking, c=9)
    await looked(looking, '"c":[1,')
    assert (await history(looking, "a"))[-1] == (1, 2, False)
    assert all(own for *_, own in await history(looking, "b"))


async def test_of_an_imports_history_nobody_is_looked_for(looking: Service) -> None:
    await define(looking, "race", tracked_depth=10)
    command = event("old", 5, user="z", at=now())
    command.entry.origin = entry_pb2.ENTRY_ORIGIN_IMPORT
    await applied(looking, command)
    await scored(looking, a=9)
    await looked(looking, '"a":[1,')
    assert await told(looking) == []


async def test_a_look_that_fails_is_made_again(looking: Service) -> None:
    await define(looking, "race", tracked_depth=10)
    faults.arm("leaderboard.tracking.before_commit=error@1")
    await scored(looking, a=9, b=5)
    await looked(looking, '"a":[1,', '"b":[2,')
    await scored(looking, b=5)
    await looked(looking, '"b":[1,')
    assert (await history(looking, "a"))[-1] == (1, 2, False)
