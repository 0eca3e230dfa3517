"""RULES 6.7: sorted sets compared with PostgreSQL, and one board filled anew."""

import grpc.aio
import pytest
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.runs import PERPETUAL, run_of
from services.leaderboard.projection import keys_of
from shared.errors import from_rpc_error
from tests.service.leaderboard.conftest import Service, are_marked
from tests.service.leaderboard.messages import NOON, WEEKLY, event
from tests.service.leaderboard.steps import applied, define, ranking
from tests.service.leaderboard.test_hidden import exclusion

EU = {"region": "EU"}


async def verified(service: Service, board: str = "") -> pb.VerifyProjectionResponse:
    return await service.stub.VerifyProjection(pb.VerifyProjectionRequest(leaderboard=board))


async def two_boards(service: Service) -> None:
    await define(service, "all-time", breakdown_attributes=["region"])
    await define(service, "weekly", schedule=WEEKLY)
    await applied(
        service,
        *(event(user, 9 - n, user=user, attributes=EU if n < 2 else {}) for n, user in enumerate("abc")),
        exclusion("x", "c", 1, board="weekly"),
    )


async def damage(service: Service) -> None:
    """A member of the all-time board is gone from its sorted set, and another one is nobody."""
    run = run_of(PERPETUAL, NOON.date())
    assert run is not None
    order, *_ = keys_of(SegmentKey("all-time", run.start, ""))
    assert await service.sets.zremrangebyrank(order, 0, 0) == 1
    await service.sets.zadd(order, {b"0" * 32 + b"ghost": 0})


async def test_what_is_whole_has_no_difference_and_says_what_it_takes(service: Service) -> None:
    await two_boards(service)
    found = await verified(service)
    assert (found.segment_count, found.member_count, len(found.differences)) == (3, 3 + 2 + 2, 0)
    assert found.memory_bytes > 0
    assert (await verified(service, "weekly")).member_count == 2


async def test_a_member_that_is_missing_or_too_many_is_told(service: Service) -> None:
    await two_boards(service)
    await damage(service)
    (difference,) = (await verified(service)).differences
    assert (difference.leaderboard, dict(difference.segment)) == ("all-time", {})
    assert (difference.missing_count, difference.surplus_count) == (1, 1)
    assert not (await verified(service, "weekly")).differences


async def test_one_board_is_filled_anew_and_the_others_stay_as_they_are(service: Service) -> None:
    await two_boards(service)
    await damage(service)
    done = await service.stub.RebuildProjection(pb.RebuildProjectionRequest(leaderboard="all-time"))
    assert done.member_count == 3
    assert not (await verified(service)).differences
    kept = await service.database.fetch("SELECT method, subject FROM admin_operations")
    assert [tuple(row) for row in kept] == [("rebuild_projection", "leaderboard/all-time")]
    assert await are_marked(service.database, service.sets)
    assert [user for _, user, _ in await ranking(service, "all-time")] == ["a", "b", "c"]
    assert [user for _, user, _ in await ranking(service, "weekly")] == ["a", "b"]


@pytest.mark.parametrize("method", ["VerifyProjection", "RebuildProjection"])
async def test_a_board_that_is_not_there_is_refused_by_name(service: Service, method: str) -> None:
    request = getattr(pb, f"{method}Request")(leaderboard="nonsense")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await getattr(service.stub, method)(request)
    assert from_rpc_error(raised.value).reason == "LEADERBOARD_NOT_FOUND"
