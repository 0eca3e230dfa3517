"""What a stack remembers between commands: `state.json` and `credentials.json` in its home directory."""

import fcntl
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import psutil

from deploy.local.files import read_json, write_json
from deploy.local.processes import ProcessRef

VERSION = 1
STATE_FILE = "state.json"
CREDENTIALS_FILE = "credentials.json"
SERVICE_TOKEN = "service_token"
API_KEY = "api_key"
_OWNER = "_owner"
TLS = "tls"


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """One replica of a service. `process` is None after a deliberate stop; the port stays reserved."""

    name: str
    replica: int
    port: int
    log: Path
    process: ProcessRef | None

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        return cls(
            name=content["name"],
            replica=content["replica"],
            port=content["port"],
            log=Path(content["log"]),
            process=ProcessRef.from_json(content["process"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "replica": self.replica,
            "port": self.port,
            "log": str(self.log),
            "process": self.process.to_json() if self.process else None,
        }

    @property
    def instance(self) -> str:
        """The name of this replica among all: `streak-0`."""
        return f"{self.name}-{self.replica}"

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def stopped(self) -> "ServiceRecord":
        return replace(self, process=None)


class StateFile:
    """The services of a stack, read anew at every call: other commands and tests work on the same stack."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / STATE_FILE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other command off this stack. Not reentrant."""
        self._home.mkdir(parents=True, exist_ok=True)
        with (self._home / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def services(self) -> tuple[ServiceRecord, ...]:
        """All replicas that were ever started, by name and replica."""
        return tuple(ServiceRecord.from_json(each) for each in read_json(self._path).get("services", []))

    @property
    def has_tls(self) -> bool:
        """Whether the services that run, or ran last, encrypt."""
        return bool(read_json(self._path).get(TLS))

    def keep_tls(self, *, encrypts: bool) -> None:
        """Whether the services that are to be started encrypt."""
        write_json(self._path, {"version": VERSION, "services": [], **read_json(self._path), TLS: encrypts})

    def find(self, name: str, replica: int) -> ServiceRecord | None:
        return next((each for each in self.services() if (each.name, each.replica) == (name, replica)), None)

    def put(self, *records: ServiceRecord) -> None:
        """Store these replicas in place of their earlier records."""
        merged = {(each.name, each.replica): each for each in (*self.services(), *records)}
        content = {
            **read_json(self._path),
            "version": VERSION,
            "services": [merged[key].to_json() for key in sorted(merged)],
        }
        write_json(self._path, content)


def service_passwords(home: Path, services: Iterable[str]) -> dict[str, str]:
    """The password of each service's database role, drawn once and kept.

    With it one is drawn for the owner of the tables. A stack from before there were two roles keeps to the one.
    """
    path = home / CREDENTIALS_FILE
    stored = read_json(path)
    drawn = {
        key: secrets.token_hex(16)
        for name in services
        if not stored.get(name)
        for key in (name, name + _OWNER)
    }
    if drawn:
        write_json(path, {**stored, **drawn})
    return {name: str({**stored, **drawn}[name]) for name in services}


def owner_passwords(home: Path, services: Iterable[str]) -> dict[str, str]:
    """The password of the role that owns each service's tables, for those that have one."""
    stored = read_json(home / CREDENTIALS_FILE)
    return {name: str(stored[name + _OWNER]) for name in services if name + _OWNER in stored}


def credential(home: Path, name: str) -> str | None:
    """The token between the services of a stack, or its key; None where it has none."""
    found = read_json(home / CREDENTIALS_FILE).get(name)
    return None if found is None else str(found)


def keep_credential(home: Path, name: str, value: str) -> None:
    """Keep one, where the owner alone may read it."""
    path = home / CREDENTIALS_FILE
    write_json(path, {**read_json(path), name: value})


def home_behind(port: int) -> Path | None:
    """The home of the stack whose service listens on this port; None where it is not a stack, or not ours to see."""
    try:
        listeners = [
            each.pid
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
            and each.pid is not None
            and each.laddr
            and each.laddr[1] == port
        ]
        # Services run in the home of their stack.
        homes = [Path(psutil.Process(pid).cwd()) for pid in listeners]
    except psutil.Error:
        return None
    return next((home for home in homes if (home / STATE_FILE).exists()), None)
