"""points: balances, ledgers, sums, what an event would give, and whether all of it is right."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

import click
from laurel.common.v1.date_pb2 import LocalDate
from laurel.orchestrator.v1 import orchestrator_service_pb2, user_pb2
from laurel.points.v1 import points_service_pb2 as pb

from services.cli import render
from services.cli.connect import EVERYTHING, Connections
from services.cli.errors import EXIT_REFUSED
from services.cli.options import INT32, INT64, Day, Pair, ShowGroup, json_option, limit_option, pairs
from services.cli.show_points import (
    show_awards,
    show_boosts,
    show_differences,
    show_expiring,
    show_level_days,
    show_levels,
    show_points,
    show_preview,
    show_ranges,
    show_summary,
)
from services.cli.wishes import filters_of, where_option

USERS_A_CALL: Final = 100


@click.group(cls=ShowGroup, short_help="Show a user's points; sums, boosts, previews and the audit.")
def points() -> None:
    """`laurel points USER` shows balances; `laurel points show --help` says what else."""


@points.command(short_help="Show a user's points, or how levels are spread.")
@click.argument("user", required=False)
@click.option("--awards", is_flag=True, help="The user's award ledger, newest first.")
@click.option("--system", default="", help="With --awards: only of this points system.")
@click.option("--trigger", default="", help="With --system: only of this trigger.")
@click.option("--entry", "entry_id", default="", help="With --awards: only what belongs to this entry.")
@click.option("--levels", metavar="SYSTEM", help="Instead of a user's: how many users have each level.")
@limit_option(50)
@json_option
@click.pass_obj
def show(
    connections: Connections,
    user: str | None,
    awards: bool,
    system: str,
    trigger: str,
    entry_id: str,
    levels: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show a user's points and levels, or the distribution of levels."""
    if (user is None) == (levels is None):
        raise click.UsageError("give either a user or --levels SYSTEM")
    timeout = connections.timeout_seconds
    if levels is not None:
        asked = pb.GetLevelDistributionRequest(points_system=levels)
        distribution = connections.points.GetLevelDistribution(asked, timeout=timeout)
        render.print_json(distribution) if as_json else show_levels(distribution.levels)
    elif awards:
        request = pb.ListAwardsRequest(
            user_id=str(user), points_system=system, trigger=trigger, entry_id=entry_id
        )
        ledger = connections.all_pages(connections.points.ListAwards, request, "awards", limit)
        render.print_json(ledger) if as_json else show_awards(ledger.awards)
    else:
        wanted = pb.ListUserPointsRequest(user_id=str(user))
        response = connections.all_pages(connections.points.ListUserPoints, wanted, "points", EVERYTHING)
        render.print_json(response) if as_json else show_points(response.points)


