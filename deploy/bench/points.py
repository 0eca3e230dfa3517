"""`python -m deploy.bench.points`: what awards, balances and expiry cost. By the points service's own handlers, on a
PostgreSQL of its own, gone afterwards.

An award that five boosts multiply against one that none does, in turn, alone and in batches; the balance of a user with
ten rows in the ledger against one with a million; ten thousand spendings of one user at once, as many transfers in a
ring of ten; and one night in which a million lots expire, while events go on.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg
from laurel.participant.v1 import participant_service_pb2
from laurel.points.v1 import points_pb2
from msgspec import Struct

from deploy.bench.report import table
from deploy.local.databases import create_service_databases
from deploy.local.postgres import PostgresServer
from deploy.local.run_directory import run_directory
from services.points.definitions import KINDS, POINTS_SYSTEM, catalogue_of
from services.points.domain.facts import Command
from services.points.handlers import Handlers
from services.points.maintenance import Maintenance
from services.points.reads import Reads
from services.points.store import Store
from services.points.terms import Terms
from shared.entries import (
    Entry,
    EntryKind,
    MetricFact,
    PointsGift,
    PointsGrant,
    PointsSpend,
    PointsTransfer,
    UserSnapshot,
)
from shared.ids import derived_id_at
from shared.pages import Page, read_page
from shared.participant import Work
from shared.postgres.definitions import Catalogue
from shared.postgres.migrations import migrate
from shared.postgres.pool import create_pool

ROOT: Final = Path(__file__).parents[2]
MICROS: Final = 1_000_000
BOOSTS: Final = 5
XP: Final = "xp"
LOTS: Final = "lots"
FEW_ROWS: Final = 10

_DEFINE: Final = """
    INSERT INTO definitions (key, body, create_time, update_time, kind) VALUES ($1, $2, now(), now(), $3)
"""

# A user's one award again and again: as many rows of the ledger as are asked for, and what is derived from them.
_MORE_ROWS: Final = """
    WITH own AS (SELECT * FROM awards WHERE user_id = $1 ORDER BY sequence LIMIT 1), more AS (
        INSERT INTO awards (user_id, sequence, award_id, points_system, trigger, times, base_amount, amount, entry_id,
                            occur_time, local_date, position, refolded, cause_entry_id)
        SELECT own.user_id, own.sequence + n, gen_random_uuid(), own.points_system, own.trigger, own.times,
               own.base_amount, own.amount, gen_random_uuid(), own.occur_time, own.local_date, own.position + n, false,
               gen_random_uuid()
          FROM own CROSS JOIN generate_series(1, $2::integer - 1) AS n
    ), balance AS (
        UPDATE balances SET balance = balance * $2, lifetime = lifetime * $2 WHERE user_id = $1
    )
    UPDATE users SET award_count = award_count + $2 - 1, entry_count = entry_count + $2 - 1 WHERE user_id = $1
"""

# Other users just like one. Ids of entries begin with their times; the rest is anybody's.
_OTHER_USERS: Final = (
    """
    INSERT INTO users SELECT 'lots-' || n, version, entry_count, award_count, first_position
      FROM users CROSS JOIN generate_series(1, $2::integer - 1) AS n WHERE user_id = $1
    """,
    """
    INSERT INTO balances SELECT 'lots-' || n, points_system, balance, lifetime, level, version, reach_time, cut_position
      FROM balances CROSS JOIN generate_series(1, $2::integer - 1) AS n WHERE user_id = $1
    """,
    """
    INSERT INTO trigger_states
    SELECT 'lots-' || n, points_system, trigger, kind, granted_count, accumulated_micros, high_micros, every_micros,
           due_count, irregular, newest_time, late_position, fractional, next_time, zone, day, periods
      FROM trigger_states CROSS JOIN generate_series(1, $2::integer - 1) AS n WHERE user_id = $1
    """,
    """
    INSERT INTO awards (user_id, sequence, award_id, points_system, trigger, times, base_amount, amount, entry_id,
                        occur_time, local_date, position, refolded, cause_entry_id, expire_date)
    SELECT 'lots-' || n, sequence, gen_random_uuid(), points_system, trigger, times, base_amount, amount,
           gen_random_uuid(), occur_time, local_date, position, refolded, gen_random_uuid(), expire_date
      FROM awards CROSS JOIN generate_series(1, $2::integer - 1) AS n WHERE user_id = $1
    """,
    "ANALYZE",
)


class Awards(Struct):
    """Of one system, in ms an event: wall-clock time alone, and the process's own time in batches."""

    name: str
    alone: list[float] = []
    batched: list[float] = []
    batched_cpu: list[float] = []


