"""`python -m deploy.bench.boards`: what the size of a board costs. Boards of one size and of another, side by side.

Scores are put into PostgreSQL as they would stand there; the sorted sets are filled by a rebuild, which is timed. Then
one update after the other (by the service's own handler, and in the sorted sets alone), pages of the first 100, and
pages around a user (by the service's own handler too, from the request to the serialized response), of both boards in
turn: on the loop, with the clients and the collector of a service. Servers of its own, gone afterwards.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import uvloop
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2 as service_pb
from msgspec import Struct
from redis.asyncio import Redis

from deploy.bench.processes import cpu_seconds
from deploy.bench.report import table
from deploy.local.databases import create_service_databases
from deploy.local.postgres import PostgresServer
from deploy.local.run_directory import run_directory
from deploy.local.valkey import ValkeyServer
from services.leaderboard.convert import requests, responses
from services.leaderboard.definitions import KINDS, LEADERBOARD, catalogue_of
from services.leaderboard.domain.boards import WHOLE, Board, Boards
from services.leaderboard.domain.facts import Command, command_of
from services.leaderboard.domain.ranks import SegmentKey, Step, position_of
from services.leaderboard.domain.scores import Score
from services.leaderboard.handlers.entries import EntryHandlers
from services.leaderboard.handlers.lists import Lists
from services.leaderboard.handlers.reads import ReadHandlers
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.handlers.tracking import Tracker
from services.leaderboard.handlers.verify import Verifier
from services.leaderboard.projection import Projection
from services.leaderboard.store.segments import SegmentStore
from shared.clock import SystemClock
from shared.entries import Entry, EntryKind, MetricFact, UserSnapshot
from shared.ids import derived_id_at
from shared.participant import Work
from shared.postgres.definitions import Catalogue
from shared.postgres.migrations import migrate
from shared.postgres.pool import create_pool
from shared.redis.client import create_client
from shared.rpc.server import leave_startup_to_itself

ROOT: Final = Path(__file__).parents[2]
_RUN_START: Final = date.min
_BOARD: Final = """
    WITH configured AS (UPDATE configuration_version SET version = version + 1)
    INSERT INTO definitions (key, body, create_time, update_time, kind) VALUES ($1, $2, now(), now(), $3)
"""
_FILL: Final = (
    "INSERT INTO runs (board, start_date, end_date) VALUES ($1, '-infinity', 'infinity')",
    "INSERT INTO segments (board, run_start, segment) VALUES ($1, '-infinity', '')",
    """
    INSERT INTO users (user_id, version, profile_version, name, attributes)
    SELECT $1 || '-' || n, 1, 1, 'User ' || n, '{}' FROM generate_series(1, $2::integer) AS n
    """,
    """
    INSERT INTO scores (user_id, board, run_start, segment, score, order_score, reach_time, source_version, version)
    SELECT $1 || '-' || n, $1, '-infinity', '', s.score, -s.score, timestamptz '2026-01-01' + n * interval '1 s', 0, 1
      FROM generate_series(1, $2::integer) AS n
     CROSS JOIN LATERAL (SELECT (1 + hashint4(n) & 1048575)::bigint * 1000000 AS score) AS s
    """,
)
_INDEXES: Final = """
    SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'scores' AND indexname <> 'scores_pkey'
"""


class Found(Struct):
    """Of one board: what was measured, each in ms."""

    members: int
    rebuild_seconds: float
    rebuild_cpu_seconds: list[float]
    """Of the service, PostgreSQL and Valkey."""
    verify_seconds: float
    bytes_each: float
    """As the server estimates what the keys take."""
    used_bytes_each: float
    """By which the server's memory grew."""
    handled: list[float] = []
    placed: list[float] = []
    top: list[float] = []
    top_cpu: list[float] = []
    """Of the service alone: clients, rules and messages."""
    around: list[float] = []
    around_cpu: list[float] = []


async def measure(home: Path, sizes: Sequence[int], rounds: int, *, is_verified: bool = True) -> list[Found]:
    """Both boards, in turn."""
    postgres = PostgresServer.start(home / "postgres")
    valkey = ValkeyServer.start(home / "valkey")
    dsn = create_service_databases(postgres.admin_dsn, ["leaderboard"], passwords={"leaderboard": "bench"})[
        "leaderboard"
    ]
    await migrate(dsn, ROOT / "services" / "leaderboard" / "migrations")
    connection = await asyncpg.connect(dsn)
    pool = await create_pool(dsn, application_name="bench", size=4, statement_timeout_ms=600_000)
    try:
        async with create_client(valkey.url, client_name="bench") as sets:
            boards = _Boards(pool, sets, _Cpu(postgres, valkey))
            await boards.begin()
            await _fill_all(connection, sizes)
            return await boards.measured(sizes, rounds, is_verified=is_verified)
    finally:
        await connection.close()
        await pool.close()
        valkey.stop()
        postgres.erase()


