"""`python -m deploy.bench.reminders`: how long it takes to plan the reminders of one hour.

So many users have a streak that ends at one midnight. The planner as it is reads them from a streak service beside it
and writes a plan for each. The users are one template, copied in the database. Servers of its own, gone afterwards.
"""

import argparse
import asyncio
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import grpc.aio
import psutil
from laurel.ledger.v1 import entry_pb2
from laurel.notification.v1 import contact_pb2, message_pb2
from laurel.orchestrator.v1 import definition_pb2
from laurel.participant.v1 import (
    definition_service_pb2,
    definition_service_pb2_grpc,
    participant_service_pb2,
    participant_service_pb2_grpc,
)
from laurel.streak.v1 import streak_pb2
from msgspec import Struct

from deploy.bench.report import table
from deploy.local.databases import create_service_databases
from deploy.local.ports import free_port
from deploy.local.postgres import PostgresServer
from deploy.local.run_directory import run_directory
from services.notification import message_convert
from services.notification.reading import Channels, Reader
from services.notification.reminding import Reminders
from services.notification.store.messages import MessageStore
from shared.ids import derived_id_at, sha256
from shared.postgres.migrations import migrate
from shared.postgres.pool import create_pool
from shared.rpc.convert import to_timestamp

ROOT: Final = Path(__file__).parents[2]
_STREAK: Final = streak_pb2.Streak(
    key="daily",
    name="Daily",
    frequency=streak_pb2.FREQUENCY_DAILY,
    metrics=[streak_pb2.MetricThreshold(metric="lessons", threshold=1)],
    # Nobody has one yet; whether somebody has is looked at.
    freezes=streak_pb2.FreezeSettings(earn_count=1, earn_every_days=7, max_count=2),
)
_READY_SECONDS: Final = 120
_FILL: Final = (
    "UPDATE maintenance SET hold_until = now() + interval '1 day'",
    """
    INSERT INTO users (user_id, version, time_zone, user_version, move_time)
    SELECT 'user-' || n, version, time_zone, user_version, move_time
      FROM users CROSS JOIN generate_series(2, $1::integer) AS n
    """,
    """
    INSERT INTO streak_states (user_id, streak, version, length, longest, reach_time, fingerprint, closed_time,
                               next_close_time, state, by_hand)
    SELECT 'user-' || n, streak, version, length, longest, reach_time, fingerprint, closed_time,
           next_close_time, state, by_hand
      FROM streak_states CROSS JOIN generate_series(2, $1::integer) AS n
    """,
    "ANALYZE",
)
_SWITCH_ON: Final = """
    INSERT INTO message_definitions (type, body, since, create_time, update_time) VALUES ($1, $2, $3, $3, $3)
"""


class Planned(Struct, frozen=True):
    """What came of it."""

    users: int
    seconds: float
    again_seconds: float
    """When all of it is planned already, as after a process that died."""
    planner_seconds: float
    """Of processor time."""
    streak_seconds: float
    postgres_seconds: float
    """Of both databases."""
    bytes_more: int
    """By which the planner's memory grew at most."""