class Night(Struct, frozen=True):
    """One night of expiry."""

    users: int
    lots: int
    seconds: float
    own_seconds: float
    """Of this process's processor time, the events beside it included."""
    events: int
    latencies: Sequence[float]
    """Of the events beside it, in ms."""


class Crowd(Struct, frozen=True):
    """Concurrent calls of which the balance allows a part."""

    what: str
    asked: int
    done: int
    seconds: float


class Found(Struct, frozen=True):
    """What was measured."""

    awards: Sequence[Awards]
    reads: Sequence[tuple[int, Sequence[float]]]
    """Rows in the ledger, and what reading the balance took, in ms."""
    crowds: Sequence[Crowd]
    night: Night


class Asked(Struct, frozen=True):
    """How much of it."""

    rounds: int
    batch: int
    rows: int
    crowd: int
    users: int
    lots_each: int
    pause_seconds: float


async def measure(home: Path, asked: Asked) -> Found:
    """One after the other. What boosts cost is seen next to a service that has none at all."""
    async with (
        _service(home / "plain", _systems(0)) as plain,
        _service(home / "boosted", _systems(BOOSTS)) as boosted,
    ):
        awards = [Awards("plain"), Awards("boosted")]
        for number in range(asked.rounds):
            for one, service in zip(awards, (plain, boosted), strict=True):
                await service.award(one, number, asked.batch, is_kept=number >= asked.rounds // 10)
        reads = await plain.reads(asked.rows, asked.rounds)
        crowds = [await plain.spends(asked.crowd), await plain.ring(asked.crowd)]
        night = await plain.night(asked.users, asked.lots_each, asked.pause_seconds)
        return Found(awards, reads, crowds, night)


@asynccontextmanager
async def _service(home: Path, systems: Sequence[points_pb2.PointsSystem]) -> "AsyncIterator[_Points]":
    postgres = PostgresServer.start(home)
    dsn = create_service_databases(postgres.admin_dsn, ["points"], passwords={"points": "bench"})["points"]
    await migrate(dsn, ROOT / "services" / "points" / "migrations")
    connection = await asyncpg.connect(dsn)
    pool = await create_pool(dsn, application_name="bench", size=6, statement_timeout_ms=600_000)
    try:
        for system in systems:
            body = POINTS_SYSTEM.normalised(system).SerializeToString()
            await connection.execute(_DEFINE, system.key, body, POINTS_SYSTEM.name)
        yield _Points(pool, connection)
    finally:
        await connection.close()
        await pool.close()
        postgres.erase()


def _systems(boosts: int) -> list[points_pb2.PointsSystem]:
    """Each counts a metric of its own key; the first has boosts."""
    systems = []
    for key in (XP, LOTS):
        system = points_pb2.PointsSystem(key=key, name=key)
        system.triggers.add(key="each", amount=10).metric.MergeFrom(
            points_pb2.MetricPointsTrigger(metric=key, every=1)
        )
        systems.append(system)
    for number in range(boosts):
        boost = systems[0].boosts.add(key=f"boost-{number}", name="Boost", multiplier=1.1)
        boost.start_time.FromDatetime(datetime(2020, 1, 1, tzinfo=UTC))
        boost.end_time.FromDatetime(datetime(2100, 1, 1, tzinfo=UTC))
    systems[1].expiry.after_days = 30
    systems[1].expiry.yearly_date = "01-01"
    return systems


class _Points:
    def __init__(self, pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
        configuration = Catalogue(pool, KINDS, catalogue_of)
        store, terms = Store(pool, recent_users=0), Terms()
        self._connection = connection
        self._handlers = Handlers(pool, store, configuration, terms)
        self._reads = Reads(pool, store, configuration, terms)
        self._maintenance = Maintenance(pool, store, configuration, terms)
        self._number = 0

    async def award(self, one: Awards, number: int, batch: int, *, is_kept: bool) -> None:
        """A lone event and a batch of them, one of each user."""
        now = datetime.now(UTC)
        alone = [self._work(XP, f"user-{number % 50}", now)]
        many = [self._work(XP, f"user-{n}", now) for n in range(batch)]
        took, _ = await _timed(partial(self._handlers.apply_entries, alone))
        took_many, cpu_many = await _timed(partial(self._handlers.apply_entries, many))
        if is_kept:
            one.alone.append(took)
            one.batched.append(took_many / batch)
            one.batched_cpu.append(cpu_many / batch)

    async def reads(self, rows: int, rounds: int) -> list[tuple[int, list[float]]]:
        """The balances of a user with few rows and of one with many, in turn."""
        sizes = (FEW_ROWS, rows)
        for size in sizes:
            now = datetime.now(UTC)
            await self._handlers.apply_entries([self._work(XP, f"rows-{size}", now)])
            await self._connection.execute(_MORE_ROWS, f"rows-{size}", size, timeout=3_600)
        await self._connection.execute("ANALYZE")
        page = read_page(0, "", keyset=[str])
        found: list[tuple[int, list[float]]] = [(size, []) for size in sizes]
        for number in range(rounds):
            for size, times in found:
                took, _ = await _timed(partial(self._read, size, page))
                if number >= rounds // 10:
                    times.append(took)
        return found

    async def _read(self, size: int, page: Page) -> None:
        _, state, _, _ = await self._reads.list_user_points(f"rows-{size}", page, datetime.now(UTC))
        if state.points.accounts[XP].balance != 10 * size:
            raise AssertionError("the balance is another")

    async def spends(self, asked: int) -> Crowd:
        """Of one user, for whom a tenth of them is covered. Raises AssertionError where another number succeeds."""
        covered = asked // 10
        await self._handlers.apply_entries([self._gift("spender", XP, covered * 7)])
        done, seconds = await self._crowd([self._gift("spender", XP, -7) for _ in range(asked)])
        left = await self._balances(["spender"])
        if (done, left) != (covered, 0):
            raise AssertionError(f"{done} of {covered} that were covered, and {left} points are left")
        return Crowd("spendings of one user", asked, done, seconds)

    async def ring(self, asked: int) -> Crowd:
        """Each of ten users passes points on to the next. Raises AssertionError where the sum is another then."""
        users = [f"ring-{number}" for number in range(10)]
        await self._handlers.apply_entries([self._gift(user, XP, 20) for user in users])
        work = [
            self._gift(users[number % 10], XP, -(1 + number % 24), to=users[(number + 1) % 10])
            for number in range(asked)
        ]
        done, seconds = await self._crowd(work)
        left = await self._balances(users)
        if left != 20 * len(users):
            raise AssertionError(f"{left} points are left of {20 * len(users)}")
        return Crowd("transfers in a ring of ten", asked, done, seconds)

    async def _crowd(self, work: Sequence[Work[Command]]) -> tuple[int, float]:
        """All at once, in batches as they arrive; how many succeeded, and how long it took."""
        began = time.perf_counter()
        batches = [work[start : start + 50] for start in range(0, len(work), 50)]
        answers = await asyncio.gather(*(self._handlers.apply_entries(batch) for batch in batches))
        outcomes = [participant_service_pb2.Outcome.FromString(each) for batch in answers for each in batch]
        refused = {each.error.reason for each in outcomes if each.HasField("error")}
        if refused - {"INSUFFICIENT_POINTS"}:
            raise AssertionError(f"refused with {refused}")
        done = sum(not each.HasField("error") for each in outcomes)
        return done, time.perf_counter() - began

    async def _balances(self, users: Sequence[str]) -> int:
        statement = "SELECT coalesce(sum(balance), 0)::bigint FROM balances WHERE user_id = ANY($1)"
        found: int = await self._connection.fetchval(statement, users)
        return found

    async def night(self, users: int, lots_each: int, pause_seconds: float) -> Night:
        """As many users with as many lots each, which all expire with the first of January."""
        begin = datetime(2026, 3, 1, 12, tzinfo=UTC)
        for number in range(lots_each):
            await self._handlers.apply_entries([self._work(LOTS, LOTS, begin + timedelta(hours=number))])
        for statement in _OTHER_USERS:
            await self._connection.execute(
                statement, *((LOTS, users) if "$1" in statement else ()), timeout=3_600
            )
        night = datetime(2027, 1, 1, 0, 5, tzinfo=UTC)
        latencies: list[float] = []
        ended = asyncio.Event()
        beside = asyncio.create_task(self._beside(latencies, ended, pause_seconds))
        began, began_cpu = time.perf_counter(), time.process_time()
        try:
            while (await self._maintenance.run(night, history=False)).more:
                pass
        finally:
            seconds, own_seconds = time.perf_counter() - began, time.process_time() - began_cpu
            ended.set()
            await beside
        left = await self._connection.fetchrow(
            "SELECT count(*) AS users, sum(balance) AS balance FROM balances WHERE points_system = $1", LOTS
        )
        if left is None or (left["users"], left["balance"]) != (users, 0):
            raise AssertionError(f"not everything has expired: {left}")
        return Night(users, users * lots_each, seconds, own_seconds, 10 * len(latencies), latencies)

    async def _beside(self, latencies: list[float], ended: asyncio.Event, pause_seconds: float) -> None:
        """Events of other users, one batch of ten after the other with a pause."""
        number = 0
        while not ended.is_set():
            work = [self._work(XP, f"user-{(number + n) % 50}", datetime.now(UTC)) for n in range(10)]
            took, _ = await _timed(partial(self._handlers.apply_entries, work))
            latencies.append(took)
            number += 10
            await asyncio.sleep(pause_seconds)

    def _gift(self, user: str, key: str, amount: int, *, to: str = "") -> Work[Command]:
        self._number += 1
        now = datetime.now(UTC)
        entry_id = derived_id_at(now, "bench", str(self._number))
        kind = EntryKind.POINTS_GRANT if amount > 0 else EntryKind.POINTS_SPEND
        entry = Entry(
            entry_id,
            EntryKind.POINTS_TRANSFER if to else kind,
            UserSnapshot(user, "UTC", {}, now, 1, ""),
            now,
            now,
            "UTC",
            None,
            None,
            content=(PointsTransfer if to else PointsGrant if amount > 0 else PointsSpend)(
                PointsGift(key, amount)
            ),
            other_users=(UserSnapshot(to, "UTC", {}, now, 1, ""),) if to else (),
        )
        return Work(Command(entry), entry_id, user, b"")

    def _work(self, key: str, user: str, now: datetime) -> Work[Command]:
        self._number += 1
        entry_id = derived_id_at(now, "bench", str(self._number))
        metric = MetricFact(key, MICROS, 0, MICROS, MICROS, self._number, {})
        snapshot = UserSnapshot(user, "UTC", {}, now, 1, "")
        entry = Entry(entry_id, EntryKind.METRIC_EVENT, snapshot, now, now, "UTC", metric, None)
        return Work(Command(entry), entry_id, user, b"")


async def _timed(what: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """In ms: by the clock, and of this process's processor time."""
    began, began_cpu = time.perf_counter(), time.process_time()
    await what()
    return 1_000 * (time.perf_counter() - began), 1_000 * (time.process_time() - began_cpu)


def shown(found: Found) -> str:
    """The figures as tables: medians, and the second against the first."""
    median = statistics.median
    plain, boosted = found.awards

    def row(name: str, first: float, second: float) -> list[str]:
        return [name, f"{first:.3f}", f"{second:.3f}", f"{second / first:.2f}"]

    awards = table(
        ["an award", "no boost", f"{BOOSTS} boosts", "ratio"],
        [
            row("alone, ms", median(plain.alone), median(boosted.alone)),
            row("in batches, ms an event", median(plain.batched), median(boosted.batched)),
            row("  of it the service's own time", median(plain.batched_cpu), median(boosted.batched_cpu)),
        ],
    )
    (few, few_times), (many, many_times) = found.reads
    reads = table(
        ["reading a balance", f"{few:,} rows", f"{many:,} rows", "ratio"],
        [row("median, ms", median(few_times), median(many_times))],
    )
    crowds = table(
        ["at once", "asked", "done", "seconds", "a second"],
        [
            [
                each.what,
                f"{each.asked:,}",
                f"{each.done:,}",
                f"{each.seconds:.1f}",
                f"{each.asked / each.seconds:,.0f}",
            ]
            for each in found.crowds
        ],
    )
    night = found.night
    latencies = sorted(night.latencies)
    nights = table(
        [
            "one night",
            "users",
            "lots",
            "seconds",
            "own CPU, s",
            "lots/s",
            "events beside",
            "median, ms",
            "p99, ms",
        ],
        [
            [
                "expiry",
                f"{night.users:,}",
                f"{night.lots:,}",
                f"{night.seconds:.1f}",
                f"{night.own_seconds:.1f}",
                f"{night.lots / night.seconds:,.0f}",
                f"{night.events:,}",
                f"{median(latencies):.1f}",
                f"{latencies[int(len(latencies) * 0.99)]:.1f}",
            ]
        ],
    )
    return f"{awards}\n\n{reads}\n\n{crowds}\n\n{nights}"


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--crowd", type=int, default=10_000, help="How many spendings, and transfers, at once."
    )
    parser.add_argument("--users", type=int, default=100_000, help="Whose lots expire in one night.")
    parser.add_argument("--lots-each", type=int, default=10)
    parser.add_argument(
        "--pause", type=float, default=0.05, help="Between batches of ten events, in seconds."
    )
    arguments = parser.parse_args()
    asked = Asked(
        arguments.rounds,
        arguments.batch,
        arguments.rows,
        arguments.crowd,
        arguments.users,
        arguments.lots_each,
        arguments.pause,
    )
    with run_directory("bench-points") as home:
        found = asyncio.run(measure(home, asked))
    sys.stdout.write(shown(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
