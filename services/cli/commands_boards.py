"""leaderboard, ranks: boards as their readers and operators see them."""

import uuid

import click
from google.protobuf.duration_pb2 import Duration
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.orchestrator.v1 import orchestrator_service_pb2

from services.cli import render
from services.cli.connect import Connections
from services.cli.options import Day, Pair, ShowGroup, json_option, key_option, limit_option, pairs
from services.cli.show_board import (
    show_climbers,
    show_day,
    show_days,
    show_groups,
    show_league,
    show_member,
    show_members,
    show_prizes,
    show_rank_events,
    show_runs,
    show_segments,
    show_statistics,
    show_verified,
)
from services.cli.show_event import show_exclusion


@click.group(cls=ShowGroup, short_help="Show a board, its runs or segments; and what keeps it.")
def leaderboard() -> None:
    """`laurel leaderboard KEY` shows a board; `laurel leaderboard show --help` says what else of it."""


@leaderboard.command(short_help="Show a board, its runs or segments.")
@click.argument("key")
@click.option("--segment", type=Pair(), multiple=True, help="A value of a breakdown attribute.")
@click.option("--run", "run_date", type=Day(), help="A date inside the wanted run; default: the present one.")
@click.option("--around", metavar="USER", help="The places around this user.")
@click.option("--user", metavar="USER", help="This user's place, and how far the next one is.")
@click.option(
    "--friend", "friends", metavar="USER", multiple=True, help="Only these users, with their ranks."
)
@click.option("--runs", is_flag=True, help="The board's runs, newest first.")
@click.option("--segments", is_flag=True, help="The run's segments.")
@click.option("--statistics", is_flag=True, help="All members together: total, average, median, histogram.")
@click.option(
    "--watch",
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    help="The top, again whenever it has changed, at most every so many seconds.",
)
@limit_option(10)
@json_option
@click.pass_obj
def show(
    connections: Connections,
    key: str,
    segment: tuple[tuple[str, str], ...],
    run_date: date_pb2.LocalDate | None,
    around: str | None,
    user: str | None,
    friends: tuple[str, ...],
    runs: bool,
    segments: bool,
    statistics: bool,
    watch: float | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show a board: its top, the places around a user, its runs or its segments.

    With --around, --limit is the number of places on each side.
    """
    views = (around, user, friends, runs, segments, statistics, watch)
    if sum(map(bool, views)) > 1:
        raise click.UsageError(
            "--around, --user, --friend, --runs, --segments, --statistics, --watch go one at a time"
        )
    board = _Board(
        connections,
        pb.SegmentSelector(leaderboard=key, segment=pairs(segment, "--segment"), run_date=run_date),
        as_json,
    )
    if runs:
        board.runs(limit)
    elif segments:
        board.segments(limit)
    elif around:
        board.around(around, limit)
    elif user:
        board.member(user)
    elif friends:
        board.friends(friends)
    elif statistics:
        board.statistics()
    elif watch:
        board.watch(watch, limit)
    else:
        board.top(limit)


class _Board:
    """One board as it is asked for, and each way to show it."""

    def __init__(self, connections: Connections, selector: pb.SegmentSelector, as_json: bool) -> None:
        self._connections = connections
        self._service = connections.leaderboard
        self._timeout = connections.timeout_seconds
        self._selector = selector
        self._as_json = as_json

    def top(self, limit: int) -> None:
        request = pb.ListRankedMembersRequest(selector=self._selector)
        found = self._connections.all_pages(self._service.ListRankedMembers, request, "members", limit)
        render.print_json(found) if self._as_json else show_members(found, self._selector)

    def around(self, user: str, radius: int) -> None:
        request = pb.ListMembersAroundRequest(selector=self._selector, user_id=user, radius=min(radius, 100))
        found = self._service.ListMembersAround(request, timeout=self._timeout)
        if self._as_json:
            render.print_json(found)
        else:
            show_members(found, self._selector, marked_user=user)

    def member(self, user: str) -> None:
        request = pb.GetMemberRequest(selector=self._selector, user_id=user)
        found = self._service.GetMember(request, timeout=self._timeout)
        render.print_json(found) if self._as_json else show_member(found, self._selector)

    def friends(self, users: tuple[str, ...]) -> None:
        request = pb.BatchGetMembersRequest(selector=self._selector, user_ids=users)
        found = self._service.BatchGetMembers(request, timeout=self._timeout)
        render.print_json(found) if self._as_json else show_members(found, self._selector)

    def runs(self, limit: int) -> None:
        request = pb.ListRunsRequest(leaderboard=self._selector.leaderboard)
        found = self._connections.all_pages(self._service.ListRuns, request, "runs", limit)
        render.print_json(found) if self._as_json else show_runs(found.runs)

    def segments(self, limit: int) -> None:
        run_date = self._selector.run_date if self._selector.HasField("run_date") else None
        request = pb.ListSegmentsRequest(leaderboard=self._selector.leaderboard, run_date=run_date)
        found = self._connections.all_pages(self._service.ListSegments, request, "segments", limit)
        render.print_json(found) if self._as_json else show_segments(found)

    def statistics(self) -> None:
        request = pb.GetRunStatisticsRequest(selector=self._selector)
        found = self._service.GetRunStatistics(request, timeout=self._timeout)
        render.print_json(found) if self._as_json else show_statistics(found, self._selector)

    def watch(self, seconds: float, limit: int) -> None:
        """Until it is interrupted."""
        interval = Duration()
        interval.FromMilliseconds(round(1_000 * seconds))
        request = pb.WatchLeaderboardRequest(
            selector=self._selector, member_count=min(limit, 100), min_interval=interval
        )
        for found in self._service.WatchLeaderboard(request):
            if self._as_json:
                click.echo(render.json_line(found))
            else:
                show_members(found, self._selector)


@leaderboard.command()
@click.argument("key")
@click.argument("user")
@click.option("--segment", type=Pair(), multiple=True, help="A value of a breakdown attribute.")
@click.option("--until", "until_date", type=Day(), help="Only this date and earlier ones.")
@limit_option(30)
@json_option
@click.pass_obj
def days(
    connections: Connections,
    key: str,
    user: str,
    segment: tuple[tuple[str, str], ...],
    until_date: date_pb2.LocalDate | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show where a user stood at the end of each UTC date, newest first."""
    request = pb.ListDailyRanksRequest(
        leaderboard=key, user_id=user, segment=pairs(segment, "--segment"), until_date=until_date
    )
    found = connections.all_pages(connections.leaderboard.ListDailyRanks, request, "daily_ranks", limit)
    render.print_json(found) if as_json else show_days(found.daily_ranks)


@leaderboard.command(short_help="Show who was first at the end of a date.")
@click.argument("key")
@click.option("--date", "day", type=Day(), help="The UTC date; default: the one before today's.")
@click.option("--segment", type=Pair(), multiple=True, help="A value of a breakdown attribute.")
@limit_option(10)
@json_option
@click.pass_obj
def snapshot(
    connections: Connections,
    key: str,
    day: date_pb2.LocalDate | None,
    segment: tuple[tuple[str, str], ...],
    limit: int,
    as_json: bool,
) -> None:
    """Show who was first at the end of a UTC date: boards that keep the ranks of each."""
    request = pb.ListDailyMembersRequest(leaderboard=key, segment=pairs(segment, "--segment"), date=day)
    found = connections.all_pages(connections.leaderboard.ListDailyMembers, request, "members", limit)
    render.print_json(found) if as_json else show_day(key, found)


@leaderboard.command()
@click.argument("key")
@click.option("--segment", type=Pair(), multiple=True, help="A value of a breakdown attribute.")
@click.option("--run", "run_date", type=Day(), help="A date inside the wanted run; default: the present one.")
@limit_option(10)
@json_option
@click.pass_obj
def climbers(
    connections: Connections,
    key: str,
    segment: tuple[tuple[str, str], ...],
    run_date: date_pb2.LocalDate | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show who has come up most in a run, by the ranks at the end of each date."""
    selector = pb.SegmentSelector(leaderboard=key, segment=pairs(segment, "--segment"), run_date=run_date)
    request = pb.ListClimbersRequest(selector=selector, page_size=min(limit, 1_000))
    found = connections.leaderboard.ListClimbers(request, timeout=connections.timeout_seconds)
    render.print_json(found) if as_json else show_climbers(found.climbers)


@leaderboard.command()
@click.argument("key", required=False, default="")
@json_option
@click.pass_obj
def verify(connections: Connections, key: str, as_json: bool) -> None:
    """Compare the sorted sets of a board, or of all, with PostgreSQL. Ends with 1 where they differ."""
    request = pb.VerifyProjectionRequest(leaderboard=key)
    found = connections.leaderboard.VerifyProjection(request, timeout=connections.timeout_seconds)
    render.print_json(found) if as_json else show_verified(found)
    if found.differences:
        raise SystemExit(1)


@leaderboard.command()
@click.argument("key", required=False, default="")
@json_option
@click.pass_obj
def rebuild(connections: Connections, key: str, as_json: bool) -> None:
    """Fill the sorted sets of a board, or of all, anew from PostgreSQL; reads go on meanwhile."""
    request = pb.RebuildProjectionRequest(leaderboard=key)
    done = connections.leaderboard.RebuildProjection(request, timeout=connections.timeout_seconds)
    render.print_json(done) if as_json else render.line(
        f"{render.number(done.member_count)} scores were read"
    )


@leaderboard.command()
@click.argument("key")
@click.option("--run", "run_date", type=Day(), help="A date inside the wanted run; default: the present one.")
@limit_option(10)
@json_option
@click.pass_obj
def groups(
    connections: Connections, key: str, run_date: date_pb2.LocalDate | None, limit: int, as_json: bool
) -> None:
    """Show how the groups of a board stand against one another."""
    request = pb.ListRankedGroupsRequest(leaderboard=key, run_date=run_date)
    found = connections.all_pages(connections.leaderboard.ListRankedGroups, request, "groups", limit)
    render.print_json(found) if as_json else show_groups(found.groups)


@leaderboard.command()
@click.argument("key")
@click.argument("user")
@click.option("--run", "run_date", type=Day(), help="A date inside the wanted run; default: the present one.")
@json_option
@click.pass_obj
def league(
    connections: Connections, key: str, user: str, run_date: date_pb2.LocalDate | None, as_json: bool
) -> None:
    """Show where a user stands in a league: the cohort, and what would happen now."""
    request = pb.GetLeagueStandingRequest(leaderboard=key, user_id=user, run_date=run_date)
    found = connections.leaderboard.GetLeagueStanding(request, timeout=connections.timeout_seconds)
    render.print_json(found) if as_json else show_league(found.standing)


@leaderboard.command()
@click.argument("key")
@click.option("--run", "run_date", type=Day(), help="A date inside the wanted run; default: the present one.")
@click.option("--user", default="", metavar="USER", help="Only those of this user.")
@limit_option(50)
@json_option
@click.pass_obj
def prizes(
    connections: Connections,
    key: str,
    run_date: date_pb2.LocalDate | None,
    user: str,
    limit: int,
    as_json: bool,
) -> None:
    """List the prizes that were given for a run, by segment and rank."""
    request = pb.ListPrizesRequest(leaderboard=key, run_date=run_date, user_id=user)
    found = connections.all_pages(connections.leaderboard.ListPrizes, request, "prizes", limit)
    render.print_json(found) if as_json else show_prizes(found.prizes)


@leaderboard.command()
@click.argument("user")
@click.option("--board", default="", metavar="KEY", help="Only this leaderboard; default: all.")
@click.option("--reason", required=True, help="Why; kept with the entry.")
@key_option
@json_option
@click.pass_obj
def exclude(
    connections: Connections, user: str, board: str, reason: str, key: str | None, as_json: bool
) -> None:
    """Exclude a user: ranked nowhere, and the ranks behind close up, in open runs at once."""
    _set_exclusion(connections, user, board, reason, key, as_json, excluded=True)


@leaderboard.command()
@click.argument("user")
@click.option("--board", default="", metavar="KEY", help="Only this leaderboard; default: all.")
@click.option("--reason", required=True, help="Why; kept with the entry.")
@key_option
@json_option
@click.pass_obj
def include(
    connections: Connections, user: str, board: str, reason: str, key: str | None, as_json: bool
) -> None:
    """Bring an excluded user back, with all that was counted meanwhile."""
    _set_exclusion(connections, user, board, reason, key, as_json, excluded=False)


def _set_exclusion(
    connections: Connections,
    user: str,
    board: str,
    reason: str,
    key: str | None,
    as_json: bool,
    *,
    excluded: bool,
) -> None:
    request = orchestrator_service_pb2.SetBoardExclusionRequest(
        user_id=user,
        leaderboard=board,
        excluded=excluded,
        reason=reason,
        request_id=key or str(uuid.uuid4()),
    )
    response = connections.orchestrator.SetBoardExclusion(request, timeout=connections.timeout_seconds)
    render.print_json(response) if as_json else show_exclusion(response)


@click.command()
@click.argument("user")
@click.option("--board", default="", metavar="KEY", help="Only of this leaderboard.")
@limit_option(50)
@json_option
@click.pass_obj
def ranks(connections: Connections, user: str, board: str, limit: int, as_json: bool) -> None:
    """List how a user's ranks changed, newest first."""
    request = pb.ListRankEventsRequest(user_id=user, leaderboard=board)
    response = connections.all_pages(connections.leaderboard.ListRankEvents, request, "rank_events", limit)
    render.print_json(response) if as_json else show_rank_events(response.rank_events)
