"""`python -m deploy.bench.catalogue`: what an event costs achievements by how many there are, and by the user's past.

The same events, in batches as groups travel, go through the service's own handlers: with 10 achievements defined and
with 1,000, ten of which the event can touch; and for users with 10 events behind them and with 100,000. Both sides
take turns, so that what else the machine does is on both. Servers of its own, gone afterwards.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import psutil
import uvloop
from laurel.achievement.v1 import achievement_pb2
from msgspec import Struct

from deploy.bench.backfill import CREATE_ID
from deploy.bench.beside import seconds_of
from deploy.bench.report import table
from deploy.local.databases import create_service_databases
from deploy.local.postgres import PostgresServer
from deploy.local.run_directory import run_directory
from services.achievement.definitions import ACHIEVEMENT, KINDS, catalogue_of
from services.achievement.domain import Command
from services.achievement.handlers import Handlers
from services.achievement.store import Store
from shared.clock import SystemClock
from shared.entries import Entry, EntryKind, MetricFact, UserSnapshot
from shared.ids import derived_id_at
from shared.participant import Work
from shared.postgres.definitions import Catalogue
from shared.postgres.migrations import migrate
from shared.postgres.pool import Connection, create_pool

ROOT: Final = Path(__file__).parents[2]
BATCH: Final = 32
TOUCHED: Final = 10
_UNIT: Final = 1_000_000
_FAR: Final = 10**9
_DEFINE: Final = """
    INSERT INTO definitions (key, body, create_time, update_time, kind) VALUES ($1, $2, now(), now(), $3)
"""
_PAST: Final = (
    "INSERT INTO users (user_id, version, entry_count) SELECT u, $2, $2 FROM unnest($1::text[]) AS u",
    """
    INSERT INTO sources (user_id, key, kind, version, current, highest, sum_micros, negative_count, newest_time)
    SELECT u, 'commits', 1, $2, $2::bigint * 1000000, $2::bigint * 1000000, $2::bigint * 1000000, 0, $3::timestamptz
      FROM unnest($1::text[]) AS u
    """,
    """
    INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time, position, value_micros, metric,
                             occur_time, local_date)
    SELECT bench_id(event.at, u || ' ' || e), u, sha256('x'), 1, ''::bytea, event.at, e, 1000000, 'commits', event.at,
           (event.at AT TIME ZONE 'UTC')::date
      FROM unnest($1::text[]) AS u
     CROSS JOIN generate_series(1, $2::integer) AS e
     CROSS JOIN LATERAL (SELECT $3::timestamptz - ($2::integer - e) * interval '1 minute' AS at) AS event
    """,
)


class Side(Struct):
    """One of two that are compared."""

    name: str
    handlers: Handlers
    users: int
    past: int
    """Events that each user has behind him."""
    sent: int = 0
    own_micros: list[float] = []
    """Processor time of the service an event, by turn."""
    server_micros: list[float] = []
    milliseconds: list[float] = []
    """That a batch took, the median of a turn."""


async def measure(
    home: Path, counts: Sequence[int], pasts: Sequence[int], turns: int, batches: int
) -> list[tuple[Side, Side]]:
    """Both comparisons."""
    postgres = PostgresServer.start(home / "postgres")
    names = [f"achievement_{number}" for number in range(2)]
    pairs = []
    try:
        sides: list[Side] = []
        for name, count in zip(names, counts, strict=True):
            sides.append(await _side(postgres, name, f"{count:,} achievements", count, BATCH, 10))
        pairs.append((sides[0], sides[1]))
        past = [
            await _side(postgres, f"past_{length}", f"{length:,} events behind", counts[0], 4, length)
            for length in pasts
        ]
        pairs.append((past[0], past[1]))
        server = psutil.Process(postgres_pid(home))
        for turn in range(turns + 1):
            for pair in pairs:
                for side in pair:
                    await _turn(side, server, batches, is_kept=turn > 0)
        return pairs
    finally:
        postgres.erase()


def postgres_pid(home: Path) -> int:
    """Of the server's first process."""
    [file] = list((home / "postgres").rglob("postmaster.pid"))
    return int(file.read_text().split()[0])


