"""How streaks are shown."""

from collections.abc import Sequence

from laurel.common.v1 import date_pb2
from laurel.streak.v1 import streak_pb2, streak_service_pb2

from services.cli import render


def show_streak_states(states: Sequence[streak_pb2.StreakState]) -> None:
    render.table(
        [
            "streak",
            ">length",
            "?>longest",
            "?since",
            "current period",
            "?progress",
            "?>freezes",
            "?paused",
            "expires",
        ],
        [
            [
                each.streak,
                each.length,
                each.longest,
                render.day(each.start_date),
                _dates(each.period_start_date, each.period_end_date),
                "qualified" if each.period_qualified else _progress(each.progress),
                each.freeze_count,
                ", ".join(_dates(pause.start_date, pause.end_date) for pause in each.pauses) or None,
                render.instant(each.expire_time),
            ]
            for each in states
        ],
        empty="none",
    )


def show_periods(periods: Sequence[streak_pb2.Period]) -> None:
    render.table(
        ["from", "to", "status", ">length", "settled"],
        [
            [
                render.day(each.start_date),
                render.day(each.end_date),
                render.enum_name(streak_pb2.PeriodStatus.Name(each.status), "PERIOD_STATUS_"),
                each.length,
                render.instant(each.settle_time),
            ]
            for each in periods
        ],
        empty="no period recorded",
    )


def show_freezes(entries: Sequence[streak_pb2.FreezeLedgerEntry]) -> None:
    render.table(
        ["date", ">amount", "reason"],
        [
            [
                render.day(each.effective_date),
                render.signed(each.amount),
                render.enum_name(streak_pb2.FreezeReason.Name(each.reason), "FREEZE_REASON_"),
            ]
            for each in entries
        ],
        empty="no freeze granted or consumed",
    )


def show_longest(streaks: Sequence[streak_service_pb2.LongestStreak]) -> None:
    rows: render.Rows = [
        [index, each.user_id, each.longest, each.length] for index, each in enumerate(streaks, 1)
    ]
    render.table([">", "user", ">longest", ">now"], rows, empty="nobody yet")


def show_ranked(streaks: Sequence[streak_service_pb2.RankedStreak]) -> None:
    rows: render.Rows = [
        [
            each.user_id,
            each.state.length,
            each.state.longest,
            "yes" if each.state.period_qualified else "no",
            render.instant(each.state.expire_time),
        ]
        for each in streaks
    ]
    render.table(["user", ">length", ">longest", "done", "expires"], rows, empty="nobody")


def show_at_risk(streaks: Sequence[streak_service_pb2.StreakAtRisk]) -> None:
    rows: render.Rows = [
        [
            each.user_id,
            each.time_zone,
            each.state.length,
            _progress(each.state.progress),
            each.state.freeze_count,
            render.instant(each.state.expire_time),
        ]
        for each in streaks
    ]
    render.table(["user", "zone", ">length", "progress", ">freezes", "expires"], rows, empty="nobody")


def show_preview(streaks: Sequence[streak_service_pb2.AmnestyPreview]) -> None:
    """What an amnesty would save."""
    rows: render.Rows = [
        [
            each.streak,
            each.affected_user_count,
            each.tried_user_count,
            each.saved_user_count,
            each.refunded_freeze_count,
        ]
        for each in streaks
    ]
    render.table(
        ["streak", ">affected users", ">tried", ">saved", ">freezes back"], rows, empty="no streak is defined"
    )


def show_amnesties(amnesties: Sequence[streak_service_pb2.DeclaredAmnesty]) -> None:
    rows: render.Rows = [
        [
            each.amnesty.key,
            render.instant(each.amnesty.start_time),
            render.instant(each.amnesty.end_time),
            ", ".join(each.amnesty.streaks) or "all",
            each.judged_count,
            each.saved_count,
            each.refunded_freeze_count,
            "yes" if each.finished else "under way",
        ]
        for each in amnesties
    ]
    render.table(
        ["key", "from", "to", "streaks", ">judged", ">saved", ">freezes back", "done"], rows, empty="none"
    )


def show_statistics(found: streak_service_pb2.GetStreakStatisticsResponse) -> None:
    """Present lengths, then losses."""
    render.facts(
        [
            ("lost", found.lost_count),
            ("saved by a freeze", found.frozen_count),
            ("saved by a pause", found.paused_count),
            ("given back", found.restored_count),
            ("excused", found.excused_count),
            ("share saved", f"{found.saved_share:.0%}"),
        ]
    )
    for title, counts in (("Lengths now", found.lengths), ("Lengths lost", found.losses)):
        render.heading(title)
        rows: render.Rows = [[f"{each.min_length} or more", each.count] for each in counts]
        render.table(["length", ">users"], rows, empty="none")
    render.heading("Lost on")
    days: render.Rows = [
        [render.enum_name(streak_pb2.Weekday.Name(each.weekday), "WEEKDAY_"), each.count]
        for each in found.weekdays
    ]
    render.table(["day", ">streaks"], days, empty="none")


def show_streak_changes(changes: Sequence[streak_pb2.StreakChange]) -> None:
    rows: render.Rows = [[each.streak, each.length_before, each.length, each.longest] for each in changes]
    render.table(["streak", ">before", ">length", ">longest"], rows, empty="none changed")


def _dates(start_date: date_pb2.LocalDate, end_date: date_pb2.LocalDate) -> str:
    start, end = render.day(start_date), render.day(end_date)
    return start if start == end else f"{start} to {end}"


def _progress(progress: Sequence[streak_pb2.MetricProgress]) -> str:
    return ", ".join(
        f"{each.metric} {render.number(each.current)} of {render.number(each.threshold)}" for each in progress
    )
