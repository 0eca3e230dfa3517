"""Whatever fails around a commit, the same call sent again gets one answer and has one effect (RULES 7.4, 7.5)."""

from collections.abc import Iterator

import grpc.aio
import pytest

from shared import faults
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import API, MERGED, apply, by_metric, call, event, revert
from tests.service.achievement.steps import completed, define, held, revoked, shown

IS_MERGED = {"state": "merged"}


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


@pytest.mark.parametrize("point", ["before_store", "after_store"])
async def test_an_apply_that_fails_at_its_commit_is_done_once_when_sent_again(
    service: Service, point: str
) -> None:
    await define(service, "founder", api=API)
    await define(service, "merger", metric=by_metric(10, [MERGED]))
    request = apply(call("c1", "founder"), event("e1", 4, version=1, total=4, attributes=IS_MERGED))
    faults.arm(f"achievement.apply.{point}=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await service.participant.ApplyEntries(request)
    response = await service.participant.ApplyEntries(request)
    assert completed(response.outcomes[0]) == ["founder"]
    assert {one.achievement: one.current for one in await shown(service)} == {"founder": 1, "merger": 4}


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_revert_that_fails_at_its_commit_is_done_once_when_sent_again(
    service: Service, point: str
) -> None:
    await define(service, "founder", api=API)
    await service.participant.ApplyEntries(apply(call("c1", "founder")))
    faults.arm(f"achievement.revert.{point}=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await service.participant.RevertEntries(revert("c1"))
    response = await service.participant.RevertEntries(revert("c1"))
    assert (response.outcomes[0].reverted, revoked(response.outcomes[0])) == (True, ["founder"])
    assert await held(service) == set()
