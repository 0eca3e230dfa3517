"""How events, their replies and their audits are shown."""

from collections.abc import Sequence
from typing import Protocol

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from laurel.achievement.v1 import achievement_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.orchestrator.v1 import audit_pb2, event_pb2, orchestrator_service_pb2
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from services.cli import render
from services.cli.importing import describe_item_error
from services.cli.show_streak import show_periods, show_streak_changes


def show_reply(reply: event_pb2.IngestEventResponse) -> None:
    """The complete reply to one event."""
    replayed = " (the stored reply of an earlier request: nothing was done again)"
    render.heading(f"Event {reply.entry_id}{replayed if reply.idempotent_replayed else ''}")
    render.facts(
        [
            (reply.metric, f"{render.number(reply.total_before)} -> {render.number(reply.total_after)}"),
            ("occurred", render.instant(reply.occur_time)),
        ]
    )
    show_effects(reply.effects)


def show_effects(effects: effects_pb2.Effects) -> None:
    """What each service did with an entry, or with its undoing."""
    render.heading("Streaks")
    render.table(
        ["streak", ">length", "this event", "?>longest", "?>freezes", "expires"],
        [
            [
                each.state.streak,
                each.state.length,
                _what_became(each),
                each.state.longest,
                each.state.freeze_count,
                render.instant(each.state.expire_time),
            ]
            for each in effects.streaks
        ],
        empty="none touched",
    )
    render.heading("Achievements")
    show_achievement_changes(effects.achievements, empty="none changed")
    render.heading("Points")
    show_points_changes(effects.points)
    render.heading("Leaderboards")
    show_standings(effects.leaderboards)


def _what_became(effect: streak_pb2.StreakEffect) -> str:
    """What an entry did to a streak."""
    if effect.extended:
        return "extended it"
    before, after = effect.change.length_before, effect.change.length
    return f"{before} -> {after}" if before != after else "no change"


def show_achievement_changes(
    changes: Sequence[achievement_pb2.AchievementChange], *, empty: str = "none"
) -> None:
    prefix = "ACHIEVEMENT_CHANGE_KIND_"
    rows: render.Rows = [
        [
            each.achievement,
            each.number if each.number > 1 else None,
            each.name,
            render.enum_name(achievement_pb2.AchievementChangeKind.Name(each.kind), prefix),
            render.instant(each.complete_time),
        ]
        for each in changes
    ]
    render.table(["achievement", "?>number", "name", "what", "completed"], rows, empty=empty)


def show_points_changes(changes: Sequence[points_pb2.PointsChange]) -> None:
    """The user is shown where there are several."""
    several = len({each.user_id for each in changes}) > 1
    render.table(
        [*(["user"] if several else []), "system", ">added", ">balance", "new level", "awards"],
        [
            [
                *([each.user_id] if several else []),
                each.points_system,
                render.signed(each.added),
                each.balance,
                each.level if each.level != each.level_before else None,
                ", ".join(f"{award.trigger} {render.signed(award.amount)}" for award in each.awards),
            ]
            for each in changes
        ],
        empty="none changed",
    )


def show_standings(standings: Sequence[leaderboard_pb2.Standing], *, as_change: bool = True) -> None:
    """Standings that a call changed, with the rank before; a mere read has no before. Users are shown where there are
    several.
    """
    several = as_change and len({each.user_id for each in standings}) > 1
    rows: render.Rows = [
        [
            *([each.user_id] if several else []),
            each.leaderboard,
            render.segment(each.segment),
            "over: did not count" if each.run_finalized else render.run(each.run),
            each.score,
            render.rank(each.rank),
            *([render.rank(each.previous_rank)] if as_change else []),
        ]
        for each in standings
    ]
    columns = [
        *(["user"] if several else []),
        "board",
        "segment",
        "run",
        ">score",
        ">rank",
        *([">before"] if as_change else []),
    ]
    render.table(columns, rows, empty="none changed" if as_change else "none")


