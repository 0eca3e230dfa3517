"""`python -m deploy.bench.rank_changes`: how many rank changes a second go through the leaderboard service, history
included, beside what its script does alone in the same run.

A service in a process of its own takes batches of events over gRPC, some at a time; or several replicas do, in turn, as
gRPC's round robin sends them. Each event counts on an all-time board and on a weekly one, in the whole and in a region:
four lists. What is counted are the rows that the history of ranks has got, and what they took of the processors. The
script alone is told the same number of steps at a time, on sorted sets of the same sizes, by this process, and nothing
is stored. Both in turn. Servers of its own, gone afterwards.
"""

import argparse
import asyncio
import itertools
import math
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import asyncpg
import grpc.aio
import uvloop
from laurel.leaderboard.v1 import leaderboard_pb2, leaderboard_service_pb2, leaderboard_service_pb2_grpc
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from msgspec import Struct
from redis.asyncio import Redis

from deploy.bench.boards import ROOT, insert_board
from deploy.bench.processes import cpu_seconds, serving
from deploy.bench.report import table
from deploy.local.databases import create_service_databases
from deploy.local.postgres import PostgresServer
from deploy.local.run_directory import run_directory
from deploy.local.valkey import ValkeyServer
from services.leaderboard.domain.boards import WHOLE, Board, Order, Source, SourceKind, segment_text
from services.leaderboard.domain.ranks import SegmentKey, Step, position_of
from services.leaderboard.domain.scores import Score
from services.leaderboard.projection import Projection
from services.leaderboard.store import history
from shared.ids import derived_id_at, sha256
from shared.postgres.migrations import migrate
from shared.rpc.convert import to_timestamp

T = TypeVar("T")

_APPLY: Final = "/laurel.participant.v1.ParticipantService/ApplyEntries"
_BATCH: Final = 250
"""Events."""
_READ_ONE_OF: Final = 10
"""Answers, so that the generator takes little of the processors. What counts are the rows of the history."""
_IN_FLIGHT: Final = 3
"""Batches, as an orchestrator has them; one stands beside each replica."""
_MOST_A_SECOND: Final = 40
"""Batches that are made ready."""
_REGIONS: Final = ("AF", "AS", "EU", "NA", "SA")
_MICROS: Final = 1_000_000
_BARE: Final = Board("bare", Source(SourceKind.METRIC, "m"))
_LISTS: Final = 4
_HISTORY: Final = f"SELECT count(*) FROM {history.CHANGES}"


class Rates(Struct):
    """Of each round, a second."""

    events: list[float] = []
    changes: list[float] = []
    steps: list[float] = []
    cpu: list[Mapping[str, float]] = []
    """By process, µs of a rank change."""


async def measure(home: Path, members: int, seconds: float, rounds: int, replicas: int) -> Rates:
    """Rounds of both, in turn."""
    postgres = PostgresServer.start(home / "postgres")
    valkey = ValkeyServer.start(home / "valkey")
    try:
        dsns = create_service_databases(
            postgres.admin_dsn, ["leaderboard"], passwords={"leaderboard": "bench"}
        )
        dsn = dsns["leaderboard"]
        await migrate(dsn, ROOT / "services" / "leaderboard" / "migrations")
        os.environ |= {"LAUREL_POSTGRES_DSN": dsn, "LAUREL_REDIS_URL": valkey.url}
        async with _connected(dsn) as database, Redis.from_url(valkey.url) as sets:
            for key, unit in (
                ("all-time", leaderboard_pb2.RUN_UNIT_UNSPECIFIED),
                ("weekly", leaderboard_pb2.RUN_UNIT_WEEK),
            ):
                schedule = leaderboard_pb2.RunSchedule(unit=unit)
                board = leaderboard_pb2.Leaderboard(
                    key=key, metric="m", schedule=schedule, breakdown_attributes=["region"]
                )
                await insert_board(database, board)
            async with AsyncExitStack() as stack:
                channels = []
                pids = {"PostgreSQL": postgres.pid, "Valkey": valkey.pid}
                for number in range(replicas):
                    log = home / f"leaderboard-{number}.log"
                    served = stack.enter_context(serving("services.leaderboard", log, "serve"))
                    channel = grpc.aio.insecure_channel(served.address)
                    channels.append(await stack.enter_async_context(channel))
                    pids[f"service {number + 1}" if replicas > 1 else "service"] = served.pid
                measured = _Rounds(channels, database, Projection(sets), members, pids)
                return await measured.run(seconds, rounds)
    finally:
        valkey.stop()
        postgres.erase()


