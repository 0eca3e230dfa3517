"""How backfills and previews of achievements are shown."""

from collections.abc import Sequence
from typing import Final

from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2

from services.cli import render

_SECONDS_PER_DAY: Final = 86_400


def show_backfills(backfills: Sequence[achievement_pb2.Backfill]) -> None:
    """How far each has come."""
    render.table(
        ["achievement", "state", ">%", ">looked at", ">users", ">given to", "?>completions", "?held up by"],
        [
            [
                each.achievement,
                render.enum_name(achievement_pb2.BackfillState.Name(each.state), "BACKFILL_STATE_"),
                render.number(int(each.percent)),
                each.looked_at_count,
                each.user_count,
                each.completed_user_count,
                each.completion_count if each.completion_count != each.completed_user_count else None,
                each.last_error or None,
            ]
            for each in backfills
        ],
        empty="none",
    )


def show_preview(found: achievement_service_pb2.PreviewAchievementResponse) -> None:
    """How many, how long, and some of them."""
    about = "about " if found.estimated else ""
    held = f"; {found.holder_count:,} hold it" if found.holder_count else ""
    render.line(f"{about}{found.qualified_count:,} of {found.user_count:,} users would be given it{held}")
    if found.estimated:
        render.line(f"{found.looked_at_count:,} were looked at")
    render.line(f"the backfill would take {max(1, round(found.estimated_seconds)):,} s")
    if found.sample:
        render.table(
            ["user", "met", "?>times"],
            [
                [
                    each.user_id,
                    render.instant(each.complete_time),
                    each.completion_count if each.completion_count > 1 else None,
                ]
                for each in found.sample
            ],
            empty="none",
        )


def show_statistics(found: achievement_service_pb2.GetAchievementStatisticsResponse) -> None:
    """Shares, medians, and completions by day."""
    some = f" of {found.user_count:,}, at random" if found.looked_at_count < found.user_count else ""
    days = found.median_seconds / _SECONDS_PER_DAY
    facts: list[tuple[str, render.Cell]] = [
        ("users looked at", f"{found.looked_at_count:,}{some}"),
        ("hold it", f"{found.holder_count:,} ({found.share:.1%})"),
    ]
    if found.median_entry_count:
        facts.append(("half of them took at most", f"{days:,.1f} days, {found.median_entry_count:,} entries"))
    if not found.at_a_stroke:
        facts.append(("have begun", f"{found.begun_count:,}"))
        facts.append(("of these gave up", f"{found.abandoned_count:,} ({found.abandoned_share:.1%})"))
    if found.difficulty_days:
        facts.append(("an active day brings", render.number(round(found.daily_value, 2))))
        facts.append(("it takes", f"{found.difficulty_days:,.1f} active days"))
    render.facts(facts)
    render.table(
        ["date", ">completions"], [[render.day(each.date), each.count] for each in found.days], empty="none"
    )
