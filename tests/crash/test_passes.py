"""A process that dies in a pass over many users goes on with it: what amnesties, backfills and anniversaries give is
given to everybody, once, with what follows from it (RULES 3.12, 4.6, 4.8).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf import json_format
from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.points.v1 import points_service_pb2
from laurel.streak.v1 import streak_pb2, streak_service_pb2

from deploy.local.config import StackConfig
from deploy.local.stack import Stack
from shared.rpc.convert import to_timestamp
from tests.crash.conftest import SETTINGS
from tests.crash.test_crash_points import die_at, revive, settled
from tests.fixtures import clock
from tests.fixtures.clients import ingest, persist
from tests.fixtures.ledger import fetch
from tests.fixtures.system import System, connect, event
from tests.fixtures.waiting import until

CONFIGURATION = json_format.ParseDict(
    {
        "metrics": [{"key": metric} for metric in ("walks", "walks-0", "walks-1")],
        "streaks": [
            {
                "key": metric,
                "frequency": "FREQUENCY_DAILY",
                "metrics": [{"metric": metric, "threshold": 1}],
            }
            for metric in ("walks", "walks-0", "walks-1")
        ],
        "pointsSystems": [
            {
                "key": "xp",
                "triggers": [
                    {"key": "badge", "amount": 100, "achievement": {}},
                    *(
                        {
                            "key": f"four-{number}",
                            "amount": 50,
                            "streak": {"streak": f"walks-{number}", "length": 4},
                        }
                        for number in (0, 1)
                    ),
                ],
            }
        ],
    },
    pb.ApplyConfigurationRequest(),
)
WALKED = (6, 5, 2, 1)
"""Days ago."""
USERS = 5
SECONDS = 60.0
CLOSING = ["streak.maintenance.before_commit", "streak.maintenance.after_commit"]
BACKFILL = [f"achievement.backfill.{point}" for point in ("after_giving", "before_commit", "after_commit")]
ANNIVERSARY = ["achievement.anniversary.before_commit", "achievement.anniversary.after_commit"]


@pytest.fixture(scope="module")
def stack(quick_directory: Path, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Two users in a transaction: a pass is cut in its middle."""
    home = quick_directory / request.module.__name__.rpartition(".")[2]
    settings = SETTINGS | {"LAUREL_BACKFILL_BATCH_SIZE": "2", "LAUREL_MAINTENANCE_BATCH_SIZE": "2"}
    with Stack(StackConfig(home=home, port_base=0, settings=settings)) as running:
        running.up()
        yield running


@pytest.fixture(scope="module")
async def system(stack: Stack) -> AsyncIterator[System]:
    connected = connect(stack)
    await connected.orchestrator.ApplyConfiguration(CONFIGURATION)
    yield connected
    await connected.close()


async def walked(system: System, name: str, metric: str = "walks") -> list[str]:
    """Users who have walked on some days, and missed two of them."""
    users = [f"{name}-{number}" for number in range(USERS)]
    now = clock.now()
    days = [(user, ago) for user in users for ago in WALKED]
    for user, ago in days:
        await ingest(system, event(user, f"{ago}", metric=metric, at=(now - timedelta(days=ago)).timestamp()))
    return users


async def maintained(system: System) -> None:
    """Passes, asked for until they are done."""

    async def run() -> object:
        return await system.orchestrator.RunMaintenance(pb.RunMaintenanceRequest())

    await persist(run)


async def lengths(system: System, users: list[str], streak: str = "walks") -> list[int]:
    found = []
    for user in users:
        request = streak_service_pb2.ListUserStreaksRequest(user_id=user)
        listed = await system.streak.ListUserStreaks(request, wait_for_ready=True)
        found.append({each.streak: each.length for each in listed.streaks}.get(streak, 0))
    return found


async def balances(system: System, users: list[str]) -> list[int]:
    found = []
    for user in users:
        request = points_service_pb2.ListUserPointsRequest(user_id=user)
        listed = await system.points.ListUserPoints(request, wait_for_ready=True)
        found.append(sum(each.balance for each in listed.points))
    return found


async def given(system: System, achievement: str) -> dict[str, int]:
    """By user, how many completions there ever were."""
    rows = await fetch(
        system,
        "achievement",
        f"SELECT user_id, count(*) AS times FROM completion_facts WHERE achievement = '{achievement}' GROUP BY 1",
    )
    return {row["user_id"]: row["times"] for row in rows}


async def backfilled(system: System) -> None:
    """Waits until no backfill runs."""

    async def done() -> bool:
        request = achievement_service_pb2.ListBackfillsRequest(running_only=True)
        return not (await system.achievement.ListBackfills(request, wait_for_ready=True)).backfills

    await until(done, seconds=SECONDS, what="the backfills are done")


