"""How leaderboards are shown."""

from collections.abc import Sequence
from typing import Final

import click
from laurel.leaderboard.v1 import leaderboard_pb2, leaderboard_service_pb2

from services.cli import render

BAR: Final = 40
"""Width of the longest bar of a histogram, in characters."""

MembersResponse = (
    leaderboard_service_pb2.ListRankedMembersResponse
    | leaderboard_service_pb2.ListMembersAroundResponse
    | leaderboard_service_pb2.BatchGetMembersResponse
    | leaderboard_service_pb2.WatchLeaderboardResponse
)


def show_members(
    response: MembersResponse,
    selector: leaderboard_service_pb2.SegmentSelector,
    *,
    marked_user: str | None = None,
) -> None:
    """A part of a board, with what part of which run it is. The marked user's row has an arrow."""
    _heading(response.run, response.member_count, selector)
    if response.rebuilding:
        render.line("  being rebuilt: ranks are read from PostgreSQL meanwhile", style="dim")
    _show_rows(response.members, marked_user)


def _show_rows(members: Sequence[leaderboard_pb2.RankedMember], marked_user: str | None) -> None:
    rows: render.Rows = [
        [
            each.rank,
            each.user_id,
            each.name,
            each.score,
            render.instant(each.reach_time),
            ", ".join(f"{name}={value}" for name, value in sorted(each.attributes.items())) or None,
            "<" if each.user_id == marked_user else " ",
        ]
        for each in members
    ]
    render.table(
        [">rank", "user", "?name", ">score", "?reached", "?attributes", ""], rows, empty="nobody is ranked"
    )


def show_league(standing: leaderboard_pb2.LeagueStanding) -> None:
    """Where a user stands in a league, with the whole cohort."""
    cohort = f", cohort {standing.segment['cohort']}" if standing.segment else ""
    render.heading(f"{standing.leaderboard}: {standing.division}{cohort}, {render.run(standing.run)}")
    now = render.enum_name(leaderboard_pb2.LeagueOutcome.Name(standing.outcome), "LEAGUE_OUTCOME_")
    facts: list[tuple[str, render.Cell]] = [("user", standing.user_id)]
    if standing.waiting:
        facts.append(("cohort", "when the run before is final"))
    elif not standing.segment:
        facts.append(("cohort", "none: not active in this run"))
    if standing.rank:
        facts += [("rank", standing.rank), ("outcome", f"{now}, then {standing.next_division}")]
    if standing.HasField("promotion_distance"):
        facts.append(("to go up", standing.promotion_distance))
    if standing.HasField("demotion_distance"):
        facts.append(("ahead of going down", standing.demotion_distance))
    render.facts(facts)
    if standing.members:
        _show_rows(standing.members, standing.user_id)


def show_member(
    response: leaderboard_service_pb2.GetMemberResponse, selector: leaderboard_service_pb2.SegmentSelector
) -> None:
    """One user's place and what it takes to get on."""
    told = response.standing
    _heading(response.run, response.member_count, selector)
    facts: list[tuple[str, render.Cell]] = [
        ("user", told.member.user_id),
        ("rank", told.member.rank),
        ("score", told.member.score),
        ("among the best", f"{told.top_percent:.3g} %"),
    ]
    if told.HasField("next"):
        facts.append(
            ("next", f"{told.next.user_id} on rank {told.next.rank} with {render.number(told.next.score)}")
        )
        facts.append(("distance", told.next_distance))
    if told.prizes:
        facts.append(("prizes now", ", ".join(told.prizes)))
    if told.next_prize:
        facts.append(("next prize", f"{told.next_prize}, {render.number(told.next_prize_distance)} away"))
    render.facts(facts)


def show_groups(groups: Sequence[leaderboard_pb2.RankedGroup]) -> None:
    rows: render.Rows = [
        [each.rank, render.segment(each.segment), each.score, each.member_count] for each in groups
    ]
    render.table([">rank", "group", ">score", ">members"], rows, empty="no group is ranked")


def show_verified(found: leaderboard_service_pb2.VerifyProjectionResponse) -> None:
    """What a comparison of sorted sets and PostgreSQL came to."""
    each_bytes = found.memory_bytes / found.member_count if found.member_count else 0
    render.facts(
        [
            ("segments", found.segment_count),
            ("members", found.member_count),
            ("memory", f"{found.memory_bytes / 1e6:.1f} MB, {each_bytes:.0f} bytes each"),
            ("differences", len(found.differences)),
        ]
    )
    rows: render.Rows = [
        [
            each.leaderboard,
            render.day(each.run_start_date) if each.HasField("run_start_date") else None,
            render.segment(each.segment),
            each.missing_count,
            each.surplus_count,
        ]
        for each in found.differences
    ]
    if rows:
        render.table(["board", "?run since", "segment", ">missing", ">surplus"], rows)


