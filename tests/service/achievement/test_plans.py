"""Two round trips a batch; and whatever reads besides reads no table whole (on the event path: test_young_plans)."""

import json
from typing import Any

import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from services.achievement import convert, store
from services.achievement.definitions import KINDS, catalogue_of
from services.achievement.domain import Command
from services.achievement.handlers import Handlers
from shared.participant import Work
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Connection, Pool, create_pool
from tests.fixtures import participants
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import API, MERGED, by_metric, call, entry_id, event
from tests.service.achievement.steps import define

IS_MERGED = {"state": "merged"}
ENTRY = entry_id("e1")
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "LOAD_WHOLE": ("alice",),
    "IN_USE": ("ten",),
}


@pytest.mark.parametrize("name", ARGUMENTS)
async def test_no_statement_besides_the_event_path_reads_a_table_whole(service: Service, name: str) -> None:
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    async with pool.acquire() as connection:
        scanned = _scanned(await _plan(connection, getattr(store, name), ARGUMENTS[name]))
    await pool.close()
    assert scanned <= {"configuration_version"}


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


def _handlers(pool: Pool) -> Handlers:
    return Handlers(pool, store.Store(pool), Catalogue(pool, KINDS, catalogue_of))


def _work(*commands: participant_pb.Command) -> list[Work[Command]]:
    return participants.work(convert.command, *commands)


async def _plan(connection: Connection, statement: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
    rows = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
    plan: dict[str, Any] = json.loads(rows)[0]["Plan"]
    return plan


def _scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that the plan reads from end to end, as they lie or by an index without a condition."""
    whole = plan["Node Type"] == "Seq Scan" or (
        plan["Node Type"] in ("Index Scan", "Index Only Scan") and "Index Cond" not in plan
    )
    own = {plan["Relation Name"]} if whole else set()
    return own.union(*(_scanned(child) for child in plan.get("Plans", ())))
