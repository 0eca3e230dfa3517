"""Boards through the whole system (RULES 6)."""

import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf import json_format
from laurel.achievement.v1 import achievement_service_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.points.v1 import points_service_pb2

from deploy.local.config import StackConfig
from deploy.local.stack import Stack
from services.cli.configuration import read_configuration
from shared.clock import TEST_CLOCK_VARIABLE
from shared.errors import from_rpc_error
from shared.rpc.convert import date_to_proto, to_timestamp
from tests.fixtures import clock
from tests.fixtures.invariants import violations
from tests.fixtures.system import System, connect, event
from tests.fixtures.waiting import until

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "leaderboards.md"

SATURDAY = datetime(2025, 5, 31, 12, tzinfo=UTC)
MONDAY = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)
"""The week before has been final for half an hour."""

SEASON = json_format.ParseDict(
    {
        "metrics": [{"key": "steps"}],
        "achievements": [
            {"key": "champion", "name": "Champion", "api": {}},
            {"key": "in-silver", "name": "Silver", "api": {}},
        ],
        "points_systems": [
            {
                "key": "xp",
                "triggers": [{"key": "any", "amount": 5, "achievement": {}}],
            }
        ],
        "leaderboards": [
            {
                "key": "weekly",
                "metric": "steps",
                "schedule": {"unit": "RUN_UNIT_WEEK"},
                "prizes": [
                    {
                        "key": "gold",
                        "last_rank": 1,
                        "points": [{"points_system": "xp", "amount": 100}],
                        "achievement": "champion",
                    },
                    {
                        "key": "podium",
                        "first_rank": 2,
                        "last_rank": 3,
                        "points": [{"points_system": "xp", "amount": 50}],
                    },
                ],
            },
            {"key": "xp", "points_system": "xp"},
            {
                "key": "league",
                "metric": "steps",
                "schedule": {"unit": "RUN_UNIT_WEEK"},
                "league": {
                    "divisions": [
                        {"key": "bronze", "name": "Bronze"},
                        {"key": "silver", "name": "Silver", "achievement": "in-silver"},
                    ],
                    "cohort_size": 4,
                    "promoted_count": 1,
                },
            },
        ],
    },
    pb.ApplyConfigurationRequest(),
)


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
    gone = {
        leaderboard.leaderboard: (leaderboard.previous_rank > 0, leaderboard.rank)
        for leaderboard in reply.effects.leaderboards
    }
    assert gone["steps"] == (True, 0)
    while_out = await system.orchestrator.IngestEvent(event(user, value=4))
    assert all(leaderboard.rank == 0 for leaderboard in while_out.effects.leaderboards)
    back = await system.orchestrator.SetBoardExclusion(exclusion(user, "back", excluded=False))
    scores = {
        leaderboard.leaderboard: leaderboard.score
        for leaderboard in back.effects.leaderboards
        if not leaderboard.segment
    }
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


