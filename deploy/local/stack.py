"""Laurel on one machine: PostgreSQL, Valkey and a process for each service.

`laurel up`, the demo and the tests all start Laurel through this class. It prints nothing: progress goes to a
callback, results are returned, and every failure is a LaunchError whose message is meant for the user.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import asyncpg
import grpc

from deploy.local.certificates import StackCertificates, now
from deploy.local.config import ORCHESTRATOR, StackConfig, service_environment
from deploy.local.databases import create_service_databases, owner_dsn, service_dsn
from deploy.local.errors import LaunchError, PortTakenError, with_log_tail
from deploy.local.health import await_serving, is_serving
from deploy.local.keys import create_key
from deploy.local.ports import LOOPBACK, await_free, free_port, is_free
from deploy.local.postgres import PostgresServer
from deploy.local.processes import spawn, terminate
from deploy.local.state import (
    API_KEY,
    SERVICE_TOKEN,
    ServiceRecord,
    StateFile,
    credential,
    home_behind,
    keep_credential,
    owner_passwords,
    service_passwords,
)
from deploy.local.valkey import ValkeyServer

MIGRATE_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 30.0

ProcessState = Literal["serving", "not serving", "running", "external", "dead", "stopped"]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of the stack as it is now. Servers are `running`; services `serving` when they say so."""

    name: str
    state: ProcessState
    pid: int | None
    address: str | None
    log: Path | None


def _silent(_: str) -> None:
    pass