class _Cpu:
    """What each process has spent."""

    def __init__(self, postgres: PostgresServer, valkey: ValkeyServer) -> None:
        self._servers = (postgres, valkey)

    def seconds(self) -> list[float]:
        """Of this process, PostgreSQL and Valkey."""
        pids = [server.pid for server in self._servers]
        assert all(pids)
        return [time.process_time(), *(cpu_seconds(pid, with_children=True) for pid in pids if pid)]


class _Boards:
    def __init__(self, pool: asyncpg.Pool, sets: Redis, cpu: "_Cpu") -> None:
        self._cpu = cpu
        catalogue: Catalogue[Boards] = Catalogue(pool, KINDS, catalogue_of)
        self._catalogue = catalogue
        self._projection = Projection(sets)
        self._rebuilder = Rebuilder(pool, catalogue, self._projection)
        self._verifier = Verifier(pool, catalogue, self._projection)
        clock, hour = SystemClock(), timedelta(hours=1)
        tracker = Tracker(pool, catalogue, self._projection, clock, hour)
        self._sets = sets
        segments = SegmentStore(pool)
        lists = Lists(pool, catalogue, self._projection, self._rebuilder, clock, hour)
        self._reads = ReadHandlers(pool, catalogue, self._projection, self._rebuilder, lists, segments, clock)
        self._entries = EntryHandlers(
            pool, catalogue, self._projection, self._rebuilder, segments, tracker, hour
        )

    async def begin(self) -> None:
        """The sorted sets are complete, while there is nothing that belongs into them."""
        await self._rebuilder.rebuild()

    async def measured(self, sizes: Sequence[int], rounds: int, *, is_verified: bool) -> list[Found]:
        """The figures of each board."""
        boards = (await self._catalogue.latest()).by_key
        found = []
        for size in sizes:
            used = await self._used_bytes()
            began, spent = time.perf_counter(), self._cpu.seconds()
            assert await self._rebuilder.rebuild_board(_key(size)) == size
            took = time.perf_counter() - began
            of_rebuild = [after - before for before, after in zip(spent, self._cpu.seconds(), strict=True)]
            used = await self._used_bytes() - used
            estimated = await self._projection.memory_bytes(_whole_of(_key(size)))
            began = time.perf_counter()
            if is_verified:
                assert not (await self._verifier.verify(_key(size))).differences
            compared = time.perf_counter() - began
            found.append(Found(size, took, of_rebuild, compared, estimated / size, used / size))
        leave_startup_to_itself()
        rng = random.Random(1)
        for number in range(rounds):
            for one in found:
                await self._round(boards[_key(one.members)], one, number, rng, is_kept=number >= rounds // 10)
        return found

    async def _round(
        self, board: Board, one: Found, number: int, rng: random.Random, *, is_kept: bool
    ) -> None:
        user = f"{board.key}-{rng.randint(1, one.members)}"
        other = f"{board.key}-{rng.randint(1, one.members)}"
        selector = service_pb.SegmentSelector(leaderboard=board.key)
        work, step = _work(board, user, number), _step(board, other, number, rng)
        for times, spent, measured in (
            (one.handled, None, lambda: self._entries.apply_entries([work])),
            (one.placed, None, lambda: self._projection.place([step], lambda _: board)),
            (one.top, one.top_cpu, lambda: self._top(selector)),
            (one.around, one.around_cpu, lambda: self._around(selector, user)),
        ):
            took, cpu = await _timed(measured)
            if is_kept:
                times.append(took)
                if spent is not None:
                    spent.append(cpu)

    async def _top(self, selector: service_pb.SegmentSelector) -> bytes:
        request = service_pb.ListRankedMembersRequest(selector=selector, page_size=100)
        found = await self._reads.list_ranked_members(*requests.ranked_members_request(request))
        return responses.ranked_members_response(*found).SerializeToString()

    async def _around(self, selector: service_pb.SegmentSelector, user: str) -> bytes:
        request = service_pb.ListMembersAroundRequest(selector=selector, user_id=user, radius=5)
        found = await self._reads.list_members_around(*requests.members_around_request(request))
        return responses.members_around_response(found).SerializeToString()

    async def _used_bytes(self) -> int:
        told = await self._sets.info("memory")
        return int(told["used_memory"])


async def _timed(what: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """How long it took, and the processor time of this process, in ms."""
    began, spent = time.perf_counter(), time.process_time()
    await what()
    return 1_000 * (time.perf_counter() - began), 1_000 * (time.process_time() - spent)


async def insert_board(connection: asyncpg.Connection, board: leaderboard_pb2.Leaderboard) -> None:
    """A board as the service would store it."""
    body = LEADERBOARD.normalised(board).SerializeToString()
    await connection.execute(_BOARD, board.key, body, LEADERBOARD.name)


async def _fill_all(connection: asyncpg.Connection, sizes: Sequence[int]) -> None:
    """Boards of these sizes. Indexes are made when all is there, which takes a fraction of the time."""
    indexes = await connection.fetch(_INDEXES)
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['indexname']}")
    for size in sizes:
        await _fill(connection, _key(size), size)
    for index in indexes:
        await connection.execute(index["indexdef"])
    await connection.execute("ANALYZE")


async def _fill(connection: asyncpg.Connection, key: str, size: int) -> None:
    await insert_board(connection, leaderboard_pb2.Leaderboard(key=key, name=key, metric=key))
    for statement in _FILL:
        await connection.execute(statement, *(key, size)[: statement.count("$1") and 1 + ("$2" in statement)])


def _work(board: Board, user: str, number: int) -> Work[Command]:
    now = datetime.now(UTC)
    entry_id = derived_id_at(now, "bench", user, str(number))
    value = 1_000_000
    metric = MetricFact(board.key, value, 0, value, value, number + 1, {})
    snapshot = UserSnapshot(user, "UTC", {}, now, 1, "")
    entry = Entry(entry_id, EntryKind.METRIC_EVENT, snapshot, now, now, "UTC", metric, None)
    return Work(command_of(entry, (), ()), entry_id, user, b"")


def _step(board: Board, user: str, number: int, rng: random.Random) -> Step:
    score = Score(rng.randint(1, 2**20) * 1_000_000, datetime.now(UTC))
    return Step(_whole_of(board.key), user, 1_000_000 + number, None, position_of(board.order, user, score))


def _key(size: int) -> str:
    return f"board-{size}"


def _whole_of(key: str) -> SegmentKey:
    return SegmentKey(key, _RUN_START, WHOLE)


def shown(found: Sequence[Found]) -> str:
    """The figures as a table: medians, and the last against the first."""

    def row(name: str, values: Sequence[float]) -> list[str]:
        ratio = f"{values[-1] / values[0]:.2f}" if values[0] else ""
        return [name, *(f"{value:.2f}" for value in values), ratio]

    head = ["", *(f"{one.members:,} members" for one in found), "ratio"]
    median = statistics.median
    return table(
        head,
        [
            row("an event, ranks before and after, ms", [median(one.handled) for one in found]),
            row("  of it the sorted sets, ms", [median(one.placed) for one in found]),
            row("the first 100, ms", [median(one.top) for one in found]),
            row("  of it processor time of the service, ms", [median(one.top_cpu) for one in found]),
            row("around a user, ms", [median(one.around) for one in found]),
            row("  of it processor time of the service, ms", [median(one.around_cpu) for one in found]),
            row("rebuild of the board, s", [one.rebuild_seconds for one in found]),
            *(
                row(f"  CPU time of it, {name}, s", [one.rebuild_cpu_seconds[index] for one in found])
                for index, name in enumerate(("service", "PostgreSQL", "Valkey"))
            ),
            row("comparing it with PostgreSQL, s", [one.verify_seconds for one in found]),
            row("memory of a member, as the server estimates it, bytes", [one.bytes_each for one in found]),
            row("  by which the server grew, bytes", [one.used_bytes_each for one in found]),
        ],
    )


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--unverified", action="store_true", help="do not compare the sets with PostgreSQL")
    arguments = parser.parse_args()
    with run_directory("bench-boards") as home:
        found = uvloop.run(
            measure(home, arguments.members, arguments.rounds, is_verified=not arguments.unverified)
        )
    sys.stdout.write(shown(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
