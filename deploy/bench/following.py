"""`python -m deploy.bench.following`: what being followed costs ingestion, and what is dead costs what is alive.

A stack with the demo's configuration under a closed loop of batches, in turn: followed by nobody; by a stream of three
types to its own Valkey; by one of everything; by that and an endpoint; by that stream, and beside it a stream and an
endpoint that nobody answers. Everything is started for the purpose and gone afterwards.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import asyncpg
import grpc
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import notification_service_pb2_grpc, stream_pb2, webhook_pb2
from msgspec import Struct

from deploy.bench.costs import Meter
from deploy.bench.lab import Lab, Say, Scale
from deploy.bench.load import Load
from deploy.bench.report import table
from deploy.bench.webhooks import receiving
from deploy.local.config import FOLLOWS, ORCHESTRATOR
from deploy.local.databases import SERVICES
from deploy.local.ports import free_port
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack

_EVERYTHING: Final = ("*",)
_SOME: Final = ("metric.recorded", "points.changed", "leaderboard.rank_changed")
_CATCH_UP_SECONDS: Final = 600.0
_QUIET_SECONDS: Final = 3.0
_MANY: Final = 1_000_000_000
_FEED: Final = "SELECT count(*) FROM domain_events"


class Followed(Struct):
    """One window."""

    entries_per_second: float
    """Events that were ingested."""
    told_per_second: float = 0.0
    """Domain events that the live stream published in the window."""
    catch_up_seconds: float = 0.0
    """From the last answer until it had published everything."""
    microseconds: Mapping[str, float] = {}
    """Of processor time for an ingested event, by process, until everything was published."""
    memory_mib: float = 0.0
    """Of that service, at the end."""


NOBODY: Final = "nobody"
SOME: Final = "a stream of three types"
STREAM: Final = "a stream"
ENDPOINT: Final = "a stream and an endpoint"
DEAD: Final = "a stream, beside a dead stream and a dead endpoint"
MODES: Final = (NOBODY, SOME, STREAM, ENDPOINT, DEAD)
COSTS: Final = {
    FOLLOWS: "notification",
    ORCHESTRATOR: "orchestrator",
    "postgres": "PostgreSQL",
    "valkey": "Valkey",
}
"""Whose processor time is shown."""


def measure(
    home: Path, seconds: float, rounds: int, users: int, modes: Sequence[str] = MODES
) -> dict[str, list[Followed]]:
    """All modes, in turn, so that they share the machine's moods."""
    scale = Scale(
        repeats=rounds, window_seconds=seconds, warmup_seconds=0.75, overload_seconds=0.0, users=users
    )
    settings = {
        "LAUREL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "LAUREL_WEBHOOK_ALLOW_HTTP": "true",
        # Nobody listens there.
        "LAUREL_NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "LAUREL_LOG_LEVEL": "ERROR",
    }
    found: dict[str, list[Followed]] = {mode: [] for mode in modes}
    with Lab(home, scale, Say()) as lab, lab.running("system", services=SERVICES, **settings) as stack:
        meter = Meter(stack, lab.generator.pid)
        for number in range(rounds):
            for mode in modes:
                lab.say(f"round {number + 1} of {rounds}: followed by {mode}")
                found[mode].append(window(lab, stack, meter, mode))
    return found


def window(lab: Lab, stack: Stack, meter: Meter, mode: str) -> Followed:
    """Ingestion for a while, followed in this way; returns when everything is published."""
    target = stack.addresses(ORCHESTRATOR)[0]
    with grpc.insecure_channel(stack.addresses(FOLLOWS)[0]) as channel, ExitStack() as followers:
        stub = notification_service_pb2_grpc.NotificationServiceStub(channel)
        types = _SOME if mode == SOME else _EVERYTHING
        stream = followers.enter_context(_stream(stub, types, redis="bench")) if mode != NOBODY else ""
        if mode == ENDPOINT:
            port = free_port()
            followers.enter_context(receiving(port, _MANY))
            followers.enter_context(_endpoint(stub, port))
        if mode == DEAD:
            followers.enter_context(_stream(stub, _EVERYTHING, nats="BENCH"))
            followers.enter_context(_endpoint(stub, free_port()))
        told, before = asyncio.run(_told(stack)), meter.read()
        began = time.monotonic()
        measured = lab.send(Load(target, "batch", in_flight=4, batch_size=100, mix=lab.mix()))
        ended = time.monotonic()
        found = Followed(measured.whole.per_second)
        if stream:
            found.told_per_second = _published(stub, stream) / (ended - began)
            # Of everything, each row of the feed tells at least one.
            rows = asyncio.run(_told(stack)) - told if types == _EVERYTHING else 0
            found.catch_up_seconds = _caught_up(stub, stream, rows) - ended
        spent = meter.read().since(before).cpu
        found.microseconds = {name: spent[name] / measured.done * 1e6 for name in COSTS}
        found.memory_mib = meter.memory()[FOLLOWS] / 2**20
    return found