class _Rounds:
    def __init__(
        self,
        channels: Sequence[grpc.aio.Channel],
        database: asyncpg.Connection,
        projection: Projection,
        members: int,
        pids: Mapping[str, int | None],
    ) -> None:
        self._channel = channels[0]
        self._turns = itertools.cycle(channels)
        self._lanes = _IN_FLIGHT * len(channels)
        self._answered = 0
        self._database = database
        self._projection = projection
        self._members = members
        self._pids = pids
        self._random = random.Random(1)
        self._versions = [1] * members
        self._scores = [0] * members

    async def run(self, seconds: float, rounds: int) -> Rates:
        """Both, in turn."""
        await self.begin()
        rates = Rates()
        for _ in range(rounds):
            await self.by_service(seconds, rates)
            await self.by_script(seconds, rates)
        return rates

    async def begin(self) -> None:
        """Each user has a score."""
        for first in range(0, self._members, _BATCH):
            await self._apply(self._request(range(first, min(first + _BATCH, self._members))))
        stub = leaderboard_service_pb2_grpc.LeaderboardServiceStub(self._channel)
        await stub.RebuildProjection(leaderboard_service_pb2.RebuildProjectionRequest())
        for first in range(0, self._members, _BATCH):
            await self._place(self._steps(range(first, min(first + _BATCH, self._members))))

    async def by_service(self, seconds: float, rates: Rates) -> None:
        """A window of events."""
        requests = self._in_flight(self._request, seconds)
        before, spent = await self._database.fetchval(_HISTORY), self._cpu()
        sent, took = await _while(seconds, requests, self._apply)
        of_each = {name: after - spent[name] for name, after in self._cpu().items()}
        changes = await self._database.fetchval(_HISTORY) - before
        rates.events.append(sent * _BATCH / took)
        rates.changes.append(changes / took)
        rates.cpu.append({name: 1e6 * seconds / changes for name, seconds in of_each.items()})

    async def by_script(self, seconds: float, rates: Rates) -> None:
        """A window of steps."""
        steps = self._in_flight(self._steps, seconds)
        sent, took = await _while(seconds, steps, self._place)
        rates.steps.append(sent * _BATCH * _LISTS / took)

    def _cpu(self) -> dict[str, float]:
        of_servers = {name: cpu_seconds(pid, with_children=True) for name, pid in self._pids.items() if pid}
        return {**of_servers, "this process": time.process_time()}

    def _in_flight(self, make: Callable[[Sequence[int]], T], seconds: float) -> list[list[T]]:
        """More than are sent in so many seconds, by who sends them: no two that are under way have a user in common, as
        an orchestrator's have not.
        """
        lanes = [range(first, self._members, self._lanes) for first in range(self._lanes)]
        count = math.ceil(_MOST_A_SECOND * seconds / self._lanes)
        return [[make(self._random.sample(lane, _BATCH)) for _ in range(count)] for lane in lanes]

    async def _apply(self, request: bytes) -> None:
        # Serialized before it is sent, so that the time is the service's.
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = next(self._turns).unary_unary(_APPLY)
        answer = await call(request)
        self._answered += 1
        if self._answered % _READ_ONE_OF == 0:
            outcomes = participant_pb.ApplyEntriesResponse.FromString(answer).outcomes
            assert all(len(outcome.effects.leaderboards) == _LISTS for outcome in outcomes)

    async def _place(self, steps: Sequence[Step]) -> None:
        await self._projection.place(steps, lambda _: _BARE)

    def _request(self, users: Sequence[int]) -> bytes:
        now = datetime.now(UTC)
        return participant_pb.ApplyEntriesRequest(
            commands=[self._command(user, now) for user in users]
        ).SerializeToString()

    def _command(self, user: int, now: datetime) -> participant_pb.Command:
        self._versions[user] += 1
        entry = entry_pb2.Entry(
            entry_id=str(derived_id_at(now, "bench", str(user), str(self._versions[user]))),
            user=entry_pb2.UserSnapshot(
                user_id=f"user-{user}",
                time_zone="UTC",
                attributes={"region": _REGIONS[user % len(_REGIONS)]},
                create_time=to_timestamp(now),
                version=1,
                name=f"User {user}",
            ),
            now=to_timestamp(now),
            occur_time=to_timestamp(now),
            time_zone="UTC",
            origin=entry_pb2.ENTRY_ORIGIN_LIVE,
        )
        entry.metric_event.metric = "m"
        entry.metric_event.value_micros = self._random.randint(1, 100) * _MICROS
        return participant_pb.Command(entry=entry, digest=sha256(entry.SerializeToString()))

    def _steps(self, users: Sequence[int]) -> list[Step]:
        """As many steps in as many lists, in the order in which the service sends them."""
        now = datetime.now(UTC)
        steps = []
        for user in users:
            name, before = f"user-{user}", Score(self._scores[user], now - timedelta(days=1))
            self._scores[user] += self._random.randint(1, 100) * _MICROS
            self._versions[user] += 1
            position = position_of(Order.DESC, name, Score(self._scores[user], now))
            held = position_of(Order.DESC, name, before)
            region = segment_text({"region": _REGIONS[user % len(_REGIONS)]})
            steps += [
                Step(SegmentKey("bare", start, segment), name, self._versions[user], held, position)
                for start in (date.min, now.date())
                for segment in (WHOLE, region)
            ]
        return steps


