"""`python -m deploy.bench.backfill`: how many users a second a backfill gives achievements that all of them had met, or
looks at for one that nobody has.

Each user has some events of one metric, spread over four months, of which the third reaches the threshold; they are put
into PostgreSQL as they would stand there. The service's own work runs at its own pace, on servers of its own, which are
gone afterwards. One caller sends events of other users one after the other, in turns alone and beside the work.
`--without-events` leaves them out, and then the work takes all. `--profile` shows where its processor time goes.
"""

import argparse
import asyncio
import cProfile
import pstats
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import psutil
import uvloop
from laurel.achievement.v1 import achievement_pb2
from msgspec import Struct
from pydantic import SecretStr

from deploy.bench.beside import Spent, cells, worked
from deploy.bench.report import table
from deploy.local.databases import create_service_databases
from deploy.local.postgres import PostgresServer
from deploy.local.run_directory import run_directory
from services.achievement.backfilling import Backfills
from services.achievement.config import Settings
from services.achievement.definitions import ACHIEVEMENT, KINDS, catalogue_of
from services.achievement.domain import Command
from services.achievement.handlers import Handlers
from services.achievement.store import Store
from services.achievement.witness import Witness
from shared.clock import SystemClock
from shared.entries import Entry, EntryKind, MetricFact, UserSnapshot
from shared.ids import derived_id_at
from shared.pace import Traffic
from shared.participant import Work
from shared.postgres.definitions import Catalogue
from shared.postgres.migrations import migrate
from shared.postgres.partitions import Partitions
from shared.postgres.pool import Connection, create_pool
from shared.rpc.channel import open_channel
from shared.telemetry import off

ROOT: Final = Path(__file__).parents[2]
EVENTS: Final = 5
"""Of each user, a month apart but for the last."""
_THRESHOLD: Final = 3
KINDS_OF_ACHIEVEMENTS: Final = ("beyond", "plain", "repeated", "paid")
"""One that nobody has reached; one that all have; one that is earned each time; one of which points hang on what is
backdated, so that everybody is told of.
"""
_UNIT: Final = 1_000_000

# An id begins with the milliseconds of the event: it lies in the partition of its month.
CREATE_ID: Final = """
    CREATE FUNCTION bench_id(at timestamptz, name text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
        SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '8'
                || substr(md5(name), 1, 3) || '8' || substr(md5(name), 4, 15))::uuid
    $$
"""
_FILL: Final = (
    """
    INSERT INTO users (user_id, version, entry_count)
    SELECT 'user-' || lpad(n::text, 9, '0'), $2, $2 FROM generate_series(1, $1::integer) AS n
    """,
    """
    INSERT INTO sources (user_id, key, kind, version, current, highest, sum_micros, negative_count, newest_time)
    SELECT 'user-' || lpad(n::text, 9, '0'), 'commits', 1, $2, $2::bigint * 1000000, $2::bigint * 1000000,
           $2::bigint * 1000000, 0, $3::timestamptz
      FROM generate_series(1, $1::integer) AS n
    """,
    """
    INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time, position, value_micros, metric,
                             occur_time, local_date)
    SELECT bench_id(event.at, n || ' ' || e), 'user-' || lpad(n::text, 9, '0'), sha256('x'), 1, '\\x'::bytea, event.at,
           e, 1000000, 'commits', event.at, (event.at AT TIME ZONE 'UTC')::date
      FROM generate_series(1, $1::integer) AS n
     CROSS JOIN generate_series(1, $2::integer) AS e
     CROSS JOIN LATERAL (
           SELECT $3::timestamptz - ($2::integer - e) * interval '28 days' + n * interval '1 ms' AS at
     ) AS event
    """,
    # What came months ago has been vacuumed.
    "VACUUM (ANALYZE)",
)


class Found(Struct):
    """What was measured of one way."""

    name: str
    users: int
    given: int
    spent: Spent


