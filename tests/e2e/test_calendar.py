"""The same system on days that differ: what a suite that is run today would meet on another day (RULES 1, 6)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.notification.v1 import contact_pb2, message_pb2, webhook_pb2
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.orchestrator.v1 import event_pb2

from deploy.local.config import StackConfig
from deploy.local.stack import Stack
from shared.clock import TEST_CLOCK_VARIABLE
from tests.fixtures import clock
from tests.fixtures.clients import ingest, void
from tests.fixtures.invariants import violations
from tests.fixtures.receiver import Receiver, receiving
from tests.fixtures.system import System, connect, event
from tests.fixtures.waiting import until
from tests.fixtures.world import CONFIGURATION

ZONES = ("UTC", "Europe/Berlin", "America/Los_Angeles", "Pacific/Kiritimati")
DAYS_BACK = 6
DAY = timedelta(days=1)


class Moment(NamedTuple):
    """An instant, and whether the week before its own still takes events."""

    name: str
    at: datetime
    last_week_is_open: bool


MOMENTS = (
    Moment("the night on which Berlin's summer time begins", datetime(2025, 3, 30, 1, 30, tzinfo=UTC), False),
    Moment("a Saturday, the last of its month", datetime(2025, 5, 31, 23, 0, tzinfo=UTC), False),
    Moment("a Monday before the week is final", datetime(2025, 6, 2, 12, 30, tzinfo=UTC), True),
    Moment("that Monday after it", datetime(2025, 6, 2, 13, 30, tzinfo=UTC), False),
    Moment("the night on which it ends", datetime(2025, 10, 26, 0, 30, tzinfo=UTC), False),
)
"""In order: a system never lives backwards."""
SATURDAY, MONDAY = MOMENTS[1:3]


@pytest.fixture
def clock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What sets the clock of this test and of the processes that it starts."""
    file = tmp_path / "ahead"
    monkeypatch.setenv(TEST_CLOCK_VARIABLE, str(file))
    return file


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as listening:
        yield listening


@pytest.fixture
async def system(quick_directory: Path, clock_file: Path) -> AsyncIterator[System]:
    """A system that is begun at the first of the moments."""
    clock.set_to(MOMENTS[0].at, clock_file)
    settings = {"LAUREL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "LAUREL_WEBHOOK_ALLOW_HTTP": "true"}
    config = StackConfig(home=quick_directory / "calendar", port_base=0, fsync=False, settings=settings)
    with Stack(config) as stack:
        stack.up()
        connected = connect(stack)
        await connected.orchestrator.ApplyConfiguration(CONFIGURATION)
        yield connected
        await connected.close()


async def live(system: System, moment: Moment) -> list[event_pb2.IngestEventResponse]:
    """Events of the last days, sent at once by users of several zones."""
    requests = [
        event(
            f"{zone} {moment.at:%F}",
            f"{moment.at} {back}",
            value=1 + back % 2,
            zone=zone,
            at=(moment.at - back * DAY).timestamp(),
            region=zone.partition("/")[0],
        )
        for zone in ZONES
        for back in range(DAYS_BACK + 1)
    ]
    replies = await asyncio.gather(*(ingest(system, request) for request in requests))
    answered = [reply for reply in replies if isinstance(reply, event_pb2.IngestEventResponse)]
    assert len(answered) == len(requests), replies
    return answered


def week_of(reply: event_pb2.IngestEventResponse) -> tuple[date, bool]:
    """The Monday of the week that an event fell into, and whether it came too late for it."""
    (weekly,) = [
        leaderboard for leaderboard in reply.effects.leaderboards if leaderboard.leaderboard == "weekly"
    ]
    assert isinstance(weekly, leaderboard_pb2.Standing)
    start = weekly.run.start_date
    return date(start.year, start.month, start.day), weekly.run_finalized


async def recaps_came(receiver: Receiver) -> None:
    """Where it is after ten on Monday users hear what the week before has brought, by all services."""
    users = {f"{zone} {SATURDAY.at:%F}" for zone in ZONES if zone != "America/Los_Angeles"}

    async def came() -> bool:
        return {got.user for got in receiver.accepted} == users

    await until(came, seconds=60, what="recaps of the week")
    for got in receiver.accepted:
        data = got.json["data"]
        assert (data["first_date"], data["last_date"]) == ("2025-05-26", "2025-06-01")
        assert [each["before"] for each in data["metrics"]] == [None]
        assert data["metrics"][0]["amount"] > 0
        assert {each["amount"] > 0 for each in data["points"]} == {True}
        assert data["achievements"]
        assert {each["best"] > 0 for each in data["ranks"]} == {True}, data


async def switch_recaps_on(system: System, receiver: Receiver) -> None:
    """Each week's are told to the receiver."""
    endpoint = webhook_pb2.WebhookEndpoint(key="recaps", url=receiver.url, types=["message.recap_due"])
    create = pb.CreateWebhookEndpointRequest(request_id="recaps", endpoint=endpoint)
    await system.notification.CreateWebhookEndpoint(create)
    recaps = message_pb2.MessageDefinition(type=contact_pb2.MESSAGE_TYPE_RECAP, switched_on=True)
    update = pb.UpdateMessageDefinitionRequest(request_id="recaps", message=recaps)
    await system.notification.UpdateMessageDefinition(update)


async def test_on_any_day_the_invariants_hold_and_a_week_takes_events_until_it_is_final(
    system: System, clock_file: Path, receiver: Receiver
) -> None:
    await switch_recaps_on(system, receiver)
    earlier: list[event_pb2.IngestEventResponse] = []
    for moment in MOMENTS:
        clock.set_to(moment.at, clock_file)
        if moment is MONDAY:
            await recaps_came(receiver)
        assert await violations(system) == [], f"before anything happens, {moment.name}"
        replies = await live(system, moment)
        # In Kiritimati a week begins fourteen hours before it does in UTC.
        this_monday = moment.at.date() - moment.at.weekday() * DAY
        late = {monday: too_late for monday, too_late in map(week_of, replies) if monday < this_monday}
        assert late, f"no event of last week, {moment.name}"
        assert set(late.values()) == {not moment.last_week_is_open}, moment.name
        for reply in (*replies[::5], *earlier[1::5]):
            await void(system, reply.entry_id)
        assert await violations(system) == [], moment.name
        earlier = replies
