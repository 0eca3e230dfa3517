"""`python -m deploy.bench.restore`: how long `laurel doctor` takes for a service whose database is lost.

A system with the demo's configuration and a history of some days for each user; then, service by service, the database
is dropped, an examination compares the ledger, and healing sends everything again.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import asyncpg
import grpc
from laurel.orchestrator.v1 import examination_pb2, orchestrator_service_pb2, orchestrator_service_pb2_grpc

from deploy.bench.costs import Costs, Meter
from deploy.bench.events import METRICS, Mix
from deploy.bench.lab import FULL, Lab, Say
from deploy.bench.load import Load
from deploy.bench.report import table
from deploy.local.config import PARTICIPANTS
from deploy.local.databases import database_name, run_blocking
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack

_DAY_MS: Final = 86_400_000
_MOST_DAYS: Final = 7
"""An event may be a week old."""
_SETTINGS: Final = {"LAUREL_FINALIZE_GRACE_SECONDS": "604800"}
"""What is of last week does not come too late for its run."""
_GROUP: Final = 250
_MILLION: Final = 1_000_000
_CALL_SECONDS: Final = 120.0
_FOUND_WITHIN_SECONDS: Final = 60.0
_LOOK_EVERY_SECONDS: Final = 0.2
_EXAMINING: Final = examination_pb2.EXAMINATION_STAGE_EXAMINING
_HEALING: Final = examination_pb2.EXAMINATION_STAGE_HEALING


@dataclass(frozen=True, slots=True)
class Restored:
    """What it took to bring one service back."""

    service: str
    entries: int
    comparing_seconds: float
    sending_seconds: float
    costs: Costs
    """Of sending."""

    def of_a_million(self) -> float:
        """Minutes for a million entries."""
        return (self.comparing_seconds + self.sending_seconds) * _MILLION / self.entries / 60

    def cpu(self, name: str) -> float:
        """Microseconds of a process for each entry that was sent."""
        return 1e6 * self.costs.cpu.get(name, 0.0) / self.entries


def main() -> int:
    """Measures and prints a table."""
    arguments = _arguments()
    scale = replace(FULL, users=arguments.users)
    with (
        run_directory("restore", arguments.directory) as home,
        Lab(home, scale, Say()) as lab,
        lab.configured("system", **_SETTINGS) as stack,
    ):
        _live(lab, stack, arguments.days, shuffled=arguments.late)
        found = [_restore(lab, stack, service) for service in arguments.only or PARTICIPANTS]
    sys.stdout.write(_shown(found))
    return 0


def _live(lab: Lab, stack: Stack, days: int, *, shuffled: bool) -> None:
    """Each user's events of each metric on several days, in the order of their times, or in none."""
    now = time.time_ns() // 1_000_000
    order = list(range(days - 1, -1, -1))
    if shuffled:
        order = order[::2] + order[1::2][::-1]
    for back in order:
        mix = Mix(users=lab.scale.users, every_user_once=True, first_occurred_ms=now - back * _DAY_MS)
        load = Load(
            stack.addresses("orchestrator")[0], "batch", 4, 3_600.0, batch_size=_GROUP, mix=lab.mix(mix)
        )
        done = lab.send(replace(load, deadline_seconds=120.0)).done
        if done != len(METRICS) * lab.scale.users:
            raise RuntimeError(f"only {done} events of a day went in")


def _restore(lab: Lab, stack: Stack, service: str) -> Restored:
    lab.say(f"losing the database of {service}")
    stack.stop_service(service)
    run_blocking(_drop(stack, service))
    stack.up()
    with grpc.insecure_channel(stack.addresses("orchestrator")[0]) as channel:
        stub = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel)
        examine = orchestrator_service_pb2.ExamineLedgerRequest
        heal = orchestrator_service_pb2.HealLedgerRequest
        _begin(lambda: stub.ExamineLedger(examine(restart=True), timeout=_CALL_SECONDS))
        began = time.monotonic()
        examination = stub.ExamineLedger(examine(restart=True), timeout=_CALL_SECONDS).examination
        while examination.stage == _EXAMINING:
            examination = stub.ExamineLedger(examine(), timeout=_CALL_SECONDS).examination
        comparing = time.monotonic() - began
        lab.say(f"{examination.examined_count:,} entries compared in {comparing:.1f} s")
        meter = Meter(stack, lab.generator.pid)
        before = meter.read()
        examination = stub.HealLedger(heal(reason="bench"), timeout=_CALL_SECONDS).examination
        while examination.stage == _HEALING:
            examination = stub.HealLedger(heal(reason="bench"), timeout=_CALL_SECONDS).examination
        costs = meter.read().since(before)
        (own,) = (each for each in examination.services if each.service == service)
        if (
            own.failed_count
            or own.healed_count != own.missing_count + own.undoing_count + own.definition_count
        ):
            raise RuntimeError(f"not everything was sent: {own}")
        lab.say(f"{own.healed_count:,} sent in {costs.elapsed:.1f} s")
        return Restored(service, own.missing_count, comparing, costs.elapsed, costs)


def _begin(examine: Callable[[], object]) -> None:
    """Once the orchestrator has found the service again, which was away."""
    deadline = time.monotonic() + _FOUND_WITHIN_SECONDS
    while True:
        try:
            examine()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_EVERY_SECONDS)
        else:
            return


async def _drop(stack: Stack, service: str) -> None:
    assert stack.postgres is not None
    connection = await asyncpg.connect(stack.postgres.admin_dsn)
    try:
        await connection.execute(f"DROP DATABASE {database_name(service)} WITH (FORCE)")
    finally:
        await connection.close()


def _shown(found: list[Restored]) -> str:
    heads = [
        "service",
        "entries",
        "compared/s",
        "sent/s",
        "of a million",
        "orchestrator",
        "service",
        "PostgreSQL",
        "others",
    ]
    rows = [
        [
            each.service,
            f"{each.entries:,}",
            f"{each.entries / each.comparing_seconds:,.0f}",
            f"{each.entries / each.sending_seconds:,.0f}",
            f"{each.of_a_million():.1f} min",
            *(f"{each.cpu(name):.0f} µs" for name in ("orchestrator", each.service, "postgres")),
            f"{100 * each.costs.others_share:.0f} %",
        ]
        for each in found
    ]
    return table(heads, rows) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.restore", description=__doc__)
    parser.add_argument("--users", type=int, default=5_000, help="default: %(default)s")
    parser.add_argument(
        "--days", type=int, default=_MOST_DAYS, help="on which they do something (default: %(default)s)"
    )
    parser.add_argument("--late", action="store_true", help="the days come in no order")
    parser.add_argument(
        "--only", action="append", choices=PARTICIPANTS, help="this service, not all; can be repeated"
    )
    parser.add_argument(
        "--directory", default="/var/tmp", help="where databases are put (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if not 2 <= arguments.days <= _MOST_DAYS:
        parser.error(f"--days must be between 2 and {_MOST_DAYS}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
