"""Users who are kept in memory: a guess that storing checks, whoever else changes them."""

import asyncpg
import pytest
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from shared.postgres.pool import Pool
from tests.service.orchestrator.conftest import Orchestrator, define, event, refused
from tests.service.orchestrator.steps import event as incoming
from tests.service.orchestrator.steps import ledger_store, store, take_out


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