async def measure(
    home: Path,
    users: int,
    batch_size: int,
    share: float,
    sessions: int,
    profile: cProfile.Profile | None,
    only: Collection[str],
    *,
    with_events: bool,
) -> list[Found]:
    """Fills, and lets the service work on each kind of achievement."""
    postgres = PostgresServer.start(home / "postgres")
    dsn = create_service_databases(postgres.admin_dsn, ["achievement"], passwords={"achievement": "bench"})[
        "achievement"
    ]
    await migrate(dsn, ROOT / "services" / "achievement" / "migrations")
    pool = await create_pool(dsn, application_name="bench", size=8, statement_timeout_ms=600_000)
    connection = await asyncpg.connect(dsn)
    settings = Settings(
        postgres_dsn=SecretStr(dsn),
        backfill_batch_size=batch_size,
        backfill_share=share,
        backfill_sessions=sessions,
    )
    channel = open_channel("127.0.0.1:9", max_message_bytes=1_000_000, telemetry=off())
    try:
        await Partitions(pool, SystemClock(), {"request_log": None}).keep()
        await _fill(connection, users)
        catalogue = Catalogue(pool, KINDS, catalogue_of)
        traffic = Traffic()
        backfills = Backfills(pool, catalogue, Witness(channel, 1), settings, SystemClock(), traffic)
        metric = achievement_pb2.MetricTrigger(metric="commits", threshold=_THRESHOLD)
        handlers = Handlers(pool, Store(pool, settings.recent_users), catalogue, SystemClock())
        apply = traffic.noticed(handlers.apply_entries)

        async def send(user: str) -> None:
            await apply([_event(user)])

        server = psutil.Process(connection.get_server_pid()).parent()
        assert server is not None  # the server's first process
        beyond = achievement_pb2.MetricTrigger(metric="commits", threshold=EVENTS + 1)
        found = []
        for achievement in (
            achievement_pb2.Achievement(key="beyond", name="Beyond", metric=beyond),
            achievement_pb2.Achievement(key="plain", name="Plain", metric=metric),
            achievement_pb2.Achievement(key="repeated", name="Repeated", metric=metric, repeatable=True),
            achievement_pb2.Achievement(key="paid", name="Paid", metric=metric, award_backdated=True),
        ):
            if achievement.key not in only:
                continue
            await _activate(connection, ACHIEVEMENT.normalised(achievement), users)
            if profile is not None:
                profile.enable()
            spent = await worked(server, backfills.go_on, send if with_events else None)
            if profile is not None:
                profile.disable()
            done = await backfills.get(achievement.key)
            found.append(Found(done.achievement, done.looked_at_count, done.completed_user_count, spent))
        return found
    finally:
        await channel.close()
        await connection.close()
        await pool.close()
        postgres.erase()


async def _fill(connection: Connection, users: int) -> None:
    await connection.execute(CREATE_ID)
    now = datetime.now(UTC) - timedelta(days=1)
    await connection.execute(_FILL[0], users, EVENTS)
    for statement in _FILL[1:3]:
        await connection.execute(statement, users, EVENTS, now)
    await connection.execute(_FILL[3])


async def _activate(connection: Connection, achievement: achievement_pb2.Achievement, users: int) -> None:
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO definitions (key, body, create_time, update_time, kind) VALUES ($1, $2, now(), now(), $3)",
            achievement.key,
            achievement.SerializeToString(),
            ACHIEVEMENT.name,
        )
        await connection.execute("UPDATE configuration_version SET version = version + 1")
        await connection.execute(
            "INSERT INTO backfills (achievement, backfill_id, state, cursor, place, create_time, update_time,"
            " user_count) VALUES ($1, gen_random_uuid(), 1, '', '{0,3}', now(), now(), $2)",
            achievement.key,
            users,
        )


def _event(user: str) -> Work[Command]:
    now = datetime.now(UTC)
    entry_id = derived_id_at(now, "bench", user)
    metric = MetricFact("commits", _UNIT, 0, _UNIT, _UNIT, 1, {})
    snapshot = UserSnapshot(user, "UTC", {}, now, 1, "")
    entry = Entry(entry_id, EntryKind.METRIC_EVENT, snapshot, now, now, "UTC", metric, None)
    return Work(Command(entry), entry_id, user, b"")


def shown(found: Sequence[Found]) -> str:
    """The figures as tables; the processor time of events beside it is in it."""
    figures = table(
        ["achievement", "users", "given", "s", "users a second", "own CPU µs a user", "PostgreSQL µs a user"],
        [
            [
                one.name,
                f"{one.users:,}",
                f"{one.given:,}",
                f"{one.spent.seconds:.1f}",
                f"{one.users / one.spent.seconds:,.0f}",
                f"{one.spent.own_seconds / one.users * 1e6:.0f}",
                f"{one.spent.server_seconds / one.users * 1e6:.0f}",
            ]
            for one in found
        ],
    )
    measured = [one for one in found if one.spent.alone and one.spent.beside]
    if not measured:
        return figures
    events = table(
        ["achievement", "an event without it, median ms", "beside it", "ratio"],
        [[one.name, *cells(one.spent.alone, one.spent.beside)] for one in measured],
    )
    return f"{figures}\n\n{events}"


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument(
        "--batch-size", type=int, default=Settings.model_fields["backfill_batch_size"].default
    )
    parser.add_argument("--share", type=float, default=Settings.model_fields["backfill_share"].default)
    parser.add_argument("--sessions", type=int, default=Settings.model_fields["backfill_sessions"].default)
    parser.add_argument("--without-events", action="store_true")
    parser.add_argument("--only", nargs="*", choices=KINDS_OF_ACHIEVEMENTS)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    profile = cProfile.Profile() if arguments.profile else None
    with (
        run_directory("bench-backfill") as home,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(
            measure(
                home,
                arguments.users,
                arguments.batch_size,
                arguments.share,
                arguments.sessions,
                profile,
                arguments.only or KINDS_OF_ACHIEVEMENTS,
                with_events=not arguments.without_events,
            )
        )
    sys.stdout.write(shown(found) + "\n")
    if profile is not None:
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(25)
    return 0


if __name__ == "__main__":
    sys.exit(main())