@points.command(short_help="Sum a user's points by day, week or month.")
@click.argument("user")
@click.argument("system")
@click.option("--by", type=click.Choice(["day", "week", "month"]), default="day", show_default=True)
@click.option("--from", "first", type=Day(), help="The first local date; default: 30 days before the last.")
@click.option("--to", "last", type=Day(), help="The last local date; default: up to now.")
@json_option
@click.pass_obj
def summary(
    connections: Connections,
    user: str,
    system: str,
    by: str,
    first: LocalDate | None,
    last: LocalDate | None,
    as_json: bool,
) -> None:
    """What a USER earned and spent of a SYSTEM, and by which triggers."""
    first, last = _month_to(datetime.now(UTC).date() + timedelta(days=1), first, last)
    request = pb.SummarizePointsRequest(
        user_id=user,
        points_system=system,
        unit=pb.SummaryUnit.Value(f"SUMMARY_UNIT_{by.upper()}"),
        first_date=first,
        last_date=last,
    )
    response = connections.points.SummarizePoints(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_summary(response.periods)


@points.command(short_help="Count users by level, date by date.")
@click.argument("system")
@click.option("--from", "first", type=Day(), help="The first UTC date; default: 30 days before the last.")
@click.option("--to", "last", type=Day(), help="The last UTC date; default: up to now.")
@json_option
@click.pass_obj
def levels(
    connections: Connections, system: str, first: LocalDate | None, last: LocalDate | None, as_json: bool
) -> None:
    """How many users were at each level of a SYSTEM at the end of each UTC date."""
    first, last = _month_to(datetime.now(UTC).date(), first, last)
    request = pb.ListLevelDaysRequest(points_system=system, first_date=first, last_date=last)
    response = connections.points.ListLevelDays(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_level_days(response.days)


@points.command(short_help="Count users by ranges of their balance.")
@click.argument("system")
@click.argument("bounds", type=INT64, nargs=-1, required=True)
@click.option("--lifetime", is_flag=True, help="By what they ever earned.")
@where_option
@json_option
@click.pass_obj
def distribution(
    connections: Connections,
    system: str,
    bounds: tuple[int, ...],
    lifetime: bool,
    where: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """How many users have how many points of a SYSTEM: in ranges that begin at the BOUNDS, ascending."""
    timeout = connections.timeout_seconds
    if where:
        filtered = orchestrator_service_pb2.GetFilteredPointsDistributionRequest(
            points_system=system, bounds=bounds, by_lifetime=lifetime, user_filters=filters_of(where)
        )
        counted = connections.orchestrator.GetFilteredPointsDistribution(filtered, timeout=timeout)
        render.print_json(counted) if as_json else show_ranges(counted.ranges)
        return
    request = pb.GetPointsDistributionRequest(points_system=system, bounds=bounds, by_lifetime=lifetime)
    response = connections.points.GetPointsDistribution(request, timeout=timeout)
    render.print_json(response) if as_json else show_ranges(response.ranges)


@points.command(short_help="Show the boosts that apply to a user now.")
@click.argument("user")
@json_option
@click.pass_obj
def boosts(connections: Connections, user: str, as_json: bool) -> None:
    """Show which boosts multiply what a USER earns now."""
    known = _user(connections, user)
    request = pb.ListUserBoostsRequest(user_id=user, attributes=known.attributes, time_zone=known.time_zone)
    response = connections.points.ListUserBoosts(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_boosts(response.boosts)


@points.command(short_help="Show what expires of a user's points.")
@click.argument("user")
@click.argument("system")
@click.option("--days", type=INT32, default=0, help="Only what expires within so many days.")
@json_option
@click.pass_obj
def expiring(connections: Connections, user: str, system: str, days: int, as_json: bool) -> None:
    """Show what is left of a USER's points of a SYSTEM and expires, by date."""
    request = pb.ListExpiringPointsRequest(user_id=user, points_system=system, within_days=days)
    response = connections.points.ListExpiringPoints(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_expiring(response.points)


@points.command(short_help="Show what an event would give a user.")
@click.argument("user")
@click.argument("metric")
@click.option("--value", type=float, default=1, show_default=True)
@click.option("--attr", type=Pair(), multiple=True, help="An attribute of the event.")
@json_option
@click.pass_obj
def preview(
    connections: Connections,
    user: str,
    metric: str,
    value: float,
    attr: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Show what an event of a METRIC would give a USER now. Nothing is changed."""
    known = _user(connections, user)
    request = pb.PreviewAwardRequest(
        user_id=user,
        attributes=known.attributes,
        time_zone=known.time_zone,
        metric=metric,
        value=value,
        event_attributes=pairs(attr, "--attr"),
    )
    response = connections.points.PreviewAward(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_preview(response)


@points.command(short_help="Compare all that is stored with what the facts give.")
@click.option("--user", default="", help="Only this user.")
@json_option
@click.pass_obj
def audit(connections: Connections, user: str, as_json: bool) -> None:
    """Fold users anew from their facts, and compare every award, balance, lifetime and level.

    Ends with 1 where something differs.
    """
    found = pb.AuditPointsResponse()
    request = pb.AuditPointsRequest(user_id=user, page_size=USERS_A_CALL)
    while True:
        page = connections.points.AuditPoints(request, timeout=connections.timeout_seconds)
        found.user_count += page.user_count
        found.award_count += page.award_count
        found.differences.extend(page.differences)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    render.print_json(found) if as_json else show_differences(found)
    if found.differences:
        raise click.exceptions.Exit(EXIT_REFUSED)


def _user(connections: Connections, user: str) -> user_pb2.StoredUser:
    request = orchestrator_service_pb2.GetUserRequest(user_id=user)
    return connections.orchestrator.GetUser(request, timeout=connections.timeout_seconds).user


def _month_to(newest: date, first: LocalDate | None, last: LocalDate | None) -> tuple[LocalDate, LocalDate]:
    """A range of dates as far as it is said; else up to the newest, and the thirty days before the last."""
    last = last or _local_date(newest)
    return first or _local_date(date(last.year, last.month, last.day) - timedelta(days=30)), last


def _local_date(day: date) -> LocalDate:
    return LocalDate(year=day.year, month=day.month, day=day.day)
