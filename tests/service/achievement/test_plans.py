"""Two round trips a batch; and whatever reads besides reads no table whole (on the event path: test_young_plans)."""

from typing import Any

import pytest
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from services.achievement import (
    anniversaries,
    convert,
    history,
    past,
    statistics,
    store,
    store_backfill,
    store_undo,
)
from services.achievement.anniversaries import Anniversaries
from services.achievement.definitions import KINDS, catalogue_of
from services.achievement.domain import Command
from services.achievement.handlers import Handlers
from shared.clock import SystemClock
from shared.entries import Reversal
from shared.participant import Work
from shared.passes import Pass
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool, create_pool
from tests.fixtures import participants
from tests.fixtures.plans import plan_of, scanned
from tests.fixtures.statements import all_told
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import (
    API,
    MERGED,
    NOON,
    by_metric,
    by_streak,
    call,
    correction,
    entry_id,
    event,
    streak,
)
from tests.service.achievement.steps import define, held

IS_MERGED = {"state": "merged"}
ENTRY = entry_id("e1")
STATEMENTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "everything of a user": (store.LOAD_WHOLE, ("alice",)),
    "whether it is in use": (store.IN_USE, ("ten",)),
    "the next call": (store_undo.NEXT_CALL, ("alice", "founder", ENTRY, 0)),
    "facts by their ids": (past.FACTS, ([ENTRY],)),
    "a user's history": (history.OF_USER, ("alice", "", 0, NOON, NOON, NOON, ENTRY, 3, 51)),
    "an achievement's history": (history.OF_ACHIEVEMENT, ("ten", 0, NOON, NOON, NOON, ENTRY, 3, 51)),
    "revisions": (past.REVISIONS, (["alice"], [ENTRY])),
    "the first late one": (past.FIRST_LATE, ("alice", "commits", 1)),
    "a span": (past.SPAN, ("alice", "commits", NOON, ENTRY, 256, False)),
    "candidates of a metric": (store_backfill.BY_SOURCE, (["alice"], "commits", 1, 10, "ten", False)),
    "candidates of a composite": (store_backfill.BY_PREREQUISITES, (["alice"], ["ten"], "top", 1)),
    "the next candidates of a metric": (
        store_backfill.LOOK_BY_SOURCE,
        ("alice", "commits", 1, 10, "ten", False, 100, 10),
    ),
    "the next candidates of a composite": (
        store_backfill.LOOK_BY_PREREQUISITES,
        ("alice", ["ten"], "top", 1, 100, 10),
    ),
    "giving at once": (
        store_backfill.GIVE_AT_ONCE,
        (["alice"], "commits", 10, "ten", NOON, 257, 1, ENTRY, [b"a", b"b", b"c"]),
    ),
    "finding at once": (store_backfill.FIND_AT_ONCE, (["alice"], "commits", 10, "ten", NOON, 257, 1)),
    "facts of candidates": (store_backfill.FACTS_OF_USERS, (["alice"], "commits", 257)),
    "holders": (statistics.HELD, (["alice"], "ten", "commits")),
    "who has begun": (statistics.BEGUN, (["alice"], "ten", "commits", 1, True, NOON)),
    "who has begun a composite": (statistics.BEGUN_COMPOSITE, (["alice"], "top", ["ten"], NOON, 1)),
    "an active day": (statistics.DAILY, (["alice"], "commits", NOON, NOON)),
    "completions by day": (statistics.DAYS, ("ten", NOON, NOON, NOON.date(), NOON.date())),
    "sums": (past.SUMS, ("alice", "commits", NOON, ENTRY, NOON, ENTRY)),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_besides_the_event_path_reads_a_table_whole(service: Service, name: str) -> None:
    statement, arguments = STATEMENTS[name]
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    async with pool.acquire() as connection:
        plan = await plan_of(connection, statement, arguments)
    await pool.close()
    assert scanned(plan) <= {"configuration_version"}


async def test_a_batch_costs_two_round_trips_however_many_entries_it_has(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10, [MERGED]))
    await define(service, "founder", api=API)
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    handlers = _handlers(pool)
    await handlers.apply_entries(_work(event("warm", 1, version=1, total=1)))
    statements: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
    batch = [event(n, 1, version=n, total=n, user=f"user-{n}", attributes=IS_MERGED) for n in range(2, 40)]
    await handlers.apply_entries(_work(*batch, call("c1", "founder")))
    await pool.close()
    assert statements == [store.LOAD, store.SAVE]


async def test_a_pass_over_anniversaries_that_finds_nothing_costs_one_look_up(service: Service) -> None:
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    statements: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
    assert await Anniversaries(pool, store.Store(pool), catalogue).run(NOON, True) == Pass()
    await pool.close()
    assert statements == [anniversaries.IS_DUE]


