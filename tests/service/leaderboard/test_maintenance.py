"""RULES 6.2 and 1.4: finalised runs."""

import asyncio
from datetime import UTC, datetime, timedelta

from laurel.leaderboard.v1 import leaderboard_pb2 as board_pb
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from services.leaderboard.store.archive import ArchiveStore
from shared.postgres.pool import create_pool
from shared.rpc.convert import to_timestamp
from tests.service.leaderboard.conftest import Service, replica
from tests.service.leaderboard.messages import (
    NOON,
    WEDNESDAY,
    WEEKLY,
    event,
    local_date,
    selector,
    user_update,
)
from tests.service.leaderboard.steps import (
    applied,
    define,
    maintained,
    projected,
    ranking,
    rebuilt,
    standings,
)

DUE = datetime(2026, 3, 9, 13, tzinfo=UTC)
"""Sunday the 8th has ended in UTC-12, and an hour has passed."""

EU = {"region": "EU"}


async def week_with_three(service: Service, **fields: object) -> None:
    await define(service, "weekly", schedule=WEEKLY, **fields)
    await applied(
        service,
        event(1, 9, user="a", attributes=EU),
        event(2, 7, user="b", attributes=EU),
        event(3, 7, user="c"),
    )


async def test_a_run_is_archived_whole_when_it_is_due_and_not_before(service: Service) -> None:
    await week_with_three(service)
    before = await ranking(service, "weekly")
    assert await maintained(service, DUE - timedelta(microseconds=1)) == 0
    assert await maintained(service, DUE) == 1
    assert await maintained(service, DUE) == 0
    assert await ranking(service, "weekly") == before
    assert await service.database.fetchval("SELECT count(*) FROM scores") == 0


async def test_the_sorted_sets_of_an_archived_run_are_gone(service: Service) -> None:
    await week_with_three(service, breakdown_attributes=["region"])
    await maintained(service, DUE)
    assert await projected(service) == {}
    assert [key async for key in service.sets.scan_iter("laurel:{*")] == []


async def test_segments_are_archived_with_ranks_of_their_own(service: Service) -> None:
    await week_with_three(service, breakdown_attributes=["region"], rank_mode=board_pb.RANK_MODE_COMPETITION)
    await maintained(service, DUE)
    assert await ranking(service, "weekly") == [(1, "a", 9), (2, "b", 7), (2, "c", 7)]
    assert await ranking(service, "weekly", EU) == [(1, "a", 9), (2, "b", 7)]


async def test_dense_ranks_and_the_participant_limit_go_into_the_archive(service: Service) -> None:
    await week_with_three(service, rank_mode=board_pb.RANK_MODE_DENSE, participant_limit=2)
    await applied(service, event(4, 9, user="d"))
    await maintained(service, DUE)
    assert await ranking(service, "weekly") == [(1, "a", 9), (1, "d", 9)]


async def test_what_comes_after_the_archiving_is_answered_and_does_not_count(service: Service) -> None:
    await week_with_three(service)
    await maintained(service, DUE)
    in_time = event(4, 50, user="c", now=DUE - timedelta(minutes=1))
    (standing,) = await standings(service, in_time)
    assert standing.run_finalized
    assert standing.run.finalized
    assert (await ranking(service, "weekly"))[0] == (1, "a", 9)


async def test_what_comes_after_the_end_does_not_count_though_maintenance_has_not_run(
    service: Service,
) -> None:
    await week_with_three(service)
    (standing,) = await standings(service, event(4, 50, user="c", now=DUE))
    assert standing.run_finalized
    assert (await ranking(service, "weekly"))[0] == (1, "a", 9)


async def test_runs_are_listed_newest_first_with_their_state(service: Service) -> None:
    await week_with_three(service)
    await applied(service, *(event(f"w{week}", 1, at=NOON + timedelta(weeks=week)) for week in (1, 2, 3)))
    await maintained(service, DUE + timedelta(weeks=1))
    found = []
    token = ""
    while True:
        response = await service.stub.ListRuns(
            pb.ListRunsRequest(leaderboard="weekly", page_size=3, page_token=token)
        )
        found += [(run.start_date.month, run.start_date.day, run.finalized) for run in response.runs]
        token = response.next_page_token
        if not token:
            break
    assert found == [(3, 23, False), (3, 16, False), (3, 9, True), (3, 2, True)]


async def test_a_user_stands_in_past_runs_as_archived(service: Service) -> None:
    await week_with_three(service)
    await maintained(service, DUE)
    response = await service.stub.ListUserStandings(
        pb.ListUserStandingsRequest(user_id="b", run_date=WEDNESDAY)
    )
    (standing,) = response.standings
    assert (standing.rank, standing.score, standing.run.finalized) == (2, 7, True)


async def test_members_around_a_user_are_read_from_the_archive(service: Service) -> None:
    await week_with_three(service)
    await maintained(service, DUE)
    response = await service.stub.ListMembersAround(
        pb.ListMembersAroundRequest(selector=selector("weekly"), user_id="c", radius=1)
    )
    assert [(member.rank, member.user_id, member.name) for member in response.members] == [
        (2, "b", "B"),
        (3, "c", "C"),
    ]
    assert response.member_count == 3


