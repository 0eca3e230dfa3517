"""`python -m deploy.bench.voids`: what the void of one event of a user with a long history costs.

A user's history of three years is imported into a system of its own: commits, with a streak that misses days now and
then; sales, of which every seventh gives points, with achievements by their total; and metrics that are no sums: the
best result, the last weight, and the pages that were read, with a streak and achievements. Then events are voided: a
commit of a day that has others, one without which its day no longer qualifies, sales, without which all later points
fall to other sales, results that nobody had beaten before, weights, and the first visit of a page. What a call took is
told with the processor time of each process, which another program that runs beside it changes less.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import grpc
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2, orchestrator_service_pb2_grpc

from deploy.bench.costs import Meter
from deploy.bench.lab import FULL, Lab, Say
from deploy.bench.report import table
from deploy.local.databases import run_blocking
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack

CONFIGURATION: Final = """
metrics:
  - {key: commits, name: Commits}
  - {key: sales, name: Sales}
  - {key: best, name: Best result, aggregation: max}
  - {key: weight, name: Weight, aggregation: last}
  - {key: pages, name: Pages, aggregation: unique, unique_attribute: page}
streaks:
  - key: daily
    name: Every day
    frequency: daily
    metrics: [{metric: commits, threshold: 1}]
    freezes: {initial_count: 2, earn_count: 1, earn_every_days: 7, max_count: 3}
  - {key: reading, name: A new page every day, frequency: daily, metrics: [{metric: pages, threshold: 1}]}
achievements:
  - {key: week, name: A week, streak: {streak: daily, length: 7}}
  - {key: month, name: A month, streak: {streak: daily, length: 30}}
  - {key: hundred, name: A hundred sales, metric: {metric: sales, threshold: 100}}
  - {key: thousand, name: A thousand sales, metric: {metric: sales, threshold: 1000}}
  - {key: thousands, name: Thousands, repeatable: true, metric: {metric: sales, threshold: 1000}}
  - {key: strong, name: A result of a hundred, metric: {metric: best, threshold: 100}}
  - {key: heavy, name: A weight of a hundred, metric: {metric: weight, threshold: 100}}
  - {key: read, name: A hundred pages, metric: {metric: pages, threshold: 100}}
points_systems:
  - key: bonus
    name: Bonus
    triggers:
      - {key: sales, amount: 10, metric: {metric: sales, every: 7}}
      - {key: weeks, amount: 50, streak: {streak: daily, length: 7}}
      - {key: pages, amount: 1, metric: {metric: pages, every: 1}}
leaderboards:
  - {key: commits, name: Commits, metric: commits}
  - {key: weekly-commits, name: Commits of the week, metric: commits, schedule: {unit: week, every: 1}}
  - {key: bonus, name: Bonus, points_system: bonus}
  - {key: weekly-bonus, name: Bonus of the week, points_system: bonus, schedule: {unit: week, every: 1}}
  - {key: streak, name: Streak, streak: daily}
  - {key: best, name: Best result, metric: best, aggregation: best}
"""
USER: Final = "ann"
ZONE: Final = "Europe/Berlin"
DAYS: Final = 3 * 365
SERVICES: Final = ("orchestrator", "streak", "achievement", "points", "leaderboard", "postgres")
_BATCH: Final = 1_000
_FREE_SHARE: Final = 0.12
"""Of all days, those without any commit."""
_LONE_SHARE: Final = 0.15
"""Of all days, those with one."""
_SEED: Final = 7
_IMPORT_SECONDS: Final = 3_600.0
_CALL_SECONDS: Final = 120.0
_MOST_CALLS: Final = 100

_LONE: Final = """
    SELECT min(entry_id::text)::uuid AS entry_id, (occur_time AT TIME ZONE 'Europe/Berlin')::date AS day FROM entries
     WHERE user_id = $1 AND metric = 'commits' GROUP BY day HAVING count(*) = 1 ORDER BY day
