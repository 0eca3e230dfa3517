"""Configuration from `LAUREL_*` environment variables, checked as a whole before anything starts."""

import os
import re
import socket
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from shared.variables import VARIABLES

PREFIX: Final = "LAUREL_"
SECRETS_DIRECTORY: Final = "LAUREL_SECRETS_DIR"
"""Names a directory whose files are settings too, such as `laurel_postgres_dsn`; a variable wins over a file."""
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


def _redis_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return value


def _tokens(value: SecretStr) -> SecretStr:
    for token in split_tokens(value):
        if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError(f"each must have {SHORTEST_TOKEN} printable characters or more, without blanks")
    return value


def split_tokens(value: SecretStr) -> tuple[str, ...]:
    """The tokens of a list with commas."""
    return tuple(value.get_secret_value().split(","))


SHORTEST_TOKEN: Final = 32
"""Characters of a token between services."""

Address = Annotated[str, AfterValidator(_address)]
"""HOST:PORT or unix:PATH."""

PostgresDsn = Annotated[SecretStr, AfterValidator(_postgres_dsn)]
"""postgresql://user:password@host:port/database; never shown."""

RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
"""redis://USER:PASSWORD@HOST:PORT/DB, rediss:// or unix://; never shown."""

Tokens = Annotated[SecretStr, AfterValidator(_tokens)]
"""One or more tokens with commas in between; never shown."""


class DatabaseSettings(BaseSettings):
    """Where a service keeps what it knows: all that `migrate` is told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    postgres_dsn: PostgresDsn
    """The service's own database, as postgresql://user:password@host:port/database."""

    migration_dsn: PostgresDsn | None = None
    """The same database as the role that owns the tables, for `migrate` alone: keep it from what serves. The role of
    `LAUREL_POSTGRES_DSN` is then given what serving needs and no more. Unset: one role is both.
    """

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe log line to write."""


class Settings(DatabaseSettings):
    """What every service can be told. A service adds its own limits and time-outs in a subclass."""

    listen: Address = "127.0.0.1:50051"
    """The address to serve on, HOST:PORT or unix:PATH; port 0 takes a free one."""

    tls_certificate_file: Path | None = None
    """The certificate that this process shows, with those that vouch for it, in PEM; read again when it changes. Unset:
    nothing is encrypted.
    """

    tls_key_file: Path | None = None
    """The private key of the certificate, in PEM; read again when it changes."""

    tls_ca_file: Path | None = None
    """The authorities whose certificates count, those of other services and, where they are required, of callers, in
    PEM; read again when it changes. Unset: for other services, those that the system knows.
    """

    tls_require_client_certificate: bool = False
    """Whether every caller has to show a certificate of an authority in `LAUREL_TLS_CA_FILE` (mutual TLS)."""

    tls_service_names: str = ""
    """Names in the certificates of Laurel's own services, with commas in between: who shows one of them may call what
    is for services alone. Needs `LAUREL_TLS_REQUIRE_CLIENT_CERTIFICATE`.
    """

    tls_server_name: str | None = None
    """The name that certificates of other services have to be for; unset, the host in the target."""

    tls_off: bool = False
    """Says that it is meant to serve without TLS on an address that is not loopback, as behind a mesh that encrypts."""

    service_token: Tokens | None = None
    """The secret that Laurel's services share, at least 32 characters: who shows it may call everything. The first of
    several, with commas in between, is shown to others, all are accepted, so that it can be changed without a stop.
    """

    orchestrator_target: str = "127.0.0.1:7400"
    """Where the orchestrator is, which knows the keys of callers: HOST:PORT, or several IP:PORT with commas."""

    key_grace_seconds: float = Field(default=300.0, ge=0, le=86_400)
    """For how long keys that are known go on to count while the orchestrator cannot be asked about them, in seconds."""

    keys_off: bool = False
    """Says that it is meant to let anybody call who reaches an address that is not loopback."""

    redis_url: RedisUrl | None = None
    """The Valkey or Redis that counts how often keys are used that have a rate limit; the same for all services. Unset:
    rate limits hold nobody back here.
    """

    redis_cluster: bool = False
    """Whether that server is one of a cluster."""

    instance: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}", min_length=1, max_length=128
    )
    """The name of this replica, unique among the replicas of the service; unset, its host and process id."""

    postgres_pool_size: int = Field(default=8, ge=2, le=200)
    """The largest number of database connections of this replica; time-driven work keeps one of them."""

    statement_timeout_ms: int = Field(default=10_000, ge=10, le=600_000)
    """How long one SQL statement may run, in milliseconds; then it is cancelled, and the caller hears UNAVAILABLE."""

    max_concurrent_rpcs: int = Field(default=1_000, ge=1, le=100_000)
    """How many calls may be in progress; further ones are answered RESOURCE_EXHAUSTED at once. One connection can have
    as many under way, 100 at least: more of them wait in the caller, by HTTP/2.
    """

    max_message_bytes: int = Field(default=16_777_216, ge=1_024, le=1_073_741_824)
    """The largest message to receive or send, in bytes."""

    max_held_bytes: int = Field(default=67_108_864, ge=1_048_576, le=17_179_869_184)
    """How many bytes of requests may be held at once, in bytes; further ones are answered RESOURCE_EXHAUSTED. One alone
    may have more. What a request takes in memory while it is served is a few times its bytes.
    """

    drain_grace_seconds: float = Field(default=10.0, ge=0, le=600)
    """How long calls in progress may take to end after SIGTERM, in seconds; then they are cut."""

    default_deadline_seconds: float = Field(default=30.0, gt=0, le=3_600)
    """The deadline of a unary call whose caller set none, in seconds; then it is answered DEADLINE_EXCEEDED."""

    otlp_endpoint: str | None = None
    """Where to send traces and metrics over OTLP/gRPC, such as http://localhost:4317; unset, none are sent."""

    prometheus_listen: Address | None = None
    """Where Prometheus reads metrics over HTTP, such as 0.0.0.0:9464; unset, nowhere. Whoever reaches it can read them:
    counts and times, no personal data.
    """

    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """The share of traces that start here to record; a caller's decision is followed."""

    replay_window_days: int | None = Field(default=None, ge=32, le=36_500)
    """For how many days at least an answer can be given again; it goes by the month of the event (docs/adr/0010).
    Unset: for ever.
    """

    recent_users: int = Field(default=10_000, ge=0, le=10_000_000)
    """How many users are kept in memory, some kilobytes each, so that who comes again soon is not read again."""

    maintenance_interval_seconds: float = Field(default=30.0, gt=0, le=86_400)
    """How often time-driven work is looked for, in seconds."""

    maintenance_share: float = Field(default=0.5, gt=0, le=1)
    """How much of the time the time-driven work of a feature service may take while events come, in batches of some
    milliseconds where it can be divided so far; for the rest it leaves the machine to them. While none come it takes
    all.
    """

    maintenance_ahead_seconds: float = Field(default=300.0, ge=0, le=315_360_000)
    """How far the instant of a maintenance pass that is asked for may be ahead of the database's clock, in seconds,
    while no import holds the clock; further ahead it is refused. Tests that look into the future raise it.
    """

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("LAUREL_TLS_CERTIFICATE_FILE and LAUREL_TLS_KEY_FILE belong together")
        if self.tls_require_client_certificate and not (self.tls_certificate_file and self.tls_ca_file):
            raise ValueError(
                "LAUREL_TLS_REQUIRE_CLIENT_CERTIFICATE needs a certificate, its key and LAUREL_TLS_CA_FILE"
            )
        if self.service_names and not self.tls_require_client_certificate:
            raise ValueError("LAUREL_TLS_SERVICE_NAMES needs LAUREL_TLS_REQUIRE_CLIENT_CERTIFICATE")
        return self

    @property
    def service_names(self) -> frozenset[str]:
        """The names in certificates of Laurel's own services."""
        return frozenset(name.strip() for name in self.tls_service_names.split(",") if name.strip())

    @property
    def service_tokens(self) -> tuple[str, ...]:
        """The secrets between services: the first is shown to others, all are accepted. Empty: there is none."""
        return () if self.service_token is None else split_tokens(self.service_token)

    @property
    def replay_window(self) -> timedelta | None:
        """For how long at least an answer can be given again; None: for ever."""
        return None if self.replay_window_days is None else timedelta(days=self.replay_window_days)