@pytest.fixture
def clock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What sets the clock of this test and of the processes that it starts."""
    file = tmp_path / "ahead"
    monkeypatch.setenv(TEST_CLOCK_VARIABLE, str(file))
    return file


@pytest.fixture
async def season(quick_directory: Path, clock_file: Path) -> AsyncIterator[System]:
    """A system of its own, on a Saturday."""
    clock.set_to(SATURDAY, clock_file)
    with Stack(StackConfig(home=quick_directory / "season", port_base=0, fsync=False)) as stack:
        stack.up()
        connected = connect(stack)
        await connected.orchestrator.ApplyConfiguration(SEASON)
        yield connected
        await connected.close()


async def balances(system: System, *users: str) -> list[int]:
    """Of xp."""
    found = []
    for user in users:
        response = await system.points.ListUserPoints(points_service_pb2.ListUserPointsRequest(user_id=user))
        found.append(sum(points.balance for points in response.points))
    return found


async def test_a_weeks_prizes_are_given_once_and_what_depends_on_them_follows(
    season: System, clock_file: Path
) -> None:
    for value, user in enumerate(("dora", "carol", "bob", "alice"), start=1):
        await season.orchestrator.IngestEvent(event(user, value=value, at=SATURDAY.timestamp()))
    clock.set_to(MONDAY, clock_file)

    async def are_given() -> bool:
        await season.orchestrator.RunMaintenance(pb.RunMaintenanceRequest(now=to_timestamp(MONDAY)))
        return sum(await balances(season, "alice", "bob", "carol", "dora")) > 0

    await until(are_given, seconds=30, what="prizes are given")
    await season.orchestrator.RunMaintenance(pb.RunMaintenanceRequest(now=to_timestamp(MONDAY)))
    # The achievements of the prize and of the new division give points too.
    assert await balances(season, "alice", "bob", "carol", "dora") == [110, 50, 50, 0]
    board = await season.leaderboard.ListRankedMembers(
        leaderboard_service_pb2.ListRankedMembersRequest(
            selector=leaderboard_service_pb2.SegmentSelector(leaderboard="xp")
        )
    )
    assert [(member.rank, member.user_id, member.score) for member in board.members] == [
        (1, "alice", 110),
        (2, "bob", 50),
        (3, "carol", 50),
    ]
    held = await season.achievement.ListUserAchievements(
        achievement_service_pb2.ListUserAchievementsRequest(user_id="alice", completed_only=True)
    )
    assert [achievement.achievement for achievement in held.achievements] == ["champion", "in-silver"]
    league = await season.leaderboard.GetLeagueStanding(
        leaderboard_service_pb2.GetLeagueStandingRequest(
            leaderboard="league", user_id="alice", run_date=date_to_proto(MONDAY.date())
        )
    )
    assert league.standing.division == "silver"
    told = await season.orchestrator.ListDomainEvents(
        pb.ListDomainEventsRequest(types=["leaderboard.promoted"])
    )
    assert [(message.user_id, message.league_move.to_division) for message in told.events] == [
        ("alice", "silver")
    ]
    finished = await season.orchestrator.ListDomainEvents(
        pb.ListDomainEventsRequest(types=["leaderboard.run_finished"])
    )
    assert sorted(
        (message.board_run.leaderboard, message.board_run.member_count) for message in finished.events
    ) == [("league", 4), ("weekly", 4)]
    prizes = await season.leaderboard.ListPrizes(
        leaderboard_service_pb2.ListPrizesRequest(
            leaderboard="weekly", run_date=date_to_proto(SATURDAY.date())
        )
    )
    assert [(prize.user_id, prize.prize.key) for prize in prizes.prizes] == [
        ("alice", "gold"),
        ("bob", "podium"),
        ("carol", "podium"),
    ]
    audit = await season.orchestrator.GetEntry(pb.GetEntryRequest(entry_id=prizes.prizes[0].entry_id))
    assert audit.entry.user_id == "alice"
    # A prize can be taken back like everything else.
    await season.orchestrator.VoidEntry(
        pb.VoidEntryRequest(entry_id=prizes.prizes[0].entry_id, reason="cheated", request_id="v")
    )
    assert await balances(season, "alice", "bob") == [5, 50]


async def test_the_boards_of_the_guide_are_applied_as_they_stand_there(season: System) -> None:
    """A weekly league, a city duel, a loyalty board, and one with prizes."""
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    await season.orchestrator.ApplyConfiguration(
        read_configuration("metrics: [{key: commits, name: Commits}]").request
    )
    keys = []
    for block in blocks:
        request = read_configuration(block).request
        await season.orchestrator.ApplyConfiguration(request)
        keys += [board.key for board in request.leaderboards]
    assert keys == [
        "office-hours",
        "night-owls",
        "podium",
        "commit-week",
        "weekly-league",
        "city-duel",
        "most-loyal",
    ]
    reply = await season.orchestrator.IngestEvent(
        event("alice", metric="commits", at=SATURDAY.timestamp(), region="north")
    )
    assert {standing.leaderboard for standing in reply.effects.leaderboards} >= {"commit-week", "city-duel"}
