"""Points that pass from one user to another: both or neither, all of them or none (RULES 5.7)."""

import asyncio
import random

from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_service_pb2 as pb

from services.points.traces import TRACES
from shared.entries import half_id
from shared.postgres.pool import create_pool
from shared.postgres.traces import TraceStore
from tests.service.points.conftest import Service
from tests.service.points.messages import (
    TEN_PER_THREE,
    apply,
    correction,
    entry_id,
    event,
    gift,
    revert,
    transfer,
)
from tests.service.points.steps import balance, check_ledger, define, derived_state, points, send


async def balances(service: Service, *users: str) -> list[int]:
    return [await balance(service, user) for user in users]


async def audited(service: Service) -> None:
    audit = await service.stub.AuditPoints(pb.AuditPointsRequest())
    assert not audit.differences
    await check_ledger(service)


def undoing(name: object, *others: str) -> participant_pb.RevertEntriesRequest:
    request = revert(name)
    request.reversals[0].other_user_ids.extend(others)
    return request


async def test_what_one_gives_the_other_gets_under_one_entry(service: Service) -> None:
    await define(service, "xp")
    [_, outcome] = await send(service, gift("g", 50), transfer("t", 30, minutes=1))
    assert [(change.user_id, change.added, change.balance) for change in outcome.effects.points] == [
        ("alice", -30, 20),
        ("bob", 30, 30),
    ]
    awards = [award for change in outcome.effects.points for award in change.awards]
    assert {award.entry_id for award in awards} == {outcome.entry_id}
    assert len({award.award_id for award in awards}) == 2
    assert (await send(service, transfer("t", 30, minutes=1))) == [outcome]
    assert await balances(service, "alice", "bob") == [20, 30]
    await audited(service)


async def test_what_is_not_covered_or_has_no_room_moves_nothing(service: Service) -> None:
    await define(service, "xp", max_balance=60)
    await send(service, gift("a", 50), gift("b", 40, user="bob"))
    before = await derived_state(service)
    [uncovered, roomless] = await send(service, transfer("t", 51, minutes=1), transfer("u", 21, minutes=2))
    assert uncovered.error.reason == "INSUFFICIENT_POINTS"
    assert roomless.error.reason == "NO_ROOM_FOR_POINTS"
    assert dict(roomless.error.metadata) == {
        "points_system": "xp",
        "balance": "40",
        "amount": "21",
        "max_balance": "60",
    }
    assert await derived_state(service) == before
    await audited(service)


async def test_a_transfer_and_its_undoing_are_nothing_however_the_users_went_on(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, gift("a", 50), gift("b", 5, user="bob"))
    await send(service, transfer("t", 30, minutes=1))
    await send(
        service,
        event("e", 9, user="bob", minutes=2),
        transfer("u", 40, giver="bob", getter="carol", minutes=3),
    )
    assert await balances(service, "alice", "bob", "carol") == [20, 25, 40]
    [outcome] = (await service.participant.RevertEntries(undoing("t", "bob"))).outcomes
    assert {change.user_id: change.added for change in outcome.effects.points} == {"alice": 30, "bob": -30}
    # What bob has passed on stays so.
    assert await balances(service, "alice", "bob", "carol") == [50, -5, 40]
    assert (await service.participant.RevertEntries(undoing("t", "bob"))).outcomes == [outcome]
    await audited(service)


async def test_it_waits_for_what_its_users_have_in_the_batch_before_it(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e", 3, minutes=1), event("f", 2, user="bob", minutes=1))
    outcomes = await send(
        service,
        correction("c", user="bob", revoked=["badge"], minutes=2),
        transfer("t", 10, minutes=3),
        event("g", 1, user="bob", minutes=4),
        transfer("u", 20, giver="bob", getter="alice", minutes=5),
    )
    assert not [outcome.error.reason for outcome in outcomes if outcome.HasField("error")]
    assert await balances(service, "alice", "bob") == [20, 0]
    await audited(service)


async def test_points_that_go_round_in_a_ring_neither_grow_nor_shrink(service: Service) -> None:
    await define(service, "xp")
    ring = [f"u{number}" for number in range(10)]
    await send(service, *(gift(f"g-{user}", 20, user=user) for user in ring))
    rng = random.Random(7)
    commands = [
        transfer(
            f"t{number}",
            rng.randrange(1, 25),
            giver=ring[number % 10],
            getter=ring[(number + 1) % 10],
            minutes=1,
        )
        for number in range(400)
    ]
    batches = [commands[start : start + 25] for start in range(0, len(commands), 25)]
    answers = await asyncio.gather(*(service.participant.ApplyEntries(apply(*batch)) for batch in batches))
    reasons = {outcome.error.reason for answer in answers for outcome in answer.outcomes}
    assert reasons == {"", "INSUFFICIENT_POINTS"}
    left = await balances(service, *ring)
    assert (sum(left), min(left) >= 0) == (200, True)
    await audited(service)


async def test_of_many_concurrent_spendings_as_many_succeed_as_the_balance_allows(service: Service) -> None:
    await define(service, "xp")
    await send(service, gift("g", 700))
    spends = [gift(f"s{number}", -7, minutes=1) for number in range(1_000)]
    batches = [spends[start : start + 50] for start in range(0, len(spends), 50)]
    answers = await asyncio.gather(*(service.participant.ApplyEntries(apply(*batch)) for batch in batches))
    taken = [outcome for answer in answers for outcome in answer.outcomes if not outcome.HasField("error")]
    assert len(taken) == 100
    assert await balance(service) == 0
    await audited(service)


async def test_a_transfer_to_whoever_was_deleted_since_is_given_back_all_the_same(service: Service) -> None:
    await define(service, "xp")
    await send(service, gift("g", 50), transfer("t", 30, minutes=1))
    pool = await create_pool(service.dsn, application_name="test", size=1, statement_timeout_ms=10_000)
    half = half_id(entry_id("t"), "bob")
    for entries in ([half], []):
        await TraceStore(pool, TRACES).erase("bob", "deleted-1", entries)
    await pool.close()
    [outcome] = (await service.participant.RevertEntries(undoing("t", "deleted-1"))).outcomes
    assert [(change.user_id, change.added) for change in outcome.effects.points] == [("alice", 30)]
    assert await balance(service) == 50
    audit = await service.stub.AuditPoints(pb.AuditPointsRequest())
    assert (audit.user_count, list(audit.differences)) == (1, [])


async def test_what_is_received_counts_for_the_lifetime_as_gifts_do_and_goes_with_the_void(
    service: Service,
) -> None:
    """RULES 5.1: a lifetime is the sum of what was added and not undone; what was given away stays in the giver's."""
    await define(service, "xp")
    await send(service, gift("g", 50), transfer("t", 30, minutes=1))
    lifetimes = [(await points(service, user))["xp"].lifetime for user in ("alice", "bob")]
    assert lifetimes == [50, 30]
    await service.participant.RevertEntries(undoing("t", "bob"))
    lifetimes = [(await points(service, user))["xp"].lifetime for user in ("alice", "bob")]
    assert lifetimes == [50, 0]
    await audited(service)
