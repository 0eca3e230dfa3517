"""An embedded PostgreSQL server: settings, process and signals are the launcher's own."""

import secrets
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import quote

from deploy.local.accounts import reachable_directory, server_account
from deploy.local.errors import LaunchError, with_log_tail
from deploy.local.files import read_json, write_json
from deploy.local.ports import LOOPBACK, await_free, free_port
from deploy.local.postgres_install import SUPERUSER, initialise_cluster, locate_install, server_environment
from deploy.local.processes import ProcessRef, processes_in, spawn

# Long enough for crash recovery of a full gigabyte of write-ahead log on a slow disk.
READY_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 60.0
ORPHANS_TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.02

# A path to a unix socket has 104 bytes on macOS, 108 on Linux.
SOCKET_PATH_LIMIT = 103

READY: Final = ("ready", "standby")
"""What a server says of itself that can be asked: to write, or to read from a standby."""

STOP_SIGNALS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

SETTINGS = """\
# Written by the launcher at every start; edits are lost.
listen_addresses = '{host}'
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 200
password_encryption = 'scram-sha-256'
# Who can lose the data needs no passwords that take long to guess: each connection waits for it.
scram_iterations = {scram_iterations}

# An acknowledged event survives a crash of the machine.
fsync = {durable}
synchronous_commit = {durable}
full_page_writes = {durable}

shared_buffers = '512MB'
jit = off
# The embedded build has only pglz, which takes 40 µs for each page that is first touched after a checkpoint: on large
# tables more than all else that an event costs.
wal_compression = off
min_wal_size = '256MB'
max_wal_size = '{most_log}'
checkpoint_timeout = '15min'
checkpoint_completion_target = 0.9

timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_line_prefix = '%m [%p] %q%u@%d '
log_min_duration_statement = '1s'
"""


