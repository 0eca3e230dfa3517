"""How events, their replies and their audits are shown."""

from collections.abc import Sequence

from google.protobuf import json_format
from laurel.achievement.v1 import achievement_pb2
from laurel.common.v1 import entry_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2
from laurel.points.v1 import points_pb2

from services.cli import render
from services.cli.importing import describe_item_error
from services.cli.views_streak import show_periods, show_streak_changes


def show_reply(reply: event_pb2.IngestEventResponse) -> None:
    """The complete reply to one event."""
    replayed = " (the stored reply of an earlier request: nothing was done again)"
    render.heading(f"Event {reply.event_id}{replayed if reply.idempotent_replayed else ''}")
    render.facts(
        [
            (reply.metric, f"{render.number(reply.total_before)} -> {render.number(reply.total_after)}"),
            ("occurred", render.instant(reply.occur_time)),
        ]
    )
    show_effects(reply)


def show_effects(reply: event_pb2.IngestEventResponse) -> None:
    """What each service did with an event."""
    render.heading("Streaks")
    render.table(
        ["streak", ">length", "this event", "?>longest", "?>freezes", "expires"],
        [
            [
                each.state.streak,
                each.state.length,
                "extended it" if each.extended else "no change",
                each.state.longest,
                each.state.freeze_count,
                render.instant(each.state.expire_time),
            ]
            for each in reply.streaks
        ],
        empty="none touched",
    )
    render.heading("Achievements")
    show_achievement_changes(reply.achievements, empty="none completed")
    render.heading("Points")
    show_points_results(reply.points)
    render.heading("Leaderboards")
    show_standings(reply.leaderboards)


def show_achievement_changes(
    changes: Sequence[achievement_pb2.AchievementChange], *, empty: str = "none"
) -> None:
    prefix = "ACHIEVEMENT_CHANGE_KIND_"
    rows: render.Rows = [
        [
            each.achievement,
            each.name,
            render.enum_name(achievement_pb2.AchievementChangeKind.Name(each.kind), prefix),
            render.instant(each.complete_time),
        ]
        for each in changes
    ]
    render.table(["achievement", "name", "what", "completed"], rows, empty=empty)


def show_points_results(results: Sequence[event_pb2.PointsResult]) -> None:
    render.table(
        ["system", ">added", ">total", "new level", "awards"],
        [
            [
                each.points_system,
                render.signed(each.added),
                each.total,
                each.new_level if each.HasField("new_level") else None,
                ", ".join(f"{award.trigger} {render.signed(award.amount)}" for award in each.awards),
            ]
            for each in results
        ],
        empty="none changed",
    )


def show_standings(standings: Sequence[leaderboard_pb2.Standing], *, as_change: bool = True) -> None:
    """Standings that a call changed, with the rank before; a mere read has no before."""
    rows: render.Rows = [
        [
            each.leaderboard,
            render.segment(each.segment),
            "over: did not count" if each.run_finalized else render.run(each.run),
            each.score,
            render.rank(each.rank),
            *([render.rank(each.previous_rank)] if as_change else []),
        ]
        for each in standings
    ]
    columns = ["board", "segment", "run", ">score", ">rank", *([">before"] if as_change else [])]
    render.table(columns, rows, empty="none changed" if as_change else "none")


def show_points_changes(changes: Sequence[points_pb2.PointsChange]) -> None:
    rows: render.Rows = [
        [each.points_system, render.signed(each.added), each.balance, each.level_before, each.level]
        for each in changes
    ]
    render.table(["system", ">added", ">balance", "level before", "level"], rows, empty="none changed")


def show_completion(reply: orchestrator_service_pb2.CompleteAchievementResponse) -> None:
    """The reply to a call that completes an achievement."""
    replayed = " (the stored reply of an earlier request: nothing was done again)"
    render.heading(f"Entry {reply.event_id}{replayed if reply.idempotent_replayed else ''}")
    show_achievement_changes(reply.achievements, empty="had been completed before")
    render.heading("Points")
    show_points_results(reply.points)
    render.heading("Leaderboards")
    show_standings(reply.leaderboards)


def show_void(reply: orchestrator_service_pb2.VoidEventResponse) -> None:
    """What undoing an event undid."""
    render.heading(f"Voided {reply.event_id}")
    render.facts([("total after", reply.total_after), ("freezes given back", reply.refunded_freeze_count)])
    render.heading("Streaks")
    show_streak_changes(reply.streaks)
    if reply.periods:
        show_periods(reply.periods)
    render.heading("Achievements")
    show_achievement_changes(reply.achievements, empty="none revoked")
    render.heading("Points")
    show_points_changes(reply.points)
    render.heading("Leaderboards")
    show_standings(reply.leaderboards)


def show_audit(audit: event_pb2.EntryAudit) -> None:
    """Everything that is known of one entry: what was asked, and what each service did."""
    render.heading(f"Entry {audit.event_id}")
    render.facts(
        [
            ("kind", audit_kind(audit)),
            ("state", audit_state(audit)),
            ("user", audit.user_id),
            ("request", _request_text(audit)),
            ("received", render.instant(audit.receive_time)),
            ("occurred", render.instant(audit.occur_time)),
            ("settled", render.instant(audit.settle_time)),
            ("instance", audit.instance),
            ("attempts", audit.attempt_count),
            ("rejected", describe_item_error(audit.rejection) if audit.HasField("rejection") else None),
            ("voided because", audit.void_reason),
            ("related entry", audit.related_event_id),
            ("last error", audit.last_error),
        ]
    )
    if audit.HasField("response"):
        metric = audit.response
        render.facts(
            [(metric.metric, f"{render.number(metric.total_before)} -> {render.number(metric.total_after)}")]
        )
        show_effects(audit.response)


def show_audits(audits: Sequence[event_pb2.EntryAudit], *, empty: str) -> None:
    """Several entries, one a row."""
    render.table(
        ["entry", "?kind", "state", "?user", "received", "?>attempts", "?last error"],
        [
            [
                each.event_id,
                audit_kind(each),
                audit_state(each),
                each.user_id,
                render.instant(each.receive_time),
                each.attempt_count,
                each.last_error,
            ]
            for each in audits
        ],
        empty=empty,
    )


def audit_kind(audit: event_pb2.EntryAudit) -> str:
    """`metric event`."""
    return render.enum_name(entry_pb2.EntryKind.Name(audit.kind), "ENTRY_KIND_")


def audit_state(audit: event_pb2.EntryAudit) -> str:
    """`done`."""
    return render.enum_name(event_pb2.EntryState.Name(audit.state), "ENTRY_STATE_")


def _request_text(audit: event_pb2.EntryAudit) -> str | None:
    if not audit.HasField("request"):
        return None
    return json_format.MessageToJson(audit.request, indent=None, ensure_ascii=False)
