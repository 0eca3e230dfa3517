"""Replies and audits, put together from what services answered; never read back (DESIGN 2)."""

from collections.abc import Mapping
from typing import Any, Final

from laurel.common.v1 import entry_pb2, error_pb2
from laurel.orchestrator.v1 import event_pb2, metric_pb2, orchestrator_service_pb2

from services.orchestrator.convert import KIND_NUMBERS, correction_id, state_number
from services.orchestrator.domain import User
from services.orchestrator.participants import achievements_undone, points_undone, streak_changes
from services.orchestrator.saga import Saga, Step
from services.orchestrator.store.reads import Audit
from shared.decimals import from_micros
from shared.entries import EntryKind
from shared.errors import FailedPrecondition, LaurelError
from shared.rpc.convert import error_from_message, to_timestamp

DOMAIN: Final = "orchestrator.laurel"


def ingest_reply(entry: entry_pb2.Entry, applied: Mapping[Step, Any]) -> event_pb2.IngestEventResponse:
    """The complete reply to an event, from what every service answered."""
    return event_pb2.IngestEventResponse(
        event_id=entry.entry_id,
        metric=entry.metric.metric,
        total_before=from_micros(entry.metric.total_before_micros),
        total_after=from_micros(entry.metric.total_after_micros),
        occur_time=entry.occur_time,
        streaks=[
            event_pb2.StreakResult(state=effect.state, extended=effect.extended)
            for effect in applied[Step.STREAK].effects
        ],
        achievements=applied[Step.ACHIEVEMENT].changes,
        points=[_points_result(change) for change in applied[Step.POINTS].changes],
        leaderboards=applied[Step.LEADERBOARD].standings,
    )


def achievement_call_reply(
    entry: entry_pb2.Entry, applied: Mapping[Step, Any]
) -> orchestrator_service_pb2.CompleteAchievementResponse:
    """The reply to CompleteAchievement."""
    return orchestrator_service_pb2.CompleteAchievementResponse(
        event_id=entry.entry_id,
        achievements=applied[Step.ACHIEVEMENT].changes,
        points=[_points_result(change) for change in applied[Step.POINTS].changes],
        leaderboards=applied[Step.LEADERBOARD].standings,
    )


def user_update_reply(
    entry: entry_pb2.Entry, applied: Mapping[Step, Any]
) -> orchestrator_service_pb2.UpdateUserResponse:
    """The reply to UpdateUser."""
    user = entry.user
    return orchestrator_service_pb2.UpdateUserResponse(
        user=metric_pb2.StoredUser(
            user_id=user.user_id,
            name=user.name,
            time_zone=user.time_zone,
            attributes=user.attributes,
            create_time=user.create_time,
            version=user.version,
        ),
        points=[_points_result(change) for change in applied[Step.POINTS].changes],
        leaderboards=applied[Step.LEADERBOARD].standings,
    )


def reply_of(kind: EntryKind, entry: entry_pb2.Entry, applied: Mapping[Step, Any]) -> bytes:
    """The serialized reply to an entry of any kind; empty where nobody waits for one."""
    match kind:
        case EntryKind.METRIC_EVENT:
            return ingest_reply(entry, applied).SerializeToString()
        case EntryKind.ACHIEVEMENT_CALL:
            return achievement_call_reply(entry, applied).SerializeToString()
        case EntryKind.USER_UPDATE:
            return user_update_reply(entry, applied).SerializeToString()
        case _:
            return b""


def void_reply(
    entry: entry_pb2.Entry, correction: entry_pb2.Entry, saga: Saga[Any]
) -> orchestrator_service_pb2.VoidEventResponse:
    """What voiding an event undid, from what every service answered."""
    effects = saga.reverted[Step.STREAK].effects
    return orchestrator_service_pb2.VoidEventResponse(
        event_id=entry.entry_id,
        total_after=from_micros(correction.metric.total_after_micros),
        streaks=streak_changes(effects),
        periods=[period for effect in effects for period in effect.periods],
        refunded_freeze_count=sum(effect.refunded_freeze_count for effect in effects),
        achievements=achievements_undone(saga),
        points=points_undone(saga),
        leaderboards=[
            *saga.reverted[Step.LEADERBOARD].standings,
            *saga.corrected[Step.LEADERBOARD].standings,
        ],
    )


def stored_user(user: User, default_zone: str) -> metric_pb2.StoredUser:
    """A user for a reader."""
    return metric_pb2.StoredUser(
        user_id=user.user_id,
        name=user.name.value if user.name else "",
        time_zone=user.zone(default_zone),
        attributes=user.plain_attributes(),
        create_time=to_timestamp(user.create_time),
        version=user.version,
    )


def rejection_from_bytes(body: bytes) -> LaurelError:
    """A stored refusal."""
    return error_from_message(error_pb2.Error.FromString(body))


def reply_expired() -> FailedPrecondition:
    """What a caller is told who repeats a request after the replay window."""
    return FailedPrecondition(
        "the key was used before, so long ago that the answer is not kept any more", reason="REPLY_EXPIRED"
    )


def audit_message(audit: Audit) -> event_pb2.EntryAudit:
    """An entry with its saga, for a reader."""
    message = event_pb2.EntryAudit(
        event_id=str(audit.entry_id),
        kind=KIND_NUMBERS[audit.kind],
        state=_state_number(audit),
        user_id=audit.user_id,
        receive_time=to_timestamp(audit.receive_time),
        occur_time=to_timestamp(audit.occur_time),
        instance=audit.instance or "",
        attempt_count=audit.attempt_count,
        void_reason=audit.void_reason or "",
        last_error=audit.last_error or "",
    )
    if audit.kind is EntryKind.METRIC_EVENT:
        message.request.ParseFromString(audit.request)
        if audit.reply is not None:
            message.response.ParseFromString(audit.reply)
    if audit.rejection is not None:
        message.rejection.ParseFromString(audit.rejection)
    if audit.settle_time is not None:
        message.settle_time.CopyFrom(to_timestamp(audit.settle_time))
    if audit.origin_id is not None:
        message.related_event_id = str(audit.origin_id)
    elif audit.corrected:
        message.related_event_id = str(correction_id(str(audit.entry_id)))
    return message


def _state_number(audit: Audit) -> event_pb2.EntryState.ValueType:
    """Without its saga an entry only tells whether it counts."""
    if audit.state is not None:
        return state_number(audit.state)
    return event_pb2.ENTRY_STATE_DONE if audit.live else event_pb2.ENTRY_STATE_UNDONE


def _points_result(change: Any) -> event_pb2.PointsResult:
    result = event_pb2.PointsResult(
        points_system=change.points_system, added=change.added, total=change.balance, awards=change.awards
    )
    if change.level != change.level_before:
        result.new_level = change.level
    return result
