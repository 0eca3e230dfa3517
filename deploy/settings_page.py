"""The text of docs/settings.md: every setting of every service, as its Settings class declares it."""

from importlib import import_module
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from deploy.local.config import (
    DEFAULT_HOME,
    DEFAULT_PORT_BASE,
    HIGHEST_PORT_BASE,
    LOWEST_PORT_BASE,
    REPLICA_STRIDE,
)
from deploy.local.databases import SERVICES
from shared.config import EXIT_CONFIGURATION, PREFIX, Settings

_INTRODUCTION = f"""# Settings

A service is told by environment variables, which it reads once, when it starts. All are checked before anything starts:
where some are wrong, one line for each is written and the process ends with status {EXIT_CONFIGURATION}. A name
that is not listed here is ignored. What is counted, earned and ranked is no setting: that is
[the configuration file](configuration.md).

Generated from the services' `config.py` by `make proto`.
"""

_AROUND = f"""## The local stack, the command and containers

The local stack (`laurel up`) is told by variables of its own:

| setting | default | range | meaning |
| --- | --- | --- | --- |
| `LAUREL_HOME` | `{DEFAULT_HOME}` | | The directory of the stack's data, logs and state. |
| `LAUREL_PORT_BASE` | `{DEFAULT_PORT_BASE}` | 0, or from {LOWEST_PORT_BASE:,} up to {HIGHEST_PORT_BASE:,} | \
The port of the orchestrator; the other services follow, and further replicas lie {REPLICA_STRIDE} ports higher \
each. 0 takes free ones. |
| `LAUREL_POSTGRES_DSN` | unset | | Your own PostgreSQL, as its administrator; unset, one is started. Each service \
gets a role and a database there. |
| `LAUREL_REDIS_URL` | unset | | Your own Valkey or Redis; unset, one is started. |

It sets `LAUREL_LISTEN`, `LAUREL_INSTANCE`, `LAUREL_POSTGRES_DSN`, `LAUREL_REDIS_URL` and the targets of each service
itself. Every other setting in its environment reaches all services.

The `laurel` command looks for a service where `LAUREL_<SERVICE>_TARGET` says, such as `LAUREL_ORCHESTRATOR_TARGET`;
unset, in the local stack, and where there is none on the ports from {DEFAULT_PORT_BASE}.

`docker-compose.yml` takes `LAUREL_PASSWORD`: the password of PostgreSQL and of every service's role.
"""

_UNITS = {"seconds": "seconds", "ms": "milliseconds", "days": "days", "bytes": "bytes"}
"""By the last word of a setting's name."""


def settings_page() -> str:
    """The settings that all services share, then each service's own, then what surrounds them."""
    sections = [_INTRODUCTION, "## Every service\n", *table(Settings), ""]
    for service in SERVICES:
        own = table(settings_of(service))
        sections += [f"## {service}\n", *(own or ["Nothing beyond what every service can be told."]), ""]
    return "\n".join([*sections, _AROUND])


def settings_of(service: str) -> type[Settings]:
    """The class that a service reads its environment with."""
    found: type[Settings] = import_module(f"services.{service}.config").Settings
    return found


def table(settings_type: type[Settings]) -> list[str]:
    """The lines of a table of what this class itself declares; none where that is nothing."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(field)} | {_range(name, field)} | {_meaning(field)} |"
        for name, field in settings_type.model_fields.items()
        if name in settings_type.__annotations__
    ]
    return ["| setting | default | range | meaning |", "| --- | --- | --- | --- |", *rows] if rows else []


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    # One that is made when the process starts differs from machine to machine.
    if field.default is None or field.default_factory is not None:
        return "unset"
    # The text of a secret is a row of stars.
    return f"`{_plain(field.default)}`"


def _range(name: str, field: FieldInfo) -> str:
    """The constraints as words with the unit, such as `above 0 up to 60 seconds`; empty where there are none."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    bounds = [words for rule in field.metadata if (words := _bound(rule))]
    if not bounds:
        return ""
    is_text = any(isinstance(rule, MinLen | MaxLen) for rule in field.metadata)
    unit = "characters" if is_text else _UNITS.get(name.rpartition("_")[2], "")
    return " ".join([*bounds, unit]).strip()


def _bound(rule: object) -> str:
    match rule:
        case Ge(bound) | MinLen(bound):
            return f"from {_grouped(bound)}"
        case Gt(bound):
            return f"above {_grouped(bound)}"
        case Le(bound) | MaxLen(bound):
            return f"up to {_grouped(bound)}"
        case Lt(bound):
            return f"below {_grouped(bound)}"
    return ""


def _meaning(field: FieldInfo) -> str:
    """The docstring of the attribute on one line."""
    return " ".join((field.description or "").split())


def _plain(value: Any) -> Any:
    """604800 for 604800.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _grouped(value: Any) -> str:
    """31,622,400 for 31622400.0."""
    return f"{_plain(value):,}"
