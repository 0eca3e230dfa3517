"""sagas, maintenance: what operators do."""

import uuid

import click
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.orchestrator.v1 import audit_pb2, orchestrator_service_pb2

from services.cli import render
from services.cli.connect import Connections
from services.cli.options import Instant, json_option, limit_option
from services.cli.show_event import show_audit, show_audits

STATES = tuple(
    name.removeprefix("ENTRY_STATE_").lower()
    for name, number in audit_pb2.EntryState.items()
    if number not in (audit_pb2.ENTRY_STATE_UNSPECIFIED, audit_pb2.ENTRY_STATE_UNDONE)
)


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


@click.command(short_help="Do the time-driven work that is due.")
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
