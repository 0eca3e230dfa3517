"""How many users have how many points, of those whose attributes meet filters."""

from collections.abc import Mapping
from typing import Any, Final

import grpc.aio
import pytest
from laurel.common.v1.filter_pb2 import AttributeFilter
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.points_reads import PointsHandlers
from services.orchestrator.saga import Step
from services.orchestrator.said import Run, Said
from services.orchestrator.store.reads import ReadStore
from services.orchestrator.store.rows import said_to_json
from shared.postgres.pool import Pool
from shared.tenants import CURRENT_TENANT, stored
from tests.service.orchestrator.conftest import Orchestrator, refused

PRO: Final = AttributeFilter(attribute="plan", equals="pro")
GROWN_UP: Final = AttributeFilter(attribute="age", range=AttributeFilter.Range(min=18))
LIMIT: Final = 2_500


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"max_filtered_users": LIMIT}


async def add(pool: Pool, users: Mapping[str, Mapping[str, str]], entry_count: int = 1) -> None:
    """Users with attributes."""
    said = [
        said_to_json(Said(attributes={name: (Run(value, 1, 1),) for name, value in attributes.items()}))
        for attributes in users.values()
    ]
    await pool.execute(
        "INSERT INTO users (user_id, guard, version, entry_count, create_time, said)"
        " SELECT id, 1, 1, $3, now(), said FROM unnest($1::text[], $2::jsonb[]) AS one (id, said)",
        list(users),
        said,
        entry_count,
    )


def asked(*filters: AttributeFilter) -> pb.GetFilteredPointsDistributionRequest:
    return pb.GetFilteredPointsDistributionRequest(points_system="xp", bounds=[10, 20], user_filters=filters)


async def counted(orchestrator: Orchestrator, *filters: AttributeFilter) -> tuple[int, list[int]]:
    """How many match, and how many of them are in each range."""
    response = await orchestrator.stub.GetFilteredPointsDistribution(asked(*filters), timeout=20)
    return response.matching_user_count, [each.user_count for each in response.ranges]


def calls(orchestrator: Orchestrator) -> list[list[str]]:
    return [users for _, method, users in orchestrator.cast.heard if method == "GetPointsDistribution"]


async def test_users_who_meet_every_filter_are_counted_by_their_points(orchestrator: Orchestrator) -> None:
    await add(
        orchestrator.pool,
        {
            "ada": {"plan": "pro", "age": "18"},
            "bob": {"plan": "pro", "age": "9"},
            "cy": {"plan": "free", "age": "40"},
            "dee": {"plan": "pro", "age": "40"},
            "eve": {"plan": "pro", "age": "50"},
        },
    )
    await add(orchestrator.pool, {"undone": {"plan": "pro", "age": "40"}}, entry_count=0)
    orchestrator.points.balances |= {"ada": 5, "bob": 10, "cy": 10, "dee": 20, "undone": 10}
    assert await counted(orchestrator, PRO) == (4, [1, 1, 1])
    assert await counted(orchestrator, PRO, GROWN_UP) == (3, [1, 0, 1])
    assert await counted(orchestrator, AttributeFilter(attribute="plan", equals="none")) == (0, [0, 0, 0])
    assert calls(orchestrator)[-1] == []


async def test_the_points_service_is_asked_about_a_bounded_number_at_a_time(
    orchestrator: Orchestrator,
) -> None:
    users = [f"user-{number:04}" for number in range(LIMIT)]
    await add(
        orchestrator.pool,
        {user: {"plan": "free" if number % 7 == 0 else "pro"} for number, user in enumerate(users)},
    )
    orchestrator.points.balances |= {user: number % 30 for number, user in enumerate(users)}
    pro = [number for number in range(LIMIT) if number % 7]
    expected = [sum(number % 30 // 10 == part for number in pro) for part in range(3)]
    assert await counted(orchestrator, PRO) == (len(pro), expected)
    assert [len(users) for users in calls(orchestrator)] == [1_000, 1_000, len(pro) - 2_000]


async def test_where_there_are_more_users_than_are_looked_at_nobody_is(orchestrator: Orchestrator) -> None:
    await add(orchestrator.pool, {f"user-{number}": {"plan": "pro"} for number in range(LIMIT + 1)})
    error = await refused(orchestrator.stub.GetFilteredPointsDistribution(asked(PRO), timeout=20))
    assert (error.reason, dict(error.metadata)) == ("TOO_MANY_USERS", {"limit": str(LIMIT)})
    assert not calls(orchestrator)


async def test_a_tenant_counts_its_own_users_alone(orchestrator: Orchestrator) -> None:
    own, other = stored("acme", "ada"), stored("zenith", "bob")
    await add(orchestrator.pool, {user: {"plan": "pro"} for user in ("cy", own, other)})
    orchestrator.points.balances |= {"cy": 10, own: 10, other: 10}
    async with grpc.aio.insecure_channel(orchestrator.cast.targets[Step.POINTS]) as points:
        handlers = PointsHandlers(ReadStore(orchestrator.pool), points, 1, timeout_seconds=20)
        tenant = CURRENT_TENANT.set("acme")
        response = await handlers.distribution(asked(PRO))
        CURRENT_TENANT.reset(tenant)
    assert [each.user_count for each in response.ranges] == [0, 1, 0]
    assert calls(orchestrator) == [[own]]


async def test_filters_that_are_wrong_are_refused_by_name(orchestrator: Orchestrator) -> None:
    nothing = await refused(orchestrator.stub.GetFilteredPointsDistribution(asked(), timeout=20))
    assert [each.field for each in nothing.violations] == ["user_filters"]
    wrong = asked(PRO, AttributeFilter(attribute="plan"))
    error = await refused(orchestrator.stub.GetFilteredPointsDistribution(wrong, timeout=20))
    assert [each.field for each in error.violations] == ["user_filters[1]"]


async def test_a_points_service_that_is_away_is_told_of(orchestrator: Orchestrator) -> None:
    orchestrator.points.away = 10
    error = await refused(orchestrator.stub.GetFilteredPointsDistribution(asked(PRO), timeout=20))
    assert type(error).__name__ == "Unavailable"
