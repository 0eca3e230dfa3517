"""Everything that changes is told, over the running system (RULES 8.1 to 8.3)."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import grpc
import grpc.aio
import pytest
from click.testing import CliRunner
from laurel.orchestrator.v1 import domain_event_pb2, orchestrator_service_pb2

from services.cli.main import cli
from tests.fixtures.system import System, event
from tests.fixtures.waiting import until

pb = orchestrator_service_pb2
Event = domain_event_pb2.DomainEvent

NOW = datetime.now(UTC)
DAY = 86_400.0
LONG_AGO = datetime(2019, 5, 6, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def user() -> str:
    """A user whom nobody has seen."""
    return f"user-{uuid.uuid4().hex[:12]}"


async def told(system: System, user: str, *types: str) -> list[Event]:
    """Every event about the user that can be read by now."""
    events: list[Event] = []
    page = pb.ListDomainEventsResponse(more=True)
    while page.more:
        page = await system.orchestrator.ListDomainEvents(
            pb.ListDomainEventsRequest(after_cursor=page.cursor, page_size=1_000, types=types, user_id=user)
        )
        events += page.events
    return events


async def told_within(system: System, user: str, *types: str, count: int) -> list[Event]:
    """So many events, once older transactions of others have ended."""
    events: list[Event] = []

    async def are_there() -> bool:
        events[:] = await told(system, user, *types)
        return len(events) >= count

    await until(are_there, seconds=30, what=f"{count} events are told")
    return events


async def void(system: System, entry_id: str) -> pb.VoidEntryResponse:
    request = pb.VoidEntryRequest(entry_id=entry_id, reason="test", request_id=str(uuid.uuid4()))
    return await system.orchestrator.VoidEntry(request)


async def test_one_event_tells_what_its_reply_says_in_the_order_of_cause_and_effect(
    system: System, user: str
) -> None:
    reply = await system.orchestrator.IngestEvent(event(user, region="moon"))
    events = await told_within(system, user, count=19)
    assert [message.type for message in events[:4]] == [
        "metric.recorded",
        "user.created",
        "streak.started",
        "achievement.completed",
    ]
    assert Counter(message.type for message in events[4:]) == {
        "points.changed": 2,
        "points.level_changed": 1,
        "leaderboard.changed": 7,
        "leaderboard.rank_changed": 7,
    }
    assert {message.entry_id for message in events} == {reply.entry_id}
    assert len({message.id for message in events}) == len(events)
    assert events[0].metric.total_after == reply.total_after
    assert dict(events[1].user.attributes) == {"region": "moon"}
    effects = reply.effects
    assert [message.streak for message in events if message.type == "streak.started"] == list(effects.streaks)
    assert [message.points for message in events if message.type == "points.changed"] == list(effects.points)
    assert [message.leaderboard for message in events if message.type == "leaderboard.changed"] == list(
        effects.leaderboards
    )


async def test_a_void_tells_what_it_took_back(system: System, user: str) -> None:
    reply = await system.orchestrator.IngestEvent(event(user))
    undone = await void(system, reply.entry_id)
    changes = len(undone.effects.points)
    wanted = ("event.voided", "streak.lost", "achievement.revoked", "points.changed")
    events = await told_within(system, user, *wanted, count=5 + changes)
    assert [message.type for message in events] == [
        "points.changed",
        "points.changed",
        "event.voided",
        "streak.lost",
        "achievement.revoked",
        *["points.changed"] * changes,
    ]
    voided = events[2].voided
    assert (voided.entry_id, voided.metric, voided.total_after) == (reply.entry_id, "steps", 0)
    assert voided.effects == undone.effects
    assert events[0].user_sequence < events[2].user_sequence


async def test_an_event_that_is_refused_tells_nothing(system: System, user: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await system.orchestrator.IngestEvent(event(user, metric="purchases"))
    await system.orchestrator.IngestEvent(event(user, value=9))
    events = await told_within(system, user, "metric.recorded", count=1)
    assert [message.metric.metric for message in events] == ["steps"]


async def test_what_a_late_event_finds_to_have_closed_is_told(system: System, user: str) -> None:
    """One day after it took the freeze, the next ended the run."""
    await system.orchestrator.IngestEvent(event(user, at=NOW.timestamp() - 4 * DAY))
    await system.orchestrator.IngestEvent(event(user))
    events = await told_within(system, user, "streak.frozen", "streak.started", count=2)
    assert [message.type for message in events] == ["streak.frozen", "streak.started"]


async def test_an_import_tells_nothing_and_what_is_then_done_to_it_does(system: System, user: str) -> None:
    async def batches() -> AsyncIterator[pb.ImportEventsRequest]:
        yield pb.ImportEventsRequest(events=[event(user, at=LONG_AGO), event(user, at=LONG_AGO + 9 * DAY)])

    answers = [answer async for answer in system.orchestrator.ImportEvents(batches())]
    assert [answer.imported_count for answer in answers] == [2]
    listed = await system.orchestrator.ListUserEntries(pb.ListUserEntriesRequest(user_id=user))
    entry_ids = [audit.entry_id for audit in listed.entries if audit.operation == "metric_event"]
    assert len(listed.entries) > len(entry_ids)  # closings of streaks, too
    await void(system, entry_ids[0])
    events = await told_within(system, user, "event.voided", count=1)
    assert (await told(system, user))[0] == events[0]


async def test_changes_of_a_user_are_told(system: System, user: str) -> None:
    await system.orchestrator.IngestEvent(event(user))
    update = pb.UpdateUserRequest(request_id="1")
    update.user.user_id = user
    update.user.name = "Ada"
    for request_id in ("1", "2"):
        update.request_id = request_id
        await system.orchestrator.UpdateUser(update)
    await system.orchestrator.IngestEvent(event(user, "last"))
    await told_within(system, user, "metric.recorded", count=2)
    events = await told(system, user, "user.created", "user.updated")
    assert [(message.type, message.user.name) for message in events] == [
        ("user.created", ""),
        ("user.updated", "Ada"),
    ]


def laurel(system: System, *arguments: str) -> str:
    """What the command prints."""
    environment = {"LAUREL_HOME": str(system.stack.home), "LAUREL_PORT_BASE": "0"}
    result = CliRunner().invoke(cli, arguments, env=environment)
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_the_command_lists_and_follows_what_is_told(system: System, user: str) -> None:
    start = await system.orchestrator.ListDomainEvents(pb.ListDomainEventsRequest(after_cursor="newest"))
    await system.orchestrator.IngestEvent(event(user, value=2.5))
    await told_within(system, user, "metric.recorded", count=1)
    chosen = ("--user", user, "--type", "metric.recorded", "--after", start.cursor)
    listed = await asyncio.to_thread(laurel, system, "feed", "list", *chosen)
    assert f"metric.recorded           {user}  steps +2.5, 0 to 2.5" in listed
    assert "cursor 1." in listed
    page = json.loads(await asyncio.to_thread(laurel, system, "feed", "list", *chosen, "--json"))
    assert [one["metric"]["value"] for one in page["events"]] == [2.5]
    line = await asyncio.to_thread(laurel, system, "feed", "tail", *chosen, "--count", "1", "--json")
    assert json.loads(line) == page["events"][0]


async def test_a_follower_hears_of_everything_once_and_of_each_user_in_order(
    system: System, user: str
) -> None:
    """Twenty users send one event after the other; a stream follows while they do."""
    users = [f"{user}-{number}" for number in range(20)]
    stream = system.orchestrator.WatchDomainEvents(
        pb.WatchDomainEventsRequest(after_cursor="newest", types=["metric.recorded"])
    )
    await stream.read()

    async def live(name: str) -> list[str]:
        return [(await system.orchestrator.IngestEvent(event(name, value=2))).entry_id for _ in range(10)]

    sent = asyncio.gather(*(live(name) for name in users))
    heard: dict[str, list[Event]] = {name: [] for name in users}
    async with asyncio.timeout(60):
        while sum(map(len, heard.values())) < 200:
            response = await stream.read()
            assert isinstance(response, pb.WatchDomainEventsResponse)
            for message in response.events:
                heard.setdefault(message.user_id, []).append(message)
    stream.cancel()
    assert [[message.entry_id for message in heard[name]] for name in users] == await sent
    for events in heard.values():
        sequences = [message.user_sequence for message in events]
        assert sequences == sorted(sequences)


async def test_a_client_that_watches_a_user_hears_all_that_follows_from_an_event(
    system: System, user: str
) -> None:
    stream = system.orchestrator.WatchUser(pb.WatchUserRequest(user_id=user))
    begun = await stream.read()
    assert isinstance(begun, pb.WatchUserResponse)
    assert not begun.events
    reply = await system.orchestrator.IngestEvent(event(user, value=2))
    heard: list[Event] = []
    async with asyncio.timeout(60):
        while not heard:
            response = await stream.read()
            assert isinstance(response, pb.WatchUserResponse)
            heard += response.events
    stream.cancel()
    assert {message.entry_id for message in heard} == {reply.entry_id}
    page = await system.orchestrator.ListDomainEvents(
        pb.ListDomainEventsRequest(user_id=user, page_size=1_000)
    )
    assert heard == [message for message in page.events if message.user_id == user]
