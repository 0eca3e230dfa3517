"""ingest, import, event, events, void, complete: what goes through the saga."""

import uuid
from pathlib import Path

import click
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2, user_pb2

from services.cli import importing, render
from services.cli.connect import Connections
from services.cli.errors import UnavailableError
from services.cli.options import Instant, Pair, json_option, key_option, limit_option, pairs
from services.cli.progress import progress_bar
from services.cli.show_event import show_audit, show_audits, show_operation, show_reply, show_void

ORIGINS = ("live", "import", "backfill", "maintenance")
"""Where entries come from."""


@click.command(short_help="Send one event and show all that it changes.")
@click.option("--user", required=True, help="The user's id.")
@click.option("--metric", required=True, help="Key of the metric.")
@click.option("--value", required=True, type=float, help="The value: a decimal, not zero.")
@click.option("--tz", "time_zone", default="", help="IANA zone, such as Asia/Tokyo.")
@click.option(
    "--key", default="", help="Idempotency key: the same key again answers the same and does nothing."
)
@click.option("--at", type=Instant(), help="When it happened; default: now.")
@click.option("--attr", "attributes", type=Pair(), multiple=True, help="An attribute of the event.")
@click.option("--user-attr", "user_attributes", type=Pair(), multiple=True, help="An attribute of the user.")
@click.option("--name", default="", help="The user's display name.")
@json_option
@click.pass_obj
def ingest(
    connections: Connections,
    user: str,
    metric: str,
    value: float,
    time_zone: str,
    key: str,
    at: Timestamp | None,
    attributes: tuple[tuple[str, str], ...],
    user_attributes: tuple[tuple[str, str], ...],
    name: str,
    as_json: bool,
) -> None:
    """Send one event and show everything that it changed."""
    request = event_pb2.IngestEventRequest(
        user=user_pb2.User(
            user_id=user, name=name, time_zone=time_zone, attributes=pairs(user_attributes, "--user-attr")
        ),
        metric=metric,
        value=value,
        occur_time=at,
        idempotency_key=key,
        attributes=pairs(attributes, "--attr"),
    )
    reply = connections.orchestrator.IngestEvent(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_reply(reply)


@click.command("import", short_help="Import history from a file.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def import_(connections: Connections, file: Path) -> None:
    """Import history: a FILE of ingest requests, one JSON document a line, plain or gzip, in order of time.

    Lines that are refused are reported with their numbers, and the rest goes on. Run it again after a
    failure: what is there already is not imported twice. The exit code is 1 if lines were refused.
    """
    errors = render.console(stderr=True)
    with progress_bar(errors, file.stat().st_size) as on_progress:
        try:
            summary = importing.import_file(
                connections.orchestrator,
                file,
                on_progress=on_progress,
                on_refusal=lambda each: errors.print(refusal_text(file, each), soft_wrap=True),
            )
        except importing.ImportEndedEarly as error:
            raise UnavailableError(str(error)) from error
    render.line(summary_text(summary))
    if summary.refused_count:
        raise SystemExit(1)


def refusal_text(file: Path, refusal: importing.Refusal) -> str:
    """`activity.ndjson:17: what is wrong`."""
    return render.printable(f"{file}:{refusal.line_number}: {refusal.what}")


def summary_text(summary: importing.ImportSummary) -> str:
    """What an import came to, in a sentence or two."""
    counts = (
        f"{render.number(summary.imported_count)} imported, "
        f"{render.number(summary.replayed_count)} already there, "
        f"{render.number(summary.refused_count)} refused, "
        f"in {summary.elapsed_seconds:,.1f} s ({summary.events_per_second:,.0f} events/s)."
    )
    unchanged = summary.replayed_count and not summary.imported_count
    return counts + (" Nothing changed." if unchanged else "")


@click.command(short_help="Show the audit of one entry.")
@click.argument("entry_id")
@json_option
@click.pass_obj
def event(connections: Connections, entry_id: str, as_json: bool) -> None:
    """Show the audit of one entry: what was asked, and what each service did with it."""
    response = connections.orchestrator.GetEntry(
        orchestrator_service_pb2.GetEntryRequest(entry_id=entry_id), timeout=connections.timeout_seconds
    )
    render.print_json(response) if as_json else show_audit(response.entry)


@click.command()
@click.argument("user")
@click.option("--metric", default="", help="Only events of this metric.")
@click.option("--from", "start", type=Instant(), help="Only what occurred from this instant on.")
@click.option("--to", "end", type=Instant(), help="Only what occurred before this instant.")
@click.option("--origin", "origins", type=click.Choice(ORIGINS), multiple=True, help="Only of these origins.")
@click.option("--voided/--not-voided", default=None, help="Only what was voided, or was not.")
@limit_option(50)
@json_option
@click.pass_obj
def events(
    connections: Connections,
    user: str,
    metric: str,
    start: Timestamp | None,
    end: Timestamp | None,
    origins: tuple[str, ...],
    voided: bool | None,
    limit: int,
    as_json: bool,
) -> None:
    """List a user's entries of the ledger, newest first."""
    request = orchestrator_service_pb2.ListUserEntriesRequest(
        user_id=user,
        metric=metric,
        start_time=start,
        end_time=end,
        origins=[entry_pb2.EntryOrigin.Value(f"ENTRY_ORIGIN_{each.upper()}") for each in origins],
        voided=voided,
    )
    response = connections.all_pages(connections.orchestrator.ListUserEntries, request, "entries", limit)
    render.print_json(response) if as_json else show_audits(response.entries, empty="no entries")


@click.command(short_help="Undo a finished entry in every service.")
@click.argument("entry_id")
@click.option("--reason", required=True, help="Why, for the audit.")
@json_option
@click.pass_obj
def void(connections: Connections, entry_id: str, reason: str, as_json: bool) -> None:
    """Undo a finished entry in every service; later ones keep their effect."""
    request = orchestrator_service_pb2.VoidEntryRequest(
        entry_id=entry_id, reason=reason, request_id=str(uuid.uuid4())
    )
    response = connections.orchestrator.VoidEntry(request, timeout=connections.timeout_seconds)
    where = connections.where("orchestrator")
    render.print_json(response) if as_json else show_void(response, where)


@click.command()
@click.argument("user")
@click.argument("achievement")
@key_option
@json_option
@click.pass_obj
def complete(connections: Connections, user: str, achievement: str, key: str | None, as_json: bool) -> None:
    """Complete an achievement that is earned by call."""
    request = orchestrator_service_pb2.CompleteAchievementRequest(
        user=user_pb2.User(user_id=user), achievement=achievement, request_id=key or str(uuid.uuid4())
    )
    response = connections.orchestrator.CompleteAchievement(request, timeout=connections.timeout_seconds)
    nothing = "" if response.effects.achievements else "It had been completed before."
    render.print_json(response) if as_json else show_operation(response, nothing)
