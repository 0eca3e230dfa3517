"""The peer: the same four steps as a durable workflow of DBOS, against the same PostgreSQL server.

A worker (see `processes.Worker`). One event is one workflow whose id is the event's idempotency key, and each step
writes what Laurel's participant writes for it at the least: a request-log row and the state that it changes, in one
transaction, so that a step that is run again does nothing. No configuration is read, no rule is decided, no reply is
assembled, no sorted set is kept and nothing is called over gRPC: all that is in favour of DBOS. So are plain
functions on threads: coroutines were half as fast.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import psycopg
from dbos import DBOS, DBOSConfig, SetWorkflowID

from deploy.bench.statistics import Latencies

_STEPS: Final = ("streak", "achievement", "points", "leaderboard")
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS {step}_log (
        entry_id text PRIMARY KEY, user_id text NOT NULL, amount bigint NOT NULL, apply_time timestamptz NOT NULL
    );
    CREATE TABLE IF NOT EXISTS {step}_state (
        user_id text PRIMARY KEY, version bigint NOT NULL, total bigint NOT NULL, change_time timestamptz NOT NULL
    );
"""
_APPLY: Final = """
    WITH log AS (
        INSERT INTO {step}_log (entry_id, user_id, amount, apply_time) VALUES (%(entry)s, %(user)s, %(amount)s, now())
            ON CONFLICT DO NOTHING
        RETURNING amount
    )
    INSERT INTO {step}_state AS state (user_id, version, total, change_time)
    SELECT %(user)s, 1, amount, now() FROM log
        ON CONFLICT (user_id) DO UPDATE
       SET version = state.version + 1, total = state.total + excluded.total, change_time = excluded.change_time
    RETURNING total
"""
_STATEMENTS: Final = {step: _APPLY.format(step=step) for step in _STEPS}


class Databases(threading.local):
    """A connection for each thread."""

    dsn = ""
    _connection: "psycopg.Connection[tuple[int]] | None" = None

    def apply(self, step: str, entry: str, user: str, amount: int) -> int:
        """What one participant does with one event; the user's total after it."""
        if self._connection is None:
            self._connection = psycopg.connect(Databases.dsn, autocommit=True)
        values = {"entry": entry, "user": user, "amount": amount}
        row = self._connection.execute(_STATEMENTS[step], values).fetchone()
        return row[0] if row else 0


_databases = Databases()


@DBOS.step()
def apply_streak(entry: str, user: str, amount: int) -> int:
    """The first step."""
    return _databases.apply("streak", entry, user, amount)


@DBOS.step()
def apply_achievement(entry: str, user: str, amount: int) -> int:
    """The second."""
    return _databases.apply("achievement", entry, user, amount)


@DBOS.step()
def apply_points(entry: str, user: str, amount: int) -> int:
    """The third."""
    return _databases.apply("points", entry, user, amount)


@DBOS.step()
def apply_leaderboard(entry: str, user: str, amount: int) -> int:
    """The fourth."""
    return _databases.apply("leaderboard", entry, user, amount)


@DBOS.workflow()
def ingest(entry: str, user: str, amount: int) -> dict[str, int]:
    """One event through the four steps."""
    return {
        "streak": apply_streak(entry, user, amount),
        "achievement": apply_achievement(entry, user, amount),
        "points": apply_points(entry, user, amount),
        "leaderboard": apply_leaderboard(entry, user, amount),
    }


def launch(dsn: str, in_flight: int) -> None:
    """Sets DBOS and the tables of the steps up in this database."""
    Databases.dsn = dsn
    with psycopg.connect(dsn, autocommit=True) as connection:
        for step in _STEPS:
            connection.execute(_SCHEMA.format(step=step))
    DBOS(
        config=DBOSConfig(
            name="laurel-bench", system_database_url=dsn, sys_db_pool_size=in_flight + 4, log_level="ERROR"
        )
    )
    DBOS.launch()


def measure(question: Mapping[str, Any]) -> dict[str, float]:
    """A closed loop of workflows: how many ended in a second, and the median and 99 % of their latencies in ms."""
    began = time.perf_counter()
    begin = began + question["warmup_seconds"]
    end = begin + question["seconds"]
    ended: list[tuple[float, float]] = []

    def caller(number: int) -> None:
        count = 0
        while (asked := time.perf_counter()) < end:
            count += 1
            entry = f"{question['prefix']}{number}-{count}"
            with SetWorkflowID(entry):
                ingest(entry, f"user-{hash(entry) % question['users']:07}", 1)
            ended.append((asked, time.perf_counter()))

    cpu = time.process_time()
    with ThreadPoolExecutor(question["in_flight"]) as threads:
        list(threads.map(caller, range(question["in_flight"])))
    latencies = Latencies.of(stop - asked for asked, stop in ended if asked >= begin)
    done = sum(1 for _, stop in ended if begin <= stop < end)
    return {
        "events": done / question["seconds"],
        "p50": latencies.p50,
        "p99": latencies.p99,
        "cpu_ms_per_event": 1_000 * (time.process_time() - cpu) / max(1, len(ended)),
    }


def main() -> None:
    """Questions in, answers out; DBOS is launched by the first."""
    launched = False
    for line in sys.stdin:
        question = json.loads(line)
        if not launched:
            launch(question["dsn"], question["most_in_flight"])
            launched = True
        sys.stdout.write(json.dumps(measure(question)) + "\n")
        sys.stdout.flush()
    if launched:
        DBOS.destroy()


if __name__ == "__main__":
    main()
