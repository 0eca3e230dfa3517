"""Users who are kept in memory: a guess that storing checks, whoever else changes them."""

import asyncpg
import pytest
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.operation import Asked
from services.orchestrator.operations import OPERATIONS
from services.orchestrator.recording import Incoming
from services.orchestrator.store.erasure import ErasureStore
from shared.postgres.pool import Pool
from tests.service.orchestrator.conftest import Orchestrator, define, event, refused
from tests.service.orchestrator.steps import HISTORY, NOON, ledger_store, store, take_out
from tests.service.orchestrator.steps import event as incoming


async def total(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT total_micros FROM totals WHERE user_id = 'ada'") // 1_000_000)


async def test_who_comes_again_is_not_read_again(pool: Pool) -> None:
    ledger = ledger_store(pool, recent_users=10)
    await store(pool, incoming("a"), ledger=ledger)
    again = incoming("b")
    assert (await ledger.load([again])).is_guess
    assert not (await ledger.load([incoming("c", metric="record")])).is_guess
    (recorded,) = await store(pool, again, ledger=ledger)
    assert recorded.after is not None
    assert recorded.after.total_micros == 2_000_000
    assert await total(pool) == 2


async def test_a_user_whom_another_replica_has_changed_is_read_again_and_nothing_is_lost(pool: Pool) -> None:
    one, other = ledger_store(pool, recent_users=10), ledger_store(pool, recent_users=10)
    await store(pool, incoming("a"), ledger=one)
    await store(pool, incoming("b"), ledger=other)
    with pytest.raises(asyncpg.SerializationError):
        await store(pool, incoming("c"), ledger=one)
    assert not (await one.load([incoming("c")])).is_guess
    await store(pool, incoming("c"), ledger=one)
    assert await total(pool) == 3


async def test_a_void_is_seen_by_who_keeps_its_user(pool: Pool) -> None:
    ledger = ledger_store(pool, recent_users=10)
    first, _ = await store(pool, incoming("a"), incoming("b", value=5), ledger=ledger)
    await take_out(pool, first)
    with pytest.raises(asyncpg.SerializationError):
        await store(pool, incoming("c"), ledger=ledger)
    await store(pool, incoming("c"), ledger=ledger)
    assert await total(pool) == 6


async def delete(pool: Pool, user: str = "ada") -> None:
    """As the end of a deletion does, and what erasing has done before it."""
    await pool.execute("UPDATE totals SET user_id = 'nobody' WHERE user_id = $1", user)
    await pool.execute("DELETE FROM users WHERE user_id = $1", user)


async def test_who_was_deleted_and_comes_again_goes_on_from_nothing(pool: Pool) -> None:
    one, other = ledger_store(pool, recent_users=10), ledger_store(pool, recent_users=10)
    (before,) = await store(pool, incoming("a", value=5), ledger=other)
    await delete(pool)
    (back,) = await store(pool, incoming("b"), ledger=one)
    assert back.user.life > before.user.life
    again = incoming("c", value=2)
    with pytest.raises(asyncpg.SerializationError):
        await store(pool, again, ledger=other)
    (recorded,) = await store(pool, again, ledger=other)
    assert recorded.user.life == back.user.life
    assert await total(pool) == 3


def transfer(key: str) -> Incoming:
    """From ada to bob."""
    request = pb.TransferPointsRequest(
        user_id="ada", to_user_id="bob", points_system="xp", amount=1, request_id=key
    )
    incoming = OPERATIONS["points_transfer"].incoming
    assert incoming is not None
    return incoming(request, Asked(NOON, HISTORY))


@pytest.mark.parametrize("is_back", [False, True])
async def test_nothing_is_recorded_with_somebody_who_was_deleted(pool: Pool, is_back: bool) -> None:
    ledger = ledger_store(pool, recent_users=10)
    await store(pool, incoming("a"), incoming("b", user="bob"), ledger=ledger)
    await delete(pool, "bob")
    if is_back:
        await store(pool, incoming("c", user="bob"))
    with pytest.raises(asyncpg.SerializationError):
        await store(pool, transfer("t"), ledger=ledger)
    recorded = await store(pool, transfer("t"), ledger=ledger)
    assert len(recorded) == is_back


async def test_nothing_is_recorded_with_somebody_who_is_being_deleted(pool: Pool) -> None:
    ledger = ledger_store(pool, recent_users=10)
    await store(pool, incoming("a"), incoming("b", user="bob"), ledger=ledger)
    await ErasureStore(pool).close("bob")
    with pytest.raises(asyncpg.SerializationError):
        await store(pool, transfer("t"), ledger=ledger)
    assert not await store(pool, transfer("t"), ledger=ledger)


async def test_a_change_of_the_configuration_is_seen_by_who_reads_nothing(pool: Pool) -> None:
    ledger = ledger_store(pool, recent_users=10)
    await store(pool, incoming("a"), ledger=ledger)
    await pool.execute("UPDATE configuration_version SET version = version + 1")
    with pytest.raises(asyncpg.SerializationError):
        await store(pool, incoming("b"), ledger=ledger)
    await store(pool, incoming("b"), ledger=ledger)


async def test_an_event_that_fails_because_of_what_was_kept_is_decided_anew(
    orchestrator: Orchestrator,
) -> None:
    await orchestrator.ingest()
    unknown = event()
    unknown.metric = "pages"
    assert (await refused(orchestrator.stub.IngestEvent(unknown, timeout=20))).reason == "METRIC_NOT_FOUND"
    await orchestrator.ingest()
    await define(orchestrator.pool, "pages")
    reply = await orchestrator.stub.IngestEvent(unknown, timeout=20)
    assert reply.total_after == 1


async def test_events_go_on_across_a_change_of_the_configuration_and_a_void(
    orchestrator: Orchestrator,
) -> None:
    first = await orchestrator.ingest(value=5)
    await define(orchestrator.pool, "pages")
    assert (await orchestrator.ingest()).total_after == 6
    void = pb.VoidEntryRequest(entry_id=first.entry_id, reason="test", request_id="v")
    await orchestrator.stub.VoidEntry(void, timeout=20)
    assert (await orchestrator.ingest()).total_after == 2
