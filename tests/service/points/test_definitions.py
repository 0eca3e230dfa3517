"""Points systems in their service: read, changed while events come, kept while in use."""

import grpc.aio
import pytest
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from shared.errors import from_rpc_error
from tests.service.points.conftest import Service
from tests.service.points.messages import BADGE, TEN_PER_THREE, event
from tests.service.points.steps import define, send


async def test_a_system_is_changed_by_its_mask_only(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE], unit="XP")
    wanted = types.PointsSystem(key="xp", unit="points", name="ignored")
    changed = await service.definitions.update(wanted, "unit")
    assert (changed.unit, changed.name, list(changed.triggers)) == ("points", "Xp", [TEN_PER_THREE])


async def test_systems_are_listed_by_key_in_pages(service: Service) -> None:
    for key in ("c", "a", "b"):
        await define(service, key)
    first = await service.stub.ListPointsSystems(pb.ListPointsSystemsRequest(page_size=2))
    rest = await service.stub.ListPointsSystems(
        pb.ListPointsSystemsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [system.key for system in (*first.points_systems, *rest.points_systems)] == ["a", "b", "c"]
    assert not rest.next_page_token


@pytest.mark.parametrize("value", [3, 1])
async def test_a_system_that_users_hold_something_of_cannot_be_deleted(service: Service, value: int) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", value))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.definitions.delete("points_system", "xp")
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "POINTS_SYSTEM_IN_USE")


async def test_a_system_that_nobody_holds_anything_of_can_be_deleted(service: Service) -> None:
    await define(service, "xp", [BADGE])
    await send(service, event("e1", 3))
    await service.definitions.delete("points_system", "xp")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.GetPointsSystem(pb.GetPointsSystemRequest(key="xp"))
    assert from_rpc_error(caught.value).reason == "POINTS_SYSTEM_NOT_FOUND"


async def test_an_archived_system_awards_nothing_and_stays_readable(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", 3))
    archived = types.PointsSystem(key="xp", status=types.POINTS_SYSTEM_STATUS_ARCHIVED)
    await service.definitions.update(archived)
    (outcome,) = await send(service, event("e2", 3))
    assert not outcome.effects.points
    response = await service.stub.ListUserPoints(pb.ListUserPointsRequest(user_id="alice"))
    assert [(points.points_system, points.balance) for points in response.points] == [("xp", 10)]
