"""What is measured: a stack with the demo's configuration, its variants, and the ceilings beside it."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlencode, urlsplit

import asyncpg
from laurel.orchestrator.v1 import orchestrator_service_pb2_grpc

from deploy.bench.costs import Meter
from deploy.bench.events import METRICS, Mix
from deploy.bench.instrumented.run import CAPTURE
from deploy.bench.load import Load, Measured
from deploy.bench.processes import Generator, Worker, serving
from deploy.bench.results import Results
from deploy.local.certificates import channel_to
from deploy.local.config import StackConfig
from deploy.local.databases import CORE, database_name, run_blocking
from deploy.local.stack import Stack
from services.cli.configuration import read_configuration
from shared.rpc.outgoing import AUTHORIZATION, BEARER

CONFIGURATION: Final = Path(__file__).parents[1] / "demo" / "laurel.yaml"
_SECOND, _SINGLES = 1, 2
"""Replicas of the orchestrator beside the first: a second like it, and one whose groups are of one event."""
_REPLAY: Final = "_replay"
_PEER_DATABASE: Final = "laurel_bench_peer"
_GROUP: Final = 250
"""Events of a call of IngestEvents that travel as one group."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How long everything takes."""

    repeats: int
    window_seconds: float
    warmup_seconds: float
    overload_seconds: float
    users: int


FULL: Final = Scale(repeats=3, window_seconds=4.0, warmup_seconds=0.75, overload_seconds=5.0, users=5_000)
QUICK: Final = Scale(repeats=1, window_seconds=1.0, warmup_seconds=0.25, overload_seconds=1.5, users=1_000)


class Lab:
    """Everything that runs while figures are taken. What a profile needs is started when it first asks."""

    def __init__(self, home: Path, scale: Scale, say: "Say") -> None:
        self.home = home
        self.scale = scale
        self.say = say
        self.results = Results()
        self._open = ExitStack()
        self._keys = 0
        self._saturation = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._open.close()

    @cached_property
    def generator(self) -> Generator:
        """The load generator."""
        return self._open.enter_context(Generator(self.home))

    @cached_property
    def stack(self) -> Stack:
        """The system, with two more orchestrators that nobody calls unless their profile is on."""
        stack = self._open.enter_context(self.running("system"))
        self.say("starting two more orchestrators")
        stack.start_service("orchestrator", _SECOND)
        singles = {"LAUREL_MAX_GROUP_SIZE": "1", "LAUREL_MIN_OVERLAPPING_GROUP_SIZE": "1"}
        Stack(StackConfig(home=stack.home, port_base=0, settings=singles, services=CORE)).start_service(
            "orchestrator", _SINGLES
        )
        return stack

    @cached_property
    def meter(self) -> Meter:
        """Counters of the system."""
        return Meter(self.stack, self.generator.pid)

    @cached_property
    def empty(self) -> str:
        """The address of the server that does nothing."""
        return self._open.enter_context(serving("deploy.bench.empty", self.home / "empty.log")).address

    @cached_property
    def sink(self) -> str:
        """The address of a collector of telemetry."""
        return self._open.enter_context(
            serving("deploy.bench.sink", self.home / "sink.log", listens_by_argument=True)
        ).address

    @cached_property
    def peer(self) -> Worker:
        """DBOS."""
        return self._open.enter_context(Worker("deploy.bench.peer", self.home))

    @cached_property
    def peer_dsn(self) -> str:
        """A database for DBOS, on the server of the system, reached as the services reach theirs."""
        parts = urlsplit(_create_database(self.stack, _PEER_DATABASE))
        identity, _, server = parts.netloc.rpartition("@")
        host, _, port = server.rpartition(":")
        query = urlencode({"host": unquote(host), "port": port})
        return f"{parts.scheme}://{identity}@{parts.path}?{query}"

    @cached_property
    def replayer(self) -> Worker:
        """Who sends captured traffic again."""
        return self._open.enter_context(Worker("deploy.bench.replay", self.home))

    @property
    def one(self) -> str:
        """The address of the orchestrator."""
        return self.stack.addresses("orchestrator")[0]

    @property
    def both(self) -> str:
        """The addresses of two orchestrators."""
        return ",".join(self.stack.addresses("orchestrator")[: _SECOND + 1])

    @property
    def singles(self) -> str:
        """The address of the orchestrator whose groups are of one event."""
        return self.stack.addresses("orchestrator")[_SINGLES]

    @property
    def saturation(self) -> float:
        """Events a second in the last closed loop of 256."""
        if not self._saturation:
            self._saturation = self.closed(self.one, 256).whole.per_second
        return self._saturation

    @saturation.setter
    def saturation(self, per_second: float) -> None:
        self._saturation = per_second

    def mix(self, mix: Mix | None = None) -> Mix:
        """A mix with keys of its own, over all users unless it says otherwise."""
        self._keys += 1
        base = mix or Mix(users=self.scale.users)
        return replace(base, key_prefix=f"{time.time_ns():x}-{self._keys}-", seed=self._keys)

    def closed(self, target: str, in_flight: int, mix: Mix | None = None) -> Measured:
        """A closed loop of IngestEvent."""
        return self.send(Load(target, "event", in_flight, mix=self.mix(mix)))

    def send(self, load: Load) -> Measured:
        """A window of load; a closed loop lasts as long as the scale says."""
        if not load.phases and not load.mix.every_user_once:
            load = replace(load, seconds=self.scale.window_seconds, warmup_seconds=self.scale.warmup_seconds)
        return self.generator.send(load)

    @contextmanager
    def running(
        self, name: str, *, package: str = "services", services: Sequence[str] = CORE, **settings: str
    ) -> Iterator[Stack]:
        """A stack of its own with the demo's configuration, in which every user is known."""
        with self.configured(name, package=package, services=services, **settings) as stack:
            self._seed(stack)
            yield stack

    @contextmanager
    def configured(
        self,
        name: str,
        *,
        package: str = "services",
        services: Sequence[str] = CORE,
        configuration: str = "",
        **settings: str,
    ) -> Iterator[Stack]:
        """A stack of its own with the demo's configuration or another, and nobody in it."""
        config = StackConfig(
            home=self.home / name, port_base=0, settings=settings, package=package, services=services
        )
        with self._started(config, configuration) as stack:
            yield stack

    @contextmanager
    def guarded(self, name: str) -> Iterator[Stack]:
        """A stack with TLS and keys, as `laurel up` starts it, in which every user is known."""
        config = StackConfig(home=self.home / name, port_base=0, services=CORE, keys=True, tls=True)
        with self._started(config) as stack:
            self._seed(stack)
            yield stack

    @contextmanager
    def _started(self, config: StackConfig, configuration: str = "") -> Iterator[Stack]:
        self.say(f"starting the stack {config.home.name!r}")
        with Stack(config) as stack:
            stack.up()
            self._configure(stack, configuration.encode() or CONFIGURATION.read_bytes())
            yield stack

    @cached_property
    def captured(self) -> "Captured":
        """What an instrumented stack sent under load, and what its databases held before."""
        directory = self.home / "captured"
        directory.mkdir()
        stack = self._open.enter_context(self.running("capture"))
        for name in CORE:
            stack.stop_service(name)
        run_blocking(_copy_databases(stack))
        watched = Stack(
            StackConfig(
                home=stack.home,
                port_base=0,
                services=CORE,
                package="deploy.bench.instrumented",
                settings={CAPTURE: str(directory)},
            )
        )
        self.say("capturing statements and script calls")
        watched.up()
        target = watched.addresses("orchestrator")[0]
        done = self.send(Load(target, "batch", batch_size=_GROUP, mix=self.mix())).done
        for name in CORE:
            watched.stop_service(name)
        return Captured(stack, directory, done)

    def _configure(self, stack: Stack, configuration: bytes) -> None:
        request = read_configuration(configuration).request
        shown = ((AUTHORIZATION, BEARER + stack.api_key),) if stack.api_key else None
        with channel_to(stack.addresses("orchestrator")[0], stack.authority) as channel:
            stub = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel)
            stub.ApplyConfiguration(request, timeout=60, metadata=shown)

    def _seed(self, stack: Stack) -> None:
        """Every user's first event of each metric: from then on events meet users who are known."""
        mix = replace(self.mix(), every_user_once=True)
        seeding = Load(
            stack.addresses("orchestrator")[0],
            "batch",
            in_flight=2,
            seconds=600.0,
            batch_size=_GROUP,
            mix=mix,
            deadline_seconds=60.0,
            key=stack.api_key or "",
            authority=str(stack.authority or ""),
        )
        done = self.generator.send(seeding).done
        if done != len(METRICS) * self.scale.users:
            raise RuntimeError(f"only {done} of {len(METRICS) * self.scale.users} first events went in")