@contextmanager
def _stream(
    stub: "notification_service_pb2_grpc.NotificationServiceStub",
    types: Sequence[str],
    *,
    redis: str = "",
    nats: str = "",
) -> Iterator[str]:
    key = f"bench-{uuid4().hex[:8]}"
    stream = stream_pb2.EventStream(key=key, types=types)
    if redis:
        stream.redis.stream = redis
    else:
        stream.nats.stream, stream.nats.subject = nats, "bench"
    stub.CreateEventStream(pb.CreateEventStreamRequest(request_id=key, stream=stream))
    try:
        yield key
    finally:
        stub.DeleteEventStream(pb.DeleteEventStreamRequest(request_id=str(uuid4()), key=key))


@contextmanager
def _endpoint(stub: "notification_service_pb2_grpc.NotificationServiceStub", port: int) -> Iterator[str]:
    key = f"bench-{uuid4().hex[:8]}"
    endpoint = webhook_pb2.WebhookEndpoint(
        key=key, url=f"http://127.0.0.1:{port}/hook", types=["metric.recorded"]
    )
    stub.CreateWebhookEndpoint(pb.CreateWebhookEndpointRequest(request_id=key, endpoint=endpoint))
    try:
        yield key
    finally:
        stub.DeleteWebhookEndpoint(pb.DeleteWebhookEndpointRequest(request_id=str(uuid4()), key=key))


def _caught_up(stub: "notification_service_pb2_grpc.NotificationServiceStub", key: str, rows: int) -> float:
    """When the last event was published, once so many were and nothing more has come for a while."""
    published, last = 0, time.monotonic()
    deadline = last + _CATCH_UP_SECONDS
    while published < rows or time.monotonic() < last + _QUIET_SECONDS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{published} of at least {rows} events were published")
        time.sleep(0.1)
        if (count := _published(stub, key)) != published:
            published, last = count, time.monotonic()
    return last


def _published(stub: "notification_service_pb2_grpc.NotificationServiceStub", key: str) -> int:
    found: int = stub.GetEventStream(pb.GetEventStreamRequest(key=key)).stream.health.published_count
    return found


async def _told(stack: Stack) -> int:
    """How many rows the feed has: each tells of at least one event."""
    connection = await asyncpg.connect(stack.service_dsn(ORCHESTRATOR))
    try:
        count: int = await connection.fetchval(_FEED)
        return count
    finally:
        await connection.close()


def shown(found: dict[str, list[Followed]]) -> str:
    """The figures as a table: medians of the rounds."""
    alone = [each.entries_per_second for each in found[NOBODY]]

    def row(mode: str, windows: Sequence[Followed]) -> list[str]:
        ratios = [each.entries_per_second / base for each, base in zip(windows, alone, strict=True)]
        median = statistics.median
        return [
            mode,
            f"{median(each.entries_per_second for each in windows):,.0f}",
            f"{100 * (median(ratios) - 1):+.1f} %",
            f"{median(each.told_per_second for each in windows):,.0f}",
            f"{median(each.catch_up_seconds for each in windows):.1f}",
            *(f"{median(each.microseconds[name] for each in windows):,.0f}" for name in COSTS),
            " ".join(f"{each.memory_mib:.0f}" for each in windows),
        ]

    head = [
        "followed by",
        "ingested a second",
        "against nobody",
        "told a second meanwhile",
        "caught up, s",
        *(f"CPU µs an event, {name}" for name in COSTS.values()),
        "its memory by round, MiB",
    ]
    return table(head, [row(mode, windows) for mode, windows in found.items()])


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each window")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--modes", type=int, default=len(MODES), help="the first so many of the five")
    arguments = parser.parse_args()
    with run_directory("bench-following") as home:
        found = measure(home, arguments.seconds, arguments.rounds, arguments.users, MODES[: arguments.modes])
    sys.stdout.write(shown(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