async def _side(
    postgres: PostgresServer, name: str, shown_as: str, count: int, users: int, past: int
) -> Side:
    dsn = create_service_databases(postgres.admin_dsn, [name], passwords={name: "bench"})[name]
    await migrate(dsn, ROOT / "services" / "achievement" / "migrations")
    connection = await asyncpg.connect(dsn)
    try:
        await _define(connection, count)
        await connection.execute(CREATE_ID)
        ids = [f"user-{number:04}" for number in range(users)]
        now = datetime.now(UTC) - timedelta(hours=1)
        await connection.execute(_PAST[0], ids, past)
        for statement in _PAST[1:]:
            await connection.execute(statement, ids, past, now)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    pool = await create_pool(dsn, application_name="bench", size=2, statement_timeout_ms=600_000)
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    # What is kept of users who came lately would spare the loading, which is what might grow.
    handlers = Handlers(pool, Store(pool, recent_users=0), catalogue, SystemClock())
    return Side(shown_as, handlers, users, past)


async def _define(connection: Connection, count: int) -> None:
    """Ten by the metric of the events, others by other metrics, streaks and calls."""
    for number in range(count):
        achievement = achievement_pb2.Achievement(key=f"a{number}", name=f"A {number}")
        if number < TOUCHED:
            achievement.metric.metric, achievement.metric.threshold = "commits", _FAR + number
        elif number % 3 == 0:
            achievement.streak.streak, achievement.streak.length = f"s{number % 50}", 1 + number
        elif number % 3 == 1:
            achievement.metric.metric, achievement.metric.threshold = f"m{number % 50}", 1 + number
        else:
            achievement.api.SetInParent()
        body = ACHIEVEMENT.normalised(achievement).SerializeToString()
        await connection.execute(_DEFINE, achievement.key, body, ACHIEVEMENT.name)
    await connection.execute("UPDATE configuration_version SET version = version + 1")


async def _turn(side: Side, server: psutil.Process, batches: int, *, is_kept: bool) -> None:
    times = []
    batches *= BATCH // side.users
    before, server_before = time.process_time(), seconds_of(server)
    for _ in range(batches):
        began = time.perf_counter()
        await side.handlers.apply_entries(_batch(side))
        times.append(1_000 * (time.perf_counter() - began))
    events = batches * side.users
    if is_kept:
        side.own_micros.append((time.process_time() - before) / events * 1e6)
        side.server_micros.append((seconds_of(server) - server_before) / events * 1e6)
        side.milliseconds.append(statistics.median(times))


def _batch(side: Side) -> list[Work[Command]]:
    side.sent += 1
    now = datetime.now(UTC)
    work = []
    for number in range(side.users):
        user = f"user-{number:04}"
        entry_id = derived_id_at(now, "bench", side.name, user, str(side.sent))
        total = (side.past + side.sent) * _UNIT
        version = side.past + side.sent
        metric = MetricFact("commits", _UNIT, total - _UNIT, total, total, version, {})
        snapshot = UserSnapshot(user, "UTC", {}, now, 1, "")
        entry = Entry(entry_id, EntryKind.METRIC_EVENT, snapshot, now, now, "UTC", metric, None)
        work.append(Work(Command(entry), entry_id, user, b""))
    return work


def shown(pairs: Sequence[tuple[Side, Side]]) -> str:
    """The figures as a table: medians over the turns, and the second of each pair against the first."""
    rows = []
    for pair in pairs:
        first, second = pair
        for side in pair:
            values = [
                statistics.median(each) for each in (side.own_micros, side.server_micros, side.milliseconds)
            ]
            rows.append([side.name, *(f"{value:.1f}" for value in values)])
        ratios = [
            statistics.median(after) / statistics.median(before)
            for before, after in (
                (first.own_micros, second.own_micros),
                (first.server_micros, second.server_micros),
                (first.milliseconds, second.milliseconds),
            )
        ]
        rows.append(["  ratio", *(f"{ratio:.2f}" for ratio in ratios)])
    return table(["", "service CPU µs an event", "PostgreSQL CPU µs an event", "ms a batch"], rows)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--achievements", type=int, nargs=2, default=[10, 1_000])
    parser.add_argument("--past", type=int, nargs=2, default=[10, 100_000])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--batches", type=int, default=60)
    arguments = parser.parse_args()
    with (
        run_directory("bench-catalogue") as home,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(
            measure(home, arguments.achievements, arguments.past, arguments.turns, arguments.batches)
        )
    sys.stdout.write(shown(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
