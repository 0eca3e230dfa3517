"""users, user, streak, achievements: reads, each straight from the service that owns it."""

import click
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2
from laurel.streak.v1 import streak_service_pb2

from services.cli import render
from services.cli.connect import EVERYTHING, Connections
from services.cli.options import Instant, json_option, limit_option
from services.cli.show_streak import show_freezes, show_longest, show_periods, show_streak_states
from services.cli.show_user import (
    show_achievements,
    show_completions,
    show_users,
)


@click.command()
@limit_option(50)
@json_option
@click.pass_obj
def users(connections: Connections, limit: int, as_json: bool) -> None:
    """List the users that are known, by their ids."""
    request = orchestrator_service_pb2.ListUsersRequest()
    response = connections.all_pages(connections.orchestrator.ListUsers, request, "users", limit)
    render.print_json(response) if as_json else show_users(response.users)


@click.command(short_help="Show a user's streaks, or the longest of all.")
@click.argument("user", required=False)
@click.option("--streak", "key", help="Key of the streak; needed by --periods and --freezes.")
@click.option("--periods", is_flag=True, help="The user's periods, newest first.")
@click.option("--freezes", is_flag=True, help="The user's freeze ledger.")
@click.option("--longest", metavar="KEY", help="Instead of a user's: who had the longest runs of a streak.")
@limit_option(50)
@json_option
@click.pass_obj
def streak(
    connections: Connections,
    user: str | None,
    key: str | None,
    periods: bool,
    freezes: bool,
    longest: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show a user's streaks, or the longest of all users."""
    if (user is None) == (longest is None):
        raise click.UsageError("give either a user or --longest KEY")
    if longest is not None:
        _longest(connections, longest, limit, as_json)
    elif periods or freezes:
        if key is None or (periods and freezes):
            raise click.UsageError("--periods and --freezes need --streak KEY, and go one at a time")
        _history(connections, str(user), key, limit, as_json, periods=periods)
    else:
        _states(connections, str(user), key, as_json)


def _longest(connections: Connections, key: str, limit: int, as_json: bool) -> None:
    request = streak_service_pb2.ListLongestStreaksRequest(streak=key)
    response = connections.all_pages(connections.streak.ListLongestStreaks, request, "streaks", limit)
    render.print_json(response) if as_json else show_longest(response.streaks)


def _history(
    connections: Connections, user: str, key: str, limit: int, as_json: bool, *, periods: bool
) -> None:
    if periods:
        request = streak_service_pb2.ListPeriodsRequest(user_id=user, streak=key)
        listed = connections.all_pages(connections.streak.ListPeriods, request, "periods", limit)
        render.print_json(listed) if as_json else show_periods(listed.periods)
    else:
        asked = streak_service_pb2.ListFreezeLedgerRequest(user_id=user, streak=key)
        ledger = connections.all_pages(connections.streak.ListFreezeLedger, asked, "entries", limit)
        render.print_json(ledger) if as_json else show_freezes(ledger.entries)


def _states(connections: Connections, user: str, key: str | None, as_json: bool) -> None:
    request = streak_service_pb2.ListUserStreaksRequest(user_id=user)
    response = connections.all_pages(connections.streak.ListUserStreaks, request, "streaks", EVERYTHING)
    if key is not None:
        chosen = [each for each in response.streaks if each.streak == key]
        response = streak_service_pb2.ListUserStreaksResponse(streaks=chosen)
    render.print_json(response) if as_json else show_streak_states(response.streaks)


@click.command(short_help="Show a user's achievements and their progress.")
@click.argument("user")
@click.option("--completed", is_flag=True, help="Only those that the user has completed.")
@click.option("--unseen", is_flag=True, help="Only those that the user has completed and not been shown.")
@json_option
@click.pass_obj
def achievements(connections: Connections, user: str, completed: bool, unseen: bool, as_json: bool) -> None:
    """Show a user's achievements with the progress of each."""
    request = achievement_service_pb2.ListUserAchievementsRequest(
        user_id=user, completed_only=completed, unseen_only=unseen
    )
    response = connections.all_pages(
        connections.achievement.ListUserAchievements, request, "achievements", EVERYTHING
    )
    render.print_json(response) if as_json else show_achievements(response.achievements)


@click.command(short_help="List what was ever completed and revoked, newest first.")
@click.argument("user", required=False)
@click.option(
    "--achievement", default="", metavar="KEY", help="Only of this achievement; alone, of all users."
)
@click.option("--completed", "kind", flag_value="COMPLETED", help="Only completions.")
@click.option("--revoked", "kind", flag_value="REVOKED", help="Only revocations.")
@click.option("--since", type=Instant(), help="From this instant on.")
@click.option("--until", type=Instant(), help="Before this instant.")
@limit_option(50)
@json_option
@click.pass_obj
def completions(
    connections: Connections,
    user: str | None,
    achievement: str,
    kind: str | None,
    since: Timestamp | None,
    until: Timestamp | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what was ever completed and revoked, newest first: of a user, of an achievement, or of both."""
    if user is None and not achievement:
        raise click.UsageError("give a user, --achievement KEY, or both")
    request = achievement_service_pb2.ListCompletionsRequest(
        user_id=user or "",
        achievement=achievement,
        kind=achievement_pb2.AchievementChangeKind.Value(f"ACHIEVEMENT_CHANGE_KIND_{kind or 'UNSPECIFIED'}"),
        since=since,
        until=until,
    )
    response = connections.all_pages(connections.achievement.ListCompletions, request, "completions", limit)
    render.print_json(response) if as_json else show_completions(response.completions)
