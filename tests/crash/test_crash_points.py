"""Every named crash point: the process dies exactly there, comes back, and nothing is lost, doubled or partial
(RULES 7, DESIGN 8).
"""

import asyncio
import os
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from laurel.achievement.v1.achievement_pb2 import StreakTrigger
from laurel.common.v1.configuration_pb2 import CONFIGURATION_ACTION_KEEP
from laurel.leaderboard.v1 import leaderboard_service_pb2
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2
from laurel.streak.v1.streak_pb2 import FREQUENCY_DAILY

import services.achievement.server
import services.leaderboard.server
import services.orchestrator.server
import services.points.server
import services.streak.server
from deploy.local.errors import LaunchError
from deploy.local.stack import Stack
from shared.definitions import KINDS, name_of
from shared.errors import LaurelError
from shared.faults import CRASH_POINTS, ENVIRONMENT_VARIABLE
from tests.fixtures import clock
from tests.fixtures.clients import ingest, persist, void
from tests.fixtures.invariants import violations
from tests.fixtures.ledger import read_ledger
from tests.fixtures.system import System, event
from tests.fixtures.waiting import until

COMPOSED = (
    services.achievement.server,
    services.leaderboard.server,
    services.orchestrator.server,
    services.points.server,
    services.streak.server,
)
"""The processes, with every point that they have."""

NOW = clock.now()
DAY = 86_400.0
RECOVERY_BOUND_SECONDS = 30.0
DEATH_TIMEOUT_SECONDS = 30.0

ELSEWHERE = {
    point
    for point in CRASH_POINTS
    if point.startswith(
        (
            "notification.",
            "leaderboard.cleaning.",
            "leaderboard.ending.",
            "leaderboard.tracking.",
            "points.maintenance.",
            "achievement.anniversary.",
            "achievement.backfill.",
        )
    )
}
"""Of what this world has not: tests/crash/test_passes.py, test_telling.py; test_left_segments, test_prizes,
test_leagues, test_overtaken, test_time of the services.
"""
MAINTENANCE = sorted(point for point in set(CRASH_POINTS) - ELSEWHERE if ".maintenance." in point)
REBUILD = sorted(point for point in CRASH_POINTS if ".rebuild." in point)
DEFINITIONS = sorted(point for point in CRASH_POINTS if ".definitions." in point)
ERASURE = sorted(point for point in CRASH_POINTS if ".erasure." in point)
ROLLUP = sorted(point for point in CRASH_POINTS if ".rollup." in point)
MERGE = sorted(point for point in CRASH_POINTS if ".merge." in point)
EVENTS = sorted(
    set(CRASH_POINTS)
    - set(MAINTENANCE)
    - set(REBUILD)
    - set(DEFINITIONS)
    - set(ERASURE)
    - set(ROLLUP)
    - set(MERGE)
    - ELSEWHERE
)


def service_of(point: str) -> str:
    """The service that has the point."""
    return point.partition(".")[0]


async def start(stack: Stack, service: str, point: str | None = None) -> None:
    """Starts a service; where a point is named, it will die there."""
    if point is not None:
        os.environ[ENVIRONMENT_VARIABLE] = f"{point}=kill"
    try:
        await asyncio.to_thread(stack.start_service, service)
    except LaunchError as error:
        # What it finds to do may lead it there before it serves.
        if point is None or "ended while starting" not in str(error):
            raise
    finally:
        os.environ.pop(ENVIRONMENT_VARIABLE, None)


async def die_at(stack: Stack, point: str) -> None:
    """Restarts the process that has the point, so that it will die there."""
    await asyncio.to_thread(stack.stop_service, service_of(point))
    await start(stack, service_of(point), point)


async def died(stack: Stack, point: str) -> None:
    """Waits until the process has died."""
    service = service_of(point)

    async def dead() -> bool:
        states = {status.state for status in stack.status() if status.name.startswith(service)}
        return bool(states & {"dead", "stopped"})

    await until(dead, seconds=DEATH_TIMEOUT_SECONDS, what=f"{service} dies at {point}")


async def revive(stack: Stack, point: str) -> None:
    """Waits until the process has died and starts it again."""
    await died(stack, point)
    await start(stack, service_of(point))


