"""By id a statement meets the months of its ids alone, by user every month by its index, whatever plan is cached."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.achievement import store_undo as achievement_undo
from services.leaderboard.store import events, past, undo
from services.leaderboard.store import reads as rank_reads
from services.orchestrator.saga import UNFINISHED, State
from services.orchestrator.store import history, ledger, reads, sagas
from services.orchestrator.store import undo as taking_out
from services.points import store as points
from services.streak import store as streak
from shared import participant
from shared.postgres import request_log
from shared.postgres.months import lowest_id
from shared.postgres.partitions import Partitions
from shared.postgres.pool import Connection, create_pool
from tests.conftest import ServiceDatabase
from tests.fixtures.set_clock import SetClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MONTHS_MADE = 8
FIRST = UUID(int=lowest_id(NOW).int + 1)
LAST = UUID(int=FIRST.int + 1)
NEW = UUID(int=FIRST.int + 2)
IDS = [FIRST, LAST]
BOTH = [b"answer", b"answer"]

PARTICIPANT = {
    "known": (request_log.SELECT_KNOWN, IDS),
    "lock": (participant._LOCK, FIRST),
    "mark reverted": (participant._MARK_REVERTED, FIRST, 2, b""),
    "remember nothing": (participant._REMEMBER_NOTHING, FIRST, b""),
    "bury": (participant._INSERT_TOMBSTONE, FIRST, "ada", 3, b"", NOW),
}
STATEMENTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "streak": {**PARTICIPANT, "fact": (streak.FACT, FIRST)},
    "achievement": {**PARTICIPANT, "fact": (achievement_undo.FACT, FIRST)},
    "points": {**PARTICIPANT, "lock user": (points.LOCK_USER, FIRST)},
    "leaderboard": {
        **PARTICIPANT,
        "pending": (events.PENDING, IDS),
        "outcomes": (events.OUTCOMES, IDS, False),
        "complete": (
            events.COMPLETE,
            IDS,
            BOTH,
            [("ada", NOW, FIRST, "weekly", NOW.date(), "", 1, 2, 3, None)],
        ),
        "complete reversals": (events.COMPLETE_REVERSALS, IDS, BOTH),
        "user of": (undo.USER_OF, FIRST),
        "event": (undo.EVENT, FIRST),
        "events": (past.EVENTS, IDS),
        "remove history": (undo.REMOVE_HISTORY, "ada", NOW, FIRST),
        "set draft": (undo.SET_DRAFT, FIRST, ""),
    },
    "orchestrator": {
        "known": (ledger._KNOWN, [FIRST], [LAST]),
        "complete": (sagas.COMPLETE, IDS, BOTH, State.RUNNING, []),
        "leave": (sagas._LEAVE, IDS, ["away", "away"], [1.0, 1.0], 9, list(UNFINISHED)),
        "decide": (sagas._DECIDE, FIRST, b"no", ["streak"], ["streak"], [b""]),
        "decide to void": (sagas._DECIDE_VOID, FIRST, "test", "one", "", NOW, False),
        "lock its user": (sagas._LOCK_ITS_USER, FIRST),
        "settle": (sagas._SETTLE, FIRST, State.VOIDED, b"", []),
        "stored": (sagas._STORED, FIRST),
        "void reply": (sagas._VOID_REPLY, FIRST),
        "take out": (taking_out._TAKE_OUT, FIRST),
        "entry": (taking_out._ENTRY, FIRST),
        "correction": (taking_out._STORE_CORRECTION, FIRST, NEW, "correction", "ada", NOW, NOW, b""),
        "event": (reads._ENTRY, FIRST),
        "known ids": (reads._KNOWN_IDS, IDS),
    },
}
WHEN = ("ada", "commits", NOW - timedelta(days=14), NOW)
OCCURRED: dict[str, tuple[Any, ...]] = {
    "all": (history._ALL, *WHEN, 10),
    "newest": (history._NEWEST, *WHEN, FIRST),
    "greatest": (history._GREATEST, *WHEN, FIRST),
    "next": (history._NEXT, *WHEN, FIRST),
    "next with": (history._NEXT_WITH, *WHEN, FIRST, "IT"),
    "records": (history._RECORDS, *WHEN, FIRST, 7),
}
BY_USER: dict[str, dict[str, tuple[Any, ...]]] = {
    "leaderboard": {
        "rank events": (rank_reads.RANK_EVENTS, "ada", "", 10),
        "earlier": (rank_reads.EARLIER_RANK_EVENTS, "ada", "", 10, NOW, FIRST, "weekly", NOW.date(), ""),
    },
    "orchestrator": {
        "events": (reads._USER_ENTRIES, "ada", NOW, LAST, 10, "", None, None, None, None),
        "claim": (sagas._CLAIM, "one", [LAST], 10),
        "backlog": (sagas._BACKLOG,),
        "voided now": (sagas._VOIDED_NOW, "ada", FIRST),
        **OCCURRED,
    },
}
"""Besides the event path; on it, tests/service/test_young_plans.py counts what is read."""
TABLES = {"orchestrator": ("entries", "sagas"), "leaderboard": ("request_log", "rank_events")}
ROWS = {
    "entries": "INSERT INTO entries (entry_id, kind, user_id, occur_time, receive_time, digest, request, entry, live) "
    "SELECT id, 'metric_event', 'ada', now(), now(), '', '', '', true FROM unnest($1::uuid[]) AS id",
    "sagas": "INSERT INTO sagas (entry_id, user_id, state, instance, create_time, next_attempt_time) "
    "SELECT id, 'ada', 1, 'one', now(), now() FROM unnest($1::uuid[]) AS id",
    "request_log": "INSERT INTO request_log (entry_id, user_id, digest, state, apply_time) "
    "SELECT id, 'ada', '', 1, now() FROM unnest($1::uuid[]) AS id",
}
OPEN_SAGAS = ("_next_attempt_time_entry_id_idx", "_create_time_entry_id_idx")
"""Partial indexes that hold nothing but what is wanted: unfinished sagas, and parked ones."""
KEYS = "INSERT INTO entry_keys (key_id, entry_id) SELECT id, id FROM unnest($1::uuid[]) AS id"


@pytest.fixture
async def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def connection(service: str, service_database: ServiceDatabase) -> AsyncIterator[Connection]:
    """A connection of the event path, to a database with a row for each id and with months before and after theirs."""
    pool = await create_pool(
        await service_database(service), application_name="plans", size=1, statement_timeout_ms=5_000
    )
    tables = TABLES.get(service, ("request_log",))
    for month in range(MONTHS_MADE):
        clock = SetClock(NOW + timedelta(days=30 * (month - MONTHS_MADE // 2)))
        await Partitions(pool, clock, dict.fromkeys(tables)).keep()
    async with pool.acquire() as opened:
        for table in tables:
            if table in ROWS:
                await opened.execute(ROWS[table], IDS)
        if service == "orchestrator":
            await opened.execute(KEYS, IDS)
        yield opened
    await pool.close()


@pytest.mark.parametrize("service", STATEMENTS, indirect=True)
async def test_statements_by_id_touch_the_month_of_the_ids_alone(
    service: str, connection: Connection
) -> None:
    for name, (statement, *arguments) in STATEMENTS[service].items():
        touched = _touched(await _plan(connection, statement, arguments))
        assert touched <= {
            "entries_2026_11",
            "sagas_2026_11",
            "request_log_2026_11",
            "rank_events_2026_11",
        }, name
        assert touched or name == "bury", name


@pytest.mark.parametrize("service", BY_USER, indirect=True)
async def test_statements_by_user_go_through_every_month_by_its_index(
    service: str, connection: Connection
) -> None:
    for name, (statement, *arguments) in BY_USER[service].items():
        assert _read_whole(await _plan(connection, statement, arguments)) == set(), name


@pytest.mark.parametrize("service", ["orchestrator"], indirect=True)
async def test_when_entries_occurred_is_found_by_when_they_were_received_and_of_late_ones_by_itself(
    connection: Connection,
) -> None:
    for name, (statement, *arguments) in OCCURRED.items():
        conditions = _conditions(await _plan(connection, statement, arguments))
        assert len(conditions) == 2, name
        assert all("user_id" in condition and "_time >=" in condition for condition in conditions), name
        assert {"receive_time >=" in condition for condition in conditions} == {True, False}, name


def _conditions(plan: dict[str, Any]) -> set[str]:
    """By what entries are looked up in their indexes."""
    own = {plan["Index Cond"]} if plan.get("Relation Name", "").startswith("entries_") else set()
    return own.union(*(_conditions(child) for child in plan.get("Plans", ())))


async def _plan(connection: Connection, statement: str, arguments: list[Any]) -> dict[str, Any]:
    """The plan for any arguments, as it went with these; nothing of it stays."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"PREPARE tried AS {statement}")
    literals = f"({', '.join(map(_literal, arguments))})" if arguments else ""
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE tried{literals}")
    await connection.execute("DEALLOCATE tried")
    await transaction.rollback()
    plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
    return plan


