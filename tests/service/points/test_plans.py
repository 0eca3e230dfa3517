"""Two round trips a batch; and whatever reads besides reads no table whole (on the event path: test_young_plans)."""

from typing import Any

import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from services.points import convert, history, level_days, reads, store
from services.points.definitions import KINDS, catalogue_of
from services.points.domain.facts import Command
from services.points.handlers import Handlers
from services.points.terms import Terms
from shared.entries import Reversal
from shared.participant import Work
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool, create_pool
from tests.fixtures import participants
from tests.fixtures.plans import plan_of, scanned
from tests.service.points.conftest import Service
from tests.service.points.messages import (
    BADGE,
    NOON,
    TEN_PER_THREE,
    WEEK,
    WELCOME,
    entry_id,
    event,
)
from tests.service.points.steps import define, send

ENTRY = entry_id("e1")
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "IN_USE": ("xp",),
    "LOTS": (["alice"], 2**63 - 1),
    "AWARDS": ("alice", "", 2**63 - 1, 50, "", None, None, None),
    "USERS_BY_LEVEL": ("xp", False, [10, 50]),
    "USERS_BY_LEVEL_ONLY": ("xp", False, [10, 50], ["alice", "bob"]),
    "SUMMARY": ("alice", "xp", NOON.date(), NOON.date(), "day"),
    "BALANCE": ("alice", "xp"),
    "USERS_AFTER": ("a", 50),
    "IS_COUNTED": (["xp"], NOON.date()),
    "COUNT": ("xp", False, [10, 50], "|"),
    "LEVEL_DAYS": ("xp", "acme", NOON.date(), NOON.date()),
}


@pytest.mark.parametrize("name", ARGUMENTS)
async def test_no_statement_besides_the_event_path_reads_a_table_whole(service: Service, name: str) -> None:
    pool = await _pool(service)
    async with pool.acquire() as connection:
        (statement,) = (vars(module)[name] for module in (store, reads, level_days) if name in vars(module))
        plan = await plan_of(connection, statement, ARGUMENTS[name])
    await pool.close()
    assert scanned(plan) <= {"configuration_version"}


async def test_a_batch_costs_two_round_trips_however_many_entries_it_has(service: Service) -> None:
    statements = await _statements(
        service,
        *[event(n, 3, user=f"user-{n}", periods=[(0, 7)], completed=[f"first-{n}"]) for n in range(40)],
    )
    assert statements == [store.LOAD, store.SAVE]


async def test_a_batch_with_a_late_event_costs_one_round_trip_more(service: Service) -> None:
    statements = await _statements(
        service, event(1, 3, minutes=-5), event(2, 3, minutes=5), event(3, 3, user="bob")
    )
    assert statements == [store.LOAD, store.WINDOWS, store.SAVE]


async def test_a_late_event_of_whole_multiples_costs_no_more(service: Service) -> None:
    warm = event("warm", 3)
    statements = await _statements(service, event(1, 6, minutes=-5), event(2, 3, minutes=5), warm=warm)
    assert statements == [store.LOAD, store.SAVE]


async def test_an_event_that_is_late_only_in_its_batch_costs_no_more(service: Service) -> None:
    statements = await _statements(service, event(1, 3, minutes=5), event(2, 3, minutes=4))
    assert statements == [store.LOAD, store.SAVE]


async def test_taking_an_event_out_reads_no_other_fact_where_only_its_own_awards_differ(
    service: Service,
) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, *[event(n, 3, minutes=n) for n in range(9)])
    pool = await _pool(service)
    statements: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
    handlers = Handlers(pool, store.Store(pool), Catalogue(pool, KINDS, catalogue_of), Terms())
    await handlers.revert_entries([Reversal(entry_id(4), "alice", NOON)])
    await pool.close()
    assert {history.SUMS, history.ADDED, history.REACH_TIME, store.WINDOWS}.isdisjoint(statements)
    assert statements.count(history.FACTS_AT) == 1
    assert history.FACTS not in statements


async def test_the_awards_of_thousands_of_facts_are_found_by_a_hash_of_their_positions(
    service: Service,
) -> None:
    pool = await _pool(service)
    async with pool.acquire() as connection:
        plan = await connection.fetch(
            f"EXPLAIN {history.AWARDS_OF}", "alice", 0, "xp", "three", list(range(5_000))
        )
    await pool.close()
    assert any("hashed SubPlan" in line["QUERY PLAN"] for line in plan)


async def _statements(
    service: Service, *commands: participant_pb.Command, warm: participant_pb.Command | None = None
) -> list[str]:
    """What a replica that knows the configuration asks the database for a batch."""
    await define(service, "xp", [TEN_PER_THREE, WEEK, BADGE, WELCOME])
    pool = await _pool(service)
    handlers = Handlers(pool, store.Store(pool), Catalogue(pool, KINDS, catalogue_of), Terms())
    await handlers.apply_entries(_work(warm or event("warm", 1)))
    statements: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
    await handlers.apply_entries(_work(*commands))
    await pool.close()
    return statements


async def _pool(service: Service) -> Pool:
    return await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)


def _work(*commands: participant_pb.Command) -> list[Work[Command]]:
    return participants.work(convert.command, *commands)
