"""`python -m deploy.bench.growth`: whether an event costs the same on large tables as on small ones.

Two stacks side by side: one with some thousand users, and one with the same users 200 times. They differ in nothing
else, so what an event costs more on the large one is what size costs.
"""

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Self

import grpc
from laurel.leaderboard.v1 import leaderboard_service_pb2, leaderboard_service_pb2_grpc

from deploy.bench.__main__ import PAGE, PICTURES, machine
from deploy.bench.costs import Meter
from deploy.bench.events import METRICS, REGIONS, ZONES, Mix
from deploy.bench.fill import Filled, fill, give_memory, memory_settings
from deploy.bench.growth_checks import check
from deploy.bench.growth_report import COLD, LOADS, MARKS, report
from deploy.bench.lab import FULL, Lab, Say, Scale
from deploy.bench.load import Load
from deploy.bench.report import publish
from deploy.local.databases import CORE
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack

FULL_USERS: Final = 1_000_000
FULL_EVENTS: Final = 10_000_000
MOST_USERS: Final = 5_000_000
FIGURES: Final = PICTURES / "growth.json"
_BYTES_BY_EVENT: Final = 5_000
"""Of disk, with what is needed while indexes are made and with the log of what is sent afterwards."""

_TEMPLATE_USERS: Final = 5_000
_FEWEST_COPIES: Final = 20
_STEP: Final = len(ZONES) * len(REGIONS)
"""A copy's zone and region are those of its template when the number of users in a template is a multiple of this."""

_BACK_DAYS: Final = 6
"""History is no older: an event may be a week old."""
_DAY_MS: Final = 86_400_000
_WARM_EVENTS_BY_USER: Final = 0.3
_WARM_EVENTS_AT_LEAST: Final = 10_000
"""So much is sent before the rounds: by then most pages that events touch have been read, and touched since the last
checkpoint. Between two checkpoints a server under this load takes far more.
"""
_HISTORY_IN_FLIGHT: Final = 4
_GROUP: Final = 250
_REBUILT_WITHIN_SECONDS: Final = 3_600.0
_LOOK_EVERY_SECONDS: Final = 1.0

