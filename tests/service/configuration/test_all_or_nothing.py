"""A write of definitions is in every service or in none, whatever happens on the way (RULES 7.6 in spirit)."""

from typing import TYPE_CHECKING

import grpc
import pytest
from laurel.common.v1.configuration_pb2 import CONFIGURATION_ACTION_KEEP
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1.definition_pb2 import Definition
from laurel.orchestrator.v1.metric_pb2 import Metric

from shared import faults
from shared.errors import LaurelError
from tests.fixtures.clients import persist
from tests.fixtures.waiting import until
from tests.service.configuration.conftest import FEATURES, World
from tests.service.configuration.steps import ALL, STEPS, WHOLE, create, delete, listed, refused

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import (
        OrchestratorServiceAsyncStub as Stub,
    )

SELDOM = 60.0
"""A replica with this interval looks once, when it starts, and not again within a test: it may as well be dead."""

RECOVERY_BOUND_SECONDS = 30.0

SERVICES = len(FEATURES) + 1


async def kept(world: World) -> dict[str, int]:
    """How many definitions each service has."""
    counts = {}
    for name in world.dsns:
        async with world.database(name) as database:
            counts[name] = await database.fetchval("SELECT count(*) FROM definitions")
    return counts


async def unfinished(world: World) -> int:
    async with world.database("orchestrator") as database:
        count: int = await database.fetchval(
            "SELECT count(*) FROM definition_writes WHERE finish_time IS NULL"
        )
        return count


async def fail_at(stub: "Stub", point: str) -> LaurelError:
    """Applies the whole configuration, and meets a fault at the point."""
    faults.arm(f"orchestrator.definitions.{point}")
    error = await refused(stub.ApplyConfiguration(WHOLE))
    faults.arm("")
    return error


async def test_what_fails_before_it_is_decided_is_nowhere(world: World, stub: "Stub") -> None:
    await fail_at(stub, "before_decision=error@1")

    assert set((await kept(world)).values()) == {0}
    assert await unfinished(world) == 0


@pytest.mark.parametrize(
    "point",
    ["after_decision=error@1", *(f"between_services=error@{hit}" for hit in range(1, SERVICES + 1))],
)
async def test_what_fails_after_it_is_decided_is_everywhere_soon(
    world: World, stub: "Stub", point: str
) -> None:
    assert (await fail_at(stub, point)).code is grpc.StatusCode.INTERNAL

    async def finished() -> bool:
        return await unfinished(world) == 0

    await until(finished, seconds=RECOVERY_BOUND_SECONDS, what="the write is finished")
    assert await listed(stub) == ALL
    again = await stub.ApplyConfiguration(WHOLE)
    assert {change.action for change in again.changes} == {CONFIGURATION_ACTION_KEEP}


async def test_another_replica_finishes_what_a_dead_one_began(world: World) -> None:
    async with world.replica(SELDOM) as dying:
        await fail_at(dying, "between_services=error@2")
    assert await unfinished(world) == SERVICES - 1

    async with world.replica() as other:

        async def finished() -> bool:
            return await unfinished(world) == 0

        await until(finished, seconds=RECOVERY_BOUND_SECONDS, what="the write is finished")
        assert await listed(other) == ALL


async def test_the_next_write_first_finishes_what_was_left(world: World) -> None:
    async with world.replica(SELDOM) as stub:
        await fail_at(stub, "between_services=error@1")

        error = await refused(stub.DeleteDefinition(delete("streak", "daily", "r")))

        assert error.reason == "DEFINITION_MENTIONED"
        assert await listed(stub) == ALL


async def test_a_request_sent_again_after_a_crash_gets_the_reply_that_was_decided(world: World) -> None:
    request = create(Definition(metric=STEPS), "r")
    async with world.replica(SELDOM) as stub:
        faults.arm("orchestrator.definitions.after_decision=error@1")
        await refused(stub.CreateDefinition(request))
        faults.arm("")
        assert await listed(stub) == []

        response = await stub.CreateDefinition(request)

        got = await stub.GetDefinition(pb.GetDefinitionRequest(kind="metric", key="steps"))
        assert got.definition == response.definition


async def test_a_part_that_was_written_and_not_noted_is_not_written_twice(world: World) -> None:
    async with world.replica(SELDOM) as stub:
        await fail_at(stub, "between_services=error@1")
        async with world.database("orchestrator") as database:
            before = await database.fetchval("SELECT version FROM configuration_version")

        await stub.ApplyConfiguration(WHOLE)

        async with world.database("orchestrator") as database:
            assert await database.fetchval("SELECT version FROM configuration_version") == before


async def test_while_a_service_is_away_nothing_is_decided(world: World, stub: "Stub") -> None:
    await world.stop("points")

    error = await refused(stub.CreateDefinition(create(Definition(metric=STEPS), "r")))

    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert await unfinished(world) == 0
    await world.start("points")
    # The orchestrator looks for it again after a pause of its own.
    await persist(lambda: stub.CreateDefinition(create(Definition(metric=STEPS), "r")))
    assert await listed(stub) == ALL[:1]


async def test_what_is_decided_waits_for_a_service_that_went_away_and_others_wait_for_it(
    world: World,
) -> None:
    async with world.replica(SELDOM) as stub:
        await fail_at(stub, "after_decision=error@1")
        await world.stop("leaderboard")

        error = await refused(stub.CreateDefinition(create(Definition(metric=Metric(key="other")), "r")))

        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DEFINITIONS_PENDING")
        assert error.metadata["service"] == "leaderboard"
        assert await kept(world) == {
            "orchestrator": 1,
            "streak": 1,
            "achievement": 1,
            "points": 1,
            "leaderboard": 0,
        }
    await world.start("leaderboard")
    async with world.replica() as other:

        async def finished() -> bool:
            return await unfinished(world) == 0

        await until(finished, seconds=RECOVERY_BOUND_SECONDS, what="the write is finished")
        assert await listed(other) == ALL
