"""The `laurel` command. Exit codes: 0 done, 1 refused, 2 wrong usage, 3 unavailable (try again)."""

import os
from importlib import metadata
from typing import Any

import click
import grpc
from click.core import ParameterSource

from services.cli import (
    commands_achievements,
    commands_admin,
    commands_audit,
    commands_boards,
    commands_configuration,
    commands_contacts,
    commands_context,
    commands_doctor,
    commands_events,
    commands_feed,
    commands_keys,
    commands_messages,
    commands_metrics,
    commands_operate,
    commands_points,
    commands_reads,
    commands_streaks,
    commands_streams,
    commands_user,
    commands_webhooks,
    plugins,
)
from services.cli.connect import Connections
from services.cli.errors import CommandError, NotToldError, command_error, laurel_error
from services.cli.targets import SERVICES
from shared.config import misspelt

DEFAULT_TIMEOUT_SECONDS = 60.0
TARGET_VARIABLE = "LAUREL_TARGET"
OF_THE_GROUP = ("--target", "--timeout")
"""Options that people look for at the end of the line."""


class LaurelGroup(click.Group):
    """Shows what services answer as the user's own errors, without a traceback. Has the commands of plugins too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *plugins.command_names()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or plugins.load_command(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except grpc.RpcError as error:
            raise command_error(laurel_error(error), _asked(ctx)) from error
        except click.NoSuchOption as error:
            if error.option_name in OF_THE_GROUP:
                hint = f"{error.option_name} comes before the command: laurel {error.option_name} ... COMMAND"
                raise click.UsageError(hint, error.ctx) from error
            raise
        except UnicodeEncodeError as error:
            raise click.UsageError("an argument is not text in UTF-8", ctx) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise CommandError(f"{error.filename or 'input'}: {error.strerror}") from error


def _asked(ctx: click.Context) -> list[tuple[str, str, str]]:
    """Name, address and source of each service."""
    if not isinstance(ctx.obj, Connections):
        return []
    return [(name, each.address, each.source) for name, each in ctx.obj.targets.items() if each.address]


@click.group(cls=LaurelGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("laurel"), prog_name="laurel")
@click.option(
    "--target",
    "targets",
    multiple=True,
    envvar=TARGET_VARIABLE,
    metavar="[SERVICE=]HOST:PORT",
    help="Where a service is; without a name, the orchestrator, and the others on the ports after it. Default: "
    "LAUREL_TARGET (several with blanks between), LAUREL_<SERVICE>_TARGET, the stack of this directory. "
    "`laurel context` shows what comes of it.",
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
    if problems := misspelt(os.environ):
        # Whoever meant another system by it must not reach this one.
        raise NotToldError(*problems)
    by_variable = context.get_parameter_source("targets") is ParameterSource.ENVIRONMENT
    source = TARGET_VARIABLE if by_variable else "--target"
    connections = Connections(parse_targets(targets, source), timeout, source)
    context.obj = connections
    context.call_on_close(connections.close)


def parse_targets(values: tuple[str, ...], source: str = "--target") -> dict[str, str]:
    """`--target` values by service; `source` is where they stand. Raises `click.UsageError`."""
    result: dict[str, str] = {}
    for value in values:
        service, equals, address = value.rpartition("=")
        service = service if equals else SERVICES[0]
        if service not in SERVICES:
            raise click.UsageError(
                f"{source}: no service is called {service!r}; there are {', '.join(SERVICES)}"
            )
        if service in result:
            raise click.UsageError(f"{source}: {service} is given twice")
        result[service] = address
    return result


for command in (
    commands_context.context,
    commands_configuration.apply,
    commands_configuration.validate,
    commands_configuration.export,
    commands_configuration.get,
    commands_configuration.delete,
    commands_events.ingest,
    commands_events.import_,
    commands_events.event,
    commands_events.events,
    commands_reads.users,
    commands_user.user,
    commands_reads.streak,
    commands_streaks.streaks,
    commands_reads.achievements,
    commands_reads.completions,
    commands_achievements.statistics,
    commands_achievements.revoke,
    commands_achievements.seen,
    commands_achievements.backfills,
    commands_achievements.preview,
    commands_metrics.metrics,
    commands_points.points,
    commands_boards.leaderboard,
    commands_boards.ranks,
    commands_events.complete,
    commands_events.void,
    commands_operate.grant,
    commands_operate.spend,
    commands_operate.transfer,
    commands_operate.hold,
    commands_operate.capture,
    commands_operate.release,
    commands_operate.operate,
    commands_admin.sagas,
    commands_admin.maintenance,
    commands_doctor.doctor,
    commands_feed.feed,
    commands_keys.keys,
    commands_audit.audit,
    commands_webhooks.webhooks,
    commands_streams.streams,
    commands_contacts.contacts,
    commands_messages.messages,
):
    cli.add_command(command)


def main() -> None:
    """Run the command of this process."""
    cli(prog_name="laurel")
