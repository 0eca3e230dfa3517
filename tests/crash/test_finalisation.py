"""A week ends, and a process dies at each point on the way of its prizes and promotions (RULES 6.10, 6.12)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from laurel.achievement.v1 import achievement_service_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.points.v1 import points_service_pb2

from deploy.local.config import StackConfig
from deploy.local.stack import Stack
from shared.clock import TEST_CLOCK_VARIABLE
from shared.rpc.convert import date_to_proto, to_timestamp
from tests.crash.conftest import SETTINGS
from tests.crash.test_crash_points import die_at, revive, settled
from tests.e2e.test_boards import MONDAY, SATURDAY, SEASON
from tests.fixtures import clock
from tests.fixtures.clients import persist
from tests.fixtures.system import System, connect, event
from tests.fixtures.waiting import until

POINTS = [
    f"{part}.{when}"
    for part, times in {
        "leaderboard.maintenance": ("before_commit", "after_commit"),
        "leaderboard.ending": ("before_commit", "after_commit"),
        "orchestrator.call": ("before", "after"),
        "leaderboard.apply": ("after_store", "after_outcome"),
        "orchestrator.complete": ("before_commit", "after_commit"),
    }.items()
    for when in times
]
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def clock_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the processes of this module take for the present."""
    file = tmp_path_factory.mktemp("clock") / "ahead"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(TEST_CLOCK_VARIABLE, str(file))
        yield file


@pytest.fixture(scope="module")
def stack(quick_directory: Path, clock_file: Path) -> Iterator[Stack]:
    """A system that begins on a Saturday; each test ends a week of its own."""
    clock.set_to(SATURDAY, clock_file)
    home = quick_directory / "finalisation"
    with Stack(StackConfig(home=home, port_base=0, settings=SETTINGS)) as running:
        running.up()
        yield running


@pytest.fixture
async def season(stack: Stack) -> AsyncIterator[System]:
    """Weekly prizes, and a league."""
    connected = connect(stack)
    await connected.orchestrator.ApplyConfiguration(SEASON)
    yield connected
    await connected.close()


async def balance(system: System, user: str) -> int:
    """Of xp."""
    response = await system.points.ListUserPoints(points_service_pb2.ListUserPointsRequest(user_id=user))
    return sum(points.balance for points in response.points)


@pytest.mark.parametrize("point", POINTS)
async def test_whoever_dies_when_a_week_ends_its_prizes_and_promotions_are_given_once(
    stack: Stack, season: System, clock_file: Path, point: str
) -> None:
    weeks = timedelta(days=7 * POINTS.index(point))
    saturday, monday = SATURDAY + weeks, MONDAY + weeks
    clock.set_to(saturday, clock_file)
    users = [f"{point}-{place}" for place in range(1, 5)]
    for place, user in enumerate(users, 1):
        await season.orchestrator.IngestEvent(event(user, value=10 - place, at=saturday.timestamp()))
    await die_at(stack, point)
    clock.set_to(monday, clock_file)

    async def maintain() -> object:
        return await season.orchestrator.RunMaintenance(pb.RunMaintenanceRequest(now=to_timestamp(monday)))

    ending = asyncio.create_task(persist(maintain))
    await revive(stack, point)
    await ending

    async def balances() -> list[int]:
        return [await balance(season, user) for user in users]

    async def are_given() -> bool:
        await persist(maintain)
        return sum(await balances()) >= 110 + 50 + 50

    await until(are_given, seconds=PATIENCE_SECONDS, what="prizes are given")
    await persist(maintain)
    await settled(season)
    # The achievements of the prize and of the new division give points too.
    assert await balances() == [110, 50, 50, 0]
    held = await season.achievement.ListUserAchievements(
        achievement_service_pb2.ListUserAchievementsRequest(user_id=users[0], completed_only=True)
    )
    assert sorted(one.achievement for one in held.achievements) == ["champion", "in-silver"]
    prizes = await season.leaderboard.ListPrizes(
        leaderboard_service_pb2.ListPrizesRequest(
            leaderboard="weekly", run_date=date_to_proto(saturday.date())
        )
    )
    assert [(prize.user_id, prize.prize.key) for prize in prizes.prizes] == [
        (users[0], "gold"),
        (users[1], "podium"),
        (users[2], "podium"),
    ]
    told = await season.orchestrator.ListDomainEvents(
        pb.ListDomainEventsRequest(types=["leaderboard.promoted"], page_size=1_000)
    )
    assert [one.league_move.to_division for one in told.events if one.user_id in users] == ["silver"]
