"""feed: what changed, as those hear it who follow the domain events."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from laurel.orchestrator.v1 import domain_event_pb2, orchestrator_service_pb2

from services.cli import render
from services.cli.connect import Connections
from services.cli.options import json_option

Command = TypeVar("Command", bound=Callable[..., Any])

NEWEST = "newest"
LARGEST_PAGE = 1_000


def filter_options(command: Command) -> Command:
    """--type and --user: which events."""
    command = click.option("--user", "user_id", default="", help="Only events about this user.")(command)
    return click.option(
        "--type", "types", multiple=True, metavar="TYPE", help="Only events of this type, as streak.lost."
    )(command)


@click.group(short_help="Follow the domain events: all that changes.")
def feed() -> None:
    """Follow the domain events: everything that changes, in order."""


@feed.command("list")
@filter_options
@click.option("--after", default="", metavar="CURSOR", help="Go on behind this cursor; default: the oldest.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=50,
    show_default=True,
    help="So many events; a few more where the last entry told several.",
)
@json_option
@click.pass_obj
def list_(
    connections: Connections, types: tuple[str, ...], user_id: str, after: str, limit: int, as_json: bool
) -> None:
    """List domain events, oldest first, and the cursor behind them."""
    shown = orchestrator_service_pb2.ListDomainEventsResponse(cursor=after, more=True)
    while shown.more and len(shown.events) < limit:
        request = orchestrator_service_pb2.ListDomainEventsRequest(
            after_cursor=shown.cursor,
            page_size=min(limit - len(shown.events), LARGEST_PAGE),
            types=types,
            user_id=user_id,
        )
        page = connections.orchestrator.ListDomainEvents(request, timeout=connections.timeout_seconds)
        shown.events.extend(page.events)
        shown.cursor, shown.more = page.cursor, page.more
    if as_json:
        render.print_json(shown)
        return
    show_events(shown.events)
    render.line(f"cursor {shown.cursor or render.NONE}", style="dim")


@feed.command()
@filter_options
@click.option(
    "--after",
    default=NEWEST,
    metavar="CURSOR",
    help="Begin behind this cursor; default: with what comes now.",
)
@click.option(
    "--count", type=click.IntRange(1, 1_000_000_000), help="End after so many events; default: never."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each event.")
@click.pass_obj
def tail(
    connections: Connections,
    types: tuple[str, ...],
    user_id: str,
    after: str,
    count: int | None,
    as_json: bool,
) -> None:
    """Show domain events as they come."""
    request = orchestrator_service_pb2.WatchDomainEventsRequest(
        after_cursor=after, types=types, user_id=user_id
    )
    _show(connections.orchestrator.WatchDomainEvents(request), count, as_json)


@feed.command()
@click.argument("user")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only events of this type.")
@click.option(
    "--count", type=click.IntRange(1, 1_000_000_000), help="End after so many events; default: never."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each event.")
@click.pass_obj
def watch(
    connections: Connections, user: str, types: tuple[str, ...], count: int | None, as_json: bool
) -> None:
    """Show what changes of one user, as an application's client sees it."""
    request = orchestrator_service_pb2.WatchUserRequest(user_id=user, types=types)
    _show(connections.orchestrator.WatchUser(request), count, as_json)


def _show(stream: Any, count: int | None, as_json: bool) -> None:
    """Events as they come; so many, or until the stream ends."""
    left = count
    for response in stream:
        for event in response.events:
            if as_json:
                click.echo(render.json_line(event))
            else:
                show_event(event)
            if left is not None and (left := left - 1) == 0:
                stream.cancel()
                return


def show_events(events: Iterable[domain_event_pb2.DomainEvent]) -> None:
    """A line for each."""
    for event in events:
        show_event(event)


def show_event(event: domain_event_pb2.DomainEvent) -> None:
    """When, what, who, and the heart of the matter."""
    moment = render.instant(event.time)
    render.line(f"{moment}  {event.type:<24}  {event.user_id}  {_told(event)}".rstrip())


def _told(event: domain_event_pb2.DomainEvent) -> str:
    match event.WhichOneof("data"):
        case "metric":
            metric = event.metric
            before, after = render.number(metric.total_before), render.number(metric.total_after)
            return f"{metric.metric} {render.signed(metric.value)}, {before} to {after}"
        case "voided":
            return event.voided.entry_id
        case "user":
            return event.user.name
        case "streak":
            state, change = event.streak.state, event.streak.change
            return f"{state.streak or change.streak} {change.length_before} to {change.length}"
        case "achievement":
            return event.achievement.achievement
        case "points":
            points = event.points
            level = f", {points.level_before or render.NONE} to {points.level or render.NONE}"
            return (
                f"{points.points_system} {render.number(points.balance_before)} to {render.number(points.balance)}"
                f"{level if points.level != points.level_before else ''}"
            )
        case "leaderboard":
            standing = event.leaderboard
            return f"{standing.leaderboard} {render.rank(standing.previous_rank)} to {render.rank(standing.rank)}"
        case "boost":
            return f"{event.boost.points_system} {event.boost.boost.name or event.boost.boost.key}"
        case "board_run":
            return f"{event.board_run.leaderboard} {render.run(event.board_run.run)}"
        case "league_move":
            move = event.league_move
            return f"{move.leaderboard} {move.from_division} to {move.to_division}"
        case _:
            return ""
