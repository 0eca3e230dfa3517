"""Definitions of boards: stored, changed, checked."""

from typing import Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from laurel.common.v1 import configuration_pb2
from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.streak.v1 import streak_pb2

from shared.errors import LaurelError, from_rpc_error
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import WEDNESDAY, WEEKLY, event
from tests.service.leaderboard.steps import applied, define, ranking, standings


def board(**fields: Any) -> board_pb.Leaderboard:
    defaults: dict[str, Any] = {"key": "all-time", "name": "All time", "metric": "commits"}
    return board_pb.Leaderboard(**{**defaults, **fields})


async def refusal(service: Service, definition: board_pb.Leaderboard) -> LaurelError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.CreateLeaderboard(
            pb.CreateLeaderboardRequest(leaderboard=definition, request_id="r")
        )
    return from_rpc_error(raised.value)


async def update(service: Service, definition: board_pb.Leaderboard, *paths: str) -> board_pb.Leaderboard:
    response = await service.stub.UpdateLeaderboard(
        pb.UpdateLeaderboardRequest(
            leaderboard=definition, update_mask=FieldMask(paths=paths), request_id="update"
        )
    )
    return response.leaderboard


async def test_a_board_is_created_with_its_defaults_made_explicit(service: Service) -> None:
    response = await service.stub.CreateLeaderboard(
        pb.CreateLeaderboardRequest(leaderboard=board(schedule=WEEKLY), request_id="r")
    )
    created = response.leaderboard
    assert created.order == board_pb.SORT_ORDER_DESC
    assert created.rank_mode == board_pb.RANK_MODE_ORDINAL
    assert created.aggregation == board_pb.SCORE_AGGREGATION_SUM
    assert created.status == board_pb.LEADERBOARD_STATUS_ACTIVE
    assert created.schedule.every == 1
    got = await service.stub.GetLeaderboard(pb.GetLeaderboardRequest(key="all-time"))
    assert got.leaderboard == created


@pytest.mark.parametrize(
    ("definition", "field"),
    [
        (board(key="All Time"), "leaderboard.key"),
        (board(name="x" * 256), "leaderboard.name"),
        (board_pb.Leaderboard(key="a", name="a"), "leaderboard"),
        (board(metric="No"), "leaderboard.metric"),
        (
            board_pb.Leaderboard(
                key="a", name="a", streak="daily", aggregation=board_pb.SCORE_AGGREGATION_BEST
            ),
            "leaderboard.aggregation",
        ),
        (board(order=9), "leaderboard.order"),
        (board(rank_mode=9), "leaderboard.rank_mode"),
        (board(status=9), "leaderboard.status"),
        (board(schedule=board_pb.RunSchedule(unit=9)), "leaderboard.schedule.unit"),  # type: ignore[arg-type]
        (
            board(schedule=board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY, every=367)),
            "leaderboard.schedule.every",
        ),
        (board(schedule=board_pb.RunSchedule(every=2)), "leaderboard.schedule.every"),
        (
            board(schedule=board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY, end_date=WEDNESDAY)),
            "leaderboard.schedule.end_date",
        ),
        (
            board(schedule=board_pb.RunSchedule(start_date=streak_pb2.LocalDate(year=2026, month=13, day=1))),
            "leaderboard.schedule.start_date",
        ),
        (board(breakdown_attributes=list("abcde")), "leaderboard.breakdown_attributes"),
        (board(breakdown_attributes=["a", "a"]), "leaderboard.breakdown_attributes[1]"),
        (board(participant_limit=-1), "leaderboard.participant_limit"),
    ],
)
async def test_what_is_wrong_with_a_board_is_named(
    service: Service, definition: board_pb.Leaderboard, field: str
) -> None:
    assert field in {one.field for one in (await refusal(service, definition)).violations}


async def test_a_key_is_taken_once(service: Service) -> None:
    await define(service, "all-time")
    assert (await refusal(service, board())).reason == "LEADERBOARD_EXISTS"


@pytest.mark.parametrize(
    ("definition", "path"),
    [
        (board(metric="lines"), "metric"),
        (board(order=board_pb.SORT_ORDER_ASC), "order"),
        (board(rank_mode=board_pb.RANK_MODE_DENSE), "rank_mode"),
        (board(aggregation=board_pb.SCORE_AGGREGATION_LAST), "aggregation"),
        (board(schedule=WEEKLY), "schedule"),
        (board(breakdown_attributes=["region"]), "breakdown_attributes"),
    ],
)
async def test_what_scores_are_made_of_cannot_be_changed(
    service: Service, definition: board_pb.Leaderboard, path: str
) -> None:
    await define(service, "all-time")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await update(service, definition, path)
    assert [one.field for one in from_rpc_error(raised.value).violations] == [path]


async def test_a_new_limit_takes_effect_with_the_next_event(service: Service) -> None:
    await define(service, "all-time")
    await applied(service, event(1, 5, user="bob"))
    await update(service, board(participant_limit=1), "participant_limit")
    (standing,) = await standings(service, event(2, 4))
    assert (standing.rank, standing.threshold) == (0, 5)
    assert await ranking(service, "all-time") == [(1, "bob", 5)]


async def test_a_board_with_scores_is_not_deleted(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "other")
    await service.stub.DeleteLeaderboard(pb.DeleteLeaderboardRequest(key="other", request_id="d1"))
    await applied(service, event(1, 5))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.DeleteLeaderboard(pb.DeleteLeaderboardRequest(key="all-time", request_id="d2"))
    assert from_rpc_error(raised.value).reason == "LEADERBOARD_IN_USE"


async def test_a_configuration_is_compared_and_applied_whole(service: Service) -> None:
    await define(service, "all-time")
    request = pb.ApplyConfigurationRequest(
        leaderboards=[board(name="New name"), board(key="second")], validate_only=True
    )
    for validate_only in (True, False):
        request.validate_only = validate_only
        response = await service.stub.ApplyConfiguration(request)
        assert [one.action for one in response.changes] == [
            configuration_pb2.CONFIGURATION_ACTION_UPDATE,
            configuration_pb2.CONFIGURATION_ACTION_CREATE,
        ]
    again = await service.stub.ApplyConfiguration(request)
    assert {one.action for one in again.changes} == {configuration_pb2.CONFIGURATION_ACTION_KEEP}
    listed = await service.stub.ListLeaderboards(pb.ListLeaderboardsRequest())
    assert [one.key for one in listed.leaderboards] == ["all-time", "second"]
