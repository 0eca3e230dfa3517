"""What `python -m services.<name> serve | migrate` does, the same for every service."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import asyncpg
import uvloop

from shared.config import EXIT_CONFIGURATION, ConfigurationError, DatabaseSettings, Settings, load
from shared.postgres.migrations import MigrationError, migrate
from shared.postgres.sessions import NoSessionError
from shared.telemetry.logs import configure_logging

S = TypeVar("S", bound=Settings)
T = TypeVar("T")

_EXIT_USAGE: Final = 64
_EXIT_FAILED: Final = 1


def run(
    name: str,
    settings_type: type[S],
    *,
    server: str,
    migrations: Path,
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Run the command on the command line and exit: 0, 1 where it failed, 64 for another command, 78 where
    the configuration is wrong (every bad variable is named).

    `server` names the module with `serve(settings)`. Only what serves imports it: to migrate takes no server,
    and loading one takes longer than most migrations. Nor does it ask for settings of what serves.
    """
    command = list(sys.argv[1:] if arguments is None else arguments)
    if command not in (["serve"], ["migrate"]):
        _end(f"usage: python -m services.{name} serve | migrate", _EXIT_USAGE)
    try:
        if command == ["serve"]:
            _run(_serve(name, load(settings_type), server))
        else:
            applied = _run(_migrate(name, load(DatabaseSettings), migrations))
            _end(f"{name}: applied {', '.join(applied) or 'nothing, the schema is current'}", 0)
    except ConfigurationError as error:
        _end(str(error), EXIT_CONFIGURATION)
    except (MigrationError, NoSessionError, OSError, asyncpg.PostgresError) as error:
        _end(f"{name} {command[0]}: {error}", _EXIT_FAILED)
    sys.exit(0)


def _run(command: Coroutine[None, None, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(command)


async def _serve(name: str, settings: S, server: str) -> None:
    configure_logging(name, settings.log_level)
    serve: Callable[[S], Coroutine[None, None, None]] = import_module(server).serve
    await serve(settings)


async def _migrate(name: str, settings: DatabaseSettings, migrations: Path) -> list[str]:
    configure_logging(name, settings.log_level)
    own = settings.postgres_dsn.get_secret_value()
    if settings.migration_dsn is None:
        return await migrate(own, migrations)
    return await migrate(settings.migration_dsn.get_secret_value(), migrations, served_by=own)


def _end(message: str, status: int) -> NoReturn:
    sys.stderr.write(message + "\n")
    sys.exit(status)
