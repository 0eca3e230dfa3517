"""How leaderboards are shown."""

from collections.abc import Sequence

from laurel.leaderboard.v1 import leaderboard_pb2, leaderboard_service_pb2

from services.cli import render


def show_members(
    response: leaderboard_service_pb2.ListRankedMembersResponse
    | leaderboard_service_pb2.ListMembersAroundResponse,
    selector: leaderboard_service_pb2.SegmentSelector,
    *,
    marked_user: str | None = None,
) -> None:
    """A part of a board, with what part of which run it is. The marked user's row has an arrow."""
    segment, count = render.segment(selector.segment), render.number(response.member_count)
    render.heading(f"{selector.leaderboard}: {segment}, {render.run(response.run)}, {count} ranked")
    if response.rebuilding:
        render.line("  being rebuilt: ranks are read from PostgreSQL meanwhile", style="dim")
    rows: render.Rows = [
        [
            each.rank,
            each.user_id,
            each.name,
            each.score,
            render.instant(each.reach_time),
            "<" if each.user_id == marked_user else " ",
        ]
        for each in response.members
    ]
    render.table([">rank", "user", "?name", ">score", "?reached", ""], rows, empty="nobody is ranked")


def show_runs(runs: Sequence[leaderboard_pb2.Run]) -> None:
    rows: render.Rows = [
        [
            render.run(each),
            "archived" if each.finalized else "open",
            render.instant(each.finalize_time) if each.HasField("finalize_time") else None,
        ]
        for each in runs
    ]
    render.table(["run", "state", "archived at"], rows, empty="no runs")


def show_segments(segments: Sequence[leaderboard_service_pb2.Segment]) -> None:
    rows: render.Rows = [[render.segment(each.segment), each.member_count] for each in segments]
    render.table(["segment", ">members"], rows, empty="no segments")


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
