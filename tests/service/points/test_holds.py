"""Points that are held for purchases which wait for an outside answer (RULES 5.7)."""

import asyncio
from datetime import timedelta

import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_service_pb2 as pb

from shared.rpc.convert import to_timestamp
from tests.service.points.conftest import Service
from tests.service.points.messages import NOON, apply, captured, event, gift, held, released, revert, transfer
from tests.service.points.steps import amounts, balance, check_ledger, define, send
from tests.service.points.test_time import PLAY

AGES = 30 * 365 * 24 * 60
"""Minutes: beyond the present."""
HOLDS = "SELECT periods IS NOT NULL FROM trigger_states WHERE kind = 4"


@pytest.fixture(autouse=True)
async def kept_off(service: Service) -> None:
    """The service's own passes are at the present, which is far ahead of what happens here."""
    await maintain(service, 0, hold_seconds=3_600)


async def maintain(service: Service, minutes: int, hold_seconds: int | None = None) -> None:
    now = to_timestamp(NOON + timedelta(minutes=minutes))
    request = participant_pb.RunMaintenanceRequest(now=now, hold_seconds=hold_seconds)
    while (await service.participant.RunMaintenance(request)).more:
        pass


async def reasons(service: Service, *commands: participant_pb.Command) -> list[str]:
    return [outcome.error.reason for outcome in await send(service, *commands)]


async def right(service: Service) -> None:
    assert not (await service.stub.AuditPoints(pb.AuditPointsRequest())).differences
    await check_ledger(service)


async def test_what_is_held_is_there_and_cannot_be_spent(service: Service) -> None:
    await define(service, "xp", [PLAY])
    await send(service, gift("g", 50))
    (outcome,) = await send(service, held("h", 30, until=AGES, minutes=1))
    assert not outcome.effects.points
    (points,) = (await service.stub.ListUserPoints(pb.ListUserPointsRequest(user_id="alice"))).points
    assert (points.balance, points.held, [each.amount for each in points.holds]) == (50, 30, [30])
    (refused,) = await send(service, gift("s", -21, minutes=2))
    assert (refused.error.reason, refused.error.metadata["held"]) == ("INSUFFICIENT_POINTS", "30")
    assert await reasons(service, transfer("t", 21, minutes=3), held("i", 21, until=AGES, minutes=4)) == [
        "INSUFFICIENT_POINTS",
        "INSUFFICIENT_POINTS",
    ]
    assert await reasons(service, gift("u", -20, minutes=5), event("e", 1, metric="games", minutes=6)) == [
        "",
        "INSUFFICIENT_POINTS",
    ]
    await right(service)


async def test_a_capture_takes_what_is_held_or_a_part_of_it_once(service: Service) -> None:
    await define(service, "xp")
    await send(service, gift("g", 50), held("h", 30, until=AGES), held("i", 20, until=AGES))
    whole, more, part = await send(service, captured("c", "h"), captured("d", "i", 21), captured("e", "i", 5))
    assert (amounts(whole), more.error.reason, amounts(part)) == ([-30], "HOLD_TOO_SMALL", [-5])
    assert (
        await reasons(service, captured("f", "h"), captured("k", "nothing"), released("l", "i"))
        == ["HOLD_ENDED"] * 3
    )
    assert await reasons(service, gift("s", -15, minutes=2)) == [""]
    await service.participant.RevertEntries(revert("c"))
    assert await balance(service) == 30
    await right(service)


async def test_what_is_released_or_has_ended_can_be_spent(service: Service) -> None:
    await define(service, "xp")
    await send(service, gift("g", 50), held("h", 30, until=10), held("i", 20, until=AGES))
    assert await reasons(service, released("r", "i", minutes=1), gift("s", -21, minutes=9)) == [
        "",
        "INSUFFICIENT_POINTS",
    ]
    assert await reasons(service, captured("c", "h", minutes=10), gift("t", -50, minutes=10)) == [
        "HOLD_ENDED",
        "",
    ]
    await right(service)


async def test_a_hold_that_has_ended_is_forgotten_by_a_pass_and_an_undone_one_is_none(
    service: Service,
) -> None:
    await define(service, "xp")
    await send(service, gift("g", 50), held("h", 30, until=10), held("i", 20, until=AGES))
    await maintain(service, 10)
    (points,) = (await service.stub.ListUserPoints(pb.ListUserPointsRequest(user_id="alice"))).points
    assert points.held == 20
    await service.participant.RevertEntries(revert("i"))
    assert await service.database.fetchval(HOLDS) is False
    assert await reasons(service, gift("s", -50, minutes=20)) == [""]


async def test_holds_are_bounded_and_never_more_than_there_is(service: Service) -> None:
    await define(service, "xp")
    await send(service, gift("g", 250))
    holds = [held(f"h{number}", 2, until=AGES, minutes=1) for number in range(140)]
    answers = await asyncio.gather(
        *(service.participant.ApplyEntries(apply(*holds[start : start + 20])) for start in range(0, 140, 20))
    )
    found = [outcome.error.reason for answer in answers for outcome in answer.outcomes]
    assert (found.count(""), found.count("TOO_MANY_HOLDS")) == (100, 40)
    assert await reasons(service, gift("s", -51, minutes=2), gift("t", -50, minutes=3)) == [
        "INSUFFICIENT_POINTS",
        "",
    ]
    await right(service)
