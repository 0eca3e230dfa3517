"""backfills, preview: who is given an achievement for what was before it, or would be."""

import uuid
from datetime import UTC, datetime, timedelta

import click
from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.common.v1 import date_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as orchestrator_pb

from services.cli import render
from services.cli.commands_configuration import contents, read
from services.cli.connect import Connections
from services.cli.options import INT32, Day, ShowGroup, json_option, key_option, limit_option
from services.cli.show_achievement import show_backfills, show_preview, show_statistics
from services.cli.show_event import show_operation
from shared.rpc.convert import date_to_proto


@click.group(cls=ShowGroup, short_help="Look at backfills of achievements, or end one.")
def backfills() -> None:
    """Look at backfills: users who had qualified before an achievement could be earned are given it."""


@backfills.command("list")
@click.option("--running", is_flag=True, help="Only those that run.")
@limit_option(50)
@json_option
@click.pass_obj
def list_backfills(connections: Connections, running: bool, limit: int, as_json: bool) -> None:
    """List backfills, the last of each achievement."""
    request = pb.ListBackfillsRequest(running_only=running)
    response = connections.all_pages(connections.achievement.ListBackfills, request, "backfills", limit)
    render.print_json(response) if as_json else show_backfills(response.backfills)


@backfills.command()
@click.argument("achievement")
@json_option
@click.pass_obj
def show(connections: Connections, achievement: str, as_json: bool) -> None:
    """Show how far the backfill of an ACHIEVEMENT has come."""
    request = pb.GetBackfillRequest(achievement=achievement)
    response = connections.achievement.GetBackfill(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_backfills([response.backfill])


@backfills.command()
@click.argument("achievement")
@click.option("--reason", default="", help="Why, for the audit.")
@key_option
@json_option
@click.pass_obj
def cancel(connections: Connections, achievement: str, reason: str, key: str | None, as_json: bool) -> None:
    """End the backfill of an ACHIEVEMENT; what it gave stays."""
    request = orchestrator_pb.CancelBackfillRequest(
        achievement=achievement, reason=reason, request_id=key or str(uuid.uuid4())
    )
    response = connections.orchestrator.CancelBackfill(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_backfills([response.backfill])


@click.command(short_help="Take an achievement from a user.")
@click.argument("user")
@click.argument("achievement")
@click.option("--reason", default="", help="Why, for the audit.")
@key_option
@json_option
@click.pass_obj
def revoke(
    connections: Connections, user: str, achievement: str, reason: str, key: str | None, as_json: bool
) -> None:
    """Take an ACHIEVEMENT from a USER, with what hung on it; nothing earns it until the entry is voided."""
    request = orchestrator_pb.RevokeAchievementRequest(
        user_id=user, achievement=achievement, reason=reason, request_id=key or str(uuid.uuid4())
    )
    response = connections.orchestrator.RevokeAchievement(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_operation(response)


@click.command(short_help="Say that a user has been shown achievements.")
@click.argument("user")
@click.argument("achievements", nargs=-1)
@key_option
@json_option
@click.pass_obj
def seen(
    connections: Connections, user: str, achievements: tuple[str, ...], key: str | None, as_json: bool
) -> None:
    """Say that a USER has been shown ACHIEVEMENTS, or all that were completed until now."""
    request = orchestrator_pb.MarkSeenRequest(
        user_id=user, achievements=achievements, request_id=key or str(uuid.uuid4())
    )
    response = connections.orchestrator.MarkSeen(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else render.line(f"entry {response.entry_id}")


@click.command("achievement-statistics", short_help="Show what an achievement is calibrated by.")
@click.argument("achievement")
@click.option("--from", "first", type=Day(), help="First date of completions by day; default: 27 days ago.")
@click.option("--to", "last", type=Day(), help="Last date; default: today.")
@json_option
@click.pass_obj
def statistics(
    connections: Connections,
    achievement: str,
    first: date_pb2.LocalDate | None,
    last: date_pb2.LocalDate | None,
    as_json: bool,
) -> None:
    """Show how many hold an ACHIEVEMENT, what it took them, how many gave up, and completions by day."""
    today = datetime.now(UTC).date()
    request = pb.GetAchievementStatisticsRequest(
        achievement=achievement,
        start_date=first or date_to_proto(today - timedelta(days=27)),
        end_date=last or date_to_proto(today),
    )
    response = connections.achievement.GetAchievementStatistics(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_statistics(response)


@click.command(short_help="Say who would be given an achievement, before it is.")
@click.argument("achievement")
@click.option("-f", "file", metavar="FILE", help="Take its definition from this file; - is the input.")
@click.option(
    "--sample", type=INT32, default=10, show_default=True, help="How many users to show, at most 100."
)
@json_option
@click.pass_obj
def preview(connections: Connections, achievement: str, file: str | None, sample: int, as_json: bool) -> None:
    """Say how many users would be given an ACHIEVEMENT for what they have done, and some of them."""
    request = pb.PreviewAchievementRequest(sample_size=sample)
    if file is None:
        request.key = achievement
    else:
        configuration = read(*contents(file), "nothing was asked")
        named = [each for each in configuration.request.achievements if each.key == achievement]
        if not named:
            raise click.UsageError(f"the file has no achievement {achievement!r}")
        request.achievement.CopyFrom(named[0])
    response = connections.achievement.PreviewAchievement(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_preview(response)
