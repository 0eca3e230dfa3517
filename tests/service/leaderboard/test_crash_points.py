"""Whatever fails around a commit or a projection, the same call sent again gets one answer and one effect."""

from collections.abc import Iterator

import grpc.aio
import pytest

from shared import faults
from tests.service.leaderboard.conftest import Service, are_marked
from tests.service.leaderboard.messages import WEEKLY, apply, event, revert
from tests.service.leaderboard.steps import (
    applied,
    define,
    maintained,
    projected,
    ranking,
    rebuilt,
    stored_state,
)
from tests.service.leaderboard.test_maintenance import DUE


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


@pytest.mark.parametrize("point", ["before_store", "after_store", "after_projection", "after_outcome"])
async def test_an_apply_that_fails_is_done_once_when_sent_again(service: Service, point: str) -> None:
    await define(service, "all-time")
    await applied(service, event("bob", 5, user="bob"))
    request = apply(event(1, 4), event(2, 3, minutes=1))
    faults.arm(f"leaderboard.apply.{point}=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await service.participant.ApplyEntries(request)
    response = await service.participant.ApplyEntries(request)
    told = [
        (outcome.effects.leaderboards[0].previous_rank, outcome.effects.leaderboards[0].rank)
        for outcome in response.outcomes
    ]
    assert told == [(0, 2), (2, 1)]
    assert await service.participant.ApplyEntries(request) == response
    assert await ranking(service, "all-time") == [(1, "ada", 7), (2, "bob", 5)]
    history = (await stored_state(service))["rank_events"]
    assert [row[3:5] for row in history if row[0] == "ada"] == [(0, 2), (2, 1)]


@pytest.mark.parametrize("point", ["revert.before_commit", "revert.after_commit", "apply.after_projection"])
async def test_a_revert_that_fails_is_done_once_when_sent_again(service: Service, point: str) -> None:
    await define(service, "all-time")
    await applied(service, event("bob", 5, user="bob"), event(1, 9))
    faults.arm(f"leaderboard.{point}=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await service.participant.RevertEntries(revert(1))
    response = await service.participant.RevertEntries(revert(1))
    assert response.outcomes[0].reverted
    assert (
        response.outcomes[0].effects.leaderboards[0].previous_rank,
        response.outcomes[0].effects.leaderboards[0].rank,
    ) == (1, 0)
    assert await service.participant.RevertEntries(revert(1)) == response
    assert await ranking(service, "all-time") == [(1, "bob", 5)]


async def test_an_entry_undone_before_it_was_projected_leaves_nothing(service: Service) -> None:
    await define(service, "all-time")
    faults.arm("leaderboard.apply.after_store=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await applied(service, event(1, 9))
    await service.participant.RevertEntries(revert(1))
    (late,) = await applied(service, event(1, 9))
    assert late.error.reason == "ENTRY_REVERTED"
    assert await projected(service) == {}
    assert (await stored_state(service))["rank_events"] == []


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_maintenance_that_fails_is_completed_by_the_next_pass(service: Service, point: str) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    await applied(service, event(1, 9), event(2, 5, user="bob"))
    faults.arm(f"leaderboard.maintenance.{point}=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await maintained(service, DUE)
    await maintained(service, DUE)
    assert await ranking(service, "weekly") == [(1, "ada", 9), (2, "bob", 5)]
    assert await projected(service) == {}
    assert await service.database.fetchval("SELECT count(*) FROM archive") == 2


async def test_a_rebuild_that_fails_leaves_sets_that_nobody_trusts(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 9))
    faults.arm("leaderboard.rebuild.before_mark=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await rebuilt(service)
    assert not await are_marked(service.database, service.sets)
    assert await rebuilt(service) == 1
    assert await are_marked(service.database, service.sets)