async def settled(system: System) -> None:
    """Waits until no saga is open, within the recovery bound (RULES 7.6)."""

    async def closed() -> bool:
        return not (await read_ledger(system)).unfinished

    await until(closed, seconds=RECOVERY_BOUND_SECONDS, what="every saga is closed")


async def live(system: System, name: str) -> None:
    """What goes on around a crash: events on several days, duplicates, refusals and voids, several users at once."""

    async def user(number: int) -> None:
        one = f"{name}-{number}"
        days = [
            event(one, f"day-{day}", at=NOW.timestamp() - day * DAY, value=2, region=f"r{number % 2}")
            for day in range(3)
        ]
        answers = await asyncio.gather(*(ingest(system, each) for each in [*days, *days]))
        assert answers[:3] == answers[3:], "a duplicate got another answer"
        spent = await ingest(system, event(one, "spend", metric="purchases", value=100))
        assert isinstance(spent, LaurelError)
        assert spent.reason == "INSUFFICIENT_POINTS"
        began = answers[2]
        assert isinstance(began, event_pb2.IngestEventResponse)
        undone = await void(system, began.entry_id)
        assert isinstance(undone, orchestrator_service_pb2.VoidEntryResponse)
        again = [await ingest(system, each) for each in days]
        assert again == answers[:3], "the answer to a key changed"

    await asyncio.gather(*(user(number) for number in range(4)))


@pytest.mark.parametrize("service", sorted({service_of(point) for point in EVENTS}))
async def test_a_service_that_dies_at_each_point_of_an_events_way_loses_and_doubles_nothing(
    stack: Stack, system: System, service: str
) -> None:
    """At one after the other: whoever comes back dies at the next. Each has its own callers, who go on until all is
    over.
    """
    points = [point for point in EVENTS if service_of(point) == service]
    await die_at(stack, points[0])
    async with asyncio.TaskGroup() as living:
        for point, following in pairwise([*points, None]):
            assert point is not None
            living.create_task(live(system, point))
            await died(stack, point)
            await start(stack, service, following)
    await settled(system)
    assert await violations(system) == []


@pytest.mark.parametrize("point", ROLLUP)
async def test_a_process_that_dies_while_it_sums_metrics_by_date_counts_each_event_once(
    stack: Stack, system: System, point: str
) -> None:
    async def maintain() -> orchestrator_service_pb2.RunMaintenanceResponse:
        return await system.orchestrator.RunMaintenance(orchestrator_service_pb2.RunMaintenanceRequest())

    async def live_and_sum() -> None:
        await live(system, point)
        await persist(maintain)

    await die_at(stack, point)
    living = asyncio.create_task(live_and_sum())
    await revive(stack, point)
    await living
    await settled(system)
    assert await violations(system) == []


@pytest.mark.parametrize("point", DEFINITIONS)
async def test_a_process_that_dies_while_it_writes_definitions_has_written_them_everywhere_in_the_end(
    stack: Stack, system: System, point: str
) -> None:
    key = f"k{DEFINITIONS.index(point)}"
    wanted = orchestrator_service_pb2.ApplyConfigurationRequest()
    wanted.metrics.add(key=key)
    wanted.streaks.add(key=key, frequency=FREQUENCY_DAILY).metrics.add(metric=key)
    wanted.achievements.add(key=key).streak.MergeFrom(StreakTrigger(streak=key, length=2))
    wanted.points_systems.add(key=key).triggers.add(key="a", amount=1).achievement.achievement = key
    wanted.leaderboards.add(key=key, points_system=key)

    async def there() -> int:
        request = orchestrator_service_pb2.ListDefinitionsRequest(page_size=1_000)
        listed = await system.orchestrator.ListDefinitions(request)
        return sum(name_of(definition).key == key for definition in listed.definitions)

    async def apply() -> orchestrator_service_pb2.ApplyConfigurationResponse:
        return await system.orchestrator.ApplyConfiguration(wanted)

    await die_at(stack, point)
    applying = asyncio.create_task(persist(apply))
    await revive(stack, point)
    reply = await applying
    assert isinstance(reply, orchestrator_service_pb2.ApplyConfigurationResponse)
    assert await there() == len(KINDS)
    kept = await apply()
    assert {change.action for change in kept.changes} == {CONFIGURATION_ACTION_KEEP}


