"""Configuration from `LAUREL_*` environment variables, checked as a whole before anything starts."""

import os
import re
import socket
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from shared.variables import VARIABLES

PREFIX: Final = "LAUREL_"
EXIT_CONFIGURATION: Final = 78
"""The exit status of a process that was configured wrongly (EX_CONFIG of sysexits.h): a restart will not
help.
"""


class ConfigurationError(Exception):
    """The process cannot run as it is configured. `problems` has one readable line for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("configuration is not valid:\n" + "\n".join(f"  {problem}" for problem in problems))


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if value.startswith("unix:") and len(value) > len("unix:"):
        return value
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ValueError("must be HOST:PORT or unix:PATH")
    return value


def _postgres_dsn(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must begin with postgresql://")
    return value


Address = Annotated[str, AfterValidator(_address)]
"""HOST:PORT or unix:PATH."""

PostgresDsn = Annotated[SecretStr, AfterValidator(_postgres_dsn)]
"""postgresql://user:password@host:port/database; never shown."""


class Settings(BaseSettings):
    """What every service can be told. A service adds its own limits and time-outs in a subclass."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    listen: Address = "127.0.0.1:50051"
    """The address to serve on, HOST:PORT or unix:PATH; port 0 takes a free one."""

    postgres_dsn: PostgresDsn
    """The service's own database, as postgresql://user:password@host:port/database."""

    instance: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}", min_length=1, max_length=128
    )
    """The name of this replica, unique among the replicas of the service; unset, its host and process id."""

    postgres_pool_size: int = Field(default=8, ge=2, le=200)
    """The largest number of database connections of this replica; time-driven work keeps one of them."""

    statement_timeout_ms: int = Field(default=10_000, ge=10, le=600_000)
    """How long one SQL statement may run, in milliseconds; then it is cancelled, and the caller hears UNAVAILABLE."""

    max_concurrent_rpcs: int = Field(default=1_000, ge=1, le=100_000)
    """How many calls may be in progress; further ones are answered RESOURCE_EXHAUSTED at once."""

    max_message_bytes: int = Field(default=16_777_216, ge=1_024, le=1_073_741_824)
    """The largest message to receive or send, in bytes."""

    drain_grace_seconds: float = Field(default=10.0, ge=0, le=600)
    """How long calls in progress may take to end after SIGTERM, in seconds; then they are cut."""

    default_deadline_seconds: float = Field(default=30.0, gt=0, le=3_600)
    """The deadline of a unary call whose caller set none, in seconds; then it is answered DEADLINE_EXCEEDED."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe log line to write."""

    otlp_endpoint: str | None = None
    """Where to send traces and metrics over OTLP/gRPC, such as http://localhost:4317; unset, nothing is
    recorded.
    """

    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """The share of traces that start here to record; a caller's decision is followed."""

    replay_window_days: int | None = Field(default=None, ge=32, le=36_500)
    """For how many days at least an answer can be given again; it goes by the month of the event (docs/adr/0010).
    Unset: for ever.
    """

    maintenance_interval_seconds: float = Field(default=30.0, gt=0, le=86_400)
    """How often time-driven work is looked for, in seconds."""

    maintenance_ahead_seconds: float = Field(default=300.0, ge=0, le=315_360_000)
    """How far the instant of a maintenance pass that is asked for may be ahead of the database's clock, in seconds,
    while no import holds the clock; further ahead it is refused. Tests that look into the future raise it.
    """

    @property
    def replay_window(self) -> timedelta | None:
        """For how long at least an answer can be given again; None: for ever."""
        return None if self.replay_window_days is None else timedelta(days=self.replay_window_days)


S = TypeVar("S", bound=Settings)


_OF_KUBERNETES: Final = re.compile(
    r"LAUREL(_\w+)?(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes sets in every container for a service of its own that is called laurel, or laurel-something."""


def load(settings_type: type[S], **overrides: Any) -> S:
    """The settings from the environment. Raises one `ConfigurationError` for all the bad variables, those that
    no part of Laurel knows among them.
    """
    problems = misspelt(os.environ, own=[f"{PREFIX}{name.upper()}" for name in settings_type.model_fields])
    try:
        settings = settings_type(**overrides)
    except ValidationError as error:
        problems += [_problem(settings_type, item) for item in error.errors()]
    except SettingsError as error:
        problems.append(str(error))
    if problems:
        raise ConfigurationError(problems)
    return settings


def misspelt(environment: Mapping[str, str], own: Collection[str] = ()) -> list[str]:
    """A line for each variable that looks like a setting and is none, with the nearest one.

    Processes share an environment, so what any part of Laurel knows is no mistake; `own` are known as well.
    """
    known = VARIABLES | set(own)
    names = sorted(each.removeprefix(PREFIX) for each in known)
    lines = []
    for name in sorted(environment):
        # As settings are read: in any case.
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in known or _OF_KUBERNETES.fullmatch(upper):
            continue
        nearest = get_close_matches(upper.removeprefix(PREFIX), names, n=1)
        hint = f"did you mean {PREFIX}{nearest[0]}?" if nearest else "docs/settings.md lists all there are"
        lines.append(f"{name} is no setting; {hint}")
    return lines


def _problem(settings_type: type[Settings], item: Any) -> str:
    """One line: the variable, its value (a secret's is masked), and what is wrong with it."""
    name = str(item["loc"][0]) if item["loc"] else ""
    field = settings_type.model_fields.get(name)
    variable = f"{PREFIX}{name.upper()}"
    if field is None:
        return f"{variable}: {item['msg']}"
    if item["type"] == "missing":
        return f"{variable} is not set: {field.description}"
    secret = "SecretStr" in repr(field.annotation)
    shown = "********" if secret else repr(item["input"])
    return f"{variable}={shown}: {item['msg'].removeprefix('Value error, ')}"
