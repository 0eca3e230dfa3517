"""Points that expire are gone with the user's midnight, whoever finds it (RULES 5.6, 5.7)."""

from datetime import UTC, datetime, timedelta

import pytest
from laurel.common.v1 import date_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from shared.rpc.convert import to_datetime, to_timestamp
from tests.fixtures.feeds import listed
from tests.service.points.conftest import Service
from tests.service.points.messages import NOON, gift, revert, transfer
from tests.service.points.steps import amounts, balance, check_ledger, define, points, send

DAY = 24 * 60
LEDGER = """
    SELECT points_system, trigger, amount, occur_time, local_date, expire_date FROM awards
     WHERE user_id = $1 ORDER BY sequence
"""
TEN_DAYS = types.PointsExpiry(after_days=10)


@pytest.fixture(autouse=True)
async def held(service: Service) -> None:
    """The service's own passes are at the present, which is far ahead of what happens here."""
    await maintain(service, 0, hold_seconds=3_600)


async def maintain(service: Service, minutes: int, hold_seconds: int | None = None) -> None:
    now = to_timestamp(NOON + timedelta(minutes=minutes))
    request = participant_pb.RunMaintenanceRequest(now=now, hold_seconds=hold_seconds)
    while (await service.participant.RunMaintenance(request)).more:
        pass


def late_gift(name: str, *, user: str = "alice") -> participant_pb.Command:
    """Seven points of the first day that come on the eleventh, when they have expired."""
    command = gift(name, 7, user=user, minutes=11 * DAY)
    command.entry.occur_time.CopyFrom(to_timestamp(NOON + timedelta(minutes=1)))
    return command


async def right(service: Service) -> None:
    assert not (await service.stub.AuditPoints(pb.AuditPointsRequest())).differences
    await check_ledger(service)


async def test_what_a_pass_finds_and_what_an_entry_finds_are_the_same_rows(service: Service) -> None:
    await define(service, "xp", expiry=TEN_DAYS)
    for user in ("alice", "bob"):
        await send(service, gift(f"{user}-g", 50, user=user), gift(f"{user}-s", -20, user=user, minutes=1))
        await send(service, gift(f"{user}-h", 5, user=user, minutes=2 * DAY))
    # The pass does not find bob.
    postponed = "UPDATE trigger_states SET next_time = next_time + $1::interval WHERE user_id = 'bob'"
    await service.database.execute(postponed, timedelta(days=90))
    await maintain(service, 11 * DAY)
    await service.database.execute(postponed, -timedelta(days=90))
    assert await service.database.fetchval("SELECT balance FROM balances WHERE user_id = 'alice'") == 5
    (outcome,) = await send(service, gift("late", -5, user="bob", minutes=11 * DAY))
    assert amounts(outcome) == [-30, -5]
    rows = [
        [tuple(row) for row in await service.database.fetch(LEDGER, user)][:4] for user in ("alice", "bob")
    ]
    assert rows[0] == rows[1]
    (change,) = (await listed(service)).changes
    assert (change.user_id, change.timed_points.changes[0].added) == ("alice", -30)
    await right(service)


async def test_what_has_expired_cannot_be_spent_or_passed_on(service: Service) -> None:
    await define(service, "xp", expiry=TEN_DAYS)
    await send(service, gift("g", 50), gift("b", 1, user="bob"))
    spent, passed = await send(service, gift("s", -1, minutes=10 * DAY), transfer("t", 1, minutes=10 * DAY))
    assert {spent.error.reason, passed.error.reason} == {"INSUFFICIENT_POINTS"}
    await right(service)


async def test_an_undone_award_has_not_expired_and_a_spending_gives_back_what_has_not(
    service: Service,
) -> None:
    await define(service, "xp", expiry=TEN_DAYS)
    await send(service, gift("g", 50), gift("s", -40, minutes=1), gift("h", 30, minutes=5 * DAY))
    await maintain(service, 11 * DAY)
    assert await service.database.fetchval("SELECT balance FROM balances") == 30
    await service.participant.RevertEntries(revert("s"))
    await maintain(service, 11 * DAY)
    assert await service.database.fetchval("SELECT balance FROM balances") == 30
    await service.participant.RevertEntries(revert("g"))
    assert await service.database.fetchval("SELECT balance FROM balances") == 30
    await right(service)


