"""metrics: what events have come to by date, of one user and of all, and who did most."""

from datetime import UTC, date, datetime, timedelta

import click
from laurel.common.v1.date_pb2 import LocalDate
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.cli import render
from services.cli.connect import Connections
from services.cli.options import Command, Day, json_option, limit_option


@click.group(short_help="Sum metrics by day, week or month; who did most.")
def metrics() -> None:
    """What events have come to. An event belongs to the local date of its own zone."""


def _dates(command: Command) -> Command:
    """--from and --to."""
    command = click.option("--to", "last", type=Day(), help="The last local date; default: up to now.")(
        command
    )
    return click.option(
        "--from", "first", type=Day(), help="The first local date; default: 30 days before the last."
    )(command)


_by = click.option("--by", type=click.Choice(["day", "week", "month"]), default="day", show_default=True)


@metrics.command(short_help="Sum a user's metric by day, week or month.")
@click.argument("user")
@click.argument("metric")
@_by
@_dates
@json_option
@click.pass_obj
def summary(
    connections: Connections,
    user: str,
    metric: str,
    by: str,
    first: LocalDate | None,
    last: LocalDate | None,
    as_json: bool,
) -> None:
    """What a USER's events contributed to a METRIC, and the total at the end of each period."""
    first, last = _range(first, last)
    request = pb.SummarizeUserMetricRequest(
        user_id=user, metric=metric, period=_period(by), first_date=first, last_date=last
    )
    response = connections.orchestrator.SummarizeUserMetric(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
        return
    render.table(
        ["from", ">change", ">total", ">events"],
        [_row(each) for each in response.periods],
        empty="no events",
    )


@metrics.command(short_help="Sum a metric over all users by day, week or month.")
@click.argument("metric")
@_by
@_dates
@json_option
@click.pass_obj
def totals(
    connections: Connections,
    metric: str,
    by: str,
    first: LocalDate | None,
    last: LocalDate | None,
    as_json: bool,
) -> None:
    """What all users' events contributed to a METRIC. It follows the events, seconds behind them."""
    first, last = _range(first, last)
    request = pb.SummarizeMetricRequest(metric=metric, period=_period(by), first_date=first, last_date=last)
    response = connections.orchestrator.SummarizeMetric(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
        return
    users = ">users" if by == "day" else ">users by days"
    render.table(
        ["from", ">change", ">total", ">events", users],
        [[*_row(each.summary), each.user_day_count] for each in response.periods],
        empty="no events",
    )


@metrics.command(short_help="Show who contributed most to a metric.")
@click.argument("metric")
@_dates
@limit_option(10)
@json_option
@click.pass_obj
def top(
    connections: Connections,
    metric: str,
    first: LocalDate | None,
    last: LocalDate | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show which users' events contributed most to a METRIC on some local dates."""
    first, last = _range(first, last)
    request = pb.ListMetricUsersRequest(metric=metric, first_date=first, last_date=last)
    response = connections.all_pages(connections.orchestrator.ListMetricUsers, request, "users", limit)
    if as_json:
        render.print_json(response)
        return
    render.table(
        ["user", ">change", ">events"],
        [[each.user_id, render.signed(each.change), each.event_count] for each in response.users],
        empty="no events",
    )


def _row(summary: pb.MetricSummary) -> list[render.Cell]:
    return [render.day(summary.start_date), render.signed(summary.change), summary.total, summary.event_count]


def _period(name: str) -> pb.MetricPeriod.ValueType:
    return pb.MetricPeriod.Value(f"METRIC_PERIOD_{name.upper()}")


def _range(first: LocalDate | None, last: LocalDate | None) -> tuple[LocalDate, LocalDate]:
    last = last or _local_date(datetime.now(UTC).date() + timedelta(days=1))
    return first or _local_date(date(last.year, last.month, last.day) - timedelta(days=30)), last


def _local_date(day: date) -> LocalDate:
    return LocalDate(year=day.year, month=day.month, day=day.day)