@pytest.mark.parametrize("point", CLOSING)
async def test_an_amnesty_saves_every_streak_once(stack: Stack, system: System, point: str) -> None:
    name = f"amnesty-{CLOSING.index(point)}"
    streak = f"walks-{CLOSING.index(point)}"
    users = await walked(system, name, streak)
    assert await lengths(system, users, streak) == [2] * USERS
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    amnesty = streak_pb2.Amnesty(
        key=name,
        start_time=to_timestamp(midnight - timedelta(days=4)),
        end_time=to_timestamp(midnight - timedelta(days=2)),
        streaks=[streak],
    )
    await die_at(stack, point)
    request = pb.DeclareAmnestyRequest(amnesty=amnesty, reason="it was down", request_id=name)

    async def declare() -> pb.DeclareAmnestyResponse:
        return await system.orchestrator.DeclareAmnesty(request)

    assert isinstance(await persist(declare), pb.DeclareAmnestyResponse)
    passing = asyncio.create_task(maintained(system))
    await revive(stack, point)
    await passing
    await maintained(system)
    await settled(system)
    assert await lengths(system, users, streak) == [4] * USERS
    assert await balances(system, users) == [50] * USERS


@pytest.mark.parametrize("point", CLOSING)
async def test_a_streak_that_counts_the_past_counts_it_once(stack: Stack, system: System, point: str) -> None:
    key = f"again-{CLOSING.index(point)}"
    users = await walked(system, key)
    wanted = pb.ApplyConfigurationRequest()
    wanted.streaks.add(key=key, frequency=streak_pb2.FREQUENCY_DAILY, backfill=True).metrics.add(
        metric="walks", threshold=1
    )
    await die_at(stack, point)

    async def apply() -> object:
        return await system.orchestrator.ApplyConfiguration(wanted)

    await persist(apply)
    passing = asyncio.create_task(maintained(system))
    await revive(stack, point)
    await passing
    await maintained(system)
    await settled(system)
    assert await lengths(system, users, key) == [2] * USERS


@pytest.mark.parametrize("point", BACKFILL)
async def test_a_backfill_gives_an_achievement_to_everybody_once(
    stack: Stack, system: System, point: str
) -> None:
    key = f"walker-{BACKFILL.index(point)}"
    users = await walked(system, key)
    before = await balances(system, users)
    wanted = pb.ApplyConfigurationRequest()
    metric = achievement_pb2.MetricTrigger(metric="walks", threshold=3)
    # Where points hang on it every user is folded, and others are told; else the database gives it at once.
    wanted.achievements.add(key=key, metric=metric, award_backdated=True)
    wanted.achievements.add(key=f"{key}-plain", metric=metric)
    await die_at(stack, point)

    async def apply() -> object:
        return await system.orchestrator.ApplyConfiguration(wanted)

    await persist(apply)
    await revive(stack, point)

    await backfilled(system)
    for each in (key, f"{key}-plain"):
        times = await given(system, each)
        assert times.keys() >= set(users)
        assert set(times.values()) == {1}

    async def rewarded() -> bool:
        await maintained(system)
        return await balances(system, users) == [balance + 100 for balance in before]

    await until(rewarded, seconds=SECONDS, what="points are given for it")
    await settled(system)
    assert await rewarded()


@pytest.mark.parametrize("point", ANNIVERSARY)
async def test_an_anniversary_comes_to_everybody_once(stack: Stack, system: System, point: str) -> None:
    """Lived in an import, of whose days each has its pass: on one of them a year is over."""
    wanted = pb.ApplyConfigurationRequest()
    wanted.achievements.add(key="year", anniversary=achievement_pb2.AnniversaryTrigger(years=1))
    await system.orchestrator.ApplyConfiguration(wanted)
    await backfilled(system)
    users = [f"year-{ANNIVERSARY.index(point)}-{number}" for number in range(USERS)]
    first = datetime(2001 + ANNIVERSARY.index(point), 3, 6, 12, tzinfo=UTC)
    signed_up = f"{first.year - 1}-03-09"
    history = [
        event(
            user,
            f"{day}",
            metric="walks",
            at=(first + timedelta(days=day)).timestamp(),
            sign_up_date=signed_up,
        )
        for day in (0, 5)
        for user in users
    ]

    async def run() -> object:
        call = system.orchestrator.ImportEvents()
        await call.write(pb.ImportEventsRequest(events=history))
        await call.done_writing()
        return [response async for response in call]

    await die_at(stack, point)
    importing = asyncio.create_task(persist(run))
    await revive(stack, point)
    await importing
    await maintained(system)
    await settled(system)
    assert (await given(system, "year")).items() >= dict.fromkeys(users, 1).items()
    assert await balances(system, users) == [100] * USERS