def show_day(key: str, found: leaderboard_service_pb2.ListDailyMembersResponse) -> None:
    """Who was on the ranks that were kept of a date."""
    render.heading(f"{key}, end of {render.day(found.date)}, {render.run(found.run)}")
    rows: render.Rows = [[each.rank, each.user_id, each.name, each.score] for each in found.members]
    render.table([">rank", "user", "?name", ">score"], rows, empty="the date was not kept")


def show_days(ranks: Sequence[leaderboard_pb2.DailyRank]) -> None:
    rows: render.Rows = [
        [
            render.day(each.date),
            render.day(each.run_start_date) if each.HasField("run_start_date") else None,
            each.rank,
            each.score,
        ]
        for each in ranks
    ]
    render.table(["date", "?run since", ">rank", ">score"], rows, empty="no rank was kept")


def show_climbers(climbers: Sequence[leaderboard_pb2.Climber]) -> None:
    rows: render.Rows = [
        [
            each.user_id,
            each.name,
            each.first_rank - each.last_rank,
            f"{each.first_rank} on {render.day(each.first_date)}",
            f"{each.last_rank} on {render.day(each.last_date)}",
        ]
        for each in climbers
    ]
    render.table(["user", "?name", ">places", "from", "to"], rows, empty="nobody has come up")


def show_prizes(prizes: Sequence[leaderboard_pb2.GivenPrize]) -> None:
    """What was given for a run, and by which entries."""
    rows: render.Rows = [
        [
            render.segment(each.segment),
            each.rank,
            each.user_id,
            each.prize.key,
            ", ".join(
                [
                    *(
                        f"{render.signed(points.amount)} {points.points_system}"
                        for points in each.prize.points
                    ),
                    *([each.prize.achievement] if each.prize.achievement else []),
                ]
            ),
            each.entry_id,
        ]
        for each in prizes
    ]
    render.table(["segment", ">rank", "user", "prize", "given", "entry"], rows, empty="no prize was given")


def show_statistics(
    response: leaderboard_service_pb2.GetRunStatisticsResponse,
    selector: leaderboard_service_pb2.SegmentSelector,
) -> None:
    """What is said of all members together, with the ranges of scores as bars."""
    told = response.statistics
    _heading(response.run, told.member_count, selector)
    render.facts(
        [
            ("total", told.total),
            ("average", told.average),
            ("median", told.median),
            ("scores", f"{render.number(told.lowest)} to {render.number(told.highest)}"),
        ]
    )
    most = max((each.member_count for each in told.histogram), default=0)
    rows: render.Rows = [
        [getattr(each, "from"), each.to, each.member_count, "#" * round(BAR * each.member_count / most)]
        for each in told.histogram
    ]
    render.table([">from", ">to", ">members", ""], rows, empty="nobody is ranked")


def _heading(
    run: leaderboard_pb2.Run, member_count: int, selector: leaderboard_service_pb2.SegmentSelector
) -> None:
    segment, count = render.segment(selector.segment), render.number(member_count)
    render.heading(f"{selector.leaderboard}: {segment}, {render.run(run)}, {count} ranked")


_RUN_STATES: Final = {
    leaderboard_pb2.RUN_STATUS_UPCOMING: "upcoming",
    leaderboard_pb2.RUN_STATUS_RUNNING: "open",
    leaderboard_pb2.RUN_STATUS_CLOSING: "over, late events count",
    leaderboard_pb2.RUN_STATUS_FINALIZED: "archived",
}


def show_runs(runs: Sequence[leaderboard_pb2.Run]) -> None:
    rows: render.Rows = [
        [
            render.run(each),
            _RUN_STATES.get(each.status, "archived" if each.finalized else "open"),
            render.instant(each.finalize_time) if each.HasField("finalize_time") else None,
        ]
        for each in runs
    ]
    render.table(["run", "state", "archived at"], rows, empty="no runs")


def show_segments(found: leaderboard_service_pb2.ListSegmentsResponse) -> None:
    rows: render.Rows = [[render.segment(each.segment), each.member_count] for each in found.segments]
    render.table(["segment", ">members"], rows, empty="no segments")
    if found.beyond_count:
        click.echo(f"{found.beyond_count} in the whole board only: it has as many segments as it may")


def show_rank_events(events: Sequence[leaderboard_pb2.RankEvent]) -> None:
    rows: render.Rows = [
        [
            render.instant(each.occur_time),
            each.leaderboard,
            render.segment(each.segment),
            f"since {render.day(each.run_start_date)}" if each.HasField("run_start_date") else "all time",
            render.rank(each.previous_rank),
            render.rank(each.rank),
            each.score,
            each.entry_id or "others moved",
        ]
        for each in events
    ]
    columns = ["time", "board", "segment", "?run", ">before", ">rank", "?>score", "?entry"]
    render.table(columns, rows, empty="no rank changed")