@dataclass(frozen=True, slots=True)
class Captured:
    """Traffic of a stack, and copies of the databases as they were before it."""

    stack: Stack
    directory: Path
    events: int

    def fresh_dsns(self) -> Mapping[str, str]:
        """The services' databases as they were before, each time anew."""
        run_blocking(_restore_databases(self.stack))
        return {name: self.stack.service_dsn(name) for name in CORE}

    @property
    def redis_url(self) -> str:
        """A database of the stack's Valkey that its services don't use."""
        assert self.stack.valkey is not None
        return self.stack.valkey.database_url(1)


class Say:
    """Tells what is being done, on standard error, where it does not mix with the results."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        os.write(2, f"{time.monotonic() - self._began:6.0f} s  {text}\n".encode())


def _admin_dsn(stack: Stack) -> str:
    assert stack.postgres is not None
    return stack.postgres.admin_dsn


def _create_database(stack: Stack, name: str) -> str:
    dsn = _admin_dsn(stack)
    run_blocking(_execute(dsn, f"CREATE DATABASE {name}"))
    return dsn.rpartition("/")[0] + f"/{name}"


async def _copy_databases(stack: Stack) -> None:
    """Sets aside what the services hold; none of them may be connected."""
    for name in map(database_name, CORE):
        await _execute(_admin_dsn(stack), f"CREATE DATABASE {name}{_REPLAY} TEMPLATE {name}")


async def _restore_databases(stack: Stack) -> None:
    """Puts back what was set aside, with statistics as autovacuum would have gathered them."""
    for name in map(database_name, CORE):
        await _execute(_admin_dsn(stack), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await _execute(_admin_dsn(stack), f"CREATE DATABASE {name} TEMPLATE {name}{_REPLAY} OWNER {name}")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncio.wait_for(asyncpg.connect(dsn), timeout=30)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