@dataclass
class PostgresServer:
    """A server in a directory of its own.

    The directory holds credentials and log. The data is in `place`: the same directory, or a stand-in under
    /var/tmp when the unprivileged account that root has to use cannot enter it.
    """

    directory: Path
    place: Path
    port: int
    password: str = field(repr=False)
    fsync: bool
    process: ProcessRef | None

    @classmethod
    def start(cls, directory: Path, *, fsync: bool = True) -> Self:
        """Start the server of this directory, first making its cluster; a running one is taken as it is.

        `fsync=False` gives up durability for speed and is for tests alone. Raises LaunchError with the end
        of the log when the server does not come up.
        """
        directory.mkdir(parents=True, exist_ok=True)
        directory = directory.resolve()
        server = cls.attach(directory) or cls._new(directory, fsync=fsync)
        server.fsync = fsync
        server._launch()
        return server

    @classmethod
    def attach(cls, directory: Path) -> Self | None:
        """The server of this directory, running or not; None when none was ever started there."""
        directory = directory.resolve()
        stored = read_json(directory / "server.json")
        if not stored:
            return None
        return cls(
            directory=directory,
            place=Path(stored["place"]),
            port=stored["port"],
            password=stored["password"],
            fsync=stored["fsync"],
            process=ProcessRef.from_json(stored["process"]),
        )

    @classmethod
    def _new(cls, directory: Path, *, fsync: bool) -> Self:
        place = reachable_directory(directory, server_account(directory / "data"))
        if (place / "data").exists():
            raise LaunchError(
                f"{place / 'data'} holds a database whose credentials ({directory / 'server.json'}) "
                f"are gone; remove {place} to start afresh"
            )
        return cls(directory, place, free_port(), secrets.token_hex(16), fsync, process=None)

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def log(self) -> Path:
        return self.directory / "postgres.log"

    @property
    def socket_directory(self) -> Path | None:
        """Where the unix socket is; None when the path would be too long for one."""
        sockets = self.place / "run"
        return sockets if len(str(sockets / f".s.PGSQL.{self.port}")) <= SOCKET_PATH_LIMIT else None

    @property
    def pid(self) -> int | None:
        """The postmaster, or None when it does not run."""
        return self.process.pid if self.process is not None and self.process.is_alive() else None

    @property
    def admin_dsn(self) -> str:
        """The superuser's connection string: by the unix socket where there is one, which is faster than TCP."""
        sockets = self.socket_directory
        host = quote(str(sockets), safe="") if sockets is not None else LOOPBACK
        return f"postgresql://{SUPERUSER}:{self.password}@{host}:{self.port}/postgres"

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server: `fast` rolls back what is open, `immediate` leaves recovery to the next start."""
        if self.process is None:
            return
        self.process.send(STOP_SIGNALS[mode])
        if not self.process.wait(STOP_TIMEOUT_SECONDS):
            raise LaunchError(with_log_tail(f"PostgreSQL (pid {self.process.pid}) does not stop", self.log))

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it if it runs, and start it again on the same port."""
        self.stop(mode)
        self._launch()

    def kill(self) -> None:
        """SIGKILL to the postmaster, as a crash would; its children notice and end by themselves."""
        if self.process is not None:
            self.process.send(signal.SIGKILL)
            self.process.wait(STOP_TIMEOUT_SECONDS)

    def erase(self) -> None:
        """Stop the server and remove its data for good."""
        if self.pid is not None:
            self.stop("immediate")
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _launch(self) -> None:
        if self.pid is not None:
            return
        account = server_account(self.data)
        install = locate_install(account, self.place)
        if not self.data.exists():
            self._save()
            initialise_cluster(install, self.data, self.password, account, fsync=self.fsync)
        self._clear_remains()
        if not await_free(self.port):
            self.port = free_port()
        sockets = self.place / "run"
        sockets.mkdir(exist_ok=True, mode=0o700)
        if account is not None:
            account.take(sockets)
        self._write_settings()
        command = [str(install / "bin" / "postgres"), "-D", str(self.data)]
        self.process = spawn(command, log=self.log, cwd=self.data, env=server_environment(), account=account)
        self._save()
        self._await_ready()

    def _write_settings(self) -> None:
        settings = SETTINGS.format(
            host=LOOPBACK,
            port=self.port,
            sockets=self.socket_directory or "",
            durable="on" if self.fsync else "off",
            scram_iterations=4_096 if self.fsync else 1,
            most_log="4GB" if self.fsync else "1GB",
        )
        (self.data / "postgresql.conf").write_text(settings)

    def _clear_remains(self) -> None:
        """Make way after a crash: end what is left of a dead server, then drop its lock file.

        The order matters: the lock file is what keeps two servers off one data directory. And it has to go by
        hand, because PostgreSQL refuses to start when its old process id now belongs to another program.
        """
        remains = processes_in(self.data, name="postgres")
        for number in (signal.SIGQUIT, signal.SIGKILL):
            for process in remains:
                process.send(number)
            deadline = time.monotonic() + ORPHANS_TIMEOUT_SECONDS
            remains = [each for each in remains if not each.wait(max(0.0, deadline - time.monotonic()))]
        if remains:
            raise LaunchError(f"an earlier PostgreSQL does not end: pid {remains[0].pid}")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _await_ready(self) -> None:
        """Wait until the server reports itself ready in its lock file (line 8), as pg_ctl does."""
        assert self.process is not None
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if not self.process.is_alive():
                raise LaunchError(with_log_tail("PostgreSQL ended while starting", self.log))
            if self._reported_status() in READY:
                return
            time.sleep(POLL_SECONDS)
        raise LaunchError(
            with_log_tail(f"PostgreSQL is not ready after {READY_TIMEOUT_SECONDS:g} s", self.log)
        )

    def _reported_status(self) -> str | None:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        return lines[7].strip() if len(lines) > 7 else None

    def _save(self) -> None:
        content = {
            "process": self.process.to_json() if self.process else None,
            "port": self.port,
            "password": self.password,
            "place": str(self.place),
            "fsync": self.fsync,
        }
        write_json(self.directory / "server.json", content)
