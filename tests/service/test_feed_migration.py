"""What the streak service's old feed says is carried over, and who followed it goes on where it was."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2
from laurel.streak.v1 import streak_pb2

from deploy.generate import ROOT
from shared.postgres.feed import Feed, place_of
from shared.postgres.migrations import migrate
from shared.postgres.pool import create_pool

MIGRATIONS = ROOT / "services" / "streak" / "migrations"
INSERT = """
    INSERT INTO changes (entry_id, user_id, streak, time_zone, occur_time, change)
    VALUES ($1, $2, 'daily', 'Asia/Tokyo', $3, $4)
"""
TIMES = (
    datetime(1965, 2, 3, 4, 5, 6, 789_012, tzinfo=UTC),
    datetime(2026, 3, 1, 15, tzinfo=UTC),
    datetime(2026, 3, 2, 15, 0, 59, 1, tzinfo=UTC),
)


async def test_the_old_feed_is_the_beginning_of_the_new_one(empty_database: str, tmp_path: Path) -> None:
    for path in MIGRATIONS.glob("*.sql"):
        if path.name < "0007":
            shutil.copy(path, tmp_path)
    await migrate(empty_database, tmp_path)
    connection = await asyncpg.connect(empty_database)
    expected = [
        participant_service_pb2.Change(
            entry_id=str(UUID(int=number)),
            user_id=("zoë", "u" * 255, "bob")[number],
            time_zone="Asia/Tokyo",
            streak_closing=entry_pb2.StreakClosing(
                change=streak_pb2.StreakChange(streak="daily", version=number, length_before=300)
            ),
        )
        for number in range(3)
    ]
    for message, time in zip(expected, TIMES, strict=True):
        message.occur_time.FromDatetime(time)
        change = message.streak_closing.change.SerializeToString()
        await connection.execute(INSERT, UUID(message.entry_id), message.user_id, time, change)
    await migrate(empty_database, MIGRATIONS)
    pool = await create_pool(empty_database, application_name="test", size=1, statement_timeout_ms=5_000)
    feed = Feed(pool)
    await feed.append(connection, [b""])
    page = await feed.after(place_of("", "after_cursor"), 10)
    followed = await feed.after(place_of("0.0.2", "after_cursor"), 10)
    await pool.close()
    await connection.close()
    found = [participant_service_pb2.Change.FromString(row["body"]) for row in page.rows]
    assert found == [*expected, participant_service_pb2.Change()]
    assert [row["body"] for row in followed.rows] == [row["body"] for row in page.rows[2:]]
