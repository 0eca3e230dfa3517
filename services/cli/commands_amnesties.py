"""streaks amnesty, amnesties, withdraw: windows in which the app was down."""

import uuid

import click
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.orchestrator.v1 import orchestrator_service_pb2 as orchestrator_pb
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from services.cli import render
from services.cli.connect import Connections
from services.cli.options import Instant, json_option, limit_option
from services.cli.show_streak import show_amnesties, show_preview


@click.command(short_help="Excuse what was missed while the app was down.")
@click.argument("key")
@click.option("--from", "start", type=Instant(), required=True, help="When it went down.")
@click.option("--to", "end", type=Instant(), required=True, help="When it was back.")
@click.option("--streak", "streaks", multiple=True, help="Only this streak; may be repeated.")
@click.option("--preview", is_flag=True, help="Show what it would save; declare nothing.")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--request-id", help="Idempotency: the same again answers the same and does nothing.")
@json_option
@click.pass_obj
def amnesty(
    connections: Connections,
    key: str,
    start: Timestamp,
    end: Timestamp,
    streaks: tuple[str, ...],
    preview: bool,
    reason: str,
    request_id: str | None,
    as_json: bool,
) -> None:
    """Declare under a KEY that the app was down for a while: what was missed then costs nobody a streak.

    Freezes that were spent for it come back. `laurel streaks withdraw KEY` takes it back.
    """
    if preview:
        asked = pb.PreviewAmnestyRequest(start_time=start, end_time=end, streaks=streaks)
        found = connections.streak.PreviewAmnesty(asked, timeout=connections.timeout_seconds)
        render.print_json(found) if as_json else show_preview(found.streaks)
        return
    request = orchestrator_pb.DeclareAmnestyRequest(
        amnesty=streak_pb2.Amnesty(key=key, start_time=start, end_time=end, streaks=streaks),
        reason=reason,
        request_id=request_id or str(uuid.uuid4()),
    )
    reply = connections.orchestrator.DeclareAmnesty(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(reply)
    else:
        render.line(
            f"Declared {reply.amnesty.key}. `laurel streaks amnesties` shows what it has given back so far."
        )


@click.command(short_help="List amnesties, and what they have given back.")
@limit_option(50)
@json_option
@click.pass_obj
def amnesties(connections: Connections, limit: int, as_json: bool) -> None:
    """List amnesties by key, with what they have given back so far."""
    response = connections.all_pages(
        connections.streak.ListAmnesties, pb.ListAmnestiesRequest(), "amnesties", limit
    )
    render.print_json(response) if as_json else show_amnesties(response.amnesties)


@click.command(short_help="Take an amnesty back.")
@click.argument("key")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--request-id", help="Idempotency: the same again answers the same and does nothing.")
@json_option
@click.pass_obj
def withdraw(connections: Connections, key: str, reason: str, request_id: str | None, as_json: bool) -> None:
    """Take the amnesty KEY back: streaks are what they are without it."""
    request = orchestrator_pb.WithdrawAmnestyRequest(
        key=key, reason=reason, request_id=request_id or str(uuid.uuid4())
    )
    reply = connections.orchestrator.WithdrawAmnesty(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else render.line(f"Withdrew {key}.")
