"""What was said about users before its times were kept, and the distinct values of then, are carried over."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from deploy.generate import ROOT
from services.orchestrator.said import Run, Said, Unknown, UserPatch, attributes_as_of, micros_of
from services.orchestrator.store.rows import user_from_row
from shared.postgres.migrations import migrate

MIGRATIONS = ROOT / "services" / "orchestrator" / "migrations"
NOON = datetime(2026, 5, 1, 12, 0, 0, 123_457, tzinfo=UTC)
AT = micros_of(NOON)
USER = """
    INSERT INTO users (user_id, guard, version, entry_count, name, name_time, time_zone, zone_time, attributes,
                       create_time)
    VALUES ($1, 1, 1, 1, $2, $3, $4, $5, $6::jsonb, $7)
"""
ENTRY = """
    INSERT INTO entries (entry_id, kind, user_id, metric, value_micros, unique_value, position, occur_time,
                         receive_time, digest, request, entry, live)
    VALUES ($1, 'metric_event', 'ada', 'countries', 1, $2, 1, $3, $3, '', '', '', $4)
"""


async def test_what_was_stored_before_is_what_was_said(empty_database: str, tmp_path: Path) -> None:
    for path in MIGRATIONS.glob("*.sql"):
        if path.name < "0008":
            shutil.copy(path, tmp_path)
    await migrate(empty_database, tmp_path)
    connection = await asyncpg.connect(empty_database)
    known = (
        f'{{"plan": ["pro", {AT}], "team": [null, {AT - 5}], "": [null, {AT - 9}], "old": ["x", {AT - 10}]}}'
    )
    await connection.execute(USER, "ada", "Ada", NOON, None, None, known, NOON)
    await connection.execute(USER, "bob", None, None, "Asia/Tokyo", NOON, "{}", NOON)
    await connection.execute(USER, "eve", None, NOON, None, None, "{}", NOON)
    for number, (value, hours, live) in enumerate(
        [("IT", 3, True), ("IT", 1, False), ("IT", 2, True), ("JP", 5, True)]
    ):
        at = NOON - timedelta(hours=5 - hours)
        await connection.execute(ENTRY, UUID(int=number), value, at, live)
    for value in ("IT", "JP"):
        await connection.execute("INSERT INTO unique_values VALUES ('ada', 'countries', $1)", value)
    await migrate(empty_database, MIGRATIONS)
    users = {row["user_id"]: user_from_row(row).said for row in await connection.fetch("SELECT * FROM users")}
    firsts = await connection.fetch("SELECT value, first_time, first_id FROM unique_values ORDER BY value")
    await connection.close()
    assert users == {
        "ada": Said(
            name=Run("Ada", AT, AT),
            attributes={"plan": (Run("pro", AT, AT),), "team": (Run(None, AT - 5, AT - 5),)},
            cleared=AT - 9,
            since=AT,
        ),
        "bob": Said(time_zone=Run("Asia/Tokyo", AT, AT)),
        "eve": Said(name=Run(None, AT, AT)),
    }
    assert [tuple(row) for row in firsts] == [
        ("IT", NOON - timedelta(hours=3), UUID(int=2)),
        ("JP", NOON, UUID(int=3)),
    ]
    assert attributes_as_of(users["ada"], UserPatch("ada"), AT) == ({"plan": "pro"}, None)
    with pytest.raises(Unknown):  # that stands in the ledger
        attributes_as_of(users["ada"], UserPatch("ada"), AT - 1)
