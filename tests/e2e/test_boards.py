"""Boards through the whole system (RULES 6)."""

import uuid

import grpc.aio
import pytest
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from shared.errors import from_rpc_error
from tests.fixtures.invariants import violations
from tests.fixtures.system import System, event


@pytest.fixture
def user() -> str:
    """A user whom nobody has seen."""
    return f"user-{uuid.uuid4().hex[:12]}"


def exclusion(
    user: str, request_id: str, *, board: str = "", excluded: bool = True
) -> pb.SetBoardExclusionRequest:
    return pb.SetBoardExclusionRequest(
        user_id=user, leaderboard=board, excluded=excluded, request_id=request_id, reason="bot"
    )


async def test_who_is_excluded_is_ranked_nowhere_until_they_are_back(system: System, user: str) -> None:
    await system.orchestrator.IngestEvent(event(user, value=3))
    reply = await system.orchestrator.SetBoardExclusion(exclusion(user, "out"))
    gone = {one.leaderboard: (one.previous_rank > 0, one.rank) for one in reply.effects.leaderboards}
    assert gone["steps"] == (True, 0)
    while_out = await system.orchestrator.IngestEvent(event(user, value=4))
    assert all(one.rank == 0 for one in while_out.effects.leaderboards)
    back = await system.orchestrator.SetBoardExclusion(exclusion(user, "back", excluded=False))
    scores = {one.leaderboard: one.score for one in back.effects.leaderboards if not one.segment}
    assert scores["steps"] == 7
    assert await violations(system) == []
    again = await system.orchestrator.SetBoardExclusion(exclusion(user, "out"))
    assert (again.entry_id, again.idempotent_replayed) == (reply.entry_id, True)


async def test_an_exclusion_from_a_board_that_is_not_there_leaves_nothing_behind(
    system: System, user: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await system.orchestrator.SetBoardExclusion(exclusion(user, "out", board="nonsense"))
    assert from_rpc_error(raised.value).reason == "LEADERBOARD_NOT_FOUND"
    assert await violations(system) == []
