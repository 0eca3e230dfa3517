"""Points systems: creation, change, validation, deletion, and configuration as a whole."""

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2, status_pb2
from laurel.common.v1 import configuration_pb2
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from tests.service.points.conftest import Service
from tests.service.points.messages import BADGE, BRONZE, SILVER, TEN_PER_THREE, event
from tests.service.points.steps import define, send

NOT_A_KEY = types.AchievementPointsTrigger(achievement="Not A Key")
BAD = types.PointsSystem(
    key="Bad Key",
    max_balance=5,
    min_balance=6,
    levels=[
        types.Level(key="a", threshold=1),
        types.Level(key="a", threshold=1),
        types.Level(key="", threshold=2**60),
    ],
    triggers=[
        types.PointsTrigger(key="no_cause", amount=0),
        types.PointsTrigger(key="m", amount=1, metric=types.MetricPointsTrigger(metric="x", every=0)),
        types.PointsTrigger(
            key="n", amount=1, metric=types.MetricPointsTrigger(metric="", every=float("nan"))
        ),
        types.PointsTrigger(
            key="s", amount=2, block=True, streak=types.StreakPointsTrigger(streak="d", length=0)
        ),
        types.PointsTrigger(key="s", amount=2_000_000_000, achievement=NOT_A_KEY),
    ],
)
BAD_FIELDS = {
    "points_system.key",
    "points_system.min_balance",
    "points_system.levels[1].key",
    "points_system.levels[1].threshold",
    "points_system.levels[2].key",
    "points_system.levels[2].threshold",
    "points_system.triggers[0]",
    "points_system.triggers[0].amount",
    "points_system.triggers[1].metric.every",
    "points_system.triggers[2].metric.metric",
    "points_system.triggers[2].metric.every",
    "points_system.triggers[3].block",
    "points_system.triggers[3].streak.length",
    "points_system.triggers[4].key",
    "points_system.triggers[4].amount",
    "points_system.triggers[4].achievement.achievement",
}


def error_of(error: grpc.aio.AioRpcError) -> tuple[str, set[str]]:
    """The reason, and the fields that are wrong."""
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        for kind in (info, bad_request):
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(kind)
    return info.reason, {violation.field for violation in bad_request.field_violations}


async def test_defaults_are_made_explicit_and_levels_put_in_order(service: Service) -> None:
    system = await define(service, "xp", levels=[SILVER, BRONZE])
    assert system.max_balance == 9_007_199_254_740_991
    assert system.level_basis == types.LEVEL_BASIS_BALANCE
    assert system.status == types.POINTS_SYSTEM_STATUS_ACTIVE
    assert [level.key for level in system.levels] == ["bronze", "silver"]
    got = await service.stub.GetPointsSystem(pb.GetPointsSystemRequest(key="xp"))
    assert got.points_system == system


async def test_every_mistake_is_listed_at_once(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.CreatePointsSystem(pb.CreatePointsSystemRequest(points_system=BAD, request_id="r"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_of(caught.value) == ("INVALID_FIELDS", BAD_FIELDS)


async def test_a_system_is_changed_by_its_mask_only(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE], unit="XP")
    response = await service.stub.UpdatePointsSystem(
        pb.UpdatePointsSystemRequest(
            points_system=types.PointsSystem(key="xp", unit="points", name="ignored"),
            update_mask=FieldMask(paths=["unit"]),
            request_id="u1",
        )
    )
    changed = response.points_system
    assert (changed.unit, changed.name, list(changed.triggers)) == ("points", "Xp", [TEN_PER_THREE])


async def test_the_kind_of_a_triggers_cause_cannot_be_changed(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    other = types.PointsTrigger(key="commits", amount=10, achievement=types.AchievementPointsTrigger())
    wanted = types.PointsSystem(key="xp", triggers=[other])
    with pytest.raises(grpc.aio.AioRpcError) as update:
        await service.stub.UpdatePointsSystem(
            pb.UpdatePointsSystemRequest(points_system=wanted, request_id="u1")
        )
    with pytest.raises(grpc.aio.AioRpcError) as whole:
        await service.stub.ApplyConfiguration(pb.ApplyConfigurationRequest(points_systems=[wanted]))
    assert error_of(update.value)[1] == {"points_system.triggers[0].achievement"}
    assert error_of(whole.value)[1] == {"points_systems[0].triggers[0].achievement"}


async def test_systems_are_listed_by_key_in_pages(service: Service) -> None:
    for key in ("c", "a", "b"):
        await define(service, key)
    first = await service.stub.ListPointsSystems(pb.ListPointsSystemsRequest(page_size=2))
    rest = await service.stub.ListPointsSystems(
        pb.ListPointsSystemsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [one.key for one in (*first.points_systems, *rest.points_systems)] == ["a", "b", "c"]
    assert not rest.next_page_token


@pytest.mark.parametrize("value", [3, 1])
async def test_a_system_that_users_hold_something_of_cannot_be_deleted(service: Service, value: int) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", value))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.DeletePointsSystem(pb.DeletePointsSystemRequest(key="xp", request_id="d"))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error_of(caught.value)[0] == "POINTS_SYSTEM_IN_USE"


async def test_a_system_that_nobody_holds_anything_of_can_be_deleted(service: Service) -> None:
    await define(service, "xp", [BADGE])
    await send(service, event("e1", 3))
    await service.stub.DeletePointsSystem(pb.DeletePointsSystemRequest(key="xp", request_id="d"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.GetPointsSystem(pb.GetPointsSystemRequest(key="xp"))
    assert error_of(caught.value)[0] == "POINTS_SYSTEM_NOT_FOUND"


async def test_a_key_is_taken_once(service: Service) -> None:
    await define(service, "xp")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.CreatePointsSystem(
            pb.CreatePointsSystemRequest(points_system=types.PointsSystem(key="xp"), request_id="other")
        )
    assert error_of(caught.value)[0] == "POINTS_SYSTEM_EXISTS"


async def test_a_configuration_says_what_it_changes_and_a_dry_run_changes_nothing(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    wanted = [types.PointsSystem(key="xp", name="Experience"), types.PointsSystem(key="coins")]
    dry = await service.stub.ApplyConfiguration(
        pb.ApplyConfigurationRequest(points_systems=wanted, validate_only=True)
    )
    real = await service.stub.ApplyConfiguration(pb.ApplyConfigurationRequest(points_systems=wanted))
    again = await service.stub.ApplyConfiguration(pb.ApplyConfigurationRequest(points_systems=wanted))
    assert list(dry.changes) == list(real.changes)
    assert [(one.kind, one.key, list(one.changed_fields)) for one in real.changes] == [
        ("points_system", "xp", ["name", "triggers"]),
        ("points_system", "coins", []),
    ]
    assert {one.action for one in again.changes} == {configuration_pb2.CONFIGURATION_ACTION_KEEP}


async def test_an_archived_system_awards_nothing_and_stays_readable(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", 3))
    await service.stub.UpdatePointsSystem(
        pb.UpdatePointsSystemRequest(
            points_system=types.PointsSystem(key="xp", status=types.POINTS_SYSTEM_STATUS_ARCHIVED),
            request_id="archive",
        )
    )
    (outcome,) = await send(service, event("e2", 3))
    assert not outcome.changes
    response = await service.stub.ListUserPoints(pb.ListUserPointsRequest(user_id="alice"))
    assert [(one.points_system, one.balance) for one in response.points] == [("xp", 10)]
