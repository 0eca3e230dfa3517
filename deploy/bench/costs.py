"""What a window of load cost: CPU time by process, bytes of write-ahead log, memory, sizes of groups."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import asyncpg
import psutil

from deploy.bench.processes import cpu_seconds, machine_cpu_seconds, memory_bytes
from deploy.local.databases import run_blocking
from deploy.local.stack import Stack

_READ: Final = """
    SELECT now() AS instant, pg_current_wal_lsn() - '0/0'::pg_lsn AS wal, wal_fpi AS whole_pages FROM pg_stat_wal
"""
# The rows of a group are written by one statement, so they have one transaction's id; nothing ever updates them.
_GROUPS: Final = """
    SELECT count(*)::float8 AS groups, coalesce(sum(size), 0)::float8 AS events,
           coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY size), 0)::float8 AS median
      FROM (SELECT count(*) AS size FROM entries
             WHERE receive_time >= $1 AND kind = 'metric_event' GROUP BY xmin) AS groups
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one instant, which only grow."""

    instant: datetime
    cpu: Mapping[str, float]
    wal_bytes: float
    whole_pages: float
    """Pages that went whole into the log, as each does that is touched for the first time after a checkpoint. Sessions
    tell of them with a delay of a second.
    """
    machine_cpu: float
    """Of everything that runs on this machine."""
    elapsed: float

    def since(self, earlier: Self) -> "Costs":
        """What was spent between two readings."""
        return Costs(
            {name: spent - earlier.cpu.get(name, 0.0) for name, spent in self.cpu.items()},
            self.wal_bytes - earlier.wal_bytes,
            self.whole_pages - earlier.whole_pages,
            self.machine_cpu - earlier.machine_cpu,
            self.elapsed - earlier.elapsed,
        )


@dataclass(frozen=True, slots=True)
class Costs:
    """What a window spent."""

    cpu: Mapping[str, float]
    wal_bytes: float
    whole_pages: float
    machine_cpu: float
    elapsed: float

    @property
    def others_share(self) -> float:
        """The share of the machine's CPU time that went to programs that have no part in this."""
        others = self.machine_cpu - sum(self.cpu.values())
        return max(0.0, others) / (self.elapsed * (psutil.cpu_count() or 1))

    @property
    def cpu_of_system(self) -> float:
        """Seconds of all processes but the load's."""
        return sum(spent for name, spent in self.cpu.items() if name != "load")


@dataclass(frozen=True, slots=True)
class Groups:
    """How events travelled."""

    count: float
    mean: float
    median: float


class Meter:
    """Reads the counters of one stack, and of the first replica of each service."""

    def __init__(self, stack: Stack, load_pid: int) -> None:
        self._stack = stack
        self._pids = {"load": load_pid}
        for status in stack.status():
            name, _, replica = status.name.partition("-")
            if status.pid is not None and replica in ("", "0"):
                self._pids[name] = status.pid
        assert stack.postgres is not None
        self._dsn = stack.postgres.admin_dsn

    def pid(self, name: str) -> int:
        """The process of this name."""
        return self._pids[name]

    def read(self) -> Reading:
        """The counters now."""
        row = run_blocking(_fetch(self._dsn, _READ))
        cpu = {name: cpu_seconds(pid, with_children=name == "postgres") for name, pid in self._pids.items()}
        return Reading(
            row["instant"],
            cpu,
            float(row["wal"]),
            float(row["whole_pages"]),
            machine_cpu_seconds(),
            time.monotonic(),
        )

    def memory(self) -> dict[str, int]:
        """Bytes by process, shared ones counted once."""
        return {name: memory_bytes(pid, with_children=name == "postgres") for name, pid in self._pids.items()}

    def groups(self, since: datetime) -> Groups:
        """How the events since an instant travelled."""
        row = run_blocking(_fetch(self._stack.service_dsn("orchestrator"), _GROUPS, since))
        return Groups(row["groups"], row["events"] / max(1.0, row["groups"]), row["median"])


async def _fetch(dsn: str, query: str, *arguments: object) -> asyncpg.Record:
    connection = await asyncio.wait_for(asyncpg.connect(dsn), timeout=10)
    try:
        row = await connection.fetchrow(query, *arguments)
        assert row is not None
        return row
    finally:
        await connection.close()
