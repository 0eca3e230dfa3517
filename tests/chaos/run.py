"""A storm and the calm after it: `make chaos SEED=… EVENTS=…`, and a short one in every test run (DESIGN 8)."""

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.config import StackConfig
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack
from shared.errors import LaurelError
from tests.chaos.load import Load
from tests.chaos.monkey import REPLICAS, SERVICES, Deed, Monkey, whole
from tests.chaos.telling import Hearing, hearing
from tests.chaos.writing import Writing, writing
from tests.fixtures import clock
from tests.fixtures.invariants import violations
from tests.fixtures.ledger import read_ledger
from tests.fixtures.system import connect
from tests.fixtures.waiting import until
from tests.fixtures.world import CONFIGURATION

RECOVERY_BOUND_SECONDS: Final = 30.0
CALLERS: Final = 32
VOIDS: Final = 0.1
"""The share of events that are voided."""
SETTINGS: Final = {
    "LAUREL_LEASE_SECONDS": "3",
    "LAUREL_RECOVERY_INTERVAL_SECONDS": "0.5",
    "LAUREL_PARTICIPANT_TIMEOUT_SECONDS": "2",
    "LAUREL_POSTGRES_POOL_SIZE": "8",
    "LAUREL_WEBHOOK_LEASE_SECONDS": "4",
    "LAUREL_WEBHOOK_TIMEOUT_SECONDS": "2",
    "LAUREL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "LAUREL_WEBHOOK_ALLOW_HTTP": "true",
}


@dataclass(frozen=True)
class Report:
    """What came of a storm."""

    seed: int
    events: int
    seconds: float
    settle_seconds: float
    counts: dict[str, int]
    told: dict[str, int]
    """What was told outside, and to how many of whom."""
    deeds: list[Deed]
    wrong: list[str]

    def text(self) -> str:
        """For a person to read."""
        lines = [
            f"seed {self.seed}: {self.events} events in {self.seconds:.0f} s; "
            f"every saga was closed {self.settle_seconds:.1f} s after the last deed",
            "",
            f"{'sent':32} {'count':>8}",
            *(f"{kind:32} {count:>8}" for kind, count in sorted(self.counts.items())),
            "",
            f"{'told outside':32} {'count':>8}",
            *(f"{what:32} {count:>8}" for what, count in self.told.items()),
            "",
            f"{'done to the system':32} {'count':>8} {'median s':>10} {'longest s':>10}",
        ]
        recoveries: dict[str, list[float]] = defaultdict(list)
        for deed in self.deeds:
            recoveries[deed.what].append(deed.recovery_seconds)
        for what, seconds in sorted(recoveries.items()):
            lines.append(
                f"{what:32} {len(seconds):>8} {statistics.median(seconds):>10.2f} {max(seconds):>10.2f}"
            )
        lines += [
            "",
            *(
                self.wrong
                or ["0 lost, 0 doubled, 0 partial, 0 left open; every figure equals its recomputation"]
            ),
        ]
        return "\n".join(lines)


async def storm(home: Path, seed: int, events: int, voids: float = VOIDS) -> Report:
    """Two of everything, callers and a monkey; then the invariants. `voids`: the share of events that are voided."""
    broker = home / "nats"
    broker.mkdir(parents=True)
    async with hearing(broker) as heard, writing() as written:
        return await _storm(home / "stack", seed, events, voids, heard, written)


async def _storm(
    home: Path, seed: int, events: int, voids: float, heard: Hearing, written: Writing
) -> Report:
    rng = random.Random(seed)
    settings = {**SETTINGS, **written.settings, "LAUREL_NATS_URL": heard.nats.url}
    with Stack(StackConfig(home=home, port_base=0, settings=settings)) as stack:
        await asyncio.to_thread(stack.up)
        for name in (*SERVICES[1:], SERVICES[0]):
            for replica in range(1, REPLICAS):
                await asyncio.to_thread(stack.start_service, name, replica)
        # The first orchestrator was started before the second participants: start it anew, so that it knows them.
        await asyncio.to_thread(stack.stop_service, SERVICES[0])
        await asyncio.to_thread(stack.start_service, SERVICES[0])
        system = connect(stack)
        try:
            await system.orchestrator.ApplyConfiguration(CONFIGURATION)
            await heard.begin(system)
            load = Load(system, random.Random(rng.random()), clock.now().timestamp(), events, voids)
            await written.begin(system, (f"user-{number}" for number in range(load.users)))
            monkey = Monkey(system, stack, random.Random(rng.random()), heard)
            began = time.monotonic()
            breaking = asyncio.create_task(monkey.run(lambda: load.done))
            hurrying = asyncio.create_task(written.hurry(system))
            await load.run(CALLERS)
            await breaking
            hurrying.cancel()
            await asyncio.gather(hurrying, return_exceptions=True)
            seconds = time.monotonic() - began
            await whole(stack)
            calm = time.monotonic()

            async def closed() -> bool:
                return not (await read_ledger(system)).unfinished

            await until(closed, seconds=RECOVERY_BOUND_SECONDS, what="every saga is closed")
            settle_seconds = time.monotonic() - calm
            wrong = [
                *load.wrong,
                *await missing(load),
                *await violations(system),
                *await heard.wrong(system),
                *await written.wrong(system),
            ]
            told = {**heard.told, **written.counts()}
            return Report(
                seed, len(load.answers), seconds, settle_seconds, dict(load.counts), told, monkey.deeds, wrong
            )
        finally:
            await system.close()


async def missing(load: Load) -> list[str]:
    """Answered events that the ledger does not hold as they were answered."""
    ledger = await read_ledger(load.system)
    states = {str(row.entry_id): row.state.name for row in ledger.events}
    wrong = []
    for key, (_, answer) in load.answers.items():
        if isinstance(answer, LaurelError):
            continue
        expected = "VOIDED" if answer.entry_id in load.voided else "DONE"
        if states.get(answer.entry_id) != expected:
            wrong.append(f"{key} was answered and is {states.get(answer.entry_id)} instead of {expected}")
    return wrong


def main() -> int:
    """Runs a storm and prints its report."""
    parser = argparse.ArgumentParser(
        description="Break everything at random under load, then check everything."
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--voids", type=float, default=VOIDS, help="the share of events that are voided")
    arguments = parser.parse_args()
    with run_directory("chaos", "/var/tmp") as home:
        report = asyncio.run(storm(home, arguments.seed, arguments.events, arguments.voids))
    sys.stdout.write(report.text() + "\n")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
