"""`python -m deploy.bench`: measures, prints a table, keeps the figures; a full run also writes the documentation.

Everything is started for the purpose in a directory of its own, and gone afterwards.
"""

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from deploy.bench.lab import FULL, QUICK, Lab, Say, Scale
from deploy.bench.plots import draw
from deploy.bench.profiles import EACH_ROUND, ONCE
from deploy.bench.report import publish, report
from deploy.local.run_directory import run_directory

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "performance.md"
PICTURES: Final = ROOT / "docs" / "performance"
FIGURES: Final = PICTURES / "figures.json"


def main() -> int:
    """Runs what was asked for. Exit code 0 when all of it was measured."""
    arguments = _arguments()
    profiles = arguments.only or [*EACH_ROUND, *ONCE]
    scale = QUICK if arguments.quick else FULL
    began, busy = time.monotonic(), os.getloadavg()[0]
    with run_directory("bench", arguments.directory) as home, Lab(home, scale, Say()) as lab:
        run(lab, profiles)
    results = lab.results
    results.machine = machine()
    results.method = method(scale, time.monotonic() - began, busy)
    is_whole = not arguments.quick and not arguments.only
    figures = FIGURES if is_whole else ROOT / ".laurel" / "bench" / "figures.json"
    results.save(figures)
    if is_whole:
        publish(PAGE, report(results, draw(results, PICTURES)))
    sys.stdout.write(report(results))
    sys.stdout.write(f"\nEvery figure: {os.path.relpath(figures)}\n")
    return 0


def run(lab: Lab, profiles: list[str]) -> None:
    """Round after round, so that what is compared shares the machine's moods."""
    for number in range(1, lab.scale.repeats + 1):
        for name, measure in EACH_ROUND.items():
            if name in profiles:
                lab.say(f"round {number} of {lab.scale.repeats}: {name}")
                measure(lab)
    for name, measure in ONCE.items():
        if name in profiles:
            lab.say(name)
            measure(lab)


def machine() -> dict[str, str]:
    """What it ran on."""
    gibibytes = psutil.virtual_memory().total / 2**30
    return {
        "machine": f"{_processor()}, {psutil.cpu_count()} cores, {gibibytes:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }


def method(scale: Scale, seconds: float, busy: float) -> dict[str, str]:
    """How it was measured."""
    return {
        "where": (
            "load generator, five services, PostgreSQL and Valkey together on this machine over loopback; "
            "PostgreSQL with fsync and synchronous commits"
        ),
        "configuration": (
            f"deploy/demo/laurel.yaml; {scale.users:,} users who are known, in six zones and five regions; "
            "half of the events are commits, half lines; the events of one day"
        ),
        "windows": (
            f"{scale.window_seconds:g} s after {scale.warmup_seconds:g} s of warm-up, {scale.repeats} times, "
            "interleaved; medians with ranges; a ratio is taken inside each round"
        ),
        "generator": (
            "one process of Python, requests serialized before they are due; open loops send at random (Poisson) "
            "and count latencies from the instant at which a request was due"
        ),
        "duration": f"{seconds / 60:.1f} minutes in all",
        "before": f"the machine's load average was {busy:.1f} when the run began; an idle one has less than 0.5",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="every profile once and shortly: about two minutes"
    )
    parser.add_argument(
        "--only", action="append", choices=[*EACH_ROUND, *ONCE], help="this profile alone; may be given again"
    )
    parser.add_argument(
        "--directory", default="/var/tmp", help="where databases are put while it runs (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
