"""doctor: what services lack of the ledger, and sending it again."""

from collections.abc import Callable
from typing import Any

import click
from laurel.orchestrator.v1 import examination_pb2, orchestrator_service_pb2

from services.cli import render
from services.cli.connect import Connections
from services.cli.options import json_option

EXAMINING = examination_pb2.EXAMINATION_STAGE_EXAMINING
EXAMINED = examination_pb2.EXAMINATION_STAGE_EXAMINED
HEALING = examination_pb2.EXAMINATION_STAGE_HEALING
ENDED = examination_pb2.EXAMINATION_STAGE_ENDED


@click.command()
@click.option("--heal", is_flag=True, help="Send what is missing; without it, only tell.")
@click.option("--reason", default="", help="Why, for the audit; with --heal.")
@click.option("--again", is_flag=True, help="Begin anew, instead of going on with what was begun.")
@json_option
@click.pass_obj
def doctor(connections: Connections, heal: bool, reason: str, again: bool, as_json: bool) -> None:
    """Find and send again what a restored service lacks.

    For a service whose database was put back to an earlier time than the ledger, or lost. Can be stopped at any time
    and called again. Exits with 1 while anything is left to be done.
    """
    if heal and not reason:
        raise click.UsageError("--heal needs a --reason")
    timeout = connections.timeout_seconds
    request = orchestrator_service_pb2.ExamineLedgerRequest(restart=again)
    found = connections.orchestrator.ExamineLedger(request, timeout=timeout)
    stage = found.examination.stage
    # An examination that has ended is of its time; what one has found that has just been shown is what is to be sent.
    if not again and (stage == ENDED or (stage == EXAMINED and not heal)):
        request.restart = True
        found = connections.orchestrator.ExamineLedger(request, timeout=timeout)
    request.restart = False
    examination = _through(
        found, EXAMINING, lambda: connections.orchestrator.ExamineLedger(request, timeout=timeout)
    )
    if heal:
        asked = orchestrator_service_pb2.HealLedgerRequest(reason=reason)
        response = connections.orchestrator.HealLedger(asked, timeout=timeout)
        examination = _through(
            response, HEALING, lambda: connections.orchestrator.HealLedger(asked, timeout=timeout)
        )
    render.print_json(examination) if as_json else _show(examination)
    if any(_left(service) for service in examination.services):
        raise SystemExit(1)


def _through(
    response: Any, stage: "examination_pb2.ExaminationStage.ValueType", go_on: Callable[[], Any]
) -> examination_pb2.Examination:
    """Calls again while it is at a stage."""
    console = render.console(stderr=True)
    while response.examination.stage == stage:
        done = sum(service.healed_count + service.failed_count for service in response.examination.services)
        told = f", {render.number(done)} sent" if done else ""
        console.print(f"  {render.number(response.examination.examined_count)} entries compared{told}")
        response = go_on()
    found: examination_pb2.Examination = response.examination
    return found


def _show(examination: examination_pb2.Examination) -> None:
    render.facts(
        [
            ("entries compared", examination.examined_count),
            ("under way or parked", examination.unfinished_count),
        ]
    )
    render.table(
        ("service", ">missing", ">undoings", ">definitions", ">sent", ">failed", ">too many"),
        [
            (
                service.service,
                service.missing_count,
                service.undoing_count,
                service.definition_count,
                service.healed_count,
                service.failed_count,
                service.unknown_count,
            )
            for service in examination.services
        ],
    )
    for failure in examination.failures:
        render.line(f"{failure.entry_id}: {failure.cause}")
    if any(service.unknown_count for service in examination.services):
        render.line(
            "too many: put these databases back to no later a time than the orchestrator's, and call again"
        )
    elif not any(_left(service) for service in examination.services):
        render.line("every service has all of the ledger")
    elif examination.stage == EXAMINED:
        render.line("laurel doctor --heal --reason ... sends what is missing")


def _left(service: examination_pb2.ServiceFindings) -> int:
    """How much is not as it should be."""
    found = service.missing_count + service.undoing_count + service.definition_count
    return found - service.healed_count + service.unknown_count
