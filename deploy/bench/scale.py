"""`python -m deploy.bench.scale`: one against two replicas of each service, by CPU for each event.

On one machine two replicas are no faster; what can be measured here is what each of them spends. From that follows how
many events a second a process can take that has a core to itself, and which one is the next limit. PostgreSQL is split
by the service whose sessions spent it, as though each had a server of its own.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import psutil

from deploy.bench.__main__ import machine
from deploy.bench.lab import FULL, Lab, Say
from deploy.bench.load import Load
from deploy.bench.processes import cpu_seconds, machine_cpu_seconds
from deploy.bench.report import table
from deploy.bench.results import Results
from deploy.local.config import ORCHESTRATOR, PARTICIPANTS
from deploy.local.databases import CORE, database_name
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack

LOADS: Final = {
    "alone": ("256 callers of IngestEvent", Load("", "event", in_flight=256)),
    "batches": ("8 callers of IngestEvents with 250 each", Load("", "batch", in_flight=8, batch_size=250)),
}
_BACKGROUND: Final = "PostgreSQL, in the background"
_OTHERS: Final = "others"
"""The share of the machine that other programs took."""


@dataclass(frozen=True, slots=True)
class Side:
    """A system, and whose CPU time is whose."""

    name: str
    replicas: int
    stack: Stack
    pids: Mapping[str, Sequence[int]]
    """The processes of each service, of PostgreSQL and of Valkey."""

    @classmethod
    def of(cls, name: str, replicas: int, stack: Stack) -> "Side":
        """With the processes that run now."""
        pids: dict[str, list[int]] = defaultdict(list)
        for status in stack.status():
            if status.pid is not None:
                pids[status.name.partition("-")[0]].append(status.pid)
        return cls(name, replicas, stack, pids)

    def spent(self) -> dict[str, float]:
        """Seconds of CPU time until now."""
        seconds: dict[str, float] = defaultdict(float)
        for name in (*CORE, "valkey"):
            seconds[name] = sum(cpu_seconds(pid) for pid in self.pids[name])
        (server,) = self.pids["postgres"]
        for session in psutil.Process(server).children():
            try:
                seconds[_database_of(" ".join(session.cmdline()))] += cpu_seconds(session.pid)
            except psutil.NoSuchProcess:
                continue
        return seconds


def main() -> int:
    """Measures and prints a table for each load."""
    arguments = _arguments()
    scale = replace(FULL, repeats=arguments.rounds, window_seconds=arguments.seconds, users=arguments.users)
    began = time.monotonic()
    with (
        run_directory("scale", arguments.directory) as home,
        Lab(home, scale, Say()) as lab,
        lab.running("one") as one,
        lab.running("two") as two,
    ):
        _double(lab, two)
        sides = [Side.of("one", 1, one), Side.of("two", 2, two)]
        for side in sides:
            lab.send(_on(lab, side, LOADS["alone"][1]))
        for number in range(scale.repeats):
            for kind in LOADS:
                for side in sides if number % 2 == 0 else sides[::-1]:
                    lab.say(f"round {number + 1} of {scale.repeats}: {kind}, {side.name} of each")
                    _window(lab, side, kind)
        results = lab.results
    sys.stdout.write(report(results) + _told(results, time.monotonic() - began))
    return 0


def _double(lab: Lab, stack: Stack) -> None:
    lab.say("starting a second replica of each")
    for name in (*PARTICIPANTS, ORCHESTRATOR):
        stack.start_service(name, 1)
    # The first orchestrator was started before the second participants: start it anew, so that it knows them.
    stack.stop_service(ORCHESTRATOR)
    stack.start_service(ORCHESTRATOR)


def _on(lab: Lab, side: Side, load: Load) -> Load:
    return replace(load, target=",".join(side.stack.addresses(ORCHESTRATOR)), mix=lab.mix())


def _window(lab: Lab, side: Side, kind: str) -> None:
    before, machine_before, began = side.spent(), machine_cpu_seconds(), time.monotonic()
    measured = lab.send(_on(lab, side, LOADS[kind][1]))
    # A session that ended meanwhile took its own along; pools keep theirs.
    spent = {name: max(0.0, seconds - before.get(name, 0.0)) for name, seconds in side.spent().items()}
    elapsed = (time.monotonic() - began) * (psutil.cpu_count() or 1)
    others = machine_cpu_seconds() - machine_before - sum(spent.values())
    lab.results.add(_OTHERS, 100 * max(0.0, others) / elapsed)
    prefix = f"{kind}.{side.name}"
    lab.results.add(f"{prefix}.rate", measured.whole.per_second)
    for name, seconds in spent.items():
        lab.results.add(f"{prefix}.cpu.{name}", 1e6 * seconds / max(1, measured.done))


def report(results: Results) -> str:
    """A table for each load, and the next limits."""
    return "\n".join(_table_of(results, kind, title) for kind, (title, _) in LOADS.items())


def _table_of(results: Results, kind: str, title: str) -> str:
    sessions = [_sessions_of(name) for name in CORE]
    names = [
        name
        for name in (*CORE, *sessions, _BACKGROUND, "valkey")
        if results.has(f"{kind}.one.cpu.{name}", f"{kind}.two.cpu.{name}")
    ]
    one, two = (
        {name: results.median(f"{kind}.{side}.cpu.{name}") for name in names} for side in ("one", "two")
    )
    rows = [
        [
            name,
            f"{one[name]:,.0f}",
            f"{two[name]:,.0f}",
            _ratio(two[name], one[name]),
            _most(name, two[name]),
        ]
        for name in names
    ]
    whole = sum(one.values()), sum(two.values())
    rows.append(["all", f"{whole[0]:,.0f}", f"{whole[1]:,.0f}", _ratio(whole[1], whole[0]), ""])
    rates = [results.median(f"{kind}.{side}.rate") for side in ("one", "two")]
    heads = [
        f"µs of CPU an event, {title}",
        "one of each",
        "two of each",
        "two : one",
        "events/s of two with a core each",
    ]
    first, second = sorted(CORE, key=lambda name: -two[name])[:2]
    return (
        f"{table(heads, rows)}\n\n"
        f"Here, together on one machine: {rates[0]:,.0f} and {rates[1]:,.0f} events a second. With cores enough, the "
        f"next limit of two of each is the {first} ({_most(first, two[first])} events a second), then the {second} "
        f"({_most(second, two[second])}).\n"
    )


def _ratio(above: float, below: float) -> str:
    return f"{above / below:.2f}" if below else ""


def _most(name: str, microseconds: float) -> str:
    """How many events a second two replicas can take that have a core each; of anything else, what one core can."""
    processes = 2 if name in CORE else 1
    return f"{1e6 * processes / microseconds:,.0f}" if microseconds else ""


def _told(results: Results, seconds: float) -> str:
    others = f"other programs took {results.median(_OTHERS):.0f} % of the machine"
    return "\n" + "; ".join([*machine().values(), f"{seconds / 60:.0f} minutes", others]) + ".\n"


def _sessions_of(name: str) -> str:
    return f"PostgreSQL of {name}"


def _database_of(command: str) -> str:
    """Whose session it is, by what the server calls it: `postgres: laurel_streak laurel_streak [local] idle`."""
    for name in CORE:
        if f" {database_name(name)} " in command:
            return _sessions_of(name)
    return _BACKGROUND


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each window (default: %(default)s)")
    parser.add_argument("--users", type=int, default=5_000, help="default: %(default)s")
    parser.add_argument(
        "--directory", default="/var/tmp", help="where databases are put (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
