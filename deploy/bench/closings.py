"""`python -m deploy.bench.closings`: how fast a midnight is that closes the streaks of many, and an event beside it.

One user's rows, as an event leaves them, are copied for all others: what stands in the database, not how it came there.
The service's own pass closes the day on which nobody came: half of the streaks spend a freeze, half are lost. One
caller sends events of other users one after the other, in turns alone and beside the pass. `--without-events` leaves
them out.

Users are spread evenly over 24 zones, so a midnight is that of a 24th of them. `--share` says otherwise, for people
who live closer together. Servers of its own, gone afterwards.
"""

import argparse
import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import psutil
import uvloop
from laurel.streak.v1 import streak_pb2
from msgspec import Struct

from deploy.bench.beside import Spent, cells, worked
from deploy.bench.report import table
from deploy.local.databases import create_service_databases
from deploy.local.postgres import PostgresServer
from deploy.local.run_directory import run_directory
from services.streak.config import Settings
from services.streak.definitions import KINDS, STREAK, catalogue_of
from services.streak.handlers import Handlers
from services.streak.maintenance import Maintenance
from services.streak.store import Store
from shared.calendar import local_midnight
from shared.entries import Entry, EntryKind, MetricFact, UserSnapshot
from shared.ids import derived_id_at
from shared.pace import Pace, Traffic
from shared.participant import Work
from shared.passes import paced
from shared.postgres.definitions import Catalogue
from shared.postgres.migrations import migrate
from shared.postgres.pool import Connection, Pool, create_pool

ROOT: Final = Path(__file__).parents[2]
ZONES: Final = 24
_UNIT: Final = 1_000_000
_DEFINE: Final = """
    INSERT INTO definitions (key, body, create_time, update_time, kind) VALUES ($1, $2, now(), now(), $3)
"""
_COLUMNS: Final = """
    SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position) AS columns
      FROM information_schema.columns
     WHERE table_schema = 'public' AND table_name <> 'request_log' AND table_name NOT LIKE 'request_log%'
       AND table_name IN (SELECT table_name FROM information_schema.columns WHERE column_name = 'user_id')
       AND table_name IN (SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE')
     GROUP BY table_name
"""
_TEMPLATES: Final = {"frozen": 1, "lost": 0}
"""Streaks of the template's user, with so many freezes."""


class Found(Struct):
    """What was measured."""

    closed: int
    spent: Spent


async def measure(home: Path, users: int, batch_size: int, share: float, *, with_events: bool) -> Found:
    """Fills, and closes the midnight of all these users, with events beside it."""
    postgres = PostgresServer.start(home / "postgres")
    dsn = create_service_databases(postgres.admin_dsn, ["streak"], passwords={"streak": "bench"})["streak"]
    await migrate(dsn, ROOT / "services" / "streak" / "migrations")
    pool = await create_pool(dsn, application_name="bench", size=6, statement_timeout_ms=600_000)
    connection = await asyncpg.connect(dsn)
    traffic = Traffic()
    pace = Pace(traffic, most=batch_size, share=share)
    try:
        return await _measured(pool, connection, users, traffic, pace, with_events=with_events)
    finally:
        await connection.close()
        await pool.close()
        postgres.erase()


async def _measured(
    pool: Pool, connection: Connection, users: int, traffic: Traffic, pace: Pace, *, with_events: bool
) -> Found:
    for key, freezes in _TEMPLATES.items():
        streak = streak_pb2.Streak(key=key, name=key, frequency=streak_pb2.FREQUENCY_DAILY)
        streak.metrics.add(metric="commits", threshold=1)
        streak.freezes.initial_count = streak.freezes.max_count = freezes
        await connection.execute(_DEFINE, key, STREAK.normalised(streak).SerializeToString(), STREAK.name)
    await connection.execute("UPDATE configuration_version SET version = version + 1")
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    handlers = Handlers(pool, Store(pool), catalogue)
    today = local_midnight(datetime.now(UTC).date(), "UTC")
    day = today - timedelta(days=2)
    await handlers.apply_entries([_event("template", 1, day + timedelta(hours=12))])
    await _copy(connection, "template", users // len(_TEMPLATES))
    now = today + timedelta(hours=1)
    maintenance = Maintenance(pool, catalogue, pace.most)
    server = psutil.Process(connection.get_server_pid()).parent()
    assert server is not None  # the server's first process
    apply = traffic.noticed(handlers.apply_entries)
    closed = 0

    async def send(user: str) -> None:
        # For whom nothing is due.
        await apply([_event(user, 1, now)])

    async def go_on() -> bool:
        nonlocal closed
        part = await paced(pace, maintenance.part, today)
        closed += part.done
        return part.more

    spent = await worked(server, go_on, send if with_events else None)
    return Found(closed, spent)


async def _copy(connection: Connection, template: str, users: int) -> None:
    for name, columns in await connection.fetch(_COLUMNS):
        values = ["$1 || '-' || n" if column == "user_id" else f'"{column}"' for column in columns]
        listed = ", ".join(f'"{column}"' for column in columns)
        await connection.execute(
            f'INSERT INTO "{name}" ({listed}) SELECT {", ".join(values)}'
            f' FROM "{name}" CROSS JOIN generate_series(1, $2::integer) AS n WHERE user_id = $1',
            template,
            users,
        )
    await connection.execute("ANALYZE")


def _event(user: str, version: int, now: datetime) -> Work[Entry]:
    entry_id = derived_id_at(now, "bench", user, str(version))
    metric = MetricFact("commits", _UNIT, 0, _UNIT, _UNIT, version, {})
    snapshot = UserSnapshot(user, "UTC", {}, now, 1, "")
    entry = Entry(entry_id, EntryKind.METRIC_EVENT, snapshot, now, now, "UTC", metric, None)
    return Work(entry, entry_id, user, b"")


def shown(found: Found, share: float) -> str:
    """The figures as a table."""
    spent = found.spent
    rate = found.closed / spent.seconds
    rows = [
        ["streaks closed", f"{found.closed:,}"],
        ["seconds", f"{spent.seconds:.1f}"],
        ["streaks a second", f"{rate:,.0f}"],
        ["service CPU µs a streak", f"{spent.own_seconds / found.closed * 1e6:.0f}"],
        ["PostgreSQL CPU µs a streak", f"{spent.server_seconds / found.closed * 1e6:.0f}"],
    ]
    if spent.alone and spent.beside:
        without, beside, ratio = cells(spent.alone, spent.beside)
        rows += [
            ["an event without it, median ms", without],
            ["an event beside it, median ms", beside],
            ["  ratio", ratio],
        ]
    rows.append([f"a midnight of {share:.1%} of 1,000,000 streaks, s", f"{1_000_000 * share / rate:.1f}"])
    return table(["", ""], rows)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000 // ZONES)
    parser.add_argument("--share", type=float, default=1 / ZONES)
    parser.add_argument(
        "--share-of-time", type=float, default=Settings.model_fields["maintenance_share"].default
    )
    parser.add_argument("--without-events", action="store_true")
    parser.add_argument(
        "--batch-size", type=int, default=Settings.model_fields["maintenance_batch_size"].default
    )
    arguments = parser.parse_args()
    with (
        run_directory("bench-closings") as home,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(
            measure(
                home,
                arguments.users,
                arguments.batch_size,
                arguments.share_of_time,
                with_events=not arguments.without_events,
            )
        )
    sys.stdout.write(shown(found, arguments.share) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
