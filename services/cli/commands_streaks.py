"""streaks: a streak of many users, a user's calendar, and what is done to a user's streak by hand."""

import uuid
from datetime import date, timedelta
from typing import Final

import click
from laurel.common.v1 import date_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as orchestrator_pb
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from services.cli import commands_amnesties, render
from services.cli.connect import Connections
from services.cli.options import INT32, Day, by_hand_options, json_option, limit_option
from services.cli.show_event import show_operation
from services.cli.show_streak import show_at_risk, show_periods, show_ranked, show_statistics

_WEEKDAYS: Final = {
    name.removeprefix("WEEKDAY_").lower(): value
    for name, value in streak_pb2.Weekday.items()
    if value != streak_pb2.WEEKDAY_UNSPECIFIED
}


@click.group(short_help="Look at one streak of many, or change a user's.")
def streaks() -> None:
    """Look at one streak of many users, or do something to a user's."""


for command in (commands_amnesties.amnesty, commands_amnesties.amnesties, commands_amnesties.withdraw):
    streaks.add_command(command)


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
@click.option("--hours", type=INT32, default=6, show_default=True, help="Within so many hours.")
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


@streaks.command("freeze", short_help="Give a user freezes.")
@click.argument("user")
@click.argument("streak")
@click.argument("count", type=INT32)
@by_hand_options
@click.pass_obj
def freeze(
    connections: Connections, user: str, streak: str, count: int, reason: str, key: str | None, as_json: bool
) -> None:
    """Give a USER so many freezes of a STREAK, never above its maximum."""
    request = orchestrator_pb.GrantFreezesRequest(
        user_id=user, streak=streak, count=count, reason=reason, request_id=key or str(uuid.uuid4())
    )
    reply = connections.orchestrator.GrantFreezes(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@streaks.command("pause", short_help="Pause a user's streak for some dates.")
@click.argument("user")
@click.argument("streak")
@click.argument("first", type=Day())
@click.argument("last", type=Day())
@click.option(
    "--by-user", is_flag=True, help="As the user's own wish, within the days that the streak allows."
)
@by_hand_options
@click.pass_obj
def pause(
    connections: Connections,
    user: str,
    streak: str,
    first: date_pb2.LocalDate,
    last: date_pb2.LocalDate,
    by_user: bool,
    reason: str,
    key: str | None,
    as_json: bool,
) -> None:
    """Pause a USER's STREAK from the FIRST date to the LAST: what is missed there costs nothing.

    `laurel void ENTRY` takes the pause back.
    """
    request = orchestrator_pb.PauseStreakRequest(
        user_id=user,
        streak=streak,
        start_date=first,
        end_date=last,
        by_user=by_user,
        reason=reason,
        request_id=key or str(uuid.uuid4()),
    )
    reply = connections.orchestrator.PauseStreak(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@streaks.command("reset", short_help="Set a user's streak back to nothing.")
@click.argument("user")
@click.argument("streak")
@by_hand_options
@click.pass_obj
def reset(
    connections: Connections, user: str, streak: str, reason: str, key: str | None, as_json: bool
) -> None:
    """Set a USER's STREAK back to nothing, now. Closed periods and the longest run stay."""
    request = orchestrator_pb.ResetStreakRequest(
        user_id=user, streak=streak, reason=reason, request_id=key or str(uuid.uuid4())
    )
    reply = connections.orchestrator.ResetStreak(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@streaks.command("restore", short_help="Give back what a user lost.")
@click.argument("user")
@click.argument("streak")
@click.option("--loss", type=Day(), help="A date in the period that broke it; default: the last loss.")
@by_hand_options
@click.pass_obj
def restore(
    connections: Connections,
    user: str,
    streak: str,
    loss: date_pb2.LocalDate | None,
    reason: str,
    key: str | None,
    as_json: bool,
) -> None:
    """Give back what a USER lost of a STREAK: the length before the loss, and what was built since."""
    request = orchestrator_pb.RestoreStreakRequest(
        user_id=user, streak=streak, loss_date=loss, reason=reason, request_id=key or str(uuid.uuid4())
    )
    reply = connections.orchestrator.RestoreStreak(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@streaks.command("resume", short_help="End a user's pause today.")
@click.argument("user")
@click.argument("streak")
@by_hand_options
@click.pass_obj
def resume(
    connections: Connections, user: str, streak: str, reason: str, key: str | None, as_json: bool
) -> None:
    """End the pauses of a USER's STREAK: from today on it is at stake again."""
    request = orchestrator_pb.ResumeStreakRequest(
        user_id=user, streak=streak, reason=reason, request_id=key or str(uuid.uuid4())
    )
    reply = connections.orchestrator.ResumeStreak(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@streaks.command("override", short_help="Let a user have a streak otherwise.")
@click.argument("user")
@click.argument("streak")
@click.option("--mode", type=click.Choice(["any", "all"]), help="How metrics combine.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC[=THRESHOLD]",
    help="One that counts; may be repeated. Without a threshold: the streak's.",
)
@click.option(
    "--day-off",
    "days_off",
    multiple=True,
    type=click.Choice([*_WEEKDAYS, "none"]),
    help="A day on which nothing is expected; may be repeated.",
)
@click.option("--off", is_flag=True, help="Nothing counts, and nothing is expected; the length stays.")
@by_hand_options
@click.pass_obj
def override(
    connections: Connections,
    user: str,
    streak: str,
    mode: str | None,
    metrics: tuple[str, ...],
    days_off: tuple[str, ...],
    off: bool,
    reason: str,
    key: str | None,
    as_json: bool,
) -> None:
    """Let a USER have a STREAK otherwise from the current period on, as far as it is `overridable`.

    What is said takes the place of what was said before: without options everything is as the streak has it.
    """
    wanted = streak_pb2.StreakOverride(
        mode=streak_pb2.MetricMode.Value(f"METRIC_MODE_{(mode or 'unspecified').upper()}"),
        metrics=map(_threshold, metrics),
        has_days_off=bool(days_off),
        days_off=[_WEEKDAYS[name] for name in dict.fromkeys(days_off) if name != "none"],
        switched_off=off,
    )
    request = orchestrator_pb.OverrideStreakRequest(
        user_id=user, streak=streak, override=wanted, reason=reason, request_id=key or str(uuid.uuid4())
    )
    reply = connections.orchestrator.OverrideStreak(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


def _threshold(text: str) -> streak_pb2.MetricThreshold:
    metric, equals, threshold = text.partition("=")
    try:
        return streak_pb2.MetricThreshold(metric=metric, threshold=float(threshold) if equals else 0)
    except ValueError as error:
        raise click.UsageError(f"--metric: {text!r} is not METRIC or METRIC=THRESHOLD") from error


def _later(day: date_pb2.LocalDate, days: int) -> date_pb2.LocalDate:
    found = date(day.year, day.month, day.day) + timedelta(days=days)
    return date_pb2.LocalDate(year=found.year, month=found.month, day=found.day)