class Stack:
    """Starts, finds and stops the processes of one stack. As a context manager it leaves nothing running."""

    def __init__(self, config: StackConfig, progress: Progress = _silent) -> None:
        self._config = replace(config, home=config.home.resolve())
        self._progress = progress
        self._state = StateFile(self.home)
        self._certificates = StackCertificates(self.home)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def home(self) -> Path:
        return self._config.home

    @property
    def is_known(self) -> bool:
        """Whether anything of it was ever started."""
        return bool(self._state.services()) or self.postgres is not None or self.valkey is not None

    @property
    def postgres(self) -> PostgresServer | None:
        """The embedded server, running or not; None before the first start or when another one is used."""
        if self._config.postgres_admin_dsn is not None:
            return None
        return PostgresServer.attach(self.home / "postgres")

    @property
    def valkey(self) -> ValkeyServer | None:
        """The embedded server, running or not; None before the first start or when another one is used."""
        if self._config.redis_url is not None:
            return None
        return ValkeyServer.attach(self.home / "valkey")

    def up(self) -> tuple[ProcessStatus, ...]:
        """Start everything that does not run, and wait until every service serves.

        Idempotent. Extra replicas that died are started again too. On failure (LaunchError) what was started is
        stopped again; its log stays, and the error shows the end of it.
        """
        with self._state.locked():
            extra = [(each.name, each.replica) for each in self._state.services() if each.process]
            wanted = dict.fromkeys([*((name, 0) for name in self._config.services), *extra])
            due = [key for key in wanted if not self._runs(*key)]
            # Before anything is started: a port that is taken is the commonest reason to fail.
            self._check_ports(due)
            if not any(each.is_alive for each in self._state.services()):
                self._keep_certificates()
            with ExitStack() as started:
                self._draw_token()
                self._start_servers(started)
                self._create_databases()
                for name, replica in wanted:
                    if (name, replica) not in due:
                        self._progress(f"{name}-{replica} runs already")
                self._migrate(sorted({name for name, _ in due}))
                self._start(due)
                self._make_key()
                started.pop_all()
        return self.status()

    def down(self) -> None:
        """Stop everything: the orchestrators first, so that what is under way finishes; the servers last."""
        if not self.home.exists():
            return
        with self._state.locked():
            services = self._state.services()
            self._stop([each for each in services if each.name == ORCHESTRATOR])
            self._stop([each for each in services if each.name != ORCHESTRATOR])
            self._stop_valkey()
            self._stop_postgres()

    def erase(self) -> None:
        """Stop everything and remove the data for good. Databases on a server of the user's own stay."""
        self.down()
        if (postgres := self.postgres) is not None:
            postgres.erase()
        shutil.rmtree(self.home, ignore_errors=True)

    def status(self) -> tuple[ProcessStatus, ...]:
        """Every process that belongs to this stack: the servers, then the services."""
        records = self._state.services()
        with ThreadPoolExecutor(max_workers=max(1, len(records))) as threads:
            services = tuple(threads.map(self._service_status, records))
        known = {each.name for each in records}
        missing = [
            ProcessStatus(f"{name}-0", "stopped", None, None, None)
            for name in self._config.services
            if name not in known
        ]
        return (
            _server_status("postgres", self.postgres, external=self._config.postgres_admin_dsn is not None),
            _server_status("valkey", self.valkey, external=self._config.redis_url is not None),
            *sorted((*services, *missing), key=lambda each: each.name),
        )

    def addresses(self, name: str) -> tuple[str, ...]:
        """`host:port` of each replica of a service that has not been stopped; replica 0 always has one."""
        replicas = [each for each in self._state.services() if each.name == name]
        return tuple(f"{LOOPBACK}:{each.port}" for each in replicas if each.process or each.replica == 0)

    def running_addresses(self) -> dict[str, tuple[str, ...]] | None:
        """`host:port` of each replica that runs, by service; None where none was ever started."""
        records = self._state.services()
        running: dict[str, tuple[str, ...]] = {}
        for each in records:
            if each.is_alive:
                running[each.name] = (*running.get(each.name, ()), f"{LOOPBACK}:{each.port}")
        return running if records else None

    def service_dsn(self, name: str) -> str:
        """The connection string of a service's database, as the service itself gets it."""
        passwords = service_passwords(self.home, self._config.services)
        return service_dsn(self._admin_dsn(), name, passwords[name])

    def owner_dsn(self, name: str) -> str:
        """The connection string of the role that owns the service's tables; the service itself never gets it."""
        found = owner_passwords(self.home, [name])
        return owner_dsn(self._admin_dsn(), name, found[name]) if found else self.service_dsn(name)

    @property
    def api_key(self) -> str | None:
        """The key that the stack made for its user; None where it has none."""
        return credential(self.home, API_KEY)

    @property
    def authority(self) -> Path | None:
        """The certificate of the authority that clients have to believe; None where nothing is encrypted."""
        return self._certificates.authority if self._state.has_tls else None

    def start_service(self, name: str, replica: int = 0) -> ProcessStatus:
        """Start one replica, on the port it had, and wait until it serves. One that runs is left alone.

        An orchestrator knows the replicas that were started before it.
        """
        self._config.check_replica(name, replica)
        with self._state.locked():
            if not self._runs(name, replica):
                self._check_ports([(name, replica)])
                self._start([(name, replica)])
            return self._service_status(self._record(name, replica))

    def migrate(self) -> None:
        """Bring the databases of all services up to this code, whatever runs meanwhile."""
        with self._state.locked():
            self._migrate(self._config.services)

    def stop_service(self, name: str, replica: int = 0) -> None:
        """Stop one replica as an operator would: SIGTERM, then SIGKILL after 30 seconds."""
        with self._state.locked():
            self._stop([self._record(name, replica)])

    def kill_service(self, name: str, replica: int = 0, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one replica; after SIGKILL, wait until it is gone."""
        record = self._record(name, replica)
        if record.process is None:
            raise LaunchError(f"{record.instance} has been stopped")
        record.process.send(number)
        if number == signal.SIGKILL:
            record.process.wait(STOP_TIMEOUT_SECONDS)

    def _start_servers(self, started: ExitStack) -> None:
        """Start the servers that do not run; `started` will stop these again."""
        if self._config.postgres_admin_dsn is None:
            known = self.postgres
            if known is not None and known.pid is not None:
                self._progress("PostgreSQL runs already")
            else:
                self._progress("starting PostgreSQL")
                started.callback(self._stop_postgres)
                PostgresServer.start(self.home / "postgres", fsync=self._config.fsync)
        if self._config.redis_url is None:
            known_valkey = self.valkey
            if known_valkey is not None and known_valkey.pid is not None:
                self._progress("Valkey runs already")
            else:
                self._progress("starting Valkey")
                started.callback(self._stop_valkey)
                ValkeyServer.start(self.home / "valkey", guarded=self._config.keys)

    def _stop_postgres(self) -> None:
        if (postgres := self.postgres) is not None and postgres.pid is not None:
            self._progress("stopping PostgreSQL")
            postgres.stop()

    def _stop_valkey(self) -> None:
        if (valkey := self.valkey) is not None and valkey.pid is not None:
            self._progress("stopping Valkey")
            valkey.stop()

    def _check_ports(self, keys: Sequence[tuple[str, int]]) -> None:
        """Raise PortTakenError, naming every one, when ports that these replicas must have are in use."""
        taken: dict[str, list[str]] = {}
        for name, replica in keys:
            port = self._config.fixed_port(name, replica)
            # A process that is going holds its port for a moment; one such wait tells for all.
            free = is_free if taken else await_free
            if port is not None and not free(port):
                home = home_behind(port)
                holder = f"the stack in {home}" if home else "another program"
                taken.setdefault(holder, []).append(f"{port} ({name})")
        if taken:
            ports = "; ".join(f"{', '.join(each)} by {holder}" for holder, each in taken.items())
            raise PortTakenError(
                f"ports are in use: {ports}. Nothing was started. "
                "Set LAUREL_PORT_BASE to the first of a free range, or to 0 for free ports"
            )

    def _keep_certificates(self) -> None:
        """Whether the services encrypt is settled when the first of them starts: they have to reach one another."""
        if self._config.tls:
            self._certificates.keep(now())
        self._state.keep_tls(encrypts=self._config.tls)

    def _draw_token(self) -> None:
        """The token by which the services know one another, once for good."""
        if self._config.keys and credential(self.home, SERVICE_TOKEN) is None:
            keep_credential(self.home, SERVICE_TOKEN, secrets.token_hex(32))

    def _make_key(self) -> None:
        """A key with every scope for the user of the stack, once for good."""
        token = credential(self.home, SERVICE_TOKEN)
        if token is None or self.api_key is not None or ORCHESTRATOR not in self._config.services:
            return
        try:
            key = create_key(self.addresses(ORCHESTRATOR)[0], token, self.authority)
        except grpc.RpcError as error:
            raise LaunchError(f"cannot make a key for the stack: {error}") from error
        keep_credential(self.home, API_KEY, key)

    def _create_databases(self) -> None:
        passwords = service_passwords(self.home, self._config.services)
        try:
            create_service_databases(
                self._admin_dsn(),
                self._config.services,
                passwords=passwords,
                owner_passwords=owner_passwords(self.home, self._config.services),
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise LaunchError(f"cannot create the databases of the services: {error}") from error

    def _migrate(self, names: Sequence[str]) -> None:
        """Run the migrations of these services side by side."""
        if not names:
            return
        self._progress(f"migrating {', '.join(names)}")
        records = self._reserve([(name, 0) for name in names])
        with ThreadPoolExecutor(max_workers=len(names)) as threads:
            failures = [each for each in threads.map(self._migration_failure, records) if each]
        if failures:
            raise LaunchError("\n".join(failures))

    def _migration_failure(self, record: ServiceRecord) -> str | None:
        with record.log.open("ab") as output:
            try:
                result = subprocess.run(
                    self._command(record, "migrate"),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.home,
                    env=self._environment(record) | {"LAUREL_MIGRATION_DSN": self.owner_dsn(record.name)},
                    timeout=MIGRATE_TIMEOUT_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return with_log_tail(
                    f"migrating {record.name} took over {MIGRATE_TIMEOUT_SECONDS:g} s", record.log
                )
        if result.returncode != 0:
            return with_log_tail(f"migrating {record.name} failed (exit {result.returncode})", record.log)
        return None

    def _start(self, keys: Sequence[tuple[str, int]]) -> None:
        """Start these replicas side by side and wait until all serve; on failure all of them are stopped again."""
        if not keys:
            return
        try:
            self._start_together(keys)
        except BaseException:
            self._stop([self._record(*key) for key in keys if self._state.find(*key) is not None])
            raise

    def _start_together(self, keys: Sequence[tuple[str, int]]) -> None:
        started = [self._spawn(record) for record in self._reserve(keys)]
        deadline = time.monotonic() + self._config.serving_timeout_seconds
        with ThreadPoolExecutor(max_workers=len(started)) as threads:
            answers = list(threads.map(lambda each: self._await(each, deadline), started))
        failures = []
        for record, answer in zip(started, answers, strict=True):
            if answer == "SERVING":
                self._progress(f"{record.instance} serves on {LOOPBACK}:{record.port}")
            elif record.is_alive:
                limit = f"{self._config.serving_timeout_seconds:g} s"
                failures.append(
                    with_log_tail(f"{record.instance} does not serve after {limit}: {answer}", record.log)
                )
            else:
                failures.append(with_log_tail(f"{record.instance} ended while starting", record.log))
        if failures:
            raise LaunchError("\n".join(failures))

    def _reserve(self, keys: Sequence[tuple[str, int]]) -> list[ServiceRecord]:
        """Give these replicas, and the first of every service, a port, and store them.

        A service is told where others are, so all their ports are settled first.
        """
        (self.home / "logs").mkdir(exist_ok=True)
        for name, replica in dict.fromkeys([*((name, 0) for name in self._config.services), *keys]):
            if self._runs(name, replica):
                continue
            port = self._choose_port(name, replica, must_be_free=(name, replica) in keys)
            known = self._state.find(name, replica)
            log = self.home / "logs" / (f"{name}.log" if replica == 0 else f"{name}-{replica}.log")
            self._state.put(ServiceRecord(name, replica, port, log, known.process if known else None))
        return [self._record(*key) for key in keys]

    def _choose_port(self, name: str, replica: int, *, must_be_free: bool) -> int:
        fixed = self._config.fixed_port(name, replica)
        if fixed is not None:
            return fixed
        known = self._state.find(name, replica)
        if known is not None and (not must_be_free or await_free(known.port)):
            return known.port
        return free_port(avoid=[each.port for each in self._state.services()])

    def _spawn(self, record: ServiceRecord) -> ServiceRecord:
        self._progress(f"starting {record.instance}")
        process = spawn(
            self._command(record, "serve"), log=record.log, cwd=self.home, env=self._environment(record)
        )
        started = replace(record, process=process)
        self._state.put(started)
        return started

    def _stop(self, records: Sequence[ServiceRecord]) -> None:
        """Stop these side by side; the ones that do not heed SIGTERM in time are killed."""
        running = [each for each in records if each.is_alive]
        if running:
            self._progress(f"stopping {', '.join(each.instance for each in running)}")
            with ThreadPoolExecutor(max_workers=len(running)) as threads:
                list(threads.map(_terminate, running))
        if records:
            self._state.put(*(each.stopped() for each in records))

    def _await(self, record: ServiceRecord, deadline: float) -> str:
        address = f"{LOOPBACK}:{record.port}"
        return await_serving(address, deadline, lambda: record.is_alive, self._credentials())

    def _service_status(self, record: ServiceRecord) -> ProcessStatus:
        address = f"{LOOPBACK}:{record.port}"
        if record.process is None or not record.is_alive:
            state: ProcessState = "stopped" if record.process is None else "dead"
            return ProcessStatus(record.instance, state, None, address, record.log)
        state = "serving" if is_serving(address, self._credentials()) else "not serving"
        return ProcessStatus(record.instance, state, record.process.pid, address, record.log)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        authority = self.authority
        return None if authority is None else grpc.ssl_channel_credentials(authority.read_bytes())

    def _command(self, record: ServiceRecord, verb: Literal["migrate", "serve"]) -> list[str]:
        # -P: the working directory is no place to import from.
        return [self._config.python, "-P", "-m", f"{self._config.package}.{record.name}", verb]

    def _environment(self, record: ServiceRecord) -> dict[str, str]:
        return service_environment(
            os.environ,
            self._config,
            record,
            postgres_dsn=self.service_dsn(record.name),
            redis_url=self._redis_url(),
            service_token=credential(self.home, SERVICE_TOKEN),
            certificates=self._certificates.environment() if self._state.has_tls else {},
            addresses={name: self.addresses(name) for name in self._config.services},
        )

    def _admin_dsn(self) -> str:
        if self._config.postgres_admin_dsn is not None:
            return self._config.postgres_admin_dsn
        if (server := self.postgres) is None:
            raise LaunchError(f"the stack in {self.home} has not been started")
        return server.admin_dsn

    def _redis_url(self) -> str:
        if self._config.redis_url is not None:
            return self._config.redis_url
        if (server := self.valkey) is None:
            raise LaunchError(f"the stack in {self.home} has not been started")
        return server.url

    def _runs(self, name: str, replica: int) -> bool:
        record = self._state.find(name, replica)
        return record is not None and record.is_alive

    def _record(self, name: str, replica: int) -> ServiceRecord:
        self._config.check_replica(name, replica)
        record = self._state.find(name, replica)
        if record is None:
            raise LaunchError(f"{name}-{replica} has never been started")
        return record


def _terminate(record: ServiceRecord) -> None:
    if record.process is not None:
        terminate(record.process, signal.SIGTERM, patience_seconds=STOP_TIMEOUT_SECONDS)


def _server_status(
    name: str, server: PostgresServer | ValkeyServer | None, *, external: bool
) -> ProcessStatus:
    if server is None:
        return ProcessStatus(name, "external" if external else "stopped", None, None, None)
    state: ProcessState = "stopped" if server.pid is None else "running"
    return ProcessStatus(name, state, server.pid, f"{LOOPBACK}:{server.port}", server.log)