async def _while(
    seconds: float, lanes: Sequence[Sequence[T]], call: Callable[[T], Awaitable[None]]
) -> tuple[int, float]:
    """So many calls were made, one at a time of each lane, and so long it took."""
    began = time.perf_counter()
    done = 0

    async def caller(items: Sequence[T]) -> None:
        nonlocal done
        for item in items:
            if time.perf_counter() - began >= seconds:
                return
            await call(item)
            done += 1

    await asyncio.gather(*map(caller, lanes))
    return done, time.perf_counter() - began


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def shown(rates: Rates) -> str:
    """Medians with ranges; the ratio is taken inside each round."""

    def row(name: str, values: Sequence[float], digits: int = 0) -> list[str]:
        return [
            name,
            *(f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))),
        ]

    pairs = zip(rates.changes, rates.steps, strict=True)
    return table(
        ["a second", "median", "least", "most"],
        [
            row("rank changes through the service, history included", rates.changes),
            row(
                "  two cores at its processor time, all processes",
                [2e6 / sum(one.values()) for one in rates.cpu],
            ),
            row("  events of them", rates.events),
            row("the script alone", rates.steps),
            row("  of that the service", [changes / steps for changes, steps in pairs], 3),
            *(
                row(
                    f"µs of processor time of a rank change, {name}",
                    [of_each[name] for of_each in rates.cpu],
                    1,
                )
                for name in rates.cpu[0]
            ),
        ],
    )


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=1, help="of the service")
    arguments = parser.parse_args()
    with run_directory("bench-rank-changes") as home:
        rates = uvloop.run(
            measure(home, arguments.members, arguments.seconds, arguments.rounds, arguments.replicas)
        )
    sys.stdout.write(shown(rates) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
