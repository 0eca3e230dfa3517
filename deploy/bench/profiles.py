"""What is measured, one function each. A round calls them all, and so what is compared was measured side by side."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from deploy.bench.costs import Groups, Meter
from deploy.bench.events import Mix
from deploy.bench.instrumented.run import UNTOLD
from deploy.bench.lab import Lab
from deploy.bench.load import BUCKET_SECONDS, Bucket, Load, Measured, Summary
from deploy.bench.schedule import Phase
from deploy.bench.statistics import percentile
from deploy.local.databases import CORE

CLOSED: Final = (1, 16, 64, 256)
OPEN_SHARES: Final = (25, 50, 75)
BATCHES_IN_FLIGHT: Final = (1, 4, 8)
PEER_IN_FLIGHT: Final = (1, 16)
BATCH_SIZE: Final = 100
REPLAYED_SHARE: Final = 0.1
OVERLOAD: Final = 3.0
OVERLOAD_CONNECTIONS: Final = (1, 8)
"""What one connection has too much waits in its caller; of what several have, the server has to refuse."""
RESTED_RATE: Final = 45.0
"""Calls a second."""
TELEMETRY_ROUNDS: Final = 12
"""The variants differ by little: many short windows, in an order that changes."""
TELEMETRY: Final = ("without", "off", "sampled")


def empty(lab: Lab) -> None:
    """The ceiling: an empty unary RPC, alone, from 256 callers, and as seldom as a lone caller sends events: then the
    processor's caches have forgotten the code in between.
    """
    for in_flight in (1, 256):
        _keep(lab, f"empty.{in_flight}", lab.send(Load(lab.empty, "empty", in_flight)).whole)
    phases = [Phase(RESTED_RATE, lab.scale.window_seconds)]
    _keep(lab, "empty.rested", lab.send(Load(lab.empty, "empty", phases=phases)).whole)


def closed(lab: Lab) -> None:
    """IngestEvent from callers who wait for their answers, and what each event costs."""
    for in_flight in CLOSED:
        before = lab.meter.read()
        measured = lab.closed(lab.one, in_flight)
        costs = lab.meter.read().since(before)
        name = f"closed.{in_flight}"
        lab.results.add("others_share", 100 * costs.others_share)
        _keep(lab, name, measured.whole)
        _keep_groups(lab, name, lab.meter.groups(before.instant))
        for process, seconds in costs.cpu.items():
            lab.results.add(f"{name}.cpu.{process}", 1e6 * seconds / max(1, measured.done))
    lab.saturation = measured.whole.per_second


def open_loop(lab: Lab) -> None:
    """IngestEvent at shares of the saturation, from callers who wait for nobody."""
    for share in OPEN_SHARES:
        phases = [Phase(lab.saturation * share / 100, lab.scale.window_seconds + 1.0)]
        measured = lab.send(Load(lab.one, "event", phases=phases, mix=lab.mix()))
        _keep(lab, f"open.{share}", measured.whole)
        lab.results.add(f"open.{share}.lag_p99", measured.lag_p99)


def batches(lab: Lab) -> None:
    """IngestEvents of 100 events."""
    for in_flight in BATCHES_IN_FLIGHT:
        load = Load(lab.one, "batch", in_flight, batch_size=BATCH_SIZE, mix=lab.mix())
        before = lab.meter.read()
        measured = lab.send(load)
        _keep(lab, f"batch.{in_flight}", measured.whole)
        costs = lab.meter.read().since(before)
        lab.results.add(f"batch.{in_flight}.cpu", 1e6 * costs.cpu_of_system / max(1, measured.done))
        _keep_groups(lab, f"batch.{in_flight}", lab.meter.groups(before.instant))


def stream(lab: Lab) -> None:
    """StreamEvents: one stream with 256 events under way."""
    _keep(lab, "stream.256", lab.send(Load(lab.one, "stream", 256, mix=lab.mix())).whole)


def singles(lab: Lab) -> None:
    """The same 256 callers, with groups of one event."""
    _keep(lab, "singles.256", lab.closed(lab.singles, 256).whole)


def replicas(lab: Lab) -> None:
    """The same 256 callers on two orchestrators."""
    _keep(lab, "replicas.256", lab.closed(lab.both, 256).whole)


def duplicates(lab: Lab) -> None:
    """The same with a tenth of the requests sent before."""
    mix = Mix(users=lab.scale.users, replayed_share=REPLAYED_SHARE)
    _keep(lab, "duplicates.256", lab.closed(lab.one, 256, mix).whole)


def one_user(lab: Lab) -> None:
    """The same with all events of one user."""
    _keep(lab, "one_user.256", lab.closed(lab.one, 256, Mix(users=1)).whole)


def footprint(lab: Lab) -> None:
    """Bytes of log by event, and memory."""
    before = lab.meter.read()
    measured = lab.closed(lab.one, 256)
    costs = lab.meter.read().since(before)
    lab.results.add("footprint.wal_bytes_per_event", costs.wal_bytes / max(1, measured.done))
    for process, size in lab.meter.memory().items():
        lab.results.add(f"footprint.memory_mib.{process}", size / 2**20)


def peer(lab: Lab) -> None:
    """DBOS with the same four steps on the same PostgreSQL server."""
    for in_flight in PEER_IN_FLIGHT:
        question = {
            "dsn": lab.peer_dsn,
            "in_flight": in_flight,
            "most_in_flight": max(PEER_IN_FLIGHT),
            "seconds": lab.scale.window_seconds,
            "warmup_seconds": lab.scale.warmup_seconds,
            "users": lab.scale.users,
            "prefix": f"{time.time_ns():x}-",
        }
        for name, value in lab.peer.ask(question).items():
            lab.results.add(f"peer.{in_flight}.{name}", value)


def sql(lab: Lab) -> None:
    """The same statements, without services or gRPC."""
    captured = lab.captured
    for way in ("in_order", "side_by_side"):
        question = {"way": way, "directory": str(captured.directory), "dsns": captured.fresh_dsns()}
        answer = lab.replayer.ask(question)
        lab.results.add(f"sql.{way}.events", answer["events"])
    for name in CORE:
        lab.results.add(f"sql.statements_per_group.{name}", answer[name] / answer["groups"])
    lab.results.add("sql.statements_per_event", answer["statements"] / captured.events)


def scripts(lab: Lab) -> None:
    """The same script calls on an empty database of Valkey."""
    captured = lab.captured
    answer = lab.replayer.ask(
        {
            "way": "scripts",
            "directory": str(captured.directory),
            "redis_url": captured.redis_url,
            "events": captured.events,
        }
    )
    for name, value in answer.items():
        lab.results.add(f"scripts.{name}", value)


def overload(lab: Lab) -> None:
    """Half of the saturation, three times as much as it can bear, and half again; from one caller and from several."""
    calm = Phase(lab.saturation / 2, max(1.0, lab.scale.overload_seconds / 2))
    storm = Phase(lab.saturation * OVERLOAD, lab.scale.overload_seconds)
    for connections in OVERLOAD_CONNECTIONS:
        load = Load(lab.one, "event", phases=[calm, storm, calm], mix=lab.mix(), connections=connections)
        _keep_overload(lab, f"overload.{connections}", lab.send(load), calm, storm)


def _keep_overload(lab: Lab, name: str, measured: Measured, calm: Phase, storm: Phase) -> None:
    stormy = measured.phases[1]
    asked = sum(stormy.answers.values())
    others = {
        code: count for code, count in stormy.answers.items() if code not in ("OK", "RESOURCE_EXHAUSTED")
    }
    results = lab.results
    _keep(lab, name, stormy)
    results.add(f"{name}.offered", asked / storm.seconds)
    results.add(f"{name}.goodput_share", stormy.per_second / lab.saturation)
    results.add(f"{name}.refused_share", stormy.answers.get("RESOURCE_EXHAUSTED", 0) / max(1, asked))
    results.add(f"{name}.other_share", sum(others.values()) / max(1, asked))
    for code, count in others.items():
        results.add(f"{name}.others.{code}", count)
    results.add(f"{name}.refusal_p50", stormy.refusals.p50)
    results.add(f"{name}.refusal_p99", stormy.refusals.p99)
    results.add(f"{name}.lag_p99", measured.lag_p99)
    results.add(f"{name}.recovery_seconds", recovery_seconds(measured.buckets, calm.seconds, storm.seconds))
    results.overload = list(measured.buckets)


def telemetry(lab: Lab) -> None:
    """The same stack three times: without any telemetry, with it off, and exporting 1 % of all traces."""
    exporting = {"LAUREL_OTLP_ENDPOINT": f"http://{lab.sink}", "LAUREL_TRACE_SAMPLE_RATIO": "0.01"}
    with (
        lab.running("without", package="deploy.bench.instrumented", **{UNTOLD: "1"}) as without,
        lab.running("off") as off,
        lab.running("sampled", **exporting) as sampled,
    ):
        stacks = dict(zip(TELEMETRY, (without, off, sampled), strict=True))
        meters = {name: Meter(stack, lab.generator.pid) for name, stack in stacks.items()}
        for number in range(TELEMETRY_ROUNDS if lab.scale.repeats > 1 else 1):
            names = TELEMETRY if number % 2 == 0 else TELEMETRY[::-1]
            lab.say(f"telemetry: {', '.join(names)}")
            for name in names:
                target = stacks[name].addresses("orchestrator")[0]
                load = Load(target, "event", 256, lab.scale.window_seconds / 2, 0.25, mix=lab.mix())
                before = meters[name].read()
                measured = lab.generator.send(load)
                costs = meters[name].read().since(before)
                lab.results.add(f"telemetry.{name}.rate", measured.whole.per_second)
                lab.results.add(f"telemetry.{name}.cpu", 1e6 * costs.cpu_of_system / max(1, measured.done))


EACH_ROUND: Final[Mapping[str, Callable[[Lab], None]]] = {
    "empty": empty,
    "closed": closed,
    "open": open_loop,
    "batch": batches,
    "stream": stream,
    "singles": singles,
    "replicas": replicas,
    "duplicates": duplicates,
    "one-user": one_user,
    "footprint": footprint,
    "peer": peer,
    "sql": sql,
    "scripts": scripts,
    "overload": overload,
}
ONCE: Final[Mapping[str, Callable[[Lab], None]]] = {"telemetry": telemetry}
"""Those that interleave by themselves, on stacks of their own."""


def recovery_seconds(buckets: Sequence[Bucket], calm: float, storm: float) -> float:
    """How long after an overload it took until everything was answered as quickly as before it.

    That is the first tenth of a second without a refusal and with a median at most twice that before.
    """
    begin, end = round(calm / BUCKET_SECONDS), round((calm + storm) / BUCKET_SECONDS)
    usual = percentile(sorted(each.p50 for each in buckets[:begin]), 0.5)
    for number, each in enumerate(buckets[end:]):
        if not each.refused and each.ok and each.p50 <= 2 * usual:
            return number * BUCKET_SECONDS
    return (len(buckets) - end) * BUCKET_SECONDS


def _keep(lab: Lab, name: str, summary: Summary) -> None:
    failed = sum(count for code, count in summary.answers.items() if code not in ("OK", "RESOURCE_EXHAUSTED"))
    lab.results.add(f"{name}.rate", summary.per_second)
    lab.results.add(f"{name}.p50", summary.latencies.p50)
    lab.results.add(f"{name}.p99", summary.latencies.p99)
    lab.results.add(f"{name}.failed", failed)


def _keep_groups(lab: Lab, name: str, groups: Groups) -> None:
    lab.results.add(f"{name}.group_mean", groups.mean)
    lab.results.add(f"{name}.group_median", groups.median)