async def test_a_late_event_that_reaches_nothing_costs_no_more(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    handlers = _handlers(pool)
    await handlers.apply_entries(_work(event("newest", 1, version=1, total=1)))
    statements: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
    await handlers.apply_entries(_work(event("late", 8, version=2, total=9, minutes=-60)))
    await all_told()
    assert statements == [store.LOAD, store.SAVE]
    await handlers.apply_entries(_work(event("later", 1, version=3, total=10, minutes=-30)))
    await pool.close()
    assert statements[2:] == [store.LOAD, past.FIRST_LATE, past.SPAN, store.SAVE]


@pytest.mark.parametrize("between", [False, True])
async def test_the_undoing_of_a_result_reads_others_only_where_one_came_before_its_correction(
    service: Service, between: bool
) -> None:
    await define(service, "ten", metric=by_metric(10))
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    handlers = _handlers(pool)
    results = [_best(1, 4, 4), _best(2, 12, 8), _best(3, 15, 3)]
    await handlers.apply_entries(_work(*results[: 2 if between else 3]))
    await handlers.revert_entries([Reversal(entry_id(1), "alice", NOON)])
    if between:
        await handlers.apply_entries(_work(results[2]))
    told = correction("correction", version=4, total=15, of=1)
    told.entry.correction.metric.revisable = told.entry.correction.metric.one_value = True
    told.entry.correction.metric.revisions.add(entry_id=str(entry_id(2)), contribution_micros=12_000_000)
    statements: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
    await handlers.apply_entries(_work(participants.command(told.entry)))
    await all_told()
    await pool.close()
    assert (past.SPAN in statements) == between
    assert await held(service) == {"ten"}


def _best(version: int, value: int, contribution: int) -> participant_pb.Command:
    """An event of a metric that is the greatest of its values."""
    told = event(version, value, version=version, total=value)
    fact = told.entry.metric_event
    fact.revisable, fact.contribution_micros = True, contribution * 1_000_000
    return participants.command(told.entry)


async def test_an_undoing_after_all_that_is_held_reads_no_facts_of_others(service: Service) -> None:
    await define(service, "one", metric=by_metric(1))
    await define(service, "ten", metric=by_metric(10))
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    handlers = _handlers(pool)
    await handlers.apply_entries(_work(*(event(n, 1, version=n, total=n) for n in (1, 2))))
    now = [Reversal(entry_id(2), "alice", NOON)]
    await handlers.revert_entries(now)
    statements: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
    await handlers.apply_entries(_work(correction("k", of=2, version=3, total=1)))
    await pool.close()
    assert statements == [store.LOAD, past.FACTS, store.SAVE]


async def test_an_event_costs_the_same_with_ten_achievements_and_with_a_thousand(service: Service) -> None:
    """RULES 4.4: the same statements, with as many rows. One achievement of each kind can be touched."""
    few, many = [await _costs(service, f"user-{size}", size) for size in (10, 1_000)]
    assert few == many
    assert [statement for statement, _ in few] == [store.LOAD, store.SAVE] * 3


async def _costs(service: Service, user: str, size: int) -> list[tuple[str, list[int]]]:
    """The statements of three events of a new user, each with how many rows, or keys, go in with it."""
    touchable = [
        types.Achievement(key="ten", metric=by_metric(10)),
        types.Achievement(key="merged", metric=by_metric(2, [MERGED])),
        types.Achievement(key="two-days", streak=by_streak(2)),
        types.Achievement(key="both", composite=types.CompositeTrigger(achievements=["ten", "merged"])),
    ]
    others = [
        types.Achievement(
            key=f"other-{number}",
            metric=types.MetricTrigger(metric=f"metric-{number % 50}", threshold=number),
        )
        if number % 2
        else types.Achievement(
            key=f"other-{number}", streak=types.StreakTrigger(streak="weekly", length=number)
        )
        for number in range(2, size - 2)
    ]
    rows = [("achievement", each.key, each.SerializeToString(), NOON) for each in (*touchable, *others)]
    await service.database.executemany(
        """INSERT INTO definitions (kind, key, body, create_time, update_time) VALUES ($1, $2, $3, $4, $4)
               ON CONFLICT (kind, key) DO UPDATE SET body = EXCLUDED.body""",
        rows,
    )
    await service.database.execute("UPDATE configuration_version SET version = version + 1")
    pool = await create_pool(service.dsn, application_name="costs", size=1, statement_timeout_ms=5_000)
    handlers = _handlers(pool)
    await handlers.apply_entries(_work(event(f"{user} warm", 1, version=1, total=1, user=f"{user} warm")))
    costs: list[tuple[str, list[int]]] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(
            lambda record: costs.append(
                (record.query, [len(given) for given in record.args if isinstance(given, list)])
            )
        )
    merged = {"state": "merged"}
    for number in (1, 2, 3):
        told = event(
            f"{user} {number}",
            4,
            version=number,
            total=4 * number,
            user=user,
            attributes=merged,
            streaks=[streak(number, number, reached={number: f"{user} {number}"})],
        )
        await handlers.apply_entries(_work(told))
    await pool.close()
    return costs


def _handlers(pool: Pool) -> Handlers:
    return Handlers(pool, store.Store(pool), Catalogue(pool, KINDS, catalogue_of), SystemClock())


def _work(*commands: participant_pb.Command) -> list[Work[Command]]:
    return participants.work(convert.command, *commands)