async def test_segments_of_a_past_run_are_listed_with_their_members(service: Service) -> None:
    await week_with_three(service, breakdown_attributes=["region"])
    await maintained(service, DUE)
    response = await service.stub.ListSegments(
        pb.ListSegmentsRequest(leaderboard="weekly", run_date=WEDNESDAY)
    )
    assert [(dict(segment.segment), segment.member_count) for segment in response.segments] == [
        ({}, 3),
        (EU, 2),
    ]


async def test_a_change_of_attributes_leaves_archived_runs_alone(service: Service) -> None:
    await week_with_three(service, breakdown_attributes=["region"])
    await maintained(service, DUE)
    (outcome,) = await applied(service, user_update(5, {"region": "AS"}, user="a"))
    assert not outcome.effects.leaderboards
    assert await ranking(service, "weekly", EU) == [(1, "a", 9), (2, "b", 7)]


async def test_how_often_maintenance_ran_makes_no_difference(service: Service) -> None:
    daily = board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY)
    await define(service, "daily", schedule=daily)
    days = [NOON + timedelta(days=day) for day in range(6)]
    for number, day in enumerate(days):
        await applied(service, event(number, number + 1, at=day))
    assert await maintained(service, days[-1] + timedelta(days=30)) == 6
    scores = await service.database.fetch("SELECT score FROM archive ORDER BY run_start")
    assert [row["score"] for row in scores] == [1_000_000 * (number + 1) for number in range(6)]


async def test_two_replicas_archive_each_run_once(service: Service) -> None:
    daily = board_pb.RunSchedule(unit=board_pb.RUN_UNIT_DAY)
    await define(service, "daily", schedule=daily)
    await applied(service, *(event(day, 1, at=NOON + timedelta(days=day)) for day in range(12)))
    now = to_timestamp(NOON + timedelta(days=60))
    async with replica(service.dsn, service.sets_url) as other:
        responses = await asyncio.gather(
            *(
                stub.RunMaintenance(participant_pb.RunMaintenanceRequest(now=now))
                for stub in (service.participant, other) * 2
            )
        )
    assert sum(response.done_count for response in responses) == 12
    assert await service.database.fetchval("SELECT count(*) FROM archive") == 12


async def test_entries_that_race_with_the_archiving_count_whole_or_not_at_all(service: Service) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    await applied(service, event("first", 1))
    calls = asyncio.gather(*(applied(service, event(number, 1)) for number in range(40)))
    outcomes, archived = await asyncio.gather(calls, maintained(service, DUE))
    counted = sum(not outcome.effects.leaderboards[0].run_finalized for (outcome,) in outcomes)
    assert archived == 1
    assert await ranking(service, "weekly") == [(1, "ada", 1 + counted)]


async def test_an_import_keeps_the_services_own_maintenance_off(service: Service) -> None:
    request = participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON), hold_seconds=60)
    await service.participant.RunMaintenance(request)
    assert await service.database.fetchval("SELECT hold_until > now() FROM maintenance")
    request.hold_seconds = 0
    await service.participant.RunMaintenance(request)
    assert await service.database.fetchval("SELECT hold_until FROM maintenance") is None


async def test_a_rebuild_leaves_archived_runs_out(service: Service) -> None:
    await week_with_three(service)
    await maintained(service, DUE)
    assert await rebuilt(service) == 0
    assert await projected(service) == {}


async def test_the_members_of_runs_that_are_old_enough_go_but_for_those_of_the_newest(
    service: Service,
) -> None:
    await define(service, "weekly", schedule=WEEKLY)
    week = timedelta(days=7)
    for number in range(3):
        await applied(service, event(number, number + 1, at=NOON + number * week))
    await maintained(service, DUE + 2 * week)
    pool = await create_pool(service.dsn, application_name="expiring", size=1, statement_timeout_ms=5_000)
    store = ArchiveStore(pool)
    assert await store.expire(DUE + week - timedelta(days=1), 10, 5.0) == 1
    assert [len(await ranking_in_week(service, number)) for number in range(3)] == [0, 1, 1]
    assert await store.expire(DUE + 52 * week, 10, 5.0) == 1
    assert await store.expire(DUE + 52 * week, 10, 5.0) == 0
    assert [len(await ranking_in_week(service, number)) for number in range(3)] == [0, 0, 1]
    response = await service.stub.ListRuns(pb.ListRunsRequest(leaderboard="weekly"))
    assert len(response.runs) == 3
    await pool.close()


async def ranking_in_week(service: Service, number: int) -> list[str]:
    day = local_date((NOON + number * timedelta(days=7)).date())
    response = await service.stub.ListRankedMembers(
        pb.ListRankedMembersRequest(selector=selector("weekly", day=day))
    )
    return [member.user_id for member in response.members]
