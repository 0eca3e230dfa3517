"""The `laurel` command. Exit codes: 0 done, 1 refused, 2 wrong usage, 3 unavailable (try again)."""

from importlib import metadata
from typing import Any

import click
import grpc

from services.cli import (
    commands_admin,
    commands_configuration,
    commands_events,
    commands_feed,
    commands_reads,
    commands_stack,
)
from services.cli.connect import SERVICES, Connections
from services.cli.errors import CommandError, command_error, laurel_error

DEFAULT_TIMEOUT_SECONDS = 60.0


class LaurelGroup(click.Group):
    """Shows what services answer as the user's own errors, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except grpc.RpcError as error:
            raise command_error(laurel_error(error)) from error
        except UnicodeEncodeError as error:
            raise click.UsageError("an argument is not text in UTF-8", ctx) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise CommandError(f"{error.filename or 'input'}: {error.strerror}") from error


@click.group(cls=LaurelGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("laurel"), prog_name="laurel")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="[SERVICE=]HOST:PORT",
    help="Where a service is; without a name, the orchestrator. Default: LAUREL_<SERVICE>_TARGET, the local "
    "stack, ports 7400 to 7404.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.01, 3600),
    default=DEFAULT_TIMEOUT_SECONDS,
    show_default=True,
    help="Deadline of a call, in seconds.",
)
@click.pass_context
def cli(context: click.Context, targets: tuple[str, ...], timeout: float) -> None:
    """Laurel: streaks, achievements, points and leaderboards from one metric event."""
    connections = Connections(parse_targets(targets), timeout)
    context.obj = connections
    context.call_on_close(connections.close)


def parse_targets(values: tuple[str, ...]) -> dict[str, str]:
    """`--target` values by service. Raises `click.UsageError`."""
    result: dict[str, str] = {}
    for value in values:
        service, equals, address = value.rpartition("=")
        service = service if equals else SERVICES[0]
        if service not in SERVICES:
            raise click.UsageError(
                f"--target: no service is called {service!r}; there are {', '.join(SERVICES)}"
            )
        if service in result:
            raise click.UsageError(f"--target: {service} is given twice")
        result[service] = address
    return result


for command in (
    commands_stack.up,
    commands_stack.down,
    commands_stack.status,
    commands_configuration.apply,
    commands_configuration.validate,
    commands_configuration.export,
    commands_configuration.get,
    commands_configuration.delete,
    commands_events.ingest,
    commands_events.import_,
    commands_events.event,
    commands_events.events,
    commands_reads.user,
    commands_reads.streak,
    commands_reads.achievements,
    commands_reads.points,
    commands_reads.leaderboard,
    commands_events.complete,
    commands_events.void,
    commands_admin.sagas,
    commands_admin.maintenance,
    commands_feed.feed,
):
    cli.add_command(command)


def main() -> None:
    """Run the command of this process."""
    cli()
