"""How many webhooks a second one replica delivers to a receiver on this machine: `python -m deploy.bench.webhooks`.

Twice: what waits already (taking, sending, recording), and out of the feed (reading and writing down as well). With
PostgreSQL (fsync, synchronous commits), the notification service, the orchestrator for the feed, and a receiver.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import asyncpg
import click
import grpc
import psutil
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import notification_service_pb2_grpc, webhook_pb2

from deploy.local.config import FOLLOWS, ORCHESTRATOR, PARTICIPANTS, StackConfig
from deploy.local.ports import free_port
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack
from services.orchestrator.domain_events import told_of
from shared.ids import derived_id_at

_USERS: Final = 2_000
_NOWHERE: Final = "unix:/nonexistent/laurel"
# What the service holds just then is looked at the next time: it does not wait for the other.
_LATER: Final = """
    UPDATE webhook_lanes SET due_time = now() + interval '1 day'
     WHERE (endpoint_id, lane) IN (
           SELECT endpoint_id, lane FROM webhook_lanes WHERE claim_id IS NULL FOR UPDATE SKIP LOCKED
     )
"""
_TELL: Final = """
    INSERT INTO domain_events (sequence, entry, effects)
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])
"""
_AT_ONCE: Final = 1_000


@click.command()
@click.option("--events", default=20_000, show_default=True, help="How many to deliver.")
@click.option("--rounds", default=3, show_default=True, help="How often each is measured.")
def main(events: int, rounds: int) -> None:
    """Measure, and print each round."""
    with run_directory("webhooks") as home:
        settings = {f"LAUREL_{name.upper()}_TARGET": _NOWHERE for name in PARTICIPANTS} | {
            "LAUREL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "LAUREL_WEBHOOK_ALLOW_HTTP": "true",
            "LAUREL_WEBHOOK_MAX_WAITING": "1000000",
            "LAUREL_LOG_LEVEL": "ERROR",
        }
        services = (ORCHESTRATOR, FOLLOWS)
        config = StackConfig(home=home / "stack", port_base=0, services=services, settings=settings)
        with Stack(config) as stack:
            stack.up()
            asyncio.run(_tell(stack, events))
            for _ in range(rounds):
                _out_of_the_feed(stack, events)
                _what_waits(stack, events)


def _out_of_the_feed(stack: Stack, events: int) -> None:
    port = free_port()
    with receiving(port, events) as sink, stub_of(stack) as stub:
        key = _endpoint(stub, port)
        began, cpu = time.time(), _cpu(stack)
        _rewind(stub, key)
        _say("out of the feed", events, began, _ended(sink), cpu, _cpu(stack))
        stub.DeleteWebhookEndpoint(pb.DeleteWebhookEndpointRequest(request_id=str(uuid4()), key=key))


def _what_waits(stack: Stack, events: int) -> None:
    """Written down while nobody listens and no worker looks, then the receiver comes."""
    port = free_port()
    with stub_of(stack) as stub:
        key = _endpoint(stub, port)
        _rewind(stub, key)
        asyncio.run(_waiting(stack, events))
        with receiving(port, events) as sink:
            began, cpu = time.time(), _cpu(stack)
            asyncio.run(_due_now(stack))
            _say("what waits", events, began, _ended(sink), cpu, _cpu(stack))
        stub.DeleteWebhookEndpoint(pb.DeleteWebhookEndpointRequest(request_id=str(uuid4()), key=key))


async def _tell(stack: Stack, events: int) -> None:
    """The feed of so many metric events of some thousand users."""
    connection = await asyncpg.connect(stack.service_dsn(ORCHESTRATOR))
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    for start in range(0, events, _AT_ONCE):
        rows = []
        for number in range(start, min(start + _AT_ONCE, events)):
            entry = entry_pb2.Entry(
                entry_id=str(derived_id_at(datetime.now(UTC), str(number))), time_zone="UTC"
            )
            entry.now.CopyFrom(now)
            entry.occur_time.CopyFrom(now)
            entry.user.user_id = f"user-{number % _USERS}"
            entry.user.attributes["region"] = "eu"
            entry.metric_event.metric = "lessons"
            entry.metric_event.value_micros = 1_000_000
            entry.metric_event.total_after_micros = 1_000_000
            told = told_of(entry, entry.SerializeToString(), effects_pb2.Effects().SerializeToString())
            assert told is not None
            rows.append((number, told.entry, told.effects))
        await connection.execute(_TELL, *(list(column) for column in zip(*rows, strict=True)))
    await connection.close()


async def _waiting(stack: Stack, events: int) -> None:
    """Returns when all is written down; it has become due in a day meanwhile."""
    connection = await asyncpg.connect(stack.service_dsn(FOLLOWS))
    count = 0
    while count < events:
        await connection.execute(_LATER)
        count = await connection.fetchval("SELECT count(*) FROM webhook_deliveries")
        await asyncio.sleep(0.05)
    await connection.close()


async def _due_now(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.service_dsn(FOLLOWS))
    await connection.execute("UPDATE webhook_lanes SET due_time = now()")
    await connection.close()


def _endpoint(stub: "notification_service_pb2_grpc.NotificationServiceStub", port: int) -> str:
    key = f"bench-{uuid4().hex[:8]}"
    endpoint = webhook_pb2.WebhookEndpoint(
        key=key, url=f"http://127.0.0.1:{port}/hook", types=["metric.recorded"]
    )
    stub.CreateWebhookEndpoint(pb.CreateWebhookEndpointRequest(request_id=key, endpoint=endpoint))
    return key


def _rewind(stub: "notification_service_pb2_grpc.NotificationServiceStub", key: str) -> None:
    long_ago = Timestamp(seconds=1_500_000_000)
    stub.RewindWebhookEndpoint(
        pb.RewindWebhookEndpointRequest(request_id=str(uuid4()), key=key, since_time=long_ago)
    )


@contextmanager
def stub_of(stack: Stack) -> Iterator["notification_service_pb2_grpc.NotificationServiceStub"]:
    with grpc.insecure_channel(stack.addresses(FOLLOWS)[0]) as channel:
        yield notification_service_pb2_grpc.NotificationServiceStub(channel)


@contextmanager
def receiving(port: int, count: int) -> Iterator["subprocess.Popen[str]"]:
    """A receiver that accepts everything at once, and says when so many different events have come."""
    command = [sys.executable, "-m", "deploy.bench.webhook_sink", str(port), str(count)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as sink:
        try:
            assert sink.stdout is not None
            assert sink.stdout.readline() == "ready\n"
            yield sink
        finally:
            sink.kill()


def _ended(sink: "subprocess.Popen[str]") -> float:
    assert sink.stdout is not None
    return float(sink.stdout.readline())


def _cpu(stack: Stack) -> dict[str, float]:
    """Seconds of processor time by process so far."""
    found = {}
    for each in stack.status():
        if each.pid is not None:
            process = psutil.Process(each.pid)
            family = [process, *process.children(recursive=True)]
            found[each.name] = sum(sum(process.cpu_times()[:2]) for process in family if process.is_running())
    return found


def _say(
    what: str, events: int, began: float, ended: float, before: dict[str, float], after: dict[str, float]
) -> None:
    costs = ", ".join(f"{name} {(after[name] - before[name]) / events * 1e6:.0f} µs" for name in after)
    click.echo(f"{what}: {events / (ended - began):,.0f} a second; an event costs {costs}")


if __name__ == "__main__":
    main()
