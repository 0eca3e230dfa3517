"""Points that are given and taken by call (RULES 5.7)."""

import asyncio

import pytest
from laurel.points.v1 import points_pb2 as types

from tests.service.points.conftest import Service
from tests.service.points.messages import BRONZE, SPEND, TEN_PER_THREE, apply, event, gift, revert
from tests.service.points.steps import amounts, balance, check_ledger, define, derived_state, points, send


async def test_points_that_are_given_count_like_any_others(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE], levels=[BRONZE], max_balance=100)
    [given] = await send(service, gift("g1", 90))
    assert [(award.amount, award.trigger) for change in given.effects.points for award in change.awards] == [
        (90, "")
    ]
    assert (await points(service))["xp"].level.key == "bronze"
    [cut] = await send(service, gift("g2", 30))
    [award] = cut.effects.points[0].awards
    assert (award.base_amount, award.amount, award.clipped_amount) == (30, 10, 20)
    await check_ledger(service)


async def test_a_spending_that_is_not_covered_takes_nothing(service: Service) -> None:
    await define(service, "xp", min_balance=5)
    await send(service, gift("g", 20))
    [refused] = await send(service, gift("s", -16))
    assert refused.error.reason == "INSUFFICIENT_POINTS"
    assert dict(refused.error.metadata) == {
        "points_system": "xp",
        "trigger": "",
        "balance": "20",
        "required": "16",
        "min_balance": "5",
    }
    [taken] = await send(service, gift("s2", -15))
    assert amounts(taken) == [-15]
    assert await balance(service) == 5
    await check_ledger(service)


@pytest.mark.parametrize("amount", [10, -10])
async def test_a_system_that_there_is_not_gives_and_takes_nothing(service: Service, amount: int) -> None:
    await define(service, "old", status=types.POINTS_SYSTEM_STATUS_ARCHIVED)
    unknown, archived = await send(
        service, gift("a", amount, system="nothing"), gift("b", amount, system="old")
    )
    assert (unknown.error.code, unknown.error.reason) == ("NOT_FOUND", "POINTS_SYSTEM_NOT_FOUND")
    assert (archived.error.code, archived.error.reason) == ("FAILED_PRECONDITION", "POINTS_SYSTEM_ARCHIVED")


async def test_a_gift_and_its_undoing_are_nothing(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e", 4), gift("g", 7, minutes=1), event("f", 9, minutes=2))
    before = await derived_state(service)
    await send(service, gift("h", 50, minutes=3), gift("s", -40, minutes=4))
    for name in ("s", "h"):
        assert (await service.participant.RevertEntries(revert(name))).outcomes[0].reverted
    assert await derived_state(service) == before
    await check_ledger(service)


async def test_what_was_spent_stays_spent_when_what_paid_for_it_is_undone(service: Service) -> None:
    await define(service, "xp")
    await send(service, gift("g", 50), gift("s", -40, minutes=1))
    await service.participant.RevertEntries(revert("g"))
    assert await balance(service) == -40
    [refused] = await send(service, gift("t", -1, minutes=2))
    assert refused.error.reason == "INSUFFICIENT_POINTS"
    await service.participant.RevertEntries(revert("s"))
    assert await balance(service) == 0
    await check_ledger(service)


async def test_a_gift_among_facts_that_are_folded_again_stays(service: Service) -> None:
    """A limit acts, so that taking out the first fact folds all others anew."""
    await define(service, "xp", [TEN_PER_THREE, SPEND], max_balance=30)
    await send(
        service, event("e", 9), gift("g", 25, minutes=1), gift("s", -20, minutes=2), event("f", 3, minutes=3)
    )
    assert await balance(service) == 20
    await service.participant.RevertEntries(revert("e"))
    assert await balance(service) == 15
    await check_ledger(service)


async def test_concurrent_spendings_never_overdraw(service: Service) -> None:
    await define(service, "xp")
    await send(service, gift("g", 25))
    answers = await asyncio.gather(
        *(service.participant.ApplyEntries(apply(gift(f"s{n}", -1))) for n in range(60))
    )
    outcomes = [answer.outcomes[0] for answer in answers]
    assert sum(outcome.HasField("effects") for outcome in outcomes) == 25
    assert await balance(service) == 0
    await check_ledger(service)
