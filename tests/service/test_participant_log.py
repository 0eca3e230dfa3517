"""The request-log protocol of a participant on a real database (RULES 7.3, 7.4)."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from deploy.local.postgres import PostgresServer
from shared.entries import Reversal
from shared.errors import Aborted
from shared.ids import derived_id
from shared.participant import Backoff, Work, apply_batch, revert_batch
from shared.postgres.errors import CLOSED, StateMoved
from shared.postgres.maintenance import hold, is_held, may_go_by_clock
from shared.postgres.pool import Pool
from tests.fixtures.counter.database import counter_pool
from tests.fixtures.counter.participant import (
    NOW,
    POISON_AMOUNT,
    REFUSED_AMOUNT,
    Addition,
    Counter,
    nothing,
    refuse,
    undo,
)

TOO_LARGE_FOR_THE_COLUMN = 2**63
FORBIDDEN_BY_A_CHECK = 1_000_000


@pytest.fixture
async def pool(postgres_server: PostgresServer) -> AsyncIterator[Pool]:
    async with counter_pool(postgres_server) as pool:
        yield pool


@pytest.fixture
def counter(pool: Pool) -> Counter:
    return Counter(pool)


def addition(name: str, amount: int = 1, user: str = "alice") -> Addition:
    return Addition(derived_id(name), user, amount)


def reversal(name: str, user: str = "alice") -> Reversal:
    return Reversal(derived_id(name), user, NOW)


def outcome(name: str, text: str) -> bytes:
    return f"{derived_id(name)} {text}".encode()


# Applying


async def test_a_batch_has_one_outcome_per_command_in_order(counter: Counter) -> None:
    outcomes = await counter.apply(addition("a", 2), addition("b", 3, "bob"), addition("c", 5))

    assert outcomes == [outcome("a", "0 to 2"), outcome("b", "0 to 3"), outcome("c", "2 to 7")]
    assert counter.runs == [3]


async def test_an_empty_batch_has_no_outcomes(counter: Counter) -> None:
    assert await counter.apply() == []
    assert counter.runs == []


async def test_an_entry_sent_again_gets_its_first_outcome_and_no_second_effect(counter: Counter) -> None:
    first = await counter.apply(addition("a", 2))
    await counter.apply(addition("b", 3))

    again = await counter.apply(addition("a", 2), addition("c", 5))

    assert again == [*first, outcome("c", "5 to 10")]
    assert await counter.total("alice") == 10


async def test_a_whole_batch_sent_again_runs_nothing_but_the_one_attempt(counter: Counter) -> None:
    batch = [addition(f"entry {number}") for number in range(20)]
    first = await counter.apply(*batch)
    counter.runs.clear()

    assert await counter.apply(*batch) == first
    assert counter.runs == [20]


async def test_a_definite_no_is_remembered_like_a_yes(counter: Counter) -> None:
    first = await counter.apply(addition("a", REFUSED_AMOUNT))

    assert first == [outcome("a", "no")]
    assert await counter.apply(addition("a", REFUSED_AMOUNT)) == first


async def test_the_same_id_with_other_content_is_refused(counter: Counter) -> None:
    await counter.apply(addition("a", 2))

    assert await counter.apply(addition("a", 3)) == [outcome("a", "ALREADY_EXISTS ENTRY_CONFLICT")]
    assert await counter.total("alice") == 2


async def test_twins_in_one_batch_share_the_outcome(counter: Counter) -> None:
    outcomes = await counter.apply(addition("a", 2), addition("b", 3), addition("a", 2))

    assert outcomes == [outcome("a", "0 to 2"), outcome("b", "2 to 5"), outcome("a", "0 to 2")]
    assert await counter.total("alice") == 5


async def test_one_id_with_two_contents_in_a_batch_counts_once(counter: Counter) -> None:
    outcomes = await counter.apply(addition("a", 2), addition("a", 3), addition("a", 2))

    assert outcomes == [
        outcome("a", "0 to 2"),
        outcome("a", "ALREADY_EXISTS ENTRY_CONFLICT"),
        outcome("a", "0 to 2"),
    ]


async def test_of_two_contents_in_a_batch_the_one_applied_before_is_replayed(counter: Counter) -> None:
    await counter.apply(addition("a", 2))

    outcomes = await counter.apply(addition("a", 3), addition("a", 2))

    assert outcomes == [outcome("a", "ALREADY_EXISTS ENTRY_CONFLICT"), outcome("a", "0 to 2")]


# A batch that breaks


@pytest.mark.parametrize("bad", [POISON_AMOUNT, TOO_LARGE_FOR_THE_COLUMN, FORBIDDEN_BY_A_CHECK])
async def test_a_command_that_breaks_never_fails_its_neighbours(
    counter: Counter, bad: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "shared.participant"):
        outcomes = await counter.apply(
            addition("a"), addition("b"), addition("bad", bad, "mallory"), addition("c"), addition("d")
        )

    assert outcomes == [
        outcome("a", "0 to 1"),
        outcome("b", "1 to 2"),
        outcome("bad", "INTERNAL INTERNAL"),
        outcome("c", "2 to 3"),
        outcome("d", "3 to 4"),
    ]
    [record] = caplog.records
    assert record.exc_info is not None
    assert vars(record)["entry_id"] == str(derived_id("bad"))


async def test_a_command_that_broke_is_not_remembered_and_may_come_again(counter: Counter) -> None:
    await counter.apply(addition("bad", POISON_AMOUNT))

    assert await counter.apply(addition("bad", 1)) == [outcome("bad", "0 to 1")]


async def test_two_bad_commands_are_found_among_many(counter: Counter) -> None:
    batch = [addition(f"entry {number}", POISON_AMOUNT if number in (3, 40) else 1) for number in range(64)]

    outcomes = await counter.apply(*batch)

    refused = [index for index, one in enumerate(outcomes) if b"INTERNAL" in one]
    assert refused == [3, 40]
    assert await counter.total("alice") == 62


# Undoing


async def test_an_undone_entry_leaves_the_state_as_if_it_had_never_been(counter: Counter) -> None:
    await counter.apply(addition("a", 2), addition("b", 3), addition("c", 5))

    assert await counter.revert(reversal("b")) == [outcome("b", "undone, 7 left")]
    assert await counter.total("alice") == 7


async def test_an_entry_is_undone_once_and_the_answer_stays(counter: Counter) -> None:
    await counter.apply(addition("a", 2), addition("b", 3))
    first = await counter.revert(reversal("a"))
    await counter.apply(addition("c", 5))

    assert await counter.revert(reversal("a"), reversal("a")) == [*first, *first]
    assert await counter.total("alice") == 8


async def test_an_undone_entry_is_refused_for_ever(counter: Counter) -> None:
    await counter.apply(addition("a", 2))
    await counter.revert(reversal("a"))

    assert await counter.apply(addition("a", 2)) == [outcome("a", "FAILED_PRECONDITION ENTRY_REVERTED")]


async def test_a_late_original_is_refused_after_its_reversal(counter: Counter) -> None:
    assert await counter.revert(reversal("late")) == [outcome("late", "nothing")]

    outcomes = await counter.apply(addition("late", 2), addition("a", 3))

    assert outcomes == [outcome("late", "FAILED_PRECONDITION ENTRY_REVERTED"), outcome("a", "0 to 3")]
    assert await counter.revert(reversal("late")) == [outcome("late", "nothing")]


async def test_a_rejected_entry_has_nothing_to_undo_and_keeps_its_answer(counter: Counter) -> None:
    no = await counter.apply(addition("a", REFUSED_AMOUNT))

    assert await counter.revert(reversal("a")) == [outcome("a", "nothing")]
    assert await counter.revert(reversal("a")) == [outcome("a", "nothing")]
    assert await counter.apply(addition("a", REFUSED_AMOUNT)) == no


# Concurrency


async def test_many_writers_of_one_user_give_what_one_after_another_gives(counter: Counter) -> None:
    batches = [
        [addition(f"{writer}/{number}", writer) for number in range(3)] for writer in (*range(14, 54), 1)
    ]

    await asyncio.gather(*(counter.apply(*batch) for batch in batches))

    assert await counter.total("alice") == sum(one.amount for batch in batches for one in batch)


async def test_writers_of_the_same_users_in_opposite_orders_do_not_fail(counter: Counter) -> None:
    users = [f"user {number}" for number in range(10)]

    def batch(writer: int) -> list[Addition]:
        order = users if writer % 2 else users[::-1]
        return [addition(f"{writer}/{user}", 1, user) for user in order]

    await asyncio.gather(*(counter.apply(*batch(writer)) for writer in range(20)))

    assert [await counter.total(user) for user in users] == [20] * 10


async def test_of_many_identical_requests_at_once_one_takes_effect_and_all_get_its_answer(
    counter: Counter,
) -> None:
    answers = await asyncio.gather(*(counter.apply(addition("a", 2), addition("b", 3)) for _ in range(20)))

    assert {tuple(answer) for answer in answers} == {(outcome("a", "0 to 2"), outcome("b", "2 to 5"))}
    assert await counter.total("alice") == 5


async def test_an_entry_and_its_reversal_at_once_end_without_effect(counter: Counter) -> None:
    names = [f"entry {number}" for number in range(30)]

    await asyncio.gather(
        *(counter.apply(addition(name, 2)) for name in names),
        *(counter.revert(reversal(name)) for name in names),
    )

    assert await counter.total("alice") == 0
    states = await counter.pool.fetch("SELECT DISTINCT state FROM request_log ORDER BY state")
    assert {row["state"] for row in states} <= {2, 3}


# Retries


async def test_a_state_that_keeps_moving_ends_in_contention_after_the_last_attempt(pool: Pool) -> None:
    attempts = []
    pauses = []

    async def moving(fresh: object) -> list[bytes]:
        attempts.append(fresh)
        raise StateMoved("again")

    async def record(seconds: float) -> None:
        pauses.append(seconds)

    backoff = Backoff(attempts=5, uniform=lambda _low, high: high, sleep=record)
    work = [Work("x", derived_id("a"), "alice", b"digest")]
    with pytest.raises(Aborted) as raised:
        await apply_batch(pool, work, moving, refuse, backoff)

    assert raised.value.reason == "CONTENTION"
    assert len(attempts) == 5
    assert pauses == [0.002, 0.004, 0.008, 0.016, 0.032]


async def test_an_entry_of_a_month_that_is_closed_for_a_while_waits(pool: Pool, counter: Counter) -> None:
    """As everything is while `shared.postgres.condensing` copies it."""
    closed = f"ALTER TABLE request_log ADD CONSTRAINT {CLOSED} CHECK (pg_try_advisory_xact_lock_shared(1)) NOT VALID"
    await pool.execute(closed)
    async with pool.acquire() as condensing:
        await condensing.execute("SELECT pg_advisory_lock(1)")

        async def open_again(_seconds: float) -> None:
            await condensing.execute("SELECT pg_advisory_unlock(1)")

        work = [addition("a", 2).work]
        outcomes = await apply_batch(pool, work, counter._run, refuse, Backoff(attempts=2, sleep=open_again))
    assert outcomes == [outcome("a", "0 to 2")]


async def test_a_condensed_entry_is_refused_without_a_second_effect_and_can_be_undone(
    pool: Pool, counter: Counter
) -> None:
    await counter.apply(addition("a", 2))
    await pool.execute("UPDATE request_log SET digest = '', outcome = ''")
    assert await counter.apply(addition("a", 2)) == [outcome("a", "FAILED_PRECONDITION OUTCOME_EXPIRED")]
    assert await counter.total("alice") == 2

    undone = await counter.revert(reversal("a"))
    assert undone == [outcome("a", "undone, 0 left")]
    assert await counter.revert(reversal("a")) == undone
    assert await counter.apply(addition("a", 2)) == [outcome("a", "FAILED_PRECONDITION ENTRY_REVERTED")]


async def test_a_defect_that_is_not_the_data_passes_through(pool: Pool) -> None:
    async def broken(_fresh: object) -> list[bytes]:
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        await apply_batch(pool, [addition("a").work, addition("b").work], broken, refuse)


async def test_a_reversal_whose_state_moved_is_tried_again_in_a_new_transaction(counter: Counter) -> None:
    await counter.apply(addition("a", 2))
    failures = [StateMoved("first"), StateMoved("second")]

    async def sometimes(connection, work, known):  # type: ignore[no-untyped-def]
        result = await undo(connection, work, known)
        if failures:
            raise failures.pop()
        return result

    outcomes = await revert_batch(counter.pool, [reversal("a")], sometimes, nothing)

    assert outcomes == [outcome("a", "undone, 0 left")]
    assert await counter.total("alice") == 0


# Maintenance


async def test_maintenance_is_held_until_it_is_released(pool: Pool) -> None:
    async with pool.acquire() as connection:
        assert not await is_held(connection)
        await hold(connection, 60)
        assert await is_held(connection)
        await hold(connection, 0)
        assert not await is_held(connection)


async def test_a_host_whose_clock_is_ahead_makes_no_pass(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool.acquire() as connection:
        present: datetime = await connection.fetchval("SELECT clock_timestamp()")
        assert await may_go_by_clock(connection, present)
        assert await may_go_by_clock(connection, present - timedelta(days=400))
        assert not await may_go_by_clock(connection, present + timedelta(minutes=10))
        assert "ahead of the database" in caplog.text
        await hold(connection, 60)
        assert not await may_go_by_clock(connection, present)
