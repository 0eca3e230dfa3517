"""`make profile`: where the time of an event goes. Samples all five services under each load, with native frames.

For each load: a flame graph of each service, and one table of CPU time an event by service and by kind of code. The
sampler takes processor time of its own and slows what it samples: shares hold, absolute figures are those of
`make bench`.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from deploy.bench.costs import Meter
from deploy.bench.lab import QUICK, Lab, Say
from deploy.bench.load import Load, Measured
from deploy.local.databases import CORE
from deploy.local.run_directory import run_directory

ROOT: Final = Path(__file__).parents[2]
RATE: Final = 200
"""Samples a second."""
_MARGIN_SECONDS: Final = 2.0
"""The load outlasts the sampling by this."""

LOADS: Final[Mapping[str, Load]] = {
    "callers": Load("", "event", 256),
    "batches": Load("", "batch", 4, batch_size=100),
    "alone": Load("", "event", 1),
}

KINDS: Final[Sequence[tuple[str, re.Pattern[str]]]] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("rules", r"services/\w+/(domain/|domain\.py|saga\.py|recording\.py|effects\.py)"),
        ("conversion", r"(services/\w+/convert|shared/rpc/(contents|convert|entries|wire)|operations/)"),
        ("rows", r"services/\w+/(store|rows)"),
        ("protobuf", r"(google/protobuf|upb|_message\.)"),
        ("gRPC", r"(grpc/|cygrpc|shared/rpc/)"),
        ("PostgreSQL client", r"(asyncpg|shared/postgres/)"),
        ("Valkey client", r"(redis/|shared/redis/|leaderboard/projection)"),
        ("telemetry and logs", r"(opentelemetry|shared/telemetry|logging/)"),
        ("messages to JSON", r"msgspec"),
        ("event loop", r"(asyncio/|selectors\.py|uvloop)"),
        ("services' shell", r"(services/|shared/)"),
    )
)
OTHER: Final = "interpreter and system"

_WAITING: Final = re.compile(r";(epoll_p?wait|p?poll|select|syscall|pthread_cond_\w+|futex\w*)\b[^;]*$")
"""The innermost frame of a thread that waits: the sampler cannot always tell, and it costs nothing."""


def main() -> int:
    """Samples what was asked for and prints the tables."""
    arguments = _arguments()
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    scale = replace(QUICK, window_seconds=arguments.seconds + _MARGIN_SECONDS)
    with run_directory("profile", arguments.directory) as home, Lab(home, scale, Say()) as lab:
        for name in arguments.only or LOADS:
            lab.say(f"sampling under the load {name!r}")
            text = _profiled(lab, name, arguments.seconds, output)
            sys.stdout.write(text)
    sys.stdout.write(f"Flame graphs and samples: {os.path.relpath(output)}\n")
    return 0


def kind_of(stack: str) -> str:
    """The kind of code that a sample was taken in: that of the innermost frame that has one.

    `stack` is frames from the outermost in, separated by semicolons, each with its file in brackets.
    """
    for frame in reversed(stack.split(";")):
        for kind, pattern in KINDS:
            if pattern.search(frame):
                return kind
    return OTHER


def by_kind(samples: str) -> Counter[str]:
    """How many of the samples, a line for each distinct stack, were taken in which kind of code; waits aside."""
    found: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        if not _WAITING.search(stack):
            found[kind_of(stack)] += int(count)
    return found


def table(cpu: Mapping[str, float], kinds: Mapping[str, Counter[str]], done: int) -> str:
    """Microseconds of CPU an event: a row for each kind, a column for each service, and totals by process."""
    names = [*(kind for kind, _ in KINDS), OTHER]
    lines = [
        "| µs of CPU an event | " + " | ".join(CORE) + " | all |",
        "| --- |" + " ---: |" * (len(CORE) + 1),
    ]
    for kind in names:
        row = [
            1e6 * cpu[service] / done * kinds[service][kind] / max(1, kinds[service].total())
            for service in CORE
        ]
        lines.append(_row(kind, row))
    lines.append(_row("**all**", [1e6 * cpu[service] / done for service in CORE]))
    others = {name: 1e6 * spent / done for name, spent in cpu.items() if name not in CORE}
    beside = ", ".join(f"{name} {spent:.0f}" for name, spent in sorted(others.items()))
    return "\n".join(lines) + f"\n\nBeside them: {beside}.\n"


def _row(name: str, figures: Sequence[float]) -> str:
    return f"| {name} | " + " | ".join(f"{figure:.0f}" for figure in (*figures, sum(figures))) + " |"


def _profiled(lab: Lab, name: str, seconds: int, output: Path) -> str:
    """The table of one load; its flame graphs are left in `output`."""
    target = lab.one
    meter = Meter(lab.stack, lab.generator.pid)
    pids = {service: meter.pid(service) for service in CORE}
    for service in CORE:
        (output / f"{name}-{service}.txt").unlink(missing_ok=True)
    before = meter.read()
    with _sampling(pids, name, "raw", seconds, output):
        measured = _send(lab, replace(LOADS[name], target=target))
    costs = meter.read().since(before)
    with _sampling(pids, name, "flamegraph", seconds, output):
        _send(lab, replace(LOADS[name], target=target))
    kinds = {service: by_kind((output / f"{name}-{service}.txt").read_text()) for service in CORE}
    rate = measured.whole.per_second
    heading = f"\n## {name}: {rate:.0f} events a second while sampled\n\n"
    return heading + table(costs.cpu, kinds, measured.done) + "\n"


def _send(lab: Lab, load: Load) -> Measured:
    return lab.send(replace(load, mix=lab.mix()))


@contextlib.contextmanager
def _sampling(pids: Mapping[str, int], name: str, form: str, seconds: int, output: Path) -> Iterator[None]:
    """Samples these processes from now on for so many seconds."""
    suffix = {"raw": "txt", "flamegraph": "svg"}[form]
    sampler = Path(sys.executable).with_name("py-spy")
    with ExitStack() as running:
        for service, pid in pids.items():
            command = [str(sampler), "record", "--pid", str(pid), "--rate", str(RATE), "--native"]
            command += ["--duration", str(seconds), "--format", form]
            command += ["--output", str(output / f"{name}-{service}.{suffix}")]
            running.enter_context(
                _ended(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
            )
        yield


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Waits for a sampler in the end. Raises `RuntimeError` with what it said where it failed."""
    try:
        yield
        _, said = process.communicate(timeout=60)
        if process.returncode:
            raise RuntimeError(f"the sampler failed: {said.decode(errors='replace')}")
    finally:
        process.kill()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.profile", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[*LOADS], help="this load alone; may be given again"
    )
    parser.add_argument(
        "--seconds", type=int, default=8, help="how long each is sampled (default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        default=ROOT / ".laurel" / "profile",
        help="where graphs are left (default: .laurel/profile)",
    )
    parser.add_argument(
        "--directory", default="/var/tmp", help="where databases are put (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
