"""RULES 8.1: that a run began, and that it ended, is told, once each."""

from datetime import timedelta

from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from shared.rpc.convert import to_timestamp
from tests.fixtures.feeds import listed
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import NOON, WEEKLY, event, local_date
from tests.service.leaderboard.steps import applied, define, maintained
from tests.service.leaderboard.test_maintenance import DUE

MONDAY = NOON - timedelta(days=2)


async def told(service: Service) -> list[tuple[str, bool, int, str]]:
    """Board, whether it ended, members, and when."""
    response = await listed(service, participant_pb.ListChangesRequest(page_size=1_000))
    runs = [(change.board_run, change.occur_time) for change in response.changes]
    return [
        (run.leaderboard, run.finished, run.member_count, at.ToJsonString())
        for run, at in runs
        if run.leaderboard
    ]


async def test_a_run_is_told_of_when_it_begins_in_the_first_zone_and_when_it_is_archived(
    service: Service,
) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    for _ in range(2):
        await maintained(service, NOON)
    begun = ("weekly", False, 0, "2026-03-01T10:00:00Z")
    assert await told(service) == [begun]
    await applied(service, *(event(user, 1, user=user) for user in "abc"))
    for _ in range(2):
        await maintained(service, DUE)
    assert await told(service) == [
        begun,
        ("weekly", False, 0, "2026-03-08T10:00:00Z"),
        ("weekly", True, 3, "2026-03-09T13:00:00Z"),
    ]


async def test_of_history_nothing_is_told_and_nothing_later(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    await applied(service, event(1, 1))
    request = participant_pb.RunMaintenanceRequest(now=to_timestamp(DUE), history=True)
    while (await service.participant.RunMaintenance(request)).more:
        pass
    await maintained(service, DUE)
    assert await told(service) == []


async def test_a_board_without_dates_has_neither(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "old", schedule=WEEKLY)
    await define(
        service, "later", schedule=board_pb.RunSchedule(start_date=local_date((DUE + timedelta(9)).date()))
    )
    board = board_pb.Leaderboard(
        key="old", metric="commits", schedule=WEEKLY, status=board_pb.LEADERBOARD_STATUS_ARCHIVED
    )
    await service.definitions.update(board, "status")
    await maintained(service, MONDAY)
    assert await told(service) == []
