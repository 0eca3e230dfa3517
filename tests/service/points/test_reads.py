"""Balances, awards and the distribution over levels; and maintenance, of which there is little."""

from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from shared.errors import from_rpc_error
from shared.postgres.maintenance import is_held
from shared.rpc.convert import to_timestamp
from tests.fixtures.paging import cut, pages
from tests.service.points.conftest import Service
from tests.service.points.messages import (
    BRONZE,
    NOON,
    SILVER,
    SPEND,
    TEN_PER_THREE,
    WELCOME,
    entry_id,
    event,
    gift,
    revert,
)
from tests.service.points.steps import define, points, send


async def test_a_user_without_events_has_zero_in_every_active_system(service: Service) -> None:
    await define(service, "xp", levels=[BRONZE])
    await define(service, "old", status=types.POINTS_SYSTEM_STATUS_ARCHIVED)
    assert await points(service, "nobody") == {"xp": types.UserPoints(points_system="xp", next_level=BRONZE)}


async def test_levels_are_read_as_they_are_defined_now(service: Service) -> None:
    await define(service, "xp", [WELCOME], levels=[BRONZE, SILVER])
    await send(service, event("e1", 1))
    lower = types.Level(key="gold", name="Gold", threshold=20)
    await service.definitions.update(types.PointsSystem(key="xp", levels=[BRONZE, lower]))
    assert (await points(service))["xp"].level == lower
    distribution = await service.stub.GetLevelDistribution(pb.GetLevelDistributionRequest(points_system="xp"))
    assert [(level.level.key, level.user_count) for level in distribution.levels] == [
        ("", 0),
        ("bronze", 0),
        ("gold", 1),
    ]


async def test_awards_come_newest_first_in_pages(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WELCOME])
    await define(service, "coins", [types.PointsTrigger(key="c", amount=1, metric=TEN_PER_THREE.metric)])
    await send(service, *[event(n, 3) for n in range(4)])
    await service.participant.RevertEntries(revert(3))
    seen: list[types.Award] = []
    request = pb.ListAwardsRequest(user_id="alice", page_size=4)
    for _ in range(3):
        response = await service.stub.ListAwards(request)
        seen.extend(response.awards)
        request.page_token = response.next_page_token
    assert not request.page_token
    assert len(seen) == 11
    assert len({award.award_id for award in seen}) == 11
    assert [(award.points_system, award.amount) for award in seen[:3]] == [
        ("xp", -10),
        ("coins", -1),
        ("xp", 10),
    ]
    assert seen[0].reversed_award_id == seen[2].award_id
    only = await service.stub.ListAwards(pb.ListAwardsRequest(user_id="alice", points_system="coins"))
    assert [award.amount for award in only.awards] == [-1, 1, 1, 1, 1]


async def test_users_are_counted_by_level(service: Service) -> None:
    await define(
        service, "xp", [TEN_PER_THREE, SPEND], levels=[BRONZE, SILVER], level_basis=types.LEVEL_BASIS_LIFETIME
    )
    for index, value in enumerate((0.5, 3, 9, 15, 30)):
        await send(service, event(index, value, user=f"user-{index}"))
    await send(service, event("s", 1, metric="spending", user="user-4"))
    response = await service.stub.GetLevelDistribution(pb.GetLevelDistributionRequest(points_system="xp"))
    assert list(response.levels) == [
        pb.LevelCount(user_count=0),
        pb.LevelCount(level=BRONZE, user_count=2),
        pb.LevelCount(level=SILVER, user_count=2),
    ]


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("ListUserPoints", pb.ListUserPointsRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        ("ListAwards", pb.ListAwardsRequest(user_id="x" * 256), grpc.StatusCode.INVALID_ARGUMENT),
        (
            "ListAwards",
            pb.ListAwardsRequest(user_id="a", points_system="A"),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ("ListAwards", pb.ListAwardsRequest(user_id="a", page_token="?"), grpc.StatusCode.INVALID_ARGUMENT),
        ("ListAwards", pb.ListAwardsRequest(user_id="a", page_size=-1), grpc.StatusCode.INVALID_ARGUMENT),
        ("ListAwards", pb.ListAwardsRequest(user_id="a", points_system="no"), grpc.StatusCode.NOT_FOUND),
        (
            "GetLevelDistribution",
            pb.GetLevelDistributionRequest(points_system="no"),
            grpc.StatusCode.NOT_FOUND,
        ),
        ("GetLevelDistribution", pb.GetLevelDistributionRequest(), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_bad_input_gets_a_typed_error(
    service: Service, method: str, request_: object, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(service.stub, method)(request_)
    assert caught.value.code() is code


async def test_an_import_holds_maintenance_and_lets_it_go(service: Service) -> None:
    request = participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON), hold_seconds=60)
    await service.participant.RunMaintenance(request)
    assert await is_held(service.database)
    request.hold_seconds = 0
    await service.participant.RunMaintenance(request)
    assert not await is_held(service.database)
    await service.participant.RunMaintenance(participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
async def test_a_users_systems_come_by_key_in_pages(service: Service, size: int) -> None:
    keys = ["a", "b", "c", "d", "old", "z"]
    for key in reversed(keys):
        await define(service, key, [WELCOME] if key == "old" else [])
    await send(service, event("e1", 1))
    archived = types.PointsSystem(key="old", status=types.POINTS_SYSTEM_STATUS_ARCHIVED)
    await service.definitions.update(archived, "status")
    request = pb.ListUserPointsRequest(user_id="alice", page_size=size)
    found = await pages(service.stub.ListUserPoints, request, "points")
    assert [[listed.points_system for listed in page] for page in found] == cut(keys, size)
    assert [listed.balance for page in found for listed in page] == [0, 0, 0, 0, 25, 0]


async def test_a_token_of_one_users_systems_is_none_of_anothers(service: Service) -> None:
    await define(service, "a")
    await define(service, "b")
    first = await service.stub.ListUserPoints(pb.ListUserPointsRequest(user_id="alice", page_size=1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.ListUserPoints(
            pb.ListUserPointsRequest(user_id="bob", page_token=first.next_page_token)
        )
    assert [violation.field for violation in from_rpc_error(caught.value).violations] == ["page_token"]


async def test_the_ledger_is_read_by_trigger_entry_and_time(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", 3), gift("g", 7, minutes=10), event("e2", 3, minutes=20))

    async def amounts_of(**fields: Any) -> list[int]:
        request = pb.ListAwardsRequest(user_id="alice", points_system="xp", **fields)
        return [award.amount for award in (await service.stub.ListAwards(request)).awards]

    assert await amounts_of(trigger=TEN_PER_THREE.key) == [10, 10]
    assert await amounts_of(entry_id=str(entry_id("g"))) == [7]
    start, end = (to_timestamp(NOON + timedelta(minutes=minutes)) for minutes in (10, 20))
    assert await amounts_of(start_time=start) == [10, 7]
    assert await amounts_of(start_time=start, end_time=end) == [7]
    assert await amounts_of(end_time=start, trigger="other") == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.ListAwards(
            pb.ListAwardsRequest(user_id="alice", trigger="x", entry_id="y", start_time=end, end_time=start)
        )
    fields = {violation.field for violation in from_rpc_error(caught.value).violations}
    assert fields == {"points_system", "entry_id", "end_time"}
