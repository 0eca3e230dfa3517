"""What comes due by time is found by entries, by passes and by reads, with one result (RULES 5.2, 5.6)."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from shared import faults
from shared.rpc.convert import to_datetime, to_timestamp
from tests.fixtures.feeds import listed
from tests.service.points.conftest import Service
from tests.service.points.messages import BADGE, NOON, apply, correction, entry_id, event, gift, revert
from tests.service.points.steps import amounts, balance, check_ledger, define, send

REGROW = types.PointsTrigger(key="regrow", amount=1, time=types.TimePointsTrigger(every_hours=1))
PLAY = types.PointsTrigger(
    key="play", amount=-1, block=True, metric=types.MetricPointsTrigger(metric="games", every=1)
)
START = types.PointsTrigger(key="start", amount=5, user_created=types.UserCreatedPointsTrigger())
HOUR = 60
LEDGER = """
    SELECT trigger, amount, entry_id, occur_time, local_date, user_id FROM awards ORDER BY position, sequence
"""


@pytest.fixture(autouse=True)
async def held(service: Service) -> None:
    """The service's own passes are at the present, which is far ahead of what happens here."""
    request = participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON), hold_seconds=3600)
    await service.participant.RunMaintenance(request)


async def energy(service: Service, **fields: Any) -> None:
    await define(service, "energy", [REGROW, PLAY, START], max_balance=5, **fields)


def play(name: object, minutes: int, user: str = "alice") -> participant_pb.Command:
    return event(name, 1, metric="games", user=user, minutes=minutes)


async def maintain(service: Service, minutes: int) -> None:
    now = to_timestamp(NOON + timedelta(minutes=minutes))
    request = participant_pb.RunMaintenanceRequest(now=now)
    while (await service.participant.RunMaintenance(request)).more:
        pass


async def changes(service: Service) -> list[participant_pb.Change]:
    response = await listed(service)
    return list(response.changes)


async def test_energy_is_spent_grows_back_and_is_refused_when_it_is_gone(service: Service) -> None:
    await energy(service)
    outcomes = await send(service, *[play(number, number) for number in range(6)])
    assert [amounts(outcome) for outcome in outcomes] == [[-1, 5], [-1], [-1], [-1], [-1], []]
    assert outcomes[5].error.reason == "INSUFFICIENT_POINTS"
    (again,) = await send(service, play("later", 2 * HOUR + 1))
    assert amounts(again) == [1, 1, -1]
    times = [to_datetime(award.occur_time) for award in again.effects.points[0].awards]
    assert times[:2] == [NOON + timedelta(hours=1), NOON + timedelta(hours=2)]
    await check_ledger(service)
    found = await service.stub.AuditPoints(pb.AuditPointsRequest())
    assert list(found.differences) == []


async def test_what_a_pass_finds_and_what_an_entry_finds_are_the_same_rows(service: Service) -> None:
    await energy(service)
    for user in ("alice", "bob"):
        await send(service, *[play(f"{user}{number}", number, user) for number in range(4)])
    await service.database.execute(
        "UPDATE trigger_states SET next_time = next_time + interval '1 year' WHERE user_id = 'bob' AND kind = 3"
    )
    for hour in (1, 2, 3):
        await maintain(service, hour * HOUR + 5)
    await service.database.execute(
        "UPDATE trigger_states SET next_time = next_time - interval '1 year' WHERE user_id = 'bob' AND kind = 3"
    )
    await send(service, play("alice-last", 4 * HOUR, "alice"), play("bob-last", 4 * HOUR, "bob"))
    rows = {
        user: [
            tuple(row)[:2] + tuple(row)[3:5] for row in await service.database.fetch(LEDGER) if row[5] == user
        ]
        for user in ("alice", "bob")
    }
    assert rows["alice"] == rows["bob"]
    assert sum(row[0] == "regrow" for row in rows["alice"]) == 4
    await check_ledger(service)


async def test_energy_has_grown_back_for_an_event_that_changes_what_an_earlier_one_contributes(
    service: Service,
) -> None:
    await energy(service)
    await send(service, *[play(number, number) for number in range(5)])
    revising = play("revising", 2 * HOUR + 1)
    fact = revising.entry.metric_event
    fact.revisable, fact.contribution_micros, fact.total_version = True, 1_000_000, 2
    fact.revisions.add(entry_id=str(entry_id(0)), contribution_micros=1_000_000)
    (outcome,) = await send(service, revising)
    assert amounts(outcome) == [1, 1, -1]
    await check_ledger(service)
    assert not (await service.stub.AuditPoints(pb.AuditPointsRequest())).differences


