"""Months of the partitioned tables in a running system."""

from uuid import UUID

import asyncpg
import pytest

from shared.postgres.months import month_of, partition_name
from tests.fixtures import clock
from tests.fixtures.clients import CALL_TIMEOUT_SECONDS
from tests.fixtures.system import System, event
from tests.fixtures.waiting import until

pytestmark = pytest.mark.calendar


@pytest.mark.parametrize(
    ("service", "table"),
    [
        ("orchestrator", "entries"),
        ("orchestrator", "sagas"),
        ("streak", "request_log"),
        ("achievement", "request_log"),
        ("points", "request_log"),
        ("leaderboard", "request_log"),
        ("leaderboard", "rank_events"),
    ],
)
async def test_what_an_event_leaves_lies_in_the_present_month_of_every_service(
    system: System, service: str, table: str
) -> None:
    connection = await asyncpg.connect(system.stack.service_dsn(service))
    begun = month_of(clock.now())

    async def made() -> bool:
        name = partition_name(table, begun.next())
        return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name))

    await until(made, seconds=30, what="the first pass of maintenance makes the months")
    reply = await system.orchestrator.IngestEvent(
        event(f"partitions-{table}-{service}", value=5_000), timeout=CALL_TIMEOUT_SECONDS
    )
    held = await connection.fetchval(
        f"SELECT tableoid::regclass::text FROM {table} WHERE entry_id = $1", UUID(reply.entry_id)
    )
    await connection.close()
    assert held in {partition_name(table, month) for month in (begun, month_of(clock.now()))}