S = TypeVar("S", bound=DatabaseSettings)


_OF_KUBERNETES: Final = re.compile(
    r"LAUREL(_\w+)?(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes sets in every container for a service of its own that is called laurel, or laurel-something."""


def load(settings_type: type[S], **overrides: Any) -> S:
    """The settings from the environment. Raises one `ConfigurationError` for all the bad variables, those that
    no part of Laurel knows among them.
    """
    problems = misspelt(os.environ, own=[f"{PREFIX}{name.upper()}" for name in settings_type.model_fields])
    directory = os.environ.get(SECRETS_DIRECTORY)
    if directory and not Path(directory).is_dir():
        problems.append(f"{SECRETS_DIRECTORY}={directory!r}: is no directory")
    try:
        settings = settings_type(**{"_secrets_dir": directory, **overrides})
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


def _problem(settings_type: type[DatabaseSettings], item: Any) -> str:
    """One line: the variable, its value (a secret's is masked), and what is wrong with it."""
    if not item["loc"]:
        return str(item["msg"]).removeprefix("Value error, ")  # of several variables, which it names
    name = str(item["loc"][0])
    field = settings_type.model_fields.get(name)
    variable = f"{PREFIX}{name.upper()}"
    if field is None:
        return f"{variable}: {item['msg']}"
    if item["type"] == "missing":
        return f"{variable} is not set: {field.description}"
    secret = "SecretStr" in repr(field.annotation)
    shown = "********" if secret else repr(item["input"])
    return f"{variable}={shown}: {item['msg'].removeprefix('Value error, ')}"
