"""Each participant in turn as the orchestrator meets it: a real server, a real channel, real databases."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest
from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2
from laurel.common.v1 import filter_pb2
from laurel.leaderboard.v1 import leaderboard_pb2, leaderboard_service_pb2
from laurel.points.v1 import points_pb2, points_service_pb2
from laurel.streak.v1 import streak_pb2, streak_service_pb2

from shared.postgres.pool import Connection
from shared.rpc.convert import date_to_proto, to_timestamp
from tests.conftest import ServiceDatabase
from tests.service.achievement import conftest as achievement
from tests.service.leaderboard import conftest as leaderboard
from tests.service.points import conftest as points
from tests.service.streak import conftest as streak

if TYPE_CHECKING:
    from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceAsyncStub

NOON: Final = datetime(2026, 3, 4, 12, tzinfo=UTC)
STATE: Final = {"state": "merged"}
"""Attributes of an event that every one of the definitions counts."""


@dataclass(frozen=True)
class Subject:
    """A participant with one definition that counts commits."""

    domain: str
    stub: "ParticipantServiceAsyncStub"
    database: Connection
    total: Callable[[str], Awaitable[float]]
    """What a user's commits come to, as the service shows it: each event that counts is in it once."""
    tells_of_undoing: bool = True
    """The undoing itself says what it changed; else the correction that follows does."""


Start = Callable[[ServiceDatabase, str], AbstractAsyncContextManager[Subject]]


@asynccontextmanager
async def _streak(service_database: ServiceDatabase, _valkey_url: str) -> AsyncIterator[Subject]:
    async with streak.started(service_database) as service:
        definition = streak_pb2.Streak(
            key="daily",
            frequency=streak_pb2.FREQUENCY_DAILY,
            metrics=[streak_pb2.MetricThreshold(metric="commits", threshold=1)],
        )
        await service.definitions.put(definition)

        async def total(user: str) -> float:
            request = streak_service_pb2.ListUserStreaksRequest(user_id=user, read_time=to_timestamp(NOON))
            response = await service.stub.ListUserStreaks(request)
            return sum(state.progress[0].current for state in response.streaks)

        yield Subject("streak.laurel", service.participant, service.database, total)


@asynccontextmanager
async def _achievement(service_database: ServiceDatabase, _valkey_url: str) -> AsyncIterator[Subject]:
    async with achievement.started(service_database) as service:
        merged = filter_pb2.AttributeFilter(attribute="state", equals="merged")
        trigger = achievement_pb2.MetricTrigger(metric="commits", threshold=1, event_filters=[merged])
        await service.definitions.put(achievement_pb2.Achievement(key="merger", metric=trigger))

        async def total(user: str) -> float:
            request = achievement_service_pb2.ListUserAchievementsRequest(user_id=user)
            response = await service.stub.ListUserAchievements(request)
            return sum(held.current for held in response.achievements)

        yield Subject(
            "achievement.laurel", service.participant, service.database, total, tells_of_undoing=False
        )


@asynccontextmanager
async def _points(service_database: ServiceDatabase, _valkey_url: str) -> AsyncIterator[Subject]:
    async with points.started(service_database) as service:
        trigger = points_pb2.PointsTrigger(
            key="commit", amount=1, metric=points_pb2.MetricPointsTrigger(metric="commits", every=1)
        )
        await service.definitions.put(points_pb2.PointsSystem(key="xp", triggers=[trigger]))

        async def total(user: str) -> float:
            request = points_service_pb2.ListUserPointsRequest(user_id=user)
            response = await service.stub.ListUserPoints(request)
            return sum(point.balance for point in response.points)

        yield Subject("points.laurel", service.participant, service.database, total)


@asynccontextmanager
async def _leaderboard(service_database: ServiceDatabase, valkey_url: str) -> AsyncIterator[Subject]:
    async with leaderboard.started(service_database, valkey_url) as service:
        await service.definitions.put(leaderboard_pb2.Leaderboard(key="all-time", metric="commits"))

        async def total(user: str) -> float:
            request = leaderboard_service_pb2.ListUserStandingsRequest(
                user_id=user, run_date=date_to_proto(NOON.date())
            )
            response = await service.stub.ListUserStandings(request)
            return sum(standing.score for standing in response.standings)

        yield Subject("leaderboard.laurel", service.participant, service.database, total)


PARTICIPANTS: Final[dict[str, Start]] = {
    "streak": _streak,
    "achievement": _achievement,
    "points": _points,
    "leaderboard": _leaderboard,
}


@pytest.fixture(params=PARTICIPANTS)
async def subject(
    request: pytest.FixtureRequest, service_database: ServiceDatabase, valkey_url: str
) -> AsyncIterator[Subject]:
    async with PARTICIPANTS[request.param](service_database, valkey_url) as started:
        yield started


@pytest.fixture(params=PARTICIPANTS)
async def replicas(
    request: pytest.FixtureRequest, service_database: ServiceDatabase, valkey_url: str
) -> AsyncIterator[tuple[Subject, Subject]]:
    """Two replicas of a participant on one database."""
    dsns: dict[str, str] = {}

    async def shared(service: str) -> str:
        if service not in dsns:
            dsns[service] = await service_database(service)
        return dsns[service]

    start = PARTICIPANTS[request.param]
    async with start(shared, valkey_url) as one, start(shared, valkey_url) as other:
        yield one, other
