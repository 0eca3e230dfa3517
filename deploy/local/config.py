"""How a local stack is to run, and the environment that its services get."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from deploy.local.databases import CORE, SERVICES
from deploy.local.errors import LaunchError
from deploy.local.ports import LOOPBACK
from deploy.local.state import ServiceRecord
from shared.config import misspelt

ORCHESTRATOR = "orchestrator"
FOLLOWS = "notification"
PARTICIPANTS = tuple(name for name in CORE if name != ORCHESTRATOR)
# Where whom is: the orchestrator asks all, messages are written with what is read of everyone.
_TOLD = {ORCHESTRATOR: (*PARTICIPANTS, FOLLOWS), FOLLOWS: CORE}

DEFAULT_HOME = ".laurel"
DEFAULT_PORT_BASE = 7400
LOWEST_PORT_BASE = 1024
HIGHEST_PORT_BASE = 64_000
# The ports of a service's replicas: base + place among the services, then a stride each: 7400, 7410, ...
REPLICA_STRIDE = 10
HIGHEST_REPLICA = 99

SERVING_TIMEOUT_SECONDS = 60.0

# What the launcher is told itself; a service gets values of its own or none.
LAUNCHER_VARIABLES = frozenset(
    {
        "LAUREL_HOME",
        "LAUREL_INSTANCE",
        "LAUREL_LISTEN",
        "LAUREL_MIGRATION_DSN",
        "LAUREL_PORT_BASE",
        "LAUREL_POSTGRES_DSN",
        "LAUREL_REDIS_URL",
        "LAUREL_API_KEY",
        "LAUREL_SERVICE_TOKEN",
        "LAUREL_TLS_CA_FILE",
        "LAUREL_TLS_CERTIFICATE_FILE",
        "LAUREL_TLS_KEY_FILE",
        "LAUREL_TLS_SERVER_NAME",
    }
)


@dataclass(frozen=True, slots=True)
class StackConfig:
    """How a stack is to run.

    `port_base` 0 gives every service a free port, for tests. `settings` are added to the environment of every
    service. `fsync=False` gives up durability for speed and is for tests alone. `package` holds the services'
    modules, `python` runs them. With `keys` the services know one another by a token, and whoever calls needs a key:
    the stack makes one. With `tls` they encrypt, with certificates that the stack makes.
    """

    home: Path
    port_base: int = DEFAULT_PORT_BASE
    postgres_admin_dsn: str | None = None
    redis_url: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    services: Sequence[str] = SERVICES
    package: str = "services"
    python: str = sys.executable
    fsync: bool = True
    serving_timeout_seconds: float = SERVING_TIMEOUT_SECONDS
    keys: bool = False
    tls: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """A user's stack, by LAUREL_HOME, LAUREL_PORT_BASE, LAUREL_POSTGRES_DSN (an administrator's) and
        LAUREL_REDIS_URL. It encrypts unless LAUREL_TLS_OFF says otherwise. Raises LaunchError naming the variable that
        is wrong, or that no service would know.
        """
        if problems := misspelt(environment):
            raise LaunchError("\n".join(problems))
        return cls(
            home=Path(environment.get("LAUREL_HOME") or DEFAULT_HOME),
            port_base=_port_base(environment.get("LAUREL_PORT_BASE") or str(DEFAULT_PORT_BASE)),
            postgres_admin_dsn=environment.get("LAUREL_POSTGRES_DSN") or None,
            redis_url=environment.get("LAUREL_REDIS_URL") or None,
            keys=True,
            tls=not _is_on(environment, "LAUREL_TLS_OFF"),
        )

    def fixed_port(self, name: str, replica: int) -> int | None:
        """The port of a replica by the scheme; None where ports are drawn."""
        if self.port_base == 0:
            return None
        return self.port_base + tuple(self.services).index(name) + REPLICA_STRIDE * replica

    def check_replica(self, name: str, replica: int) -> None:
        """Raise LaunchError unless this stack can have such a replica."""
        if name not in self.services:
            raise LaunchError(f"no service is called {name!r}; there are {', '.join(self.services)}")
        if not 0 <= replica <= HIGHEST_REPLICA:
            raise LaunchError(f"replica {replica} of {name} is not between 0 and {HIGHEST_REPLICA}")


def service_environment(
    base: Mapping[str, str],
    config: StackConfig,
    service: ServiceRecord,
    *,
    postgres_dsn: str,
    redis_url: str,
    service_token: str | None,
    certificates: Mapping[str, str],
    addresses: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """The caller's environment, the stack's settings, then what the launcher alone decides, which wins."""
    environment = {name: value for name, value in base.items() if name not in LAUNCHER_VARIABLES}
    environment |= config.settings
    environment |= certificates
    environment |= {
        "PYTHONUNBUFFERED": "1",
        "LAUREL_INSTANCE": service.instance,
        "LAUREL_LISTEN": f"{LOOPBACK}:{service.port}",
        "LAUREL_POSTGRES_DSN": postgres_dsn,
        "LAUREL_REDIS_URL": redis_url,
    }
    if service_token is not None:
        environment["LAUREL_SERVICE_TOKEN"] = service_token
    for name in _TOLD.get(service.name, (ORCHESTRATOR,)):
        if name in addresses:
            environment[f"LAUREL_{name.upper()}_TARGET"] = ",".join(addresses[name])
        elif name == FOLLOWS:
            # Not that of another system, which may be where the orchestrator would look by itself.
            environment[f"LAUREL_{name.upper()}_TARGET"] = ""
    return environment


def _is_on(environment: Mapping[str, str], name: str) -> bool:
    """As services read it. Raises LaunchError."""
    text = environment.get(name, "").lower()
    if text in ("1", "true", "yes", "on", "t", "y"):
        return True
    if text in ("", "0", "false", "no", "off", "f", "n"):
        return False
    raise LaunchError(f"{name} is {environment[name]!r}: it must be true or false")


def _port_base(text: str) -> int:
    if not text.isdecimal() or not (int(text) == 0 or LOWEST_PORT_BASE <= int(text) <= HIGHEST_PORT_BASE):
        raise LaunchError(
            f"LAUREL_PORT_BASE is {text!r}: it must be 0 (free ports) "
            f"or between {LOWEST_PORT_BASE} and {HIGHEST_PORT_BASE}"
        )
    return int(text)
