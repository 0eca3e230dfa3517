"""apply, sagas, maintenance: what administrators do."""

import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1 import configuration_pb2
from laurel.orchestrator.v1 import audit_pb2, orchestrator_service_pb2

from services.cli import render
from services.cli.configuration import Configuration, ConfigurationMistakes, read_configuration
from services.cli.connect import Connections
from services.cli.errors import CommandError, laurel_error
from services.cli.options import Instant, json_option, limit_option
from services.cli.views_event import show_audit, show_audits
from services.cli.yaml_messages import Mistake

STATES = tuple(
    name.removeprefix("ENTRY_STATE_").lower()
    for name, number in audit_pb2.EntryState.items()
    if number not in (audit_pb2.ENTRY_STATE_UNSPECIFIED, audit_pb2.ENTRY_STATE_UNDONE)
)


@click.command()
@click.option(
    "-f",
    "--file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The configuration file (YAML).",
)
@click.option("--dry-run", is_flag=True, help="Check everything and show the difference; change nothing.")
@json_option
@click.pass_obj
def apply(connections: Connections, file: Path, dry_run: bool, as_json: bool) -> None:
    """Apply a configuration file to all services: everything, or nothing where anything is wrong."""
    response = apply_file(connections, file, dry_run=dry_run)
    if as_json:
        render.print_json(response)
    else:
        show_changes(response.changes, dry_run=dry_run)


def apply_file(
    connections: Connections, file: Path, *, dry_run: bool = False
) -> orchestrator_service_pb2.ApplyConfigurationResponse:
    """Apply the file. Raises `CommandError` with every mistake and its place, and `grpc.RpcError`."""
    try:
        configuration = read_configuration(file.read_bytes())
    except ConfigurationMistakes as error:
        raise CommandError(*mistake_lines(file, error.mistakes)) from error
    configuration.request.validate_only = dry_run
    try:
        return connections.orchestrator.ApplyConfiguration(
            configuration.request, timeout=connections.timeout_seconds
        )
    except grpc.RpcError as error:
        raise _refusal(file, configuration, error) from error


def _refusal(file: Path, configuration: Configuration, error: grpc.RpcError) -> Exception:
    """What the server found wrong, as places in the file; another error as it is."""
    refused = laurel_error(error)
    if not refused.violations:
        return error
    return CommandError(*mistake_lines(file, configuration.locate(refused.violations)))


def mistake_lines(file: Path, mistakes: Sequence[Mistake]) -> list[str]:
    """`laurel.yaml:12:5  streaks[0].frequency  unknown value 'dayly'; did you mean daily?`"""
    lines = [
        "  ".join(
            part for part in (f"{file}:{each.place.line}:{each.place.column}", each.path, each.what) if part
        )
        for each in mistakes
    ]
    noun = "mistake" if len(mistakes) == 1 else "mistakes"
    return [*map(render.printable, lines), f"{len(mistakes)} {noun}; nothing was applied."]


def show_changes(changes: Sequence[configuration_pb2.ConfigurationChange], *, dry_run: bool) -> None:
    """The difference that a configuration makes, then how much of each kind."""
    names = [
        render.enum_name(configuration_pb2.ConfigurationAction.Name(each.action), "CONFIGURATION_ACTION_")
        for each in changes
    ]
    rows: render.Rows = [
        [name, each.kind.replace("_", " "), each.key, ", ".join(each.changed_fields)]
        for name, each in zip(names, changes, strict=True)
        if name != "keep"
    ]
    if rows:
        render.table(["", "kind", "key", "changed fields"], rows)
    counted = Counter(names)
    text = ", ".join(f"{counted[name]} {name}" for name in ("create", "update", "keep"))
    render.line(f"{text}. {'Nothing was applied: this was a dry run.' if dry_run else 'Applied.'}")


@click.group()
def sagas() -> None:
    """Look after entries that are not finished."""


@sagas.command("list")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Default: all unfinished.")
@click.option("--user", default="", help="Only this user's.")
@limit_option(50)
@json_option
@click.pass_obj
def list_sagas(
    connections: Connections, states: tuple[str, ...], user: str, limit: int, as_json: bool
) -> None:
    """List sagas by state, oldest first."""
    request = orchestrator_service_pb2.ListSagasRequest(
        states=[audit_pb2.EntryState.Value(f"ENTRY_STATE_{each.upper()}") for each in states], user_id=user
    )
    response = connections.all_pages(connections.orchestrator.ListSagas, request, "sagas", limit)
    render.print_json(response) if as_json else show_audits(response.sagas, empty="none")


@sagas.command()
@click.argument("entry_id")
@json_option
@click.pass_obj
def retry(connections: Connections, entry_id: str, as_json: bool) -> None:
    """Put a parked saga to work again."""
    request = orchestrator_service_pb2.RetrySagaRequest(entry_id=entry_id, request_id=str(uuid.uuid4()))
    response = connections.orchestrator.RetrySaga(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_audit(response.saga)


@sagas.command()
@click.argument("entry_id")
@click.option("--reason", required=True, help="Why, for the audit.")
@json_option
@click.pass_obj
def abandon(connections: Connections, entry_id: str, reason: str, as_json: bool) -> None:
    """Give up a parked saga: it is undone in every service and refused."""
    request = orchestrator_service_pb2.AbandonSagaRequest(
        entry_id=entry_id, reason=reason, request_id=str(uuid.uuid4())
    )
    response = connections.orchestrator.AbandonSaga(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_audit(response.saga)


@click.command()
@click.option("--now", type=Instant(), help="The instant to work at; default: the server's clock.")
@json_option
@click.pass_obj
def maintenance(connections: Connections, now: Timestamp | None, as_json: bool) -> None:
    """Do the time-driven work of all services that is due."""
    request = orchestrator_service_pb2.RunMaintenanceRequest(now=now)
    response = connections.orchestrator.RunMaintenance(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
    else:
        render.facts(
            [
                ("streaks brought up to date", response.closed_streak_count),
                ("runs archived", response.finalized_run_count),
                ("entries that followed", response.followed_change_count),
            ]
        )
