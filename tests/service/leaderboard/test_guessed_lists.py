"""A list is asked for what is known of it, and what is read along says whether that held (`handlers.lists`)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.leaderboard.v1.leaderboard_service_pb2_grpc import LeaderboardServiceStub
from redis.asyncio import Redis

from services.leaderboard.definitions import KINDS, catalogue_of
from services.leaderboard.handlers.lists import Lists
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.projection import Projection
from services.leaderboard.results import Selector
from services.leaderboard.store import reads
from shared.clock import SystemClock
from shared.errors import NotFound
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import create_pool
from tests.fixtures.clock import now
from tests.service.leaderboard.conftest import PATIENT_GRACE, Service, served
from tests.service.leaderboard.messages import event, local_date, selector
from tests.service.leaderboard.steps import applied, define, maintained

if TYPE_CHECKING:
    from laurel.leaderboard.v1.leaderboard_service_pb2_grpc import LeaderboardServiceAsyncStub

ALL_TIME = Selector("all-time", {}, None)


@asynccontextmanager
async def another(service: Service, grace: timedelta) -> AsyncIterator["LeaderboardServiceAsyncStub"]:
    """Another replica on the same databases, as readers call it."""
    async with served(service.dsn, service.sets_url, grace=grace) as channel:
        yield LeaderboardServiceStub(channel)


async def top(
    stub: "LeaderboardServiceAsyncStub", wanted: pb.SegmentSelector
) -> list[tuple[int, str, float]]:
    response = await stub.ListRankedMembers(pb.ListRankedMembersRequest(selector=wanted))
    return [(member.rank, member.user_id, member.score) for member in response.members]


async def test_a_list_is_read_by_one_round_trip_to_the_sets_and_one_statement(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5), event(2, 7, user="bob"))
    pool = await create_pool(service.dsn, application_name="lists", size=1, statement_timeout_ms=5_000)
    async with Redis.from_url(service.sets_url) as sets:
        catalogue, projection = Catalogue(pool, KINDS, catalogue_of), Projection(sets)
        rebuilder = Rebuilder(pool, catalogue, projection)
        lists = Lists(pool, catalogue, projection, rebuilder, SystemClock(), timedelta(hours=1))
        await catalogue.latest()
        statements: list[str] = []
        async with pool.acquire() as connection:
            connection.add_query_logger(lambda record: statements.append(record.query))
        asked = [
            await lists.page(ALL_TIME, 0, 100),
            await lists.around(ALL_TIME, "ada", 5),
            await lists.members(ALL_TIME, ["ada", "bob"]),
        ]
        with pytest.raises(NotFound):
            await lists.page(Selector("unknown", {}, None), 0, 100)
    await pool.close()
    assert [[member.user_id for _, member in found.members] for found in asked] == [["bob", "ada"]] * 3
    assert statements == [reads.SEEN] * 3 + [reads.CONFIGURATION_VERSION]


async def test_a_board_that_another_replica_changed_is_read_as_it_is_now(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, *(event(number, number, user=f"u{number}") for number in (1, 2, 3)))
    async with another(service, timedelta(hours=1)) as reader:
        assert await top(reader, selector("all-time")) == [(1, "u3", 3), (2, "u2", 2), (3, "u1", 1)]
        await define(service, "later")
        assert await top(reader, selector("later")) == []
        await service.definitions.update(
            board_pb.Leaderboard(key="all-time", participant_limit=2), "participant_limit"
        )
        assert await top(reader, selector("all-time")) == [(1, "u3", 3), (2, "u2", 2)]
        await service.definitions.delete("leaderboard", "later")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await top(reader, selector("later"))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_run_that_is_over_sooner_than_was_thought_is_read_from_the_archive(service: Service) -> None:
    daily = board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY)
    await define(service, "daily", schedule=daily)
    day = now().date() - timedelta(days=4)
    noon = datetime.combine(day, time(12), tzinfo=UTC)
    await applied(service, event(1, 5, at=noon), event(2, 7, user="bob", at=noon))
    assert await maintained(service, now()) == 1
    wanted = selector("daily", day=local_date(day))
    async with another(service, PATIENT_GRACE) as reader:
        assert await top(reader, wanted) == [(1, "bob", 7), (2, "ada", 5)]
        around = await reader.ListMembersAround(pb.ListMembersAroundRequest(selector=wanted, user_id="ada"))
        chosen = await reader.BatchGetMembers(pb.BatchGetMembersRequest(selector=wanted, user_ids=["ada"]))
    assert around.run.finalized
    assert [(member.rank, member.user_id) for member in around.members] == [(1, "bob"), (2, "ada")]
    assert [(member.rank, member.user_id) for member in chosen.members] == [(2, "ada")]
