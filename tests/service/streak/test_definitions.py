"""Streak definitions in their service: read, changed while events come, kept while in use."""

import grpc.aio
import pytest
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from shared.errors import from_rpc_error
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, event, revert
from tests.service.streak.steps import applied, define


async def test_a_streak_is_read_from_its_service_as_it_is_stored(service: Service) -> None:
    created = [await define(service, key) for key in ("b", "a")]
    assert (await service.stub.GetStreak(pb.GetStreakRequest(key="b"))).streak == created[0]
    listed = await service.stub.ListStreaks(pb.ListStreaksRequest())
    assert list(listed.streaks) == [created[1], created[0]]


async def test_a_change_takes_effect_on_the_next_event(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    archived = streak_pb2.Streak(key="daily", status=streak_pb2.STREAK_STATUS_ARCHIVED)
    await service.definitions.update(archived)
    (outcome,) = await applied(service, event(2, at(4)))
    assert list(outcome.effects.streaks) == []


async def test_a_streak_is_deleted_only_while_no_user_has_it(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.definitions.delete("streak", "daily")
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STREAK_IN_USE")
    await service.participant.RevertEntries(revert(1))
    await service.definitions.delete("streak", "daily")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.GetStreak(pb.GetStreakRequest(key="daily"))
    assert from_rpc_error(caught.value).reason == "STREAK_NOT_FOUND"
