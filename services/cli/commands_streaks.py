"""streaks: a streak of many users, and a user's calendar."""

from datetime import date, timedelta

import click
from laurel.common.v1 import date_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from services.cli import render
from services.cli.connect import Connections
from services.cli.options import Day, json_option, limit_option
from services.cli.show_streak import show_at_risk, show_periods, show_ranked, show_statistics


@click.group()
def streaks() -> None:
    """Look at one streak of many users."""


@streaks.command()
@click.argument("key")
@click.argument("users", nargs=-1, required=True)
@json_option
@click.pass_obj
def compare(connections: Connections, key: str, users: tuple[str, ...], as_json: bool) -> None:
    """Show a streak of several USERS, longest first."""
    request = pb.BatchGetUserStreaksRequest(streak=key, user_ids=users)
    response = connections.streak.BatchGetUserStreaks(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_ranked(response.streaks)


@streaks.command("at-risk")
@click.argument("key")
@click.option("--hours", type=int, default=6, show_default=True, help="Within so many hours.")
@click.option("--tz", "time_zone", default="", help="Only users in this IANA zone.")
@limit_option(50)
@json_option
@click.pass_obj
def at_risk(
    connections: Connections, key: str, hours: int, time_zone: str, limit: int, as_json: bool
) -> None:
    """List the users whose streak ends unless they act, soonest first."""
    request = pb.ListStreaksAtRiskRequest(streak=key, within_hours=hours, time_zone=time_zone)
    request.read_time.GetCurrentTime()
    response = connections.all_pages(connections.streak.ListStreaksAtRisk, request, "streaks", limit)
    render.print_json(response) if as_json else show_at_risk(response.streaks)


@streaks.command()
@click.argument("user")
@click.argument("key")
@click.option("--from", "first", type=Day(), required=True, help="First date.")
@click.option("--to", "last", type=Day(), help="Last date; default: 41 days after the first.")
@json_option
@click.pass_obj
def calendar(
    connections: Connections,
    user: str,
    key: str,
    first: date_pb2.LocalDate,
    last: date_pb2.LocalDate | None,
    as_json: bool,
) -> None:
    """Show what became of each period of a USER's streak in a range of dates."""
    request = pb.GetCalendarRequest(
        user_id=user, streak=key, start_date=first, end_date=last or _later(first, 41)
    )
    response = connections.streak.GetCalendar(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_periods(response.periods)


@streaks.command()
@click.argument("key")
@click.option("--from", "first", type=Day(), required=True, help="First date of the losses.")
@click.option("--to", "last", type=Day(), help="Last date; default: 27 days after the first.")
@json_option
@click.pass_obj
def statistics(
    connections: Connections,
    key: str,
    first: date_pb2.LocalDate,
    last: date_pb2.LocalDate | None,
    as_json: bool,
) -> None:
    """Show how long a streak is among all users, and how many were lost, when, and saved."""
    request = pb.GetStreakStatisticsRequest(streak=key, start_date=first, end_date=last or _later(first, 27))
    response = connections.streak.GetStreakStatistics(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_statistics(response)


def _later(day: date_pb2.LocalDate, days: int) -> date_pb2.LocalDate:
    found = date(day.year, day.month, day.day) + timedelta(days=days)
    return date_pb2.LocalDate(year=found.year, month=found.month, day=found.day)
