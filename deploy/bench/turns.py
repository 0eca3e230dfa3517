"""`python -m deploy.bench.turns CHECKOUT`: what an event costs here, against another checkout of Laurel, in turns.

Two stacks side by side, each of its own checkout and with its environment (`make install` in both). A window of load
goes to the one, then to the other, in an order that changes: so what else the machine does meets both, and a ratio of
two windows says something where the figures themselves don't. What runs in the other checkout is this file, by nothing
but what the bench has had from its beginning.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from deploy.bench.costs import Meter
from deploy.bench.lab import QUICK, Lab, Say
from deploy.bench.load import Load
from deploy.bench.statistics import Spread, ratios
from deploy.local.databases import CORE
from deploy.local.run_directory import run_directory

ROOT: Final = Path(__file__).parents[2]
LOADS: Final[Mapping[str, Load]] = {
    "alone": Load("", "event", 1),
    "callers": Load("", "event", 256),
    "batches": Load("", "batch", 4, batch_size=100),
}
SERVICES: Final = "five services"
ALL: Final = "all but the load"

Window = Mapping[str, float]
"""Microseconds of CPU an event, by process and by what is summed."""


def main() -> int:
    """Measures and prints, or serves what asks."""
    arguments = _arguments()
    if arguments.serve:
        _serve(arguments.directory)
        return 0
    with ExitStack() as running:
        sides = [
            running.enter_context(_started(checkout, arguments.directory))
            for checkout in (Path(arguments.other).resolve(), ROOT)
        ]
        for name in arguments.only or LOADS:
            rounds = [_round(sides, name, arguments.seconds, turn) for turn in range(arguments.rounds)]
            sys.stdout.write(f"\n## {name}\n\n{table(rounds)}")
    return 0


def table(rounds: Sequence[tuple[Window, Window]]) -> str:
    """Medians of both, and the ratio of the second to the first, taken in each round: a row for each process."""
    lines = [
        "| µs of CPU an event | other | here | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in rounds[0][0]:
        other, here = ([side[name] for side in sides] for sides in zip(*rounds, strict=True))
        found = ratios(here, other)
        if not found:
            continue
        ratio = Spread.of(found)
        lines.append(
            f"| {name} | {Spread.of(other).median:,.0f} | {Spread.of(here).median:,.0f} "
            f"| {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) |"
        )
    return "\n".join(lines) + "\n"


def by_event(cpu: Mapping[str, float], done: int) -> dict[str, float]:
    """Microseconds an event, from seconds by process; the load's own aside."""
    spent = {name: 1e6 * seconds / max(1, done) for name, seconds in cpu.items() if name != "load"}
    return {**spent, SERVICES: sum(spent[name] for name in CORE), ALL: sum(spent.values())}


class _Side:
    """A checkout whose stack runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, name: str, seconds: float) -> Window:
        """A window of load."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, seconds]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("a side broke off; what it said stands above")
        window: Window = json.loads(answer)
        return window


@contextmanager
def _started(checkout: Path, directory: str) -> Iterator[_Side]:
    """The stack of a checkout, for the time of the block. It ends when nobody asks any more."""
    command = [str(checkout / ".venv" / "bin" / "python"), "-P", str(Path(__file__).resolve())]
    process = subprocess.Popen(
        [*command, "--serve", "--directory", directory],
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Side(process)
    finally:
        process.communicate()


def _round(sides: Sequence[_Side], name: str, seconds: float, turn: int) -> tuple[Window, Window]:
    """A window of each, the one or the other first."""
    other, here = sides
    if turn % 2:
        first = other.ask(name, seconds)
        return first, here.ask(name, seconds)
    second = here.ask(name, seconds)
    return other.ask(name, seconds), second


def _serve(directory: str) -> None:
    """Starts a stack and answers each question with what a window of load cost."""
    with (
        run_directory("turns", directory) as home,
        Lab(home, QUICK, Say()) as lab,
        lab.running("turns") as stack,
    ):
        meter = Meter(stack, lab.generator.pid)
        target = stack.addresses("orchestrator")[0]
        for line in sys.stdin:
            name, seconds = json.loads(line)
            load = replace(LOADS[name], target=target, seconds=seconds, mix=lab.mix())
            before = meter.read()
            done = lab.generator.send(load).done
            costs: Any = meter.read().since(before)
            sys.stdout.write(json.dumps(by_event(costs.cpu, done)) + "\n")
            sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.turns", description=__doc__)
    parser.add_argument("other", nargs="?", help="the other checkout's directory")
    parser.add_argument(
        "--only", action="append", choices=[*LOADS], help="this load alone; may be given again"
    )
    parser.add_argument("--rounds", type=int, default=6, help="windows of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a window (default: %(default)s)")
    parser.add_argument(
        "--directory", default="/var/tmp", help="where databases are put (default: %(default)s)"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (arguments.serve or arguments.other):
        parser.error("which other checkout?")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
