"""How points are shown: balances, ledgers, sums, boosts and audits."""

from collections.abc import Sequence
from math import inf

from laurel.points.v1 import points_pb2
from laurel.points.v1 import points_service_pb2 as pb

from services.cli import render
from services.cli.importing import describe_item_error
from services.cli.show_event import show_points_changes


def show_points(points: Sequence[points_pb2.UserPoints]) -> None:
    render.table(
        ["system", ">balance", "?>held", "?>lifetime", "level", "next level", "?grows", "?full"],
        [
            [
                each.points_system,
                each.balance,
                each.held or None,
                each.lifetime,
                _level_name(each.level) if each.HasField("level") else None,
                f"{_level_name(each.next_level)} at {render.number(each.next_level.threshold)}"
                if each.HasField("next_level")
                else None,
                render.instant(each.next_time) if each.HasField("next_time") else None,
                render.instant(each.full_time) if each.HasField("full_time") else None,
            ]
            for each in points
        ],
        empty="none",
    )


def show_awards(awards: Sequence[points_pb2.Award]) -> None:
    render.table(
        ["time", "system", ">amount", "trigger", "?>multiplied", "?>clipped", "?entry", "?reverses"],
        [
            [
                render.instant(each.occur_time),
                each.points_system,
                render.signed(each.amount),
                each.trigger,
                _multiplied(each),
                each.clipped_amount or None,
                each.entry_id,
                each.reversed_award_id,
            ]
            for each in awards
        ],
        empty="no awards",
    )


def _multiplied(award: points_pb2.Award) -> str | None:
    """The multiplier, and what made it."""
    made = [*award.boosts, *([award.multiplying_level] if award.multiplying_level else [])]
    return f"{render.number(award.multiplier)} ({', '.join(made)})" if made else None


def show_levels(levels: Sequence[pb.LevelCount]) -> None:
    """How many users have each level, with a bar."""
    most = max((each.user_count for each in levels), default=0)
    rows: render.Rows = [
        [
            _level_name(each.level) if each.HasField("level") else "below the first",
            each.level.threshold if each.HasField("level") else None,
            each.user_count,
            _bar(each.user_count, most),
        ]
        for each in levels
    ]
    render.table(["level", ">from", ">users", ""], rows, empty="no levels")


def show_level_days(days: Sequence[pb.LevelDay]) -> None:
    """How many users had each level, date by date. The columns are those of all dates, from the lowest on."""
    thresholds: dict[str, float] = {}
    for day in days:
        for each in day.levels:
            thresholds[each.level] = each.threshold if each.level else -inf
    keys = sorted(thresholds, key=lambda key: (thresholds[key], key))
    counts = [{each.level: each.user_count for each in day.levels} for day in days]
    render.table(
        ["date", *(f">{key or 'below the first'}" for key in keys)],
        [
            [render.day(day.date), *(found.get(key) for key in keys)]
            for day, found in zip(days, counts, strict=True)
        ],
        empty="no date was counted",
    )


def _level_name(level: points_pb2.Level) -> str:
    return level.name or level.key


def show_summary(periods: Sequence[pb.PointsSummary]) -> None:
    render.table(
        ["from", ">earned", ">spent", ">balance", "by"],
        [
            [
                render.day(each.start_date),
                render.signed(each.earned),
                render.signed(-each.spent),
                each.balance,
                ", ".join(_trigger_sum(part) for part in each.triggers),
            ]
            for each in periods
        ],
        empty="nothing changed",
    )


def show_ranges(ranges: Sequence[pb.RangeCount]) -> None:
    """How many users have how many points, with a bar."""
    rows: render.Rows = [
        [
            each.first if each.HasField("first") else "below",
            each.user_count,
            _bar(each.user_count, max(part.user_count for part in ranges)),
        ]
        for each in ranges
    ]
    render.table([">from", ">users", ""], rows)


def show_boosts(boosts: Sequence[pb.UserBoost]) -> None:
    render.table(
        ["system", "boost", ">multiplier", "triggers", "until"],
        [
            [
                each.points_system,
                each.boost.name or each.boost.key,
                render.number(each.boost.multiplier),
                ", ".join(each.boost.triggers) or "all",
                _end(each.boost),
            ]
            for each in boosts
        ],
        empty="none applies now",
    )


def show_expiring(points: Sequence[pb.ExpiringPoints]) -> None:
    render.table(
        ["gone with", ">points"],
        [[render.day(each.expire_date), each.amount] for each in points],
        empty="nothing expires",
    )


def show_preview(preview: pb.PreviewAwardResponse) -> None:
    """What an event would give, or why it would be refused."""
    if preview.HasField("refusal"):
        render.line(f"It would be refused: {describe_item_error(preview.refusal)}")
    else:
        show_points_changes(preview.points)


def show_differences(found: pb.AuditPointsResponse) -> None:
    """What an audit found."""
    rows: render.Rows = [
        [each.user_id, each.points_system, each.what, each.stored, each.expected]
        for each in found.differences
    ]
    looked = f"{render.number(found.user_count)} users with {render.number(found.award_count)} awards"
    render.line(f"{looked}: {render.number(len(rows)) if rows else 'no'} differences")
    if rows:
        render.table(["user", "system", "what", "stored", "expected"], rows)


def _trigger_sum(part: pb.TriggerSummary) -> str:
    """The boosted against the base, where they differ."""
    base = f" ({render.signed(part.base_amount)} before multipliers and limits)"
    shown = f"{part.trigger or 'by call'} {render.signed(part.amount)}"
    return shown if part.amount == part.base_amount else shown + base


def _end(boost: points_pb2.PointsBoost) -> str | None:
    if boost.HasField("end_time"):
        return render.instant(boost.end_time)
    return render.day(boost.end_date) if boost.HasField("end_date") else None


def _bar(count: int, most: int) -> str:
    return "#" * round(40 * count / most) if most else ""
