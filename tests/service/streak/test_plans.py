"""Two round trips a batch; and whatever reads besides reads no table whole (on the event path: test_young_plans)."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from services.streak import convert, store, store_maintenance, store_reads
from services.streak.definitions import KINDS, catalogue_of
from services.streak.handlers import Handlers
from shared.entries import Entry
from shared.participant import Work
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import create_pool
from tests.fixtures import participants
from tests.fixtures.plans import plan_of, scanned
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, event
from tests.service.streak.steps import define

NOW = datetime(2025, 3, 1, tzinfo=UTC)
TODAY = date(2025, 3, 1)
STATEMENTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "LOAD_WHOLE": (store.LOAD_WHOLE, ("alice",)),
    "IN_USE": (store.IN_USE, ("daily",)),
    "IS_DUE": (store_maintenance.IS_DUE, (NOW,)),
    "DUE": (store_maintenance.DUE, (NOW, 10)),
    "PARK": (store_maintenance.PARK, (["alice"], ["daily"])),
    "PERIODS": (store_reads.PERIODS, ("alice", "daily", TODAY, 10)),
    "LEDGER": (store_reads.LEDGER, ("alice", "daily", TODAY, 0, TODAY, TODAY, 10)),
    "LONGEST": (store_reads.LONGEST, ("daily", 7, "alice", 10)),
    "BETWEEN": (store_reads.BETWEEN, ("alice", "daily", TODAY, TODAY)),
    "AT_RISK": (store_reads.AT_RISK, ("daily", NOW, NOW, NOW, "alice", "", 10)),
    "ENDING": (store_reads.ENDING, ("daily", NOW, "alice", NOW, 10)),
    "LENGTHS": (store_reads.LENGTHS, ("daily", [1, 2])),
    "LOSSES": (store_reads.LOSSES, ("daily", TODAY, TODAY, [1, 2])),
    "SAVED": (store_reads.SAVED, ("daily", TODAY, TODAY)),
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
    await define(service)
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    handlers = Handlers(pool, store.Store(pool), catalogue)
    await handlers.apply_entries(_work(*(event(("warm", n), at(3), user=f"user-{n}") for n in range(9))))
    statements: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
    batch = [event((n, d), at(d), user=f"user-{n}") for d in (4, 5, 9) for n in range(30)]
    await handlers.apply_entries(_work(*batch))
    await pool.close()
    assert statements == [store.LOAD, store.SAVE]


def _work(*commands: participant_pb.Command) -> list[Work[Entry]]:
    return participants.work(convert.command, *commands)