async def test_a_pass_tells_what_it_found_and_finds_it_once(service: Service) -> None:
    await energy(service)
    await send(service, *[play(number, number) for number in range(3)])
    await maintain(service, 2 * HOUR)
    await maintain(service, 2 * HOUR)
    told = await changes(service)
    assert [to_datetime(change.occur_time) for change in told] == [
        NOON + timedelta(hours=1),
        NOON + timedelta(hours=2),
    ]
    assert [change.timed_points.changes[0].balance for change in told] == [3, 4]
    entries = {row["entry_id"] for row in await service.database.fetch(LEDGER) if row["trigger"] == "regrow"}
    assert {change.entry_id for change in told} == {str(entry_id) for entry_id in entries}


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_pass_that_fails_between_its_users_is_told_once_of_each(service: Service, point: str) -> None:
    await energy(service)
    for user in ("alice", "bob"):
        await send(service, *[play(f"{user}{number}", number, user) for number in range(3)])
    faults.arm(f"points.maintenance.{point}=error@1")
    with pytest.raises(grpc.aio.AioRpcError):
        await maintain(service, 2 * HOUR)
    await maintain(service, 2 * HOUR)
    told = [(change.user_id, to_datetime(change.occur_time)) for change in await changes(service)]
    hours = [NOON + timedelta(hours=1), NOON + timedelta(hours=2)]
    assert sorted(told) == [(user, hour) for user in ("alice", "bob") for hour in hours]
    await check_ledger(service)


async def test_a_pass_over_many_users_goes_on_beside_their_events(service: Service) -> None:
    """Whoever moves while a pass looks at many is looked at again."""
    await energy(service)
    users = [f"user{number}" for number in range(30)]
    await send(service, *[play(f"a-{user}", 0, user) for user in users])

    async def plays() -> None:
        for number in range(10):
            await send(service, *[play(f"b-{number}-{user}", number, user) for user in users[::3]])

    await asyncio.gather(plays(), maintain(service, 3 * HOUR), maintain(service, 3 * HOUR))
    await maintain(service, 3 * HOUR)
    due = "SELECT count(*) FROM trigger_states WHERE next_time <= $1"
    assert await service.database.fetchval(due, NOON + timedelta(hours=3)) == 0
    await check_ledger(service)


async def test_who_is_full_is_told_nothing_and_waits_for_no_pass(service: Service) -> None:
    await energy(service)
    await send(service, gift("g", 1, system="energy"))
    await maintain(service, 1000 * HOUR)
    assert await changes(service) == []
    assert (
        await service.database.fetchval("SELECT count(*) FROM trigger_states WHERE next_time < $1", NOON) == 0
    )


async def test_a_read_shows_what_is_due_when_the_next_unit_comes_and_when_it_is_full(
    service: Service,
) -> None:
    await define(service, "energy", [REGROW, START, PLAY], max_balance=10**6)
    await send(service, play(1, 0))
    (read,) = (await service.stub.ListUserPoints(pb.ListUserPointsRequest(user_id="alice"))).points
    due = to_datetime(read.next_time) - NOON
    assert due % timedelta(hours=1) == timedelta(0)
    assert read.balance == 4 + due // timedelta(hours=1) - 1
    assert not await service.database.fetch("SELECT * FROM awards WHERE trigger = 'regrow'")


async def test_concurrent_plays_never_spend_more_than_there_is(service: Service) -> None:
    await energy(service)
    await send(service, gift("g", 1, system="energy"))
    answers = await asyncio.gather(
        *(service.participant.ApplyEntries(apply(play(f"p{n}", 3 * HOUR))) for n in range(40))
    )
    assert sum(answer.outcomes[0].HasField("effects") for answer in answers) == 5
    assert await service.database.fetchval("SELECT balance FROM balances") == 0
    await check_ledger(service)


async def test_a_game_that_is_voided_gives_its_energy_back_and_what_has_grown_since_stays_within_the_cap(
    service: Service,
) -> None:
    await energy(service)
    await send(service, *[play(number, number) for number in range(2)])
    await maintain(service, 3 * HOUR)
    await service.participant.RevertEntries(revert(1))
    assert await service.database.fetchval("SELECT balance FROM balances") == 5
    await check_ledger(service)
    found = await service.stub.AuditPoints(pb.AuditPointsRequest())
    assert list(found.differences) == []


async def test_a_correction_brings_nothing_that_is_due(service: Service) -> None:
    """Of an import it comes at the present, years after what it corrects."""
    await energy(service)
    await send(service, *[play(number, number) for number in range(2)])
    (outcome,) = await send(service, correction("c", corrects="x", minutes=10_000 * HOUR))
    assert amounts(outcome) == []
    await maintain(service, 2 * HOUR)
    assert len(await changes(service)) == 2


async def test_a_refused_entry_leaves_what_is_due_to_the_next_one(service: Service) -> None:
    dear = types.PointsTrigger(
        key="dear", amount=-9, block=True, metric=types.MetricPointsTrigger(metric="dear", every=1)
    )
    await define(service, "energy", [REGROW, dear, BADGE], max_balance=5)
    await send(service, gift("g", 1, system="energy"))
    (refused,) = await send(service, event("d", 1, metric="dear", minutes=2 * HOUR))
    assert refused.error.metadata["balance"] == "3"
    (next_one,) = await send(service, gift("h", 1, system="energy", minutes=2 * HOUR))
    assert amounts(next_one) == [1, 1, 1]
    assert await balance(service, key="energy") >= 4