class _Clock:
    """Stands still in the evening of the day whose end is the streaks'."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


async def measure(home: Path, users: int) -> Planned:
    """Fill, and plan."""
    postgres = PostgresServer.start(home / "postgres")
    names = ("streak", "notification")
    dsns = create_service_databases(postgres.admin_dsn, names, passwords=dict.fromkeys(names, "bench"))
    for name in names:
        await migrate(dsns[name], ROOT / "services" / name / "migrations")
    port = free_port()
    environment = {
        **os.environ,
        "LAUREL_POSTGRES_DSN": dsns["streak"],
        "LAUREL_LISTEN": f"127.0.0.1:{port}",
        "LAUREL_LOG_LEVEL": "ERROR",
    }
    streak = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.streak", "serve", env=environment, cwd=ROOT, stderr=sys.stderr
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), _READY_SECONDS)
            midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(
                days=1
            )
            await _template(channel, midnight - timedelta(hours=36))
            await _fill(dsns["streak"], users)
            assert postgres.process is not None
            processes = [psutil.Process(), psutil.Process(streak.pid), psutil.Process(postgres.process.pid)]
            return await _planned(channel, dsns["notification"], midnight, users, processes)
    finally:
        streak.kill()
        await streak.wait()
        postgres.erase()


async def _template(channel: grpc.aio.Channel, at: datetime) -> None:
    """One user with a streak of the day before."""
    definitions = definition_service_pb2_grpc.DefinitionServiceStub(channel)
    definition = definition_pb2.Definition(streak=_STREAK)
    write = definition_service_pb2.DefinitionWrite(path="streak", create=definition)
    checked = await definitions.CheckDefinitions(
        definition_service_pb2.CheckDefinitionsRequest(writes=[write])
    )
    await definitions.WriteDefinitions(
        definition_service_pb2.WriteDefinitionsRequest(
            write_id=str(derived_id_at(at, "bench")),
            write_time=to_timestamp(at - timedelta(days=1)),
            puts=[each.after for each in checked.writes],
        )
    )
    entry = entry_pb2.Entry(
        entry_id=str(derived_id_at(at, "template")),
        user=entry_pb2.UserSnapshot(
            user_id="user-1", time_zone="UTC", create_time=to_timestamp(at), version=1
        ),
        now=to_timestamp(at),
        occur_time=to_timestamp(at),
        time_zone="UTC",
        origin=entry_pb2.ENTRY_ORIGIN_LIVE,
        metric_event=entry_pb2.MetricFact(
            metric="lessons", value_micros=1_000_000, total_after_micros=1_000_000
        ),
    )
    command = participant_service_pb2.Command(entry=entry, digest=sha256(entry.SerializeToString()))
    participant = participant_service_pb2_grpc.ParticipantServiceStub(channel)
    await participant.ApplyEntries(participant_service_pb2.ApplyEntriesRequest(commands=[command]))


async def _fill(dsn: str, users: int) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in _FILL:
        await connection.execute(statement, *([users] if "$1" in statement else []))
    await connection.close()


async def _planned(
    channel: grpc.aio.Channel, dsn: str, midnight: datetime, users: int, processes: list[psutil.Process]
) -> Planned:
    pool = await create_pool(dsn, application_name="bench", size=4, statement_timeout_ms=600_000)
    clock = _Clock(midnight - timedelta(hours=5, minutes=30))
    body = message_convert.stored(
        message_pb2.MessageDefinition(
            type=contact_pb2.MESSAGE_TYPE_STREAK_REMINDER, switched_on=True, send_time="19:00"
        )
    )
    await pool.execute(_SWITCH_ON, contact_pb2.MESSAGE_TYPE_STREAK_REMINDER, body, clock.now())
    reminders = Reminders(pool, Reader(Channels(*[channel] * 5), 60), MessageStore(pool), clock)
    before, memory = [_cpu(process) for process in processes], processes[0].memory_info().rss
    seconds = await _timed(reminders)
    spent = [_cpu(process) - earlier for process, earlier in zip(processes, before, strict=True)]
    grown = processes[0].memory_info().rss - memory
    planned = await pool.fetchval("SELECT count(*) FROM planned_messages")
    assert planned == users, planned
    await pool.execute("DELETE FROM reminded_streaks")
    again_seconds = await _timed(reminders)
    await pool.close()
    planner, streak, postgres = spent
    return Planned(users, seconds, again_seconds, planner, streak, postgres, grown)


async def _timed(reminders: Reminders) -> float:
    began = time.perf_counter()
    await reminders.run()
    return time.perf_counter() - began


def _cpu(process: psutil.Process) -> float:
    """Of the process and its children that are alive."""
    children = process.children() if process.pid != os.getpid() else []
    return sum(float(sum(each.cpu_times()[:2])) for each in (process, *children))


def shown(found: Planned) -> str:
    """The figures as a table."""
    return table(
        ["", f"{found.users:,} users"],
        [
            ["planned, s", f"{found.seconds:.1f}"],
            ["users a second", f"{found.users / found.seconds:,.0f}"],
            ["looked at again, all planned already, s", f"{found.again_seconds:.1f}"],
            ["processor time of the planner, s", f"{found.planner_seconds:.1f}"],
            ["processor time of the streak service, s", f"{found.streak_seconds:.1f}"],
            ["processor time of PostgreSQL, s", f"{found.postgres_seconds:.1f}"],
            ["memory of the planner, MiB more", f"{found.bytes_more / 2**20:.0f}"],
        ],
    )


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with run_directory("bench-reminders") as home:
        found = asyncio.run(measure(home, arguments.users))
    sys.stdout.write(shown(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