def _touched(plan: dict[str, Any]) -> set[str]:
    """The partitions that were really looked into."""
    name = plan.get("Relation Name", "")
    looked_into = "Scan" in plan["Node Type"] and plan["Actual Loops"] > 0
    own = (
        {name}
        if looked_into and name.startswith(("entries_", "sagas_", "request_log_", "rank_events_"))
        else set()
    )
    return own.union(*(_touched(child) for child in plan.get("Plans", ())))


def _read_whole(plan: dict[str, Any]) -> set[str]:
    """What is read from end to end, as it lies or by an index without a condition."""
    by_index = plan["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Index Scan")
    of_open_sagas = any(part in plan.get("Index Name", "") for part in OPEN_SAGAS)
    whole = plan["Node Type"] == "Seq Scan" or (by_index and "Index Cond" not in plan and not of_open_sagas)
    own = {plan.get("Relation Name", plan.get("Index Name", ""))} if whole else set()
    return own.union(*(_read_whole(child) for child in plan.get("Plans", ())))


def _literal(value: Any) -> str:
    """What PostgreSQL reads as this value, whatever the parameter's type."""
    return "NULL" if value is None else f"'{_text(value)}'"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ", ".join(map(_quoted, value)) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_quoted, value)) + ")"
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return str(int(value)) if isinstance(value, int) else str(value)


def _quoted(value: Any) -> str:
    """As a part of an array or a row."""
    escaped = _text(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
