"""Imports of history (RULES 1.4, 2.4): in order, every day maintained, and the same again changes nothing."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import event_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.saga import Step
from shared.rpc.convert import to_datetime
from tests.service.orchestrator.conftest import Orchestrator, event, refused

FIRST_DAY = datetime(2015, 3, 1, 9, tzinfo=UTC)


def line(day: float, user: str = "ada", key: str = "", value: float = 1) -> event_pb2.IngestEventRequest:
    request = event(user, key, value)
    request.occur_time.FromDatetime(FIRST_DAY + timedelta(days=day))
    return request


async def run(
    orchestrator: Orchestrator, *batches: Sequence[event_pb2.IngestEventRequest]
) -> list[pb.ImportEventsResponse]:
    async def requests() -> AsyncIterator[pb.ImportEventsRequest]:
        for batch in batches:
            yield pb.ImportEventsRequest(events=batch)

    return [response async for response in orchestrator.stub.ImportEvents(requests())]


async def test_history_of_any_age_counts_at_its_own_time_and_says_where_it_comes_from(
    orchestrator: Orchestrator,
) -> None:
    (response,) = await run(orchestrator, [line(0), line(1)])
    assert (response.imported_count, len(response.errors)) == (2, 0)
    told = [command.entry for command in orchestrator.streak.commands]
    assert [to_datetime(entry.now) for entry in told] == [FIRST_DAY, FIRST_DAY + timedelta(days=1)]
    assert {entry.origin for entry in told} == {entry_pb2.ENTRY_ORIGIN_IMPORT}


async def test_maintenance_runs_at_the_beginning_of_every_day_that_is_passed_and_is_released_at_the_end(
    orchestrator: Orchestrator,
) -> None:
    await run(orchestrator, [line(0)], [line(3)])
    midnights = [to_datetime(request.now) for request in orchestrator.leaderboard.maintained]
    assert midnights == [
        *(datetime(2015, 3, 1 + day, tzinfo=UTC) for day in range(4)),
        FIRST_DAY + timedelta(days=3),
    ]
    held = [
        request.hold_seconds
        for request in orchestrator.leaderboard.maintained
        if request.HasField("hold_seconds")
    ]
    assert held[0] > 0
    assert held[-1] == 0
    heard = [step for step, method, _ in orchestrator.cast.heard if method == "RunMaintenance"]
    assert heard[:4] == list(Step)


async def test_a_file_imported_again_changes_nothing(orchestrator: Orchestrator) -> None:
    lines = [line(0, key="k"), line(0), line(0), line(1, value=2)]
    (first,) = await run(orchestrator, lines)
    (again,) = await run(orchestrator, lines)
    assert (first.imported_count, first.replayed_count) == (4, 0)
    assert (again.imported_count, again.replayed_count) == (0, 4)
    assert await orchestrator.pool.fetchval("SELECT sum(value_micros) FROM entries") == 5_000_000


async def test_equal_lines_without_a_key_count_as_often_as_they_come(orchestrator: Orchestrator) -> None:
    (response,) = await run(orchestrator, [line(0), line(0), line(0)])
    assert response.imported_count == 3
    (more,) = await run(orchestrator, [line(0), line(0), line(0), line(0)])
    assert (more.imported_count, more.replayed_count) == (1, 3)


async def test_lines_that_are_wrong_are_named_and_the_others_go_on(orchestrator: Orchestrator) -> None:
    unknown = line(1)
    unknown.metric = "unheard-of"
    (response,) = await run(orchestrator, [line(0), line(0, value=0), unknown, line(2), line(1)])
    assert response.imported_count == 2
    assert [(each.index, each.error.reason) for each in response.errors] == [
        (1, "INVALID_FIELDS"),
        (4, "IMPORT_OUT_OF_ORDER"),
        (2, "METRIC_NOT_FOUND"),
    ]


async def test_a_participant_that_is_away_for_a_moment_costs_an_import_nothing(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.points.away = 3
    (response,) = await run(orchestrator, [line(0)])
    assert (response.imported_count, len(response.errors)) == (1, 0)


async def test_one_import_at_a_time(orchestrator: Orchestrator) -> None:
    orchestrator.streak.hold()

    async def endless() -> AsyncIterator[pb.ImportEventsRequest]:
        yield pb.ImportEventsRequest(events=[line(0)])

    running = orchestrator.stub.ImportEvents(endless())
    reading = running.read()
    await orchestrator.streak.waiting.wait()
    error = await refused(_whole(orchestrator))
    assert error.reason == "IMPORT_RUNNING"
    orchestrator.streak.open.set()
    response = await reading
    assert isinstance(response, pb.ImportEventsResponse)
    assert response.imported_count == 1


async def _whole(orchestrator: Orchestrator) -> None:
    await run(orchestrator, [line(1)])
