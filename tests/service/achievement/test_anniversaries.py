"""Anniversaries over a real channel: entries and passes give the same, to the row, and tell it once (RULES 4)."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime

import grpc.aio
import pytest
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from services.achievement.anniversaries import DUE
from shared import faults
from shared.rpc.convert import to_datetime, to_timestamp
from tests.fixtures import participants
from tests.fixtures.clients import persist
from tests.fixtures.feeds import listed
from tests.service.achievement.conftest import Service, ServiceDatabase, started
from tests.service.achievement.messages import API, NOON, apply, by_metric, call, entry, entry_id, event
from tests.service.achievement.steps import completed, define, held, revoked, shown

YEAR = types.AnniversaryTrigger(years=1)
MIDNIGHT = datetime(2025, 5, 3, 15, tzinfo=UTC)
"""In Tokyo, of the date that comes round."""
ROWS = (
    "SELECT * FROM live_completions ORDER BY user_id, achievement, number",
    "SELECT * FROM completion_facts ORDER BY user_id, achievement, number",
    "SELECT user_id, entry_count, sign_up_date, sign_up_zone, sign_up_version, eligible, next_anniversary FROM users",
    "SELECT * FROM request_log ORDER BY entry_id",
    "SELECT body FROM feed ORDER BY life, xid, sequence",
)


@pytest.fixture(autouse=True)
async def held_still(service: Service) -> None:
    """The service's own passes are at the present, which is far ahead of what happens here."""
    await hold(service)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


async def hold(service: Service) -> None:
    request = participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON), hold_seconds=3600)
    await service.participant.RunMaintenance(request)


def told(
    name: object,
    moment: datetime = NOON,
    version: int = 1,
    *,
    signed_up: str = "2024-05-04",
    user: str = "alice",
    corrects: object = None,
) -> participant_pb.Command:
    message = entry(name, user=user)
    message.user.version, message.user.time_zone = version, "Asia/Tokyo"
    if signed_up:
        message.user.attributes["sign_up_date"] = signed_up
    message.now.CopyFrom(to_timestamp(moment))
    message.occur_time.CopyFrom(to_timestamp(moment))
    if corrects is None:
        message.user_update.says_sign_up_date = True
    else:
        message.correction.corrected_entry_id = str(entry_id(corrects))
    return participants.command(message)


async def maintain(service: Service, moment: datetime, *, history: bool = False) -> None:
    request = participant_pb.RunMaintenanceRequest(now=to_timestamp(moment), history=history)
    while (await service.participant.RunMaintenance(request)).more:
        pass


async def changes(service: Service) -> list[participant_pb.Change]:
    response = await listed(service)
    return list(response.changes)


async def sent(service: Service, *commands: participant_pb.Command) -> list[participant_pb.Outcome]:
    return list((await service.participant.ApplyEntries(apply(*commands))).outcomes)


async def test_a_pass_gives_it_at_the_local_midnight_and_tells_it_once(service: Service) -> None:
    await define(service, "year", anniversary=YEAR)
    await sent(service, told("u1"))
    await maintain(service, MIDNIGHT.replace(hour=14))
    assert await held(service) == set()
    await maintain(service, MIDNIGHT)
    await maintain(service, MIDNIGHT.replace(month=7))
    assert await held(service) == {"year"}
    [change] = await changes(service)
    assert to_datetime(change.occur_time) == MIDNIGHT
    assert (change.time_zone, change.origin) == ("Asia/Tokyo", entry_pb2.ENTRY_ORIGIN_MAINTENANCE)
    [earned] = change.anniversary.changes
    assert (earned.achievement, earned.entry_id, earned.backdated) == ("year", change.entry_id, False)
    assert earned.local_date.day == date(2025, 5, 4).day


async def test_an_entry_and_a_pass_write_the_same_rows(
    service: Service, service_database: ServiceDatabase
) -> None:
    when = MIDNIGHT.replace(day=20)

    async def lived(one: Service, *, passes: bool) -> list[list[tuple[object, ...]]]:
        await define(one, "year", anniversary=YEAR, repeatable=True)
        await define(one, "founder", api=API)
        both = types.CompositeTrigger(achievements=["year", "founder"])
        await define(one, "both", composite=both)
        await sent(one, call("c1", "founder"), told("u1", signed_up="2023-05-04"))
        if passes:
            await maintain(one, MIDNIGHT)
            await maintain(one, when)
        await sent(one, told("u2", when, signed_up="2023-05-04"))
        return [[tuple(row) for row in await one.database.fetch(query)] for query in ROWS]

    passed = await lived(service, passes=True)
    async with started(service_database) as other:
        await hold(other)
        assert await lived(other, passes=False) == passed
    assert len(passed[0]) == 4


async def test_a_date_that_lies_back_gives_what_was_since_and_tells_only_where_points_hang_on_it(
    service: Service,
) -> None:
    await define(service, "year", anniversary=YEAR, repeatable=True)
    await define(service, "two", anniversary=types.AnniversaryTrigger(years=2), award_backdated=True)
    await sent(service, told("u1", signed_up="2022-02-28"))
    assert [(each.achievement, each.completion_count, each.backdated) for each in await shown(service)] == [
        ("year", 3, True),
        ("two", 1, True),
    ]
    [change] = await changes(service)
    assert change.origin == entry_pb2.ENTRY_ORIGIN_BACKFILL
    assert [each.achievement for each in change.anniversary.changes] == ["two"]


