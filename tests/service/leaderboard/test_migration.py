"""Points that were kept before they stood under the entry that they belong to are carried over."""

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from deploy.generate import ROOT
from shared.postgres.migrations import migrate

MIGRATIONS = ROOT / "services" / "leaderboard" / "migrations"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
FACT = "INSERT INTO facts VALUES ('ada', $1, 'xp', $2, $3, $4, $5, $6, 0)"


async def test_a_correction_of_then_is_added_to_what_it_corrected(
    empty_database: str, tmp_path: Path
) -> None:
    for path in MIGRATIONS.glob("*.sql"):
        if path.name < "0007":
            shutil.copy(path, tmp_path)
    await migrate(empty_database, tmp_path)
    connection = await asyncpg.connect(empty_database)
    first, second, third, correction = (UUID(int=number) for number in (1, 2, 3, 0))
    for kind, entry_id, origin, amount, at in (
        (3, first, first, 10, NOON),
        (3, second, second, 5, NOON + timedelta(hours=1)),
        (3, correction, first, -10, NOON - timedelta(hours=12)),
        (4, third, third, 2, NOON),
    ):
        await connection.execute(FACT, kind, NOON.date(), entry_id, origin, amount, at)
    await migrate(empty_database, MIGRATIONS)
    rows = await connection.fetch("SELECT * FROM earnings ORDER BY entry_id")
    await connection.close()
    day = date(2026, 5, 1)
    assert [tuple(row) for row in rows] == [
        ("ada", "xp", day, first, 0, NOON),
        ("ada", "xp", day, second, 5, NOON + timedelta(hours=1)),
    ]