async def test_what_comes_too_late_for_a_date_on_which_something_expired_is_gone_too(
    service: Service,
) -> None:
    await define(service, "xp", expiry=TEN_DAYS)
    await send(service, gift("g", 50))
    await maintain(service, 11 * DAY)
    await send(service, late_gift("late"))
    await maintain(service, 11 * DAY)
    assert await service.database.fetchval("SELECT balance FROM balances") == 0
    await send(service, gift("next", 3, minutes=12 * DAY))
    assert await service.database.fetchval("SELECT balance FROM balances") == 3
    await right(service)


async def test_what_was_given_too_late_is_gone_before_what_comes_after_it_also_in_one_batch(
    service: Service,
) -> None:
    await define(service, "xp", expiry=TEN_DAYS)
    for user, together in (("alice", True), ("bob", False)):
        late = late_gift(f"{user}-late", user=user)
        spent = gift(f"{user}-spent", -1, user=user, minutes=11 * DAY)
        outcomes = (
            await send(service, late, spent)
            if together
            else [
                *await send(service, late),
                *await send(service, spent),
            ]
        )
        assert outcomes[1].error.reason == "INSUFFICIENT_POINTS"
    await maintain(service, 11 * DAY)
    await right(service)


async def test_what_expires_sooner_in_the_zone_that_an_entry_brings_is_gone_before_it(
    service: Service,
) -> None:
    await define(service, "xp", expiry=TEN_DAYS)
    await send(service, gift("g", 50))
    travelled = gift("s", -1, minutes=10 * DAY - 13 * 60)
    travelled.entry.user.time_zone = "Pacific/Kiritimati"
    (refused,) = await send(service, travelled)
    assert refused.error.reason == "INSUFFICIENT_POINTS"
    await right(service)


async def test_what_time_gave_long_ago_has_expired_when_it_is_found(service: Service) -> None:
    daily = types.PointsTrigger(key="daily", amount=5, time=types.TimePointsTrigger(every_days=1))
    await define(service, "xp", [daily], expiry=types.PointsExpiry(after_days=2))
    await send(service, gift("a", 1))
    for day in range(7):
        await maintain(service, day * DAY)
    await send(service, gift("b", 1, user="bob"))
    await maintain(service, 6 * DAY)
    rows = [[tuple(row) for row in await service.database.fetch(LEDGER, user)] for user in ("alice", "bob")]
    assert rows[0] == rows[1]
    assert sum(row[2] for row in rows[0]) == 10
    await right(service)


async def test_when_energy_is_full_is_told_beside_points_of_time_that_expire(service: Service) -> None:
    daily = types.PointsTrigger(key="daily", amount=1, time=types.TimePointsTrigger(every_days=1))
    await define(service, "energy", [daily], max_balance=9)
    await define(service, "fading", [daily], max_balance=9, expiry=types.PointsExpiry(after_days=2))
    now = datetime.now(UTC)
    command = gift("g", 1, system="energy")
    for instant in (command.entry.now, command.entry.occur_time, command.entry.user.create_time):
        instant.CopyFrom(to_timestamp(now))
    await send(service, command)
    told = await points(service)
    assert to_datetime(told["energy"].full_time).date() == now.date() + timedelta(days=8)
    # What is given there is gone before there is enough.
    assert not told["fading"].HasField("full_time")


async def test_a_read_says_what_expires_and_counts_what_has(service: Service) -> None:
    await define(
        service, "xp", expiry=types.PointsExpiry(on_date=date_pb2.LocalDate(year=2999, month=1, day=1))
    )
    await send(service, gift("g", 50), gift("s", -8, minutes=1))
    request = pb.ListExpiringPointsRequest(user_id="alice", points_system="xp")
    found = await service.stub.ListExpiringPoints(request)
    assert [(each.expire_date.year, each.amount) for each in found.points] == [(2999, 42)]
    request.within_days = 30
    assert not (await service.stub.ListExpiringPoints(request)).points
    await define(service, "brief", expiry=TEN_DAYS)
    await send(service, gift("b", 9, system="brief", minutes=2))
    # The present is long after that.
    assert await balance(service, key="brief") == 0
    await right(service)
