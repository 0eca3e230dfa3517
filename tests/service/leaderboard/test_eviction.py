"""A server that may evict keys: the service says so in its health, and answers right all the same."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from redis.asyncio import Redis

from deploy.local.valkey import ValkeyServer
from shared.redis.client import EvictingServerError, answers_and_keeps
from tests.fixtures.waiting import until
from tests.service.leaderboard.conftest import Service, ServiceDatabase, served, started
from tests.service.leaderboard.messages import event, selector
from tests.service.leaderboard.steps import applied, define, standings

pytestmark = pytest.mark.servers

LIMIT = 100_000_000
PATIENCE_SECONDS = 20.0


@pytest.fixture
async def own_valkey(server_directory: Path, tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """A server of the test's own."""
    server = ValkeyServer.start(server_directory / tmp_path.name)
    yield server
    server.stop()


async def test_under_an_eviction_policy_no_rank_is_silently_wrong(
    service_database: ServiceDatabase, own_valkey: ValkeyServer
) -> None:
    """Each rank, of each event and on each page, is that of the facts."""
    boards, users = 6, 250  # some 60 kB a board
    async with (
        started(service_database, own_valkey.url) as service,
        Redis.from_url(own_valkey.url) as server,
    ):
        for number in range(boards):
            await define(service, f"board-{number}", metric=f"m{number}", rank_mode=board_pb.RANK_MODE_DENSE)
        rows = [(board, user) for user in range(users) for board in range(boards)]
        for first in range(0, len(rows), 250):
            part = rows[first : first + 250]
            await applied(
                service,
                *(event(row, row[1] + 1, user=f"u{row[1]:03}", metric=f"m{row[0]}") for row in part),
            )
        used = (await server.info("memory"))["used_memory"]
        await server.config_set("maxmemory-policy", "allkeys-lru")
        await server.config_set("maxmemory", used - 100_000)
        for turn in range(30):
            board = turn % boards
            told = await standings(
                service, event(("more", turn), 0.5, user="u000", minutes=turn + 1, metric=f"m{board}")
            )
            value = 1 + 0.5 * (1 + turn // boards)
            expected = len({float(user + 1) for user in range(1, users) if user + 1 > value}) + 1
            assert [(standing.score, standing.rank) for standing in told] == [(value, expected)]
            read = (turn * 5) % boards
            assert await ranking_from_first(service, f"board-{read}", users)
        assert (await server.info("stats"))["evicted_keys"] > 0


async def ranking_from_first(service: Service, board: str, users: int) -> bool:
    """Whether the board is complete and in order."""
    request = pb.ListRankedMembersRequest(selector=selector(board), page_size=users)
    response = await service.stub.ListRankedMembers(request)
    scores = [member.score for member in response.members]
    return len(scores) == users and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("policy", "limit"), [("noeviction", LIMIT), ("volatile-lru", LIMIT), ("allkeys-lru", 0)]
)
async def test_a_server_that_keeps_what_is_written_passes(
    own_valkey: ValkeyServer, policy: str, limit: int
) -> None:
    async with Redis.from_url(own_valkey.url) as client:
        await _limit(client, policy, limit)
        await answers_and_keeps(client)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
async def test_a_server_that_may_evict_is_named_with_what_to_do(
    own_valkey: ValkeyServer, policy: str
) -> None:
    async with Redis.from_url(own_valkey.url) as client:
        await _limit(client, policy, LIMIT)
        with pytest.raises(
            EvictingServerError, match=f"maxmemory-policy {policy}.*: set maxmemory-policy to"
        ):
            await answers_and_keeps(client)


async def test_the_service_says_so_in_its_health_until_the_policy_is_another(
    service_database: ServiceDatabase, own_valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = await service_database("leaderboard")
    async with Redis.from_url(own_valkey.url) as client:
        await _limit(client, "allkeys-lru", LIMIT)
        async with served(dsn, own_valkey.url) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)

            async def is_named() -> bool:
                failing = [getattr(record, "failing", {}) for record in caplog.records]
                return any("allkeys-lru" in one.get("sorted sets", "") for one in failing)

            async def is_serving() -> bool:
                answer = await health.Check(health_pb2.HealthCheckRequest())
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            await until(is_named, seconds=PATIENCE_SECONDS, what="the log names the policy")
            assert not await is_serving()
            await _limit(client, "noeviction", LIMIT)
            await until(is_serving, seconds=PATIENCE_SECONDS, what="the service serves")


async def _limit(client: Redis, policy: str, limit: int) -> None:
    await client.config_set("maxmemory-policy", policy)
    await client.config_set("maxmemory", limit)
