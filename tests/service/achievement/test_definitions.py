"""Definitions, what users see, and maintenance, over a real channel."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from shared.errors import LaurelError, from_rpc_error
from shared.rpc.convert import to_timestamp
from tests.fixtures.paging import cut, pages
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import API, MERGED, NOON, apply, by_metric, call, event
from tests.service.achievement.steps import define, shown


async def refused(call: Any) -> LaurelError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return from_rpc_error(failure.value)


async def test_an_update_changes_the_masked_fields_only(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10, [MERGED]), tier=1)
    wanted = types.Achievement(key="ten", metric=by_metric(20))
    changed = await service.definitions.update(wanted, "metric.threshold")
    assert changed.metric == by_metric(20, [MERGED])
    assert (changed.name, changed.tier) == ("Ten", 1)
    got = await service.stub.GetAchievement(pb.GetAchievementRequest(key="ten"))
    assert got.achievement == changed


async def test_what_users_have_earned_cannot_be_deleted(service: Service) -> None:
    await define(service, "founder", api=API)
    await define(service, "other", api=API)
    await service.participant.ApplyEntries(apply(call("c1", "founder")))
    error = await refused(service.definitions.delete("achievement", "founder"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ACHIEVEMENT_IN_USE")
    await service.definitions.delete("achievement", "other")
    response = await service.stub.ListAchievements(pb.ListAchievementsRequest())
    assert [achievement.key for achievement in response.achievements] == ["founder"]


async def test_what_has_counted_events_cannot_be_deleted(service: Service) -> None:
    await define(service, "merger", metric=by_metric(10, [MERGED]))
    await service.participant.ApplyEntries(
        apply(event("e1", 1, version=1, total=1, attributes={"state": "merged"}))
    )
    error = await refused(service.definitions.delete("achievement", "merger"))
    assert error.reason == "ACHIEVEMENT_IN_USE"


async def test_definitions_are_listed_by_key_in_pages(service: Service) -> None:
    for key in ("c", "a", "b"):
        await define(service, key, api=API)
    first = await service.stub.ListAchievements(pb.ListAchievementsRequest(page_size=2))
    rest = await service.stub.ListAchievements(
        pb.ListAchievementsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [achievement.key for achievement in (*first.achievements, *rest.achievements)] == ["a", "b", "c"]
    assert rest.next_page_token == ""


async def test_hidden_and_locked_achievements_are_shown_to_holders_only(service: Service) -> None:
    await define(service, "secret", api=API, hidden=True)
    await define(service, "retired", api=API)
    await service.participant.ApplyEntries(apply(call("c1", "secret"), call("c2", "retired")))
    retired = types.Achievement(key="retired", status=types.ACHIEVEMENT_STATUS_LOCKED)
    await service.definitions.update(retired)
    assert {held.achievement for held in await shown(service, "alice")} == {"secret", "retired"}
    assert await shown(service, "bob") == []


async def test_a_user_id_is_required(service: Service) -> None:
    error = await refused(service.stub.ListUserAchievements(pb.ListUserAchievementsRequest()))
    assert [violation.field for violation in error.violations] == ["user_id"]


async def test_maintenance_keeps_the_hold_of_an_import(service: Service) -> None:
    held = "SELECT hold_until IS NOT NULL FROM maintenance"
    await service.participant.RunMaintenance(
        participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON), hold_seconds=60)
    )
    assert await service.database.fetchval(held)
    await service.participant.RunMaintenance(participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON)))
    assert await service.database.fetchval(held)
    await service.participant.RunMaintenance(
        participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON), hold_seconds=0)
    )
    assert not await service.database.fetchval(held)
    error = await refused(
        service.participant.RunMaintenance(participant_pb.RunMaintenanceRequest(hold_seconds=-1))
    )
    assert [violation.field for violation in error.violations] == ["now", "hold_seconds"]


async def test_definitions_change_while_events_come(service: Service) -> None:
    async def redefine() -> None:
        for number in range(5):
            await define(service, f"a{number}", metric=by_metric(number + 1))

    async def ingest() -> None:
        for number in range(1, 21):
            await service.participant.ApplyEntries(apply(event(number, 1, version=number, total=number)))

    await asyncio.gather(redefine(), ingest())
    await service.participant.ApplyEntries(apply(event(21, 1, version=21, total=21)))
    now = to_timestamp(NOON)
    while (await service.participant.RunMaintenance(participant_pb.RunMaintenanceRequest(now=now))).more:
        pass
    assert all(held.completed for held in await shown(service))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
async def test_a_users_achievements_come_in_pages_earned_ones_first(service: Service, size: int) -> None:
    for key in ("c", "a", "b", "late", "early"):
        await define(service, key, api=API)
    await define(service, "tiered", api=API, tier_group="z")
    await service.participant.ApplyEntries(
        apply(call("c1", "early"), call("c2", "late", minutes=1), call("c3", "a", user="bob"))
    )
    keys = ["late", "early", "a", "b", "c", "tiered"]
    request = pb.ListUserAchievementsRequest(user_id="alice", page_size=size)
    found = await pages(service.stub.ListUserAchievements, request, "achievements")
    assert [[listed.achievement for listed in page] for page in found] == cut(keys, size)
    earned = pb.ListUserAchievementsRequest(user_id="alice", completed_only=True, page_size=size)
    found = await pages(service.stub.ListUserAchievements, earned, "achievements")
    assert [[listed.achievement for listed in page] for page in found] == cut(keys[:2], size)


async def test_a_token_is_good_for_the_same_user_and_filter_only(service: Service) -> None:
    await define(service, "a", api=API)
    await define(service, "b", api=API)
    page = pb.ListUserAchievementsRequest(user_id="alice", page_size=1)
    token = (await service.stub.ListUserAchievements(page)).next_page_token
    for other in (
        pb.ListUserAchievementsRequest(user_id="bob", page_token=token),
        pb.ListUserAchievementsRequest(user_id="alice", completed_only=True, page_token=token),
    ):
        error = await refused(service.stub.ListUserAchievements(other))
        assert [violation.field for violation in error.violations] == ["page_token"]
