"""Definitions, what users see, and maintenance, over a real channel."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.common.v1 import configuration_pb2, filter_pb2

from shared.errors import LaurelError, from_rpc_error
from shared.rpc.convert import to_timestamp
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import API, MERGED, NOON, apply, by_metric, by_streak, call, event
from tests.service.achievement.steps import define, shown


async def refused(call: Any) -> LaurelError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return from_rpc_error(failure.value)


async def test_a_definition_is_stored_with_its_defaults(service: Service) -> None:
    created = await define(service, "ten", metric=by_metric(10))
    assert created.status == types.ACHIEVEMENT_STATUS_ACTIVE
    assert created.create_time.seconds > 0
    got = await service.stub.GetAchievement(pb.GetAchievementRequest(key="ten"))
    assert got.achievement == created


async def test_creating_twice_with_one_request_id_creates_once(service: Service) -> None:
    assert await define(service, "ten", metric=by_metric(10)) == await define(
        service, "ten", metric=by_metric(10)
    )


async def test_a_key_that_is_taken_and_one_that_is_unknown_have_their_reasons(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    taken = types.Achievement(key="ten", name="Ten", api=API)
    error = await refused(
        service.stub.CreateAchievement(pb.CreateAchievementRequest(achievement=taken, request_id="again"))
    )
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ACHIEVEMENT_EXISTS")
    error = await refused(service.stub.GetAchievement(pb.GetAchievementRequest(key="eleven")))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "ACHIEVEMENT_NOT_FOUND")


async def test_every_mistake_of_a_definition_is_named(service: Service) -> None:
    wrong = types.Achievement(
        key="Ten",
        name="x" * 256,
        metric=types.MetricTrigger(metric="", threshold=-1, event_filters=[filter_pb2.AttributeFilter()]),
        tier_group="No Key",
        tier=-1,
        status=9,  # type: ignore[arg-type]
    )
    error = await refused(
        service.stub.CreateAchievement(pb.CreateAchievementRequest(achievement=wrong, request_id="r"))
    )
    assert {violation.field for violation in error.violations} == {
        "achievement.key",
        "achievement.name",
        "achievement.status",
        "achievement.tier",
        "achievement.tier_group",
        "achievement.metric.metric",
        "achievement.metric.threshold",
        "achievement.metric.event_filters[0]",
        "achievement.metric.event_filters[0].attribute",
    }


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf"), 1e-9, 1e13])
async def test_a_threshold_that_cannot_be_reached_or_counted_is_refused(
    service: Service, threshold: float
) -> None:
    wrong = types.Achievement(key="ten", name="Ten", metric=by_metric(threshold))
    error = await refused(
        service.stub.CreateAchievement(pb.CreateAchievementRequest(achievement=wrong, request_id="r"))
    )
    assert [violation.field for violation in error.violations] == ["achievement.metric.threshold"]


async def test_an_update_changes_the_masked_fields_only(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10, [MERGED]), tier=1)
    response = await service.stub.UpdateAchievement(
        pb.UpdateAchievementRequest(
            achievement=types.Achievement(key="ten", metric=by_metric(20)),
            update_mask=FieldMask(paths=["metric.threshold"]),
            request_id="u1",
        )
    )
    assert response.achievement.metric == by_metric(20, [MERGED])
    assert (response.achievement.name, response.achievement.tier) == ("Ten", 1)


@pytest.mark.parametrize("paths", [[], ["*"], ["streak"], ["streak.length"]])
async def test_the_kind_of_a_trigger_cannot_be_changed(service: Service, paths: list[str]) -> None:
    await define(service, "ten", metric=by_metric(10))
    other = types.Achievement(key="ten", name="Ten", streak=by_streak(7))
    error = await refused(
        service.stub.UpdateAchievement(
            pb.UpdateAchievementRequest(
                achievement=other, update_mask=FieldMask(paths=paths), request_id="u1"
            )
        )
    )
    assert [violation.field for violation in error.violations] == ["achievement.streak"]
    error = await refused(service.stub.ApplyConfiguration(pb.ApplyConfigurationRequest(achievements=[other])))
    assert [violation.field for violation in error.violations] == ["achievements[0].streak"]


async def test_what_users_have_earned_cannot_be_deleted(service: Service) -> None:
    await define(service, "founder", api=API)
    await define(service, "other", api=API)
    await service.stub.ApplyEvents(apply(call("c1", "founder")))
    error = await refused(
        service.stub.DeleteAchievement(pb.DeleteAchievementRequest(key="founder", request_id="d1"))
    )
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ACHIEVEMENT_IN_USE")
    await service.stub.DeleteAchievement(pb.DeleteAchievementRequest(key="other", request_id="d2"))
    response = await service.stub.ListAchievements(pb.ListAchievementsRequest())
    assert [one.key for one in response.achievements] == ["founder"]


async def test_what_has_counted_events_cannot_be_deleted(service: Service) -> None:
    await define(service, "merger", metric=by_metric(10, [MERGED]))
    await service.stub.ApplyEvents(apply(event("e1", 1, version=1, total=1, attributes={"state": "merged"})))
    error = await refused(
        service.stub.DeleteAchievement(pb.DeleteAchievementRequest(key="merger", request_id="d1"))
    )
    assert error.reason == "ACHIEVEMENT_IN_USE"


async def test_definitions_are_listed_by_key_in_pages(service: Service) -> None:
    for key in ("c", "a", "b"):
        await define(service, key, api=API)
    first = await service.stub.ListAchievements(pb.ListAchievementsRequest(page_size=2))
    rest = await service.stub.ListAchievements(
        pb.ListAchievementsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [one.key for one in (*first.achievements, *rest.achievements)] == ["a", "b", "c"]
    assert rest.next_page_token == ""


async def test_a_configuration_is_applied_all_or_nothing(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    wanted = [
        types.Achievement(key="ten", name="Ten", metric=by_metric(11)),
        types.Achievement(key="founder", name="Founder", api=API),
    ]
    dry = await service.stub.ApplyConfiguration(
        pb.ApplyConfigurationRequest(achievements=wanted, validate_only=True)
    )
    assert [change.action for change in dry.changes] == [
        configuration_pb2.CONFIGURATION_ACTION_UPDATE,
        configuration_pb2.CONFIGURATION_ACTION_CREATE,
    ]
    assert list(dry.changes[0].changed_fields) == ["metric"]
    broken = pb.ApplyConfigurationRequest(achievements=[*wanted, types.Achievement(key="bad", name="Bad")])
    assert [one.field for one in (await refused(service.stub.ApplyConfiguration(broken))).violations] == [
        "achievements[2]"
    ]
    assert len((await service.stub.ListAchievements(pb.ListAchievementsRequest())).achievements) == 1
    done = await service.stub.ApplyConfiguration(pb.ApplyConfigurationRequest(achievements=wanted))
    assert done == dry
    again = await service.stub.ApplyConfiguration(pb.ApplyConfigurationRequest(achievements=wanted))
    assert {change.action for change in again.changes} == {configuration_pb2.CONFIGURATION_ACTION_KEEP}


async def test_hidden_and_locked_achievements_are_shown_to_holders_only(service: Service) -> None:
    await define(service, "secret", api=API, hidden=True)
    await define(service, "retired", api=API)
    await service.stub.ApplyEvents(apply(call("c1", "secret"), call("c2", "retired")))
    await service.stub.UpdateAchievement(
        pb.UpdateAchievementRequest(
            achievement=types.Achievement(key="retired", status=types.ACHIEVEMENT_STATUS_LOCKED),
            request_id="u1",
        )
    )
    assert {one.achievement for one in await shown(service, "alice")} == {"secret", "retired"}
    assert await shown(service, "bob") == []


async def test_a_user_id_is_required(service: Service) -> None:
    error = await refused(service.stub.ListUserAchievements(pb.ListUserAchievementsRequest()))
    assert [violation.field for violation in error.violations] == ["user_id"]


async def test_maintenance_keeps_the_hold_of_an_import(service: Service) -> None:
    held = "SELECT hold_until IS NOT NULL FROM maintenance"
    await service.stub.RunMaintenance(pb.RunMaintenanceRequest(now=to_timestamp(NOON), hold_seconds=60))
    assert await service.database.fetchval(held)
    await service.stub.RunMaintenance(pb.RunMaintenanceRequest(now=to_timestamp(NOON)))
    assert await service.database.fetchval(held)
    await service.stub.RunMaintenance(pb.RunMaintenanceRequest(now=to_timestamp(NOON), hold_seconds=0))
    assert not await service.database.fetchval(held)
    error = await refused(service.stub.RunMaintenance(pb.RunMaintenanceRequest(hold_seconds=-1)))
    assert [violation.field for violation in error.violations] == ["now", "hold_seconds"]


async def test_definitions_change_while_events_come(service: Service) -> None:
    async def redefine() -> None:
        for number in range(5):
            await define(service, f"a{number}", metric=by_metric(number + 1))

    async def ingest() -> None:
        for number in range(1, 21):
            await service.stub.ApplyEvents(apply(event(number, 1, version=number, total=number)))

    await asyncio.gather(redefine(), ingest())
    await service.stub.ApplyEvents(apply(event(21, 1, version=21, total=21)))
    assert all(one.completed for one in await shown(service))
