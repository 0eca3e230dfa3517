"""The orchestrator's tables against a real PostgreSQL: recording, completing, taking over, taking out."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from laurel.orchestrator.v1 import audit_pb2
from msgspec.structs import replace

from services.orchestrator import replies
from services.orchestrator.domain import WantedEntries
from services.orchestrator.recording import Recorded, record
from services.orchestrator.saga import State, Step
from services.orchestrator.store.ledger import Feed
from services.orchestrator.store.metric_days import MetricDayStore
from services.orchestrator.store.reads import HIGHEST_ID, ReadStore
from services.orchestrator.store.sagas import Completed, SagaStore
from shared.postgres.pool import Pool
from tests.fixtures.plans import plan_of, scanned
from tests.fixtures.statements import all_told
from tests.fixtures.system import event_request
from tests.service.orchestrator.steps import (
    AGGREGATIONS,
    METRICS,
    NOON,
    event,
    ledger_store,
    store,
    take_out,
    total,
    undo_store,
)


async def test_totals_count_on_across_groups(pool: Pool) -> None:
    await store(pool, event("a", value=2), event("b", value=3))
    (third,) = await store(pool, event("c", value=0.5))
    assert third.before is not None
    assert third.after is not None
    assert (third.before.total_micros, third.after.total_micros) == (5_000_000, 5_500_000)


async def test_an_entry_is_recorded_once(pool: Pool) -> None:
    await store(pool, event("a"))
    with pytest.raises(asyncpg.UniqueViolationError):
        await store(pool, event("b"), event("a"))
    assert (await total(pool)).event_count == 1


async def test_two_who_decided_on_the_same_state_do_not_both_store(pool: Pool) -> None:
    await store(pool, event("a"))
    ledger = ledger_store(pool)
    snapshot = await ledger.load([event("b")])
    await store(pool, event("c"))
    outcome = record([event("b")], snapshot.loaded, METRICS, "UTC")
    (entry,) = outcome.entries
    assert isinstance(entry, Recorded)
    with pytest.raises(asyncpg.SerializationError):
        await ledger.store([(entry, b"")], outcome, snapshot, "one")


async def test_the_first_reply_is_the_one_that_is_kept(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    sagas = SagaStore(pool, "one")
    entry_id = entry.incoming.entry_id
    assert await sagas.complete([Completed(entry_id, b"first")]) == {entry_id}
    assert await sagas.complete([Completed(entry_id, b"second")]) == set()
    known = await ledger_store(pool).known_entry(entry_id)
    assert known
    assert (known.state, known.reply) == (State.DONE, b"first")


async def test_a_request_is_known_again_by_its_key_under_the_id_that_it_got_first(pool: Pool) -> None:
    (first,) = await store(pool, event("a"))
    again, other = replace(event("a"), entry_id=UUID(int=1)), event("b")
    known = await ledger_store(pool).known([again, other])
    assert {identity: entry and entry.entry_id for identity, entry in known.items()} == {
        again.identity: first.incoming.entry_id
    }
    with pytest.raises(asyncpg.UniqueViolationError):
        await store(pool, again)


async def test_events_without_a_key_are_never_twins(pool: Pool) -> None:
    await store(pool, event(""), event(""))
    assert (await total(pool)).event_count == 2


async def test_an_entry_outlives_its_saga(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    await pool.execute("DELETE FROM sagas")
    (known,) = (await ledger_store(pool).known([event("a")])).values()
    assert known is not None
    assert (known.digest, known.state) == (event("a").digest, None)
    audit = await ReadStore(pool).entry(entry.incoming.entry_id)
    assert audit is not None
    message = replies.audit_message(audit)
    assert (message.state, event_request(message).metric) == (audit_pb2.ENTRY_STATE_DONE, "lessons")
    await pool.execute("UPDATE entries SET live = false")
    audit = await ReadStore(pool).entry(entry.incoming.entry_id)
    assert audit is not None
    assert replies.audit_message(audit).state == audit_pb2.ENTRY_STATE_UNDONE


async def test_a_key_outlives_the_entry_that_it_named(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    await pool.execute("DELETE FROM entries")
    await pool.execute("DELETE FROM sagas")
    assert await ledger_store(pool).known([event("a")]) == {entry.incoming.identity: None}


async def test_sagas_of_a_living_replica_are_left_alone_and_those_of_a_dead_one_taken_over(
    pool: Pool,
) -> None:
    (entry,) = await store(pool, event("a"), instance="one")
    one, other = SagaStore(pool, "one"), SagaStore(pool, "other")
    await one.heartbeat(60)
    assert await other.claim([], 10) == []
    await one.release()
    assert [stored.entry_id for stored in await other.claim([], 10)] == [entry.incoming.entry_id]


async def test_a_saga_in_hand_is_not_claimed_again(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    sagas = SagaStore(pool, "one")
    await sagas.heartbeat(60)
    assert await sagas.claim([entry.incoming.entry_id], 10) == []
    assert len(await sagas.claim([], 10)) == 1


async def test_a_decision_to_undo_is_taken_once_and_comes_back_with_what_was_answered(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    sagas = SagaStore(pool, "one")
    entry_id = entry.incoming.entry_id
    assert await sagas.decide(entry_id, b"no", [Step.STREAK], {Step.STREAK: b"yes"})
    assert not await sagas.decide(entry_id, b"other", [], {})
    assert await sagas.complete([Completed(entry_id, b"reply")]) == set()
    (stored,) = await sagas.claim([], 10)
    assert (stored.state, stored.undo, stored.applied) == (
        State.COMPENSATING,
        (Step.STREAK,),
        {Step.STREAK: b"yes"},
    )


async def test_of_two_replicas_that_void_of_one_user_one_waits_for_the_other(pool: Pool) -> None:
    entries = [entry.incoming.entry_id for entry in await store(pool, event("a"), event("b"))]
    replicas = SagaStore(pool, "one"), SagaStore(pool, "two")
    await replicas[0].complete([Completed(entry_id, b"") for entry_id in entries])

    async def deciding() -> list[bool]:
        calls = (
            saga.decide_void(entry, "test", "", NOON) for saga, entry in zip(replicas, entries, strict=True)
        )
        return list(await asyncio.gather(*calls))

    first = (await deciding()).index(True)
    assert not any(await deciding())
    await replicas[0].settle(entries[first], State.VOIDED, b"")
    assert (await deciding()).index(True) != first


async def test_a_saga_that_failed_too_often_is_parked_and_goes_on_from_its_state(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    sagas = SagaStore(pool, "one")
    entry_id = entry.incoming.entry_id
    await sagas.leave([(entry_id, "away", 0.0)], 2)
    assert len(await sagas.claim([], 10)) == 1
    await sagas.leave([(entry_id, "away", 0.0)], 2)
    assert await sagas.claim([], 10) == []
    assert (await sagas.backlog()).parked == 1
    async with pool.acquire() as connection:
        assert await sagas.unpark(connection, entry_id)
    (stored,) = await sagas.claim([], 10)
    assert (stored.state, stored.attempt_count) == (State.RUNNING, 0)


async def test_without_an_entry_the_total_and_the_user_are_as_though_it_had_never_been(pool: Pool) -> None:
    first, second = await store(pool, event("a", value=2), event("b", value=3))
    before = await total(pool)
    left = await take_out(pool, first)
    assert left.after is not None
    assert (left.after.total_micros, left.after.peak_micros, left.after.event_count) == (
        3_000_000,
        3_000_000,
        1,
    )
    assert left.after.version == before.version + 1
    assert left.user.said.plain_attributes() == {"seen": "b"}
    gone = await take_out(pool, second)
    assert gone.user.said.plain_attributes() == {}
    assert await ReadStore(pool).user("ada") is None


async def test_taking_out_twice_gives_the_same_correction(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    await take_out(pool, entry)
    entry_id = entry.incoming.entry_id
    again = await undo_store(pool).take_out(entry_id, UUID(int=1), NOON, AGGREGATIONS, lambda _: b"another")
    assert again != b"another"
    assert (await total(pool)).event_count == 0


async def test_with_negative_values_the_peak_is_folded_anew(pool: Pool) -> None:
    high, _, _ = await store(pool, event("a", value=9), event("b", value=-5), event("c", value=2))
    assert (await total(pool)).peak_micros == 9_000_000
    await take_out(pool, high)
    after = await total(pool)
    assert (after.total_micros, after.peak_micros) == (-3_000_000, -3_000_000)


async def test_a_distinct_value_counts_until_its_last_event_is_gone(pool: Pool) -> None:
    recorded, two, _ = await store(
        pool,
        event("a", metric="countries", country="IT"),
        event("b", metric="countries", country="IT"),
        event("c", metric="countries", country="JP"),
    )
    await take_out(pool, recorded)
    assert (await total(pool, "countries")).total_micros == 2_000_000
    await take_out(pool, two)
    assert (await total(pool, "countries")).total_micros == 1_000_000
    (back,) = await store(pool, event("d", metric="countries", country="IT"))
    assert back.after is not None
    assert back.after.total_micros == 2_000_000


async def test_a_feed_is_recorded_together_with_its_cursor_or_not_at_all(pool: Pool) -> None:
    await store(pool, event("a"), feed=Feed(Step.STREAK, "", "7"))
    assert await ledger_store(pool).cursor(Step.STREAK) == "7"
    with pytest.raises(asyncpg.SerializationError):
        await store(pool, event("b"), feed=Feed(Step.STREAK, "", "9"))
    assert (await total(pool)).event_count == 1


async def test_no_statement_besides_the_event_path_scans_a_table(pool: Pool) -> None:
    """Every statement that recovering and reading really send; on the event path: test_young_plans."""
    (entry, *_) = await store(pool, event("a"), event("b"), event("c", "bob"))
    sent: list[tuple[str, Sequence[Any]]] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: sent.append((record.query, record.args or ())))
    sagas, reads = SagaStore(pool, "one"), ReadStore(pool)
    await sagas.claim([UUID(int=1)], 10)
    await reads.entry(entry.incoming.entry_id)
    await reads.user_entries(WantedEntries("ada"), (NOON, HIGHEST_ID), 10)
    await reads.user("ada")
    await reads.totals("ada")
    await all_told()
    tables = {"entries", "sagas", "users", "totals", "unique_values"}
    assert len(sent) >= 5
    async with pool.acquire() as connection:
        for query, arguments in tuple(sent):
            read = {
                name.removesuffix("_default") for name in scanned(await plan_of(connection, query, arguments))
            }
            assert not read & tables, query


async def test_sums_by_date_are_read_and_written_by_user_while_the_tables_are_young(pool: Pool) -> None:
    """By the date each would go through all users who have it; for who is being deleted, through all there are."""
    sent: list[tuple[str, Sequence[Any]]] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: sent.append((record.query, record.args)))
    days = MetricDayStore(pool)
    await days.days([("ada", "commits", NOON.date())])
    await days.user_days(("ada", "commits"), NOON.date())
    assert await days.add([], [])
    await all_told()
    async with pool.acquire() as connection:
        plans = [
            await plan_of(connection, query, args) for query, args in tuple(sent) if "metric_days" in query
        ]
    assert len(plans) == 3
    assert not any(scanned(plan) for plan in plans)
    assert all("metric_days_pkey" in str(plan) for plan in plans)
    assert not any("metric_days_by_date" in str(plan) for plan in plans)


async def test_of_two_who_follow_the_same_changes_one_records_them_and_the_other_meets_a_conflict(
    pool: Pool,
) -> None:
    step = Feed(Step.STREAK, await ledger_store(pool).cursor(Step.STREAK), "1.2.3")
    outcomes = await asyncio.gather(
        *(store(pool, event("a"), event("b"), feed=step) for _ in range(2)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)] == [
        asyncpg.SerializationError
    ]
    assert (await total(pool)).event_count == 2