"""
_ALL: Final = """
    SELECT entry_id, (occur_time AT TIME ZONE 'Europe/Berlin')::date AS day FROM entries
     WHERE user_id = $1 AND metric = $2 ORDER BY occur_time
"""
_RECORDS: Final = """
    SELECT entry_id, (occur_time AT TIME ZONE 'Europe/Berlin')::date AS day
      FROM (SELECT entry_id, occur_time, value_micros, max(value_micros) OVER (
                       ORDER BY occur_time ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS record
              FROM entries WHERE user_id = $1 AND metric = $2) AS results
     WHERE value_micros > record ORDER BY occur_time
"""
_FIRSTS: Final = """
    SELECT min(entry_id::text)::uuid AS entry_id, min(occur_time AT TIME ZONE 'Europe/Berlin')::date AS day
      FROM entries WHERE user_id = $1 AND metric = $2 GROUP BY unique_value ORDER BY day
"""
_OTHERS: Final = """
    SELECT min(entry_id::text)::uuid AS entry_id, (occur_time AT TIME ZONE 'Europe/Berlin')::date AS day FROM entries
     WHERE user_id = $1 AND metric = $2 GROUP BY day HAVING count(*) > 2 ORDER BY day
"""


@dataclass(frozen=True, slots=True)
class Void:
    """One call of `VoidEntry`."""

    what: str
    days_ago: int
    calls: int
    seconds: float
    cpu: Sequence[float]
    """Of the services, in seconds."""


def main() -> int:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.voids", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="of each metric (default: %(default)s)")
    parser.add_argument("--voids", type=int, default=3, help="of each kind (default: %(default)s)")
    parser.add_argument(
        "--directory", default="/var/tmp", help="where databases are put (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with (
        run_directory("voids", arguments.directory) as home,
        Lab(home, replace(FULL, users=0), Say()) as lab,
        lab.configured("system", configuration=CONFIGURATION) as stack,
        grpc.insecure_channel(stack.addresses("orchestrator")[0]) as channel,
    ):
        stub = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel)
        end = datetime.now(UTC).date() - timedelta(days=1)
        lab.say(f"importing {5 * arguments.events:,} events")
        for answer in stub.ImportEvents(_requests(arguments.events, end), timeout=_IMPORT_SECONDS):
            if answer.errors:
                raise RuntimeError(f"an event was refused: {answer.errors[0]}")
        lab.say("voiding")
        found = _voids(lab, stack, stub, arguments.voids, end)
    sys.stdout.write(_shown(found))
    return 0


def _requests(events: int, end: date) -> Iterator[orchestrator_service_pb2.ImportEventsRequest]:
    """The whole history, in order of time."""
    batch: list[event_pb2.IngestEventRequest] = []
    draw = random.Random(_SEED)
    for number, (metric, occur_time) in enumerate(_history(events, end)):
        event = event_pb2.IngestEventRequest(metric=metric, value=1, idempotency_key=f"e-{number}")
        if metric == "best":
            event.value = number // 1_000 + draw.randrange(1, 50)
        elif metric == "weight":
            event.value = draw.randrange(60, 120)
        elif metric == "pages":
            event.attributes["page"] = str(draw.randrange(1 + number // 100))
        event.user.user_id, event.user.time_zone = USER, ZONE
        event.occur_time.FromDatetime(occur_time)
        batch.append(event)
        if len(batch) == _BATCH:
            yield orchestrator_service_pb2.ImportEventsRequest(events=batch)
            batch = []
    if batch:
        yield orchestrator_service_pb2.ImportEventsRequest(events=batch)


def _history(events: int, end: date) -> Iterator[tuple[str, datetime]]:
    """So many of each metric, spread over the days; all of a day happen between eight and eight."""
    draw = random.Random(_SEED)
    shares = [draw.random() for _ in range(DAYS)]
    lone = sum(_FREE_SHARE <= share < _FREE_SHARE + _LONE_SHARE for share in shares)
    full = sum(share >= _FREE_SHARE + _LONE_SHARE for share in shares)
    of_full, of_all = (events - lone) / full, events / DAYS
    commits = others = 0.0
    for number, share in enumerate(shares):
        begin = datetime.combine(end - timedelta(days=DAYS - 1 - number), datetime.min.time(), UTC)
        today = 0 if share < _FREE_SHARE else 1
        if share >= _FREE_SHARE + _LONE_SHARE:
            today, commits = int(commits + of_full), (commits + of_full) % 1
        each, others = int(others + of_all), (others + of_all) % 1
        what = ["commits"] * max(today, share >= _FREE_SHARE) + each * ["sales", "best", "weight", "pages"]
        for place, metric in enumerate(what):
            yield metric, begin + timedelta(hours=8, seconds=place * 43_200 // len(what))


def _voids(
    lab: Lab,
    stack: Stack,
    stub: orchestrator_service_pb2_grpc.OrchestratorServiceStub,
    each: int,
    end: date,
) -> list[Void]:
    """Voids of each kind in turn, of the second month, of the middle and of the last month."""
    dsn = stack.service_dsn("orchestrator")
    kinds = {
        "a commit of many of its day": run_blocking(_rows(dsn, _OTHERS, USER, "commits")),
        "the one commit of its day": run_blocking(_rows(dsn, _LONE, USER)),
        "a sale": run_blocking(_rows(dsn, _OTHERS, USER, "sales")),
        "a best result (MAX)": run_blocking(_rows(dsn, _RECORDS, USER, "best")),
        "a weight (LAST)": run_blocking(_rows(dsn, _ALL, USER, "weight")),
        "the first of a page (UNIQUE)": run_blocking(_rows(dsn, _FIRSTS, USER, "pages")),
    }
    meter = Meter(stack, lab.generator.pid)
    found = []
    for share in (0.06, 0.5, 0.97):
        for number in range(each):
            for what, rows in kinds.items():
                row = rows[int(share * (len(rows) - each)) + number]
                before = meter.read()
                began = time.perf_counter()
                calls = _void(stub, row["entry_id"])
                seconds = time.perf_counter() - began
                costs = meter.read().since(before)
                cpu = [costs.cpu.get(name, 0.0) for name in SERVICES]
                found.append(Void(what, (end - row["day"]).days // 100 * 100, calls, seconds, cpu))
                lab.say(f"{found[-1]}")
    return found


def _void(stub: orchestrator_service_pb2_grpc.OrchestratorServiceStub, entry_id: UUID) -> int:
    """How often it had to be asked for: what takes longer than a participant may goes on, and is asked for again."""
    request = orchestrator_service_pb2.VoidEntryRequest(
        entry_id=str(entry_id), reason="measured", request_id=f"void-{entry_id}"
    )
    for asked in range(1, _MOST_CALLS):
        try:
            stub.VoidEntry(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        else:
            return asked
    raise RuntimeError("a void does not end")


async def _rows(dsn: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn, timeout=30)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


def _shown(found: Sequence[Void]) -> str:
    """Medians by kind and age."""
    kinds = list(dict.fromkeys((void.what, void.days_ago) for void in found))
    rows = []
    for what, days_ago in sorted(kinds, key=lambda kind: (kind[0], -kind[1])):
        same = [void for void in found if (void.what, void.days_ago) == (what, days_ago)]
        spent = [statistics.median(void.cpu[n] for void in same) for n in range(len(SERVICES))]
        took = statistics.median(void.seconds for void in same)
        rows.append(
            [what, f"{days_ago}", f"{1000 * took:,.0f}", *(f"{1000 * seconds:,.0f}" for seconds in spent)]
        )
    return table(["the void of", "days ago", "ms", *(f"{name}, ms of CPU" for name in SERVICES)], rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