class Reply(Protocol):
    """What every reply to an operation has."""

    @property
    def entry_id(self) -> str:
        """UUID of the ledger's entry."""

    @property
    def idempotent_replayed(self) -> bool:
        """It had been given before."""

    @property
    def effects(self) -> effects_pb2.Effects:
        """What changed."""


def show_operation(reply: Reply, nothing: str = "") -> None:
    """The reply to an operation that is asked for by call; `nothing`: what to say where it did nothing of its own."""
    replayed = " (the stored reply of an earlier request: nothing was done again)"
    render.heading(f"Entry {reply.entry_id}{replayed if reply.idempotent_replayed else ''}")
    if nothing:
        render.line(nothing)
    show_effects(reply.effects)


def show_exclusion(reply: orchestrator_service_pb2.SetBoardExclusionResponse) -> None:
    """The reply to a call that excludes a user from boards, or brings the user back."""
    replayed = " (the stored reply of an earlier request: nothing was done again)"
    render.heading(f"Entry {reply.entry_id}{replayed if reply.idempotent_replayed else ''}")
    if not reply.effects.leaderboards:
        render.line("No rank of the user is another.")
    show_effects(reply.effects)


def show_void(reply: orchestrator_service_pb2.VoidEntryResponse, where: str) -> None:
    """What undoing an event undid, and in which system."""
    render.heading(f"Voided {reply.entry_id} at {where}")
    effects = reply.effects
    given_back = sum(each.refunded_freeze_count for each in effects.streaks)
    render.facts([("total after", reply.total_after), ("freezes given back", given_back)])
    show_effects(effects)
    render.heading("What changed about streaks")
    show_streak_changes([each.change for each in effects.streaks if each.HasField("change")])
    periods = [period for each in effects.streaks for period in each.periods]
    if periods:
        show_periods(periods)


def show_audit(audit: audit_pb2.EntryAudit) -> None:
    """Everything that is known of one entry: what was asked, and what each service did."""
    render.heading(f"Entry {audit.entry_id}")
    render.facts(
        [
            ("operation", audit.operation),
            ("state", audit_state(audit)),
            ("user", audit.user_id),
            ("request", _request_text(audit)),
            ("received", render.instant(audit.receive_time)),
            ("occurred", render.instant(audit.occur_time)),
            ("settled", render.instant(audit.settle_time)),
            ("instance", audit.instance),
            ("attempts", audit.attempt_count),
            ("rejected", describe_item_error(audit.rejection) if audit.HasField("rejection") else None),
            ("origin", render.enum_name(entry_pb2.EntryOrigin.Name(audit.origin), "ENTRY_ORIGIN_")),
            ("asked by", audit.actor),
            ("because", audit.reason),
            ("voided because", audit.void_reason),
            ("voided by", audit.void_actor),
            ("related entry", audit.related_entry_id),
            ("last error", audit.last_error),
        ]
    )
    reply = unpacked(audit.response)
    if isinstance(reply, event_pb2.IngestEventResponse):
        total = f"{render.number(reply.total_before)} -> {render.number(reply.total_after)}"
        render.facts([(reply.metric, total)])
    effects = getattr(reply, "effects", None)
    if effects is not None:
        show_effects(effects)


def show_audits(audits: Sequence[audit_pb2.EntryAudit], *, empty: str) -> None:
    """Several entries, one a row."""
    render.table(
        ["entry", "?operation", "state", "?user", "received", "?>attempts", "?last error"],
        [
            [
                each.entry_id,
                each.operation,
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


def audit_state(audit: audit_pb2.EntryAudit) -> str:
    """`done`."""
    return render.enum_name(audit_pb2.EntryState.Name(audit.state), "ENTRY_STATE_")


def unpacked(stored: Any) -> Message | None:
    """The message that an audit carries; None for one that is not there or not known here."""
    if not stored.type_url:
        return None
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(stored.type_url.rpartition("/")[2])
    except KeyError:
        return None
    return message_factory.GetMessageClass(descriptor).FromString(stored.value)


def _request_text(audit: audit_pb2.EntryAudit) -> str | None:
    request = unpacked(audit.request)
    if request is None:
        return None
    return json_format.MessageToJson(request, indent=None, ensure_ascii=False)
