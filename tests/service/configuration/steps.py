"""What tests do with definitions over and over."""

from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from laurel.achievement.v1.achievement_pb2 import Achievement, StreakTrigger
from laurel.leaderboard.v1.leaderboard_pb2 import Leaderboard
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1.definition_pb2 import Definition
from laurel.orchestrator.v1.metric_pb2 import Metric
from laurel.points.v1.points_pb2 import PointsSystem, PointsTrigger, StreakPointsTrigger
from laurel.streak.v1.streak_pb2 import FREQUENCY_DAILY, MetricThreshold, Streak

from shared.definitions import name_of
from shared.errors import LaurelError, from_rpc_error

if TYPE_CHECKING:
    from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceAsyncStub

STEPS = Metric(key="steps", name="Steps")
DAILY = Streak(
    key="daily",
    name="Daily",
    frequency=FREQUENCY_DAILY,
    metrics=[MetricThreshold(metric="steps", threshold=1)],
)
WEEK = Achievement(key="week", name="Week", streak=StreakTrigger(streak="daily", length=7))
XP = PointsSystem(
    key="xp",
    name="XP",
    triggers=[PointsTrigger(key="week", amount=5, streak=StreakPointsTrigger(streak="daily", length=7))],
)
BOARD = Leaderboard(key="board", name="Board", streak="daily")

WHOLE = pb.ApplyConfigurationRequest(
    metrics=[STEPS], streaks=[DAILY], achievements=[WEEK], points_systems=[XP], leaderboards=[BOARD]
)
ALL = ["metric steps", "streak daily", "achievement week", "points_system xp", "leaderboard board"]


async def refused(call: Any) -> LaurelError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return from_rpc_error(failure.value)


def fields(error: LaurelError) -> list[str]:
    """Where something is wrong."""
    return [violation.field for violation in error.violations]


async def listed(stub: "OrchestratorServiceAsyncStub", kind: str = "") -> list[str]:
    """Every definition, by kind and key, read in pages of 2."""
    found: list[str] = []
    token = ""
    while True:
        page = await stub.ListDefinitions(pb.ListDefinitionsRequest(kind=kind, page_size=2, page_token=token))
        found += [" ".join(name_of(definition)) for definition in page.definitions]
        token = page.next_page_token
        if not token:
            return found


def create(definition: Definition, request_id: str) -> pb.CreateDefinitionRequest:
    return pb.CreateDefinitionRequest(definition=definition, request_id=request_id)


def delete(kind: str, key: str, request_id: str) -> pb.DeleteDefinitionRequest:
    return pb.DeleteDefinitionRequest(kind=kind, key=key, request_id=request_id)