@pytest.mark.parametrize("point", ERASURE)
async def test_a_process_that_dies_while_it_deletes_a_user_deletes_the_user_and_nobody_else(
    stack: Stack, system: System, point: str
) -> None:
    await live(system, point)
    request = orchestrator_service_pb2.DeleteUserRequest(user_id=f"{point}-0", request_id="once")

    async def delete() -> orchestrator_service_pb2.DeleteUserResponse:
        return await system.orchestrator.DeleteUser(request, timeout=5)

    async def traces() -> dict[str, int]:
        wanted = orchestrator_service_pb2.FindUserTracesRequest(user_id=request.user_id)
        found = [each.table async for each in system.orchestrator.FindUserTraces(wanted)]
        return {each.table: each.row_count for each in found if each.row_count > each.notice_count}

    assert await traces()
    await die_at(stack, point)
    deleting = asyncio.create_task(persist(delete))
    await revive(stack, point)
    reply = await deleting
    assert isinstance(reply, orchestrator_service_pb2.DeleteUserResponse)
    assert await traces() == {}
    assert await violations(system) == []


@pytest.mark.parametrize("point", MERGE)
async def test_a_process_that_dies_while_it_merges_a_user_moves_every_entry_once(
    stack: Stack, system: System, point: str
) -> None:
    await live(system, point)
    user, into = f"{point}-0", f"{point}-1"

    async def totals(name: str) -> dict[str, float]:
        request = orchestrator_service_pb2.GetUserRequest(user_id=name)
        return {each.metric: each.total for each in (await system.orchestrator.GetUser(request)).metrics}

    before = [await totals(name) for name in (user, into)]
    request = orchestrator_service_pb2.MergeUsersRequest(
        user_id=user, into_user_id=into, reason="signed in", request_id="once"
    )

    async def merge() -> orchestrator_service_pb2.MergeUsersResponse:
        return await system.orchestrator.MergeUsers(request, timeout=5)

    await die_at(stack, point)
    merging = asyncio.create_task(persist(merge))
    await revive(stack, point)
    reply = await merging
    assert isinstance(reply, orchestrator_service_pb2.MergeUsersResponse)
    assert (reply.moved_count > 0, reply.refused_count) == (True, 0)
    expected = {metric: sum(each.get(metric, 0) for each in before) for metric in {**before[0], **before[1]}}
    assert await totals(into) == await totals(user) == expected
    assert await violations(system) == []


@pytest.mark.parametrize("point", REBUILD)
async def test_a_process_that_dies_in_a_rebuild_of_the_boards_rebuilds_them_again(
    stack: Stack, system: System, point: str
) -> None:
    await live(system, point)
    await die_at(stack, point)

    async def rebuild() -> object:
        return await system.leaderboard.RebuildProjection(leaderboard_service_pb2.RebuildProjectionRequest())

    rebuilding = asyncio.create_task(persist(rebuild))
    await revive(stack, point)
    await rebuilding
    await settled(system)
    assert await violations(system) == []


@pytest.mark.parametrize("point", MAINTENANCE)
async def test_a_process_that_dies_in_maintenance_does_it_again_with_the_same_result(
    stack: Stack, system: System, point: str
) -> None:
    """History of a year of its own: a streak of two days that breaks, and a week's board that is archived."""
    first = datetime(2001 + MAINTENANCE.index(point), 3, 6, 12, tzinfo=UTC).timestamp()
    history = [event(f"{point}-user", f"{day}", at=first + day * DAY) for day in (0, 1, 40)]
    await die_at(stack, point)

    async def run() -> object:
        call = system.orchestrator.ImportEvents()
        await call.write(orchestrator_service_pb2.ImportEventsRequest(events=history))
        await call.done_writing()
        return [response async for response in call]

    importing = asyncio.create_task(persist(run))
    await revive(stack, point)
    await importing
    await settled(system)
    assert await violations(system) == []
