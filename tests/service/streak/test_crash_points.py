"""Whatever fails around a commit, the same call sent again gets one answer and one effect (RULES 7.4, 7.5)."""

from collections.abc import Iterator

import grpc.aio
import pytest

from shared import faults
from tests.service.streak.conftest import Service
from tests.service.streak.messages import apply, at, event, revert
from tests.service.streak.steps import applied, define, derived_state, feed, maintain, recorded


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


@pytest.mark.parametrize("point", ["before_store", "after_store"])
async def test_an_apply_that_fails_at_its_commit_is_done_once_when_sent_again(
    service: Service, point: str
) -> None:
    await define(service)
    request = apply(event(1, at(3)), event(2, at(4)))
    faults.arm(f"streak.apply.{point}=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await service.participant.ApplyEntries(request)
    response = await service.participant.ApplyEntries(request)
    assert [outcome.effects.streaks[0].change.version for outcome in response.outcomes] == [1, 2]
    assert len(await recorded(service)) == 2


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_revert_that_fails_at_its_commit_is_done_once_when_sent_again(
    service: Service, point: str
) -> None:
    await define(service)
    await applied(service, event(1, at(3)), event(2, at(4)))
    faults.arm(f"streak.revert.{point}=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await service.participant.RevertEntries(revert(2))
    response = await service.participant.RevertEntries(revert(2))
    assert response.outcomes[0].effects.streaks[0].change.version == 3
    assert len(await recorded(service)) == 1


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_pass_of_maintenance_that_fails_at_its_commit_tells_each_change_once(
    service: Service, point: str
) -> None:
    await define(service)
    await applied(service, *(event(n, at(3), user=f"user-{n}") for n in range(7)))
    faults.arm(f"streak.maintenance.{point}=error@2")
    with pytest.raises(grpc.aio.AioRpcError):
        await maintain(service, at(6))
    await maintain(service, at(6))
    assert [change.user_id for change in await feed(service)] == [f"user-{n}" for n in range(7)]
    assert len((await derived_state(service))[1]) == 14