async def test_an_import_tells_it_as_history(service: Service) -> None:
    await define(service, "year", anniversary=YEAR)
    await sent(service, told("u1"))
    await maintain(service, MIDNIGHT, history=True)
    [change] = await changes(service)
    assert change.origin == entry_pb2.ENTRY_ORIGIN_IMPORT


async def test_undoing_what_said_the_date_takes_it_away(service: Service) -> None:
    await define(service, "year", anniversary=YEAR)
    await define(service, "proud", composite=types.CompositeTrigger(achievements=["year"]))
    await sent(service, told("u1", signed_up="2023-05-04"))
    assert await held(service) == {"year", "proud"}
    [outcome] = await sent(service, told("c1", version=2, signed_up="", corrects="u1"))
    assert revoked(outcome) == ["year", "proud"]
    assert await held(service) == set()
    await sent(service, told("u2", version=3, signed_up="2023-05-04"))
    assert await held(service) == {"year", "proud"}


async def test_what_an_admin_took_comes_back_with_what_came_round_meanwhile(service: Service) -> None:
    await define(service, "year", anniversary=YEAR, repeatable=True)
    await sent(service, told("u1"))
    await maintain(service, MIDNIGHT)
    message = entry("taken")
    message.user.CopyFrom(told("x").entry.user)
    message.achievement_revocation.achievement = "year"
    await sent(service, participants.command(message))
    await maintain(service, MIDNIGHT.replace(year=2026))
    assert await held(service) == set()
    await service.participant.RevertEntries(participants.revert("taken", user="alice", now=NOON))
    await maintain(service, MIDNIGHT.replace(year=2026))
    [year] = await shown(service)
    assert year.completion_count == 2


async def test_an_event_that_is_refused_leaves_the_anniversary_before_it(service: Service) -> None:
    await define(service, "year", anniversary=YEAR)
    await sent(service, told("u1"))
    late = call("c1", "unknown")
    late.entry.now.CopyFrom(to_timestamp(MIDNIGHT.replace(day=4)))
    late.entry.user.CopyFrom(told("x").entry.user)
    [outcome] = await sent(service, late)
    assert outcome.error.reason == "ACHIEVEMENT_NOT_FOUND"
    assert await held(service) == {"year"}
    assert len(await changes(service)) == 1


async def test_entries_and_passes_at_once_give_it_once(service: Service) -> None:
    await define(service, "year", anniversary=YEAR)
    users = [f"user-{number}" for number in range(8)]
    await sent(service, *(told(user, user=user) for user in users))
    when = MIDNIGHT.replace(day=5)
    await asyncio.gather(
        # A pass that others got in the way of is asked for again, as by every caller.
        *(persist(lambda: maintain(service, when)) for _ in range(3)),
        *(sent(service, told(f"{user} again", when, user=user)) for user in users),
    )
    assert sorted(change.user_id for change in await changes(service)) == users
    assert await service.database.fetchval("SELECT count(*) FROM completion_facts") == len(users)


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_pass_that_fails_at_its_commit_is_done_once_when_it_comes_again(
    service: Service, point: str
) -> None:
    await define(service, "year", anniversary=YEAR)
    await sent(service, told("u1"))
    faults.arm(f"achievement.anniversary.{point}=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await maintain(service, MIDNIGHT)
    await maintain(service, MIDNIGHT)
    assert len(await changes(service)) == 1
    assert await service.database.fetchval("SELECT count(*) FROM completion_facts") == 1


async def test_what_it_found_by_itself_is_no_entry_that_the_ledger_could_lack(service: Service) -> None:
    await define(service, "year", anniversary=YEAR, repeatable=True)
    await sent(service, told("u1", signed_up="2023-05-04"))
    await maintain(service, MIDNIGHT)
    [year] = await shown(service)
    assert year.completion_count == 2
    response = await service.participant.ListLoggedEntries(participant_pb.ListLoggedEntriesRequest())
    assert [each.entry_id for each in response.entries] == [str(entry_id("u1"))]


async def test_an_event_of_a_user_who_said_nothing_writes_nothing_of_it(service: Service) -> None:
    await define(service, "year", anniversary=YEAR)
    await define(service, "ten", metric=by_metric(10))
    [outcome] = await sent(service, event("e1", 10, version=1, total=10))
    assert completed(outcome) == ["ten"]
    row = await service.database.fetchrow("SELECT sign_up_version, next_anniversary FROM users")
    assert row is not None
    assert tuple(row) == (None, None)


async def test_who_is_due_is_found_by_index(service: Service) -> None:
    await service.database.execute("SET enable_seqscan = off")
    plan = await service.database.fetch("EXPLAIN " + DUE.replace("$1", "now()").replace("$2", "500"))
    assert any("users_anniversary" in row[0] for row in plan)


async def test_years_are_one_to_a_hundred_and_fifty(service: Service) -> None:
    for years in (0, 151):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await define(service, "year", anniversary=types.AnniversaryTrigger(years=years))
        assert "anniversary.years" in str(refused.value.trailing_metadata()) or refused.value.details()
