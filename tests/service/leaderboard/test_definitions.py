"""Definitions of boards: stored, changed, checked."""

from typing import Any

import grpc.aio
import pytest
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from shared.errors import from_rpc_error
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import WEEKLY, event
from tests.service.leaderboard.steps import applied, define, ranking, standings


def board(**fields: Any) -> board_pb.Leaderboard:
    defaults: dict[str, Any] = {"key": "all-time", "name": "All time", "metric": "commits"}
    return board_pb.Leaderboard(**{**defaults, **fields})


async def test_a_board_is_read_from_its_service_as_it_is_stored(service: Service) -> None:
    created = await service.definitions.create(board(schedule=WEEKLY))
    got = await service.stub.GetLeaderboard(pb.GetLeaderboardRequest(key="all-time"))
    assert got.leaderboard == created
    listed = await service.stub.ListLeaderboards(pb.ListLeaderboardsRequest())
    assert list(listed.leaderboards) == [created]


async def test_a_new_limit_takes_effect_with_the_next_event(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5, user="bob"))
    await service.definitions.update(board(participant_limit=1), "participant_limit")
    (standing,) = await standings(service, event(2, 4))
    assert (standing.rank, standing.threshold) == (0, 5)
    assert await ranking(service, "all-time") == [(1, "bob", 5)]


async def test_a_board_with_scores_is_not_deleted(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "other")
    await service.definitions.delete("leaderboard", "other")
    await applied(service, event(1, 5))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.definitions.delete("leaderboard", "all-time")
    assert from_rpc_error(raised.value).reason == "LEADERBOARD_IN_USE"