SETTINGS: Final = {"LAUREL_FINALIZE_GRACE_SECONDS": "604800"}
"""History on a Monday is of last week, whose run must not be finalised yet."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Who there is in a stack."""

    template_users: int
    """Users made by events that were sent."""
    copies: int
    """How often they are there, the sent ones included."""
    rounds: int
    """Events of each metric that each user has."""

    @classmethod
    def of(cls, users: int, events: int) -> Self:
        """At least so many users, with about so many events among them."""
        wanted = min(_TEMPLATE_USERS, users / _FEWEST_COPIES)
        template = _STEP * max(1, round(wanted / _STEP))
        return cls(template, -(-users // template), max(1, round(events / users / len(METRICS))))

    @property
    def users(self) -> int:
        """All users."""
        return self.template_users * self.copies

    @property
    def events(self) -> int:
        """All their events."""
        return self.users * self.rounds * len(METRICS)


@dataclass(frozen=True, slots=True)
class Grown:
    """A stack that was filled."""

    stack: Stack
    shape: Shape
    filled: Filled
    fill_seconds: float
    rebuild_seconds: float
    """From the start of the services until ranks come from the sorted sets."""


def main() -> int:
    """Fills, checks, measures. Exit code 0 when all of it was done."""
    arguments = _arguments()
    shape = Shape.of(arguments.users, arguments.events)
    free, wanted = shutil.disk_usage(arguments.directory).free, shape.events * _BYTES_BY_EVENT
    if free < wanted:
        sys.stderr.write(
            f"{shape.events:,} events need {wanted / 1e9:.0f} GB in {arguments.directory}, and {free / 1e9:.0f} GB are "
            "free; choose another place with --directory, or fewer events with --users and --events\n"
        )
        return 1
    began = time.monotonic()
    scale = replace(FULL, users=shape.template_users)
    with run_directory("growth", arguments.directory) as home, Lab(home, scale, Say()) as lab:
        run(lab, shape)
    results = lab.results
    results.machine = machine()
    results.method = method(shape, scale, time.monotonic() - began)
    if (arguments.users, arguments.events) == (FULL_USERS, FULL_EVENTS):
        results.save(FIGURES)
        publish(PAGE, report(results), MARKS)
    sys.stdout.write(report(results))
    return 0


def run(lab: Lab, shape: Shape) -> None:
    """Both stacks, and everything that is measured on them. Raises `RuntimeError` where copies are no real users."""
    with grown(lab, "small", replace(shape, copies=1)) as small, grown(lab, "large", shape) as large:
        lab.say("checking")
        if found := check(large.stack, shape.template_users, shape.copies, shape.events):
            raise RuntimeError("\n".join(found))
        both = {"small": small, "large": large}
        for name, each in both.items():
            _keep(lab, name, each)
        measure(lab, both)


@contextmanager
def grown(lab: Lab, name: str, shape: Shape) -> Iterator[Grown]:
    """A stack with the demo's configuration and all these users."""
    with lab.running(name, **SETTINGS) as stack:
        lab.say(f"history for {shape.template_users:,} users")
        send_history(lab, stack, shape)
        for service in CORE:
            stack.stop_service(service)
        lab.say(f"filling {name!r}: {shape.users:,} users with {shape.events:,} events")
        began = time.monotonic()
        assert stack.postgres is not None
        filled = asyncio.run(fill(stack.postgres.admin_dsn, shape.template_users, shape.copies, lab.say))
        fill_seconds = time.monotonic() - began
        asyncio.run(give_memory(stack.postgres.admin_dsn))
        stack.postgres.restart()
        lab.say("starting the services, which fill the sorted sets")
        began = time.monotonic()
        stack.up()
        _await_sorted_sets(stack)
        yield Grown(stack, shape, filled, fill_seconds, time.monotonic() - began)


def send_history(lab: Lab, stack: Stack, shape: Shape) -> None:
    """What the users did on the days before: an event of each metric a round, a day further back each time."""
    now = time.time_ns() // 1_000_000
    for number in range(shape.rounds - 1):
        back = (1 + number % _BACK_DAYS) * _DAY_MS
        mix = Mix(users=shape.template_users, every_user_once=True, first_occurred_ms=now - back)
        target = stack.addresses("orchestrator")[0]
        load = Load(target, "batch", _HISTORY_IN_FLIGHT, 600.0, batch_size=_GROUP, mix=lab.mix(mix))
        done = lab.send(load).done
        if done != len(METRICS) * shape.template_users:
            raise RuntimeError(f"only {done} events of a round of history went in")


def measure(lab: Lab, both: Mapping[str, Grown]) -> None:
    """One load right after the servers' start, then every load on both, one right after the other, and the other one
    first in the next round.
    """
    meters = {name: Meter(each.stack, lab.generator.pid) for name, each in both.items()}
    for name, each in both.items():
        lab.say(f"{name!r} right after its start")
        lab.send(_on(lab, each, LOADS["closed.64"]))
        _window(lab, name, each, meters[name], COLD, LOADS["closed.256"])
    for name, each in both.items():
        lab.say(f"warming up {name!r}")
        _warm_up(lab, each)
    for number in range(lab.scale.repeats):
        for kind, load in LOADS.items():
            lab.say(f"round {number + 1} of {lab.scale.repeats}: {kind}")
            for name in _in_turn(list(both), number):
                _window(lab, name, both[name], meters[name], kind, load)


def _warm_up(lab: Lab, each: Grown) -> None:
    wanted = warm_events(each.shape)
    while wanted > 0:
        wanted -= lab.send(_on(lab, each, LOADS["batch.4"])).done


def warm_events(shape: Shape) -> int:
    """How many events are sent to a stack before its rounds."""
    return max(_WARM_EVENTS_AT_LEAST, round(_WARM_EVENTS_BY_USER * shape.users))


def _window(lab: Lab, name: str, each: Grown, meter: Meter, kind: str, load: Load) -> None:
    before = meter.read()
    measured = lab.send(_on(lab, each, load))
    costs = meter.read().since(before)
    answers = measured.whole.answers
    lab.results.add(f"{name}.{kind}.rate", measured.whole.per_second)
    lab.results.add(f"{name}.{kind}.p50", measured.whole.latencies.p50)
    lab.results.add(f"{name}.{kind}.cpu", 1e6 * costs.cpu_of_system / max(1, measured.done))
    lab.results.add(f"{name}.{kind}.whole_pages", costs.whole_pages / max(1, measured.done))
    for process, seconds in costs.cpu.items():
        spent = 1e6 * seconds / max(1, measured.done)
        lab.results.add(f"{name}.{kind}.cpu.{process}", spent)
    lab.results.add(f"{name}.{kind}.failed", sum(answers.values()) - answers.get("OK", 0))
    lab.results.add("others_share", 100 * costs.others_share)


def _on(lab: Lab, each: Grown, load: Load) -> Load:
    """The load on one stack, from users drawn among all of its own."""
    return replace(
        load, target=each.stack.addresses("orchestrator")[0], mix=lab.mix(Mix(users=each.shape.users))
    )


def _in_turn(names: Sequence[str], number: int) -> Sequence[str]:
    return names if number % 2 == 0 else names[::-1]


def _await_sorted_sets(stack: Stack) -> None:
    """Wait until ranks are no longer read from PostgreSQL."""
    request = leaderboard_service_pb2.ListRankedMembersRequest(page_size=1)
    request.selector.leaderboard = "commits"
    deadline = time.monotonic() + _REBUILT_WITHIN_SECONDS
    with grpc.insecure_channel(stack.addresses("leaderboard")[0]) as channel:
        stub = leaderboard_service_pb2_grpc.LeaderboardServiceStub(channel)
        while stub.ListRankedMembers(request, timeout=60).rebuilding:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the sorted sets are not full after {_REBUILT_WITHIN_SECONDS:g} s")
            time.sleep(_LOOK_EVERY_SECONDS)


def _keep(lab: Lab, name: str, each: Grown) -> None:
    """What it took to fill a stack."""
    results = lab.results
    results.add(f"{name}.users", each.shape.users)
    results.add(f"{name}.events", each.shape.events)
    results.add(f"{name}.fill.seconds", each.fill_seconds)
    results.add(f"{name}.rebuild.seconds", each.rebuild_seconds)
    for table, content in each.filled.items():
        results.add(f"{name}.rows.{table}", content.rows)
        results.add(f"{name}.bytes.{table}", content.bytes)
    memory = Meter(each.stack, lab.generator.pid).memory()
    results.add(f"{name}.memory.valkey", memory["valkey"])


def method(shape: Shape, scale: Scale, seconds: float) -> dict[str, str]:
    """How it was measured."""
    return {
        "where": (
            "load generator and both stacks, each with five services, PostgreSQL (fsync, synchronous commits) and "
            "Valkey of its own, together on this machine; one of them idle while the other is measured"
        ),
        "small": (
            f"{shape.template_users:,} users, made by sending {shape.rounds} events of each of two metrics for each "
            f"user through the system, over {min(shape.rounds, _BACK_DAYS + 1)} days; deploy/demo/laurel.yaml"
        ),
        "large": (
            f"the same, and {shape.copies - 1} copies of every row of every user in all five databases, each copy a "
            "user of its own with the counters, versions and states of its original. Serialized requests, entries, "
            "replies, outcomes and digests, which only a replay or an undo reads, are left empty in copies: with them "
            "this would take twice the disk"
        ),
        "before": "both were vacuumed and analysed, their indexes made anew, and servers and services started again",
        "server": (
            f"shared_buffers {memory_settings()['shared_buffers']}, a quarter of the machine's memory as PostgreSQL's "
            "manual advises, and half an hour between checkpoints, for both"
        ),
        "right after the start": (
            "one window, behind 4 s of 64 callers: nothing is in the buffers, and every page goes whole into the log "
            "that is touched"
        ),
        "warm-up": (
            f"{warm_events(replace(shape, copies=1)):,} events to the small, {warm_events(shape):,} to the large one"
        ),
        "windows": (
            f"{scale.window_seconds:g} s after {scale.warmup_seconds:g} s of warm-up, {scale.repeats} times, one stack "
            "right after the other; users drawn at random among all; medians with ranges; a ratio is taken inside each "
            "round"
        ),
        "duration": f"{seconds / 60:.1f} minutes in all",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.growth", description=__doc__)
    parser.add_argument(
        "--users", type=int, default=FULL_USERS, help="on large tables (default: %(default)s)"
    )
    parser.add_argument("--events", type=int, default=FULL_EVENTS, help="of them all (default: %(default)s)")
    parser.add_argument(
        "--directory", default="/var/tmp", help="where databases are put while it runs (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if not 2 * _STEP <= arguments.users <= MOST_USERS:
        parser.error(f"--users must be between {2 * _STEP} and {MOST_USERS}")
    if arguments.events < len(METRICS) * arguments.users:
        parser.error(f"--events must be at least {len(METRICS)} times as many as --users")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
