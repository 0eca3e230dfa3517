"""A rolling upgrade under load: `make upgrade FROM=…`, and a short one in every test run (RULES 9, DESIGN 8).

Two replicas of each service of an earlier commit; then the migrations of this one, under load; then replica after
replica is replaced, so that every pair of old and new works side by side for a while; then the invariants.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from deploy.local.config import StackConfig
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack
from tests.chaos.load import Load
from tests.chaos.monkey import REPLICAS, SERVICES
from tests.chaos.run import RECOVERY_BOUND_SECONDS, SETTINGS, missing
from tests.chaos.telling import Hearing, hearing
from tests.fixtures import clock
from tests.fixtures.invariants import violations
from tests.fixtures.ledger import read_ledger
from tests.fixtures.system import connect
from tests.fixtures.waiting import until
from tests.fixtures.world import CONFIGURATION
from tests.upgrade.release import (
    NoHistoryError,
    checked_out,
    python_for,
    released_commit,
    settings_of,
)

CALLERS: Final = 16
EVENTS_BETWEEN: Final = 60
"""Answers that are waited for after each step."""
STEP_SECONDS: Final = 60.0
USERS_OF: Final = 6_000
"""As many users as a storm of so many events has."""
# A new orchestrator meets old participants, then an old one new participants.
ORDER: Final = [(name, 0) for name in SERVICES] + [(name, 1) for name in (*SERVICES[1:], SERVICES[0])]


@dataclass(frozen=True)
class Step:
    """Something that was done, how long it took, and how long until so many events had been answered after it."""

    what: str
    seconds: float
    answered_after: float


@dataclass(frozen=True)
class Report:
    """What came of an upgrade."""

    commit: str
    events: int
    counts: Counter[str]
    retried: Counter[str]
    slowest: float
    steps: list[Step]
    settle_seconds: float
    wrong: list[str]

    def text(self) -> str:
        """For a person to read."""
        lines = [
            f"from {self.commit[:12]}: {self.events} events answered meanwhile; the longest wait for an answer, "
            f"however often it was asked for, {self.slowest:.2f} s; "
            f"every saga closed after {self.settle_seconds:.1f} s",
            "",
            f"{'sent':40} {'count':>8}",
            *(f"{kind:40} {count:>8}" for kind, count in sorted(self.counts.items())),
            "",
            f"{'answered, and asked again':40} {'count':>8}",
            *(f"{kind:40} {count:>8}" for kind, count in sorted(self.retried.items())),
            "",
            f"{'done':40} {'seconds':>8} {f'until {EVENTS_BETWEEN} answers':>20}",
            *(f"{step.what:40} {step.seconds:>8.2f} {step.answered_after:>20.2f}" for step in self.steps),
            "",
            *(
                self.wrong
                or ["0 lost, 0 doubled, 0 partial, 0 left open; every figure equals its recomputation"]
            ),
        ]
        return "\n".join(lines)


async def upgrade(home: Path, commit: str, seed: int = 1) -> Report:
    """From a commit to what is here. Raises `NoHistoryError` where the commit is not here."""
    old = await asyncio.to_thread(checked_out, commit, home / "old")
    python = await asyncio.to_thread(python_for, old)
    broker = home / "nats"
    broker.mkdir()
    async with hearing(broker) as heard:
        settings = {**SETTINGS, "LAUREL_NATS_URL": heard.nats.url}
        after = StackConfig(home=home / "stack", port_base=0, settings=settings)
        before = replace(after, settings={**settings, **settings_of(old)}, python=python)
        with Stack(before) as stack:
            await asyncio.to_thread(stack.up)
            for name in (*SERVICES[1:], SERVICES[0]):
                for replica in range(1, REPLICAS):
                    await asyncio.to_thread(stack.start_service, name, replica)
            # The first orchestrator was started before the second participants: start it anew, so that it knows them.
            await asyncio.to_thread(stack.stop_service, SERVICES[0])
            await asyncio.to_thread(stack.start_service, SERVICES[0])
            return await _replace(commit, stack, Stack(after), heard, random.Random(seed))


async def _replace(commit: str, old: Stack, new: Stack, heard: Hearing, rng: random.Random) -> Report:
    system = connect(new)
    calling: asyncio.Task[None] | None = None
    try:
        await system.orchestrator.ApplyConfiguration(CONFIGURATION, wait_for_ready=True)
        await heard.begin(system)
        load = Load(system, rng, clock.now().timestamp(), USERS_OF)
        calling = asyncio.create_task(load.run(CALLERS))
        steps = [await _step("two replicas of each, all old", _nothing, load, calling)]
        steps.append(await _step("migrations", new.migrate, load, calling))
        for name, replica in ORDER:

            def replaced(name: str = name, replica: int = replica) -> None:
                old.stop_service(name, replica)
                new.start_service(name, replica)

            steps.append(await _step(f"{name}-{replica}", replaced, load, calling))
        load.wanted = 0
        await calling
        ended = time.monotonic()

        async def closed() -> bool:
            return not (await read_ledger(system)).unfinished

        await until(closed, seconds=RECOVERY_BOUND_SECONDS, what="every saga is closed")
        settle_seconds = time.monotonic() - ended
        wrong = [
            *load.wrong,
            *await missing(load),
            *await violations(system),
            *await heard.wrong(system),
        ]
        return Report(
            commit, len(load.answers), load.counts, system.retried, load.slowest, steps, settle_seconds, wrong
        )
    finally:
        if calling is not None:
            calling.cancel()
        await system.close()


def _nothing() -> None:
    """The load alone."""


async def _step(what: str, do: Callable[[], None], load: Load, calling: asyncio.Task[None]) -> Step:
    """Does something under load, and waits until events have been answered after it."""
    # Callers do not end before they are told: an upgrade takes as long as it takes.
    load.wanted = sys.maxsize
    began = time.monotonic()
    await asyncio.to_thread(do)
    seconds = time.monotonic() - began
    wanted = len(load.answers) + EVENTS_BETWEEN

    async def answered() -> bool:
        if calling.done():
            calling.result()
        return len(load.answers) >= wanted

    await until(answered, seconds=STEP_SECONDS, what=f"events are answered after {what}")
    return Step(what, seconds, time.monotonic() - began - seconds)


def main() -> int:
    """Upgrades once and prints the report."""
    parser = argparse.ArgumentParser(description="Replace every replica of an earlier commit under load.")
    parser.add_argument("--from", dest="commit", default=released_commit(), help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with run_directory("upgrade", "/var/tmp") as home:
        try:
            report = asyncio.run(upgrade(home, arguments.commit, arguments.seed))
        except NoHistoryError as error:
            parser.error(str(error))
    sys.stdout.write(report.text() + "\n")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
