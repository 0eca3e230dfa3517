"""What readers and callers are told of stored entries and users."""

from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from laurel.common.v1 import error_pb2
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import audit_pb2, orchestrator_service_pb2, user_pb2

from services.orchestrator.convert import state_number
from services.orchestrator.domain import Standing, User
from services.orchestrator.operations import OPERATIONS
from services.orchestrator.operations.correction import correction_id
from services.orchestrator.store.reads import Audit
from shared.errors import FailedPrecondition, LaurelError
from shared.rpc.convert import to_timestamp
from shared.rpc.error_messages import error_from_message

DOMAIN: Final = "orchestrator.laurel"


def stored_user(user: User, default_zone: str) -> user_pb2.StoredUser:
    """A user for a reader."""
    return user_pb2.StoredUser(
        user_id=user.user_id,
        name=user.said.plain_name,
        time_zone=user.zone(default_zone),
        attributes=user.said.plain_attributes(),
        create_time=to_timestamp(user.create_time),
        version=user.version,
        control=user.standing is Standing.CONTROL,
    )


def rejection_from_bytes(body: bytes) -> LaurelError:
    """A stored refusal."""
    return error_from_message(error_pb2.Error.FromString(body))


def reply_expired() -> FailedPrecondition:
    """What a caller is told who repeats a request after the replay window."""
    return FailedPrecondition(
        "the key was used before, so long ago that the answer is not kept any more", reason="REPLY_EXPIRED"
    )


def audit_message(audit: Audit) -> audit_pb2.EntryAudit:
    """An entry with its saga, for a reader."""
    operation = OPERATIONS[audit.operation]
    message = audit_pb2.EntryAudit(
        entry_id=str(audit.entry_id),
        operation=audit.operation,
        state=_state_number(audit),
        user_id=audit.user_id,
        other_user_ids=audit.other_user_ids,
        origin=entry_pb2.EntryOrigin.ValueType(audit.origin or 0),
        actor=audit.actor or "",
        reason=audit.reason or "",
        receive_time=to_timestamp(audit.receive_time),
        occur_time=to_timestamp(audit.occur_time),
        instance=audit.instance or "",
        attempt_count=audit.attempt_count,
        void_reason=audit.void_reason or "",
        void_actor=audit.void_actor or "",
        last_error=audit.last_error or "",
    )
    if audit.request:
        _pack(message.request, operation.request_type, audit.request)
    if audit.reply and operation.reply_type is not None:
        _pack(message.response, operation.reply_type, audit.reply)
    if audit.void_reply:
        _pack(message.void_response, orchestrator_service_pb2.VoidEntryResponse, audit.void_reply)
    if audit.rejection is not None:
        message.rejection.ParseFromString(audit.rejection)
    if audit.settle_time is not None:
        message.settle_time.CopyFrom(to_timestamp(audit.settle_time))
    if audit.origin_id is not None:
        message.related_entry_id = str(audit.origin_id)
    elif audit.corrected:
        message.related_entry_id = str(correction_id(str(audit.entry_id)))
    return message


def _pack(into: Any, kind: type[Message], body: bytes) -> None:
    """The stored bytes as they are."""
    into.type_url = f"type.googleapis.com/{kind.DESCRIPTOR.full_name}"
    into.value = body


def _state_number(audit: Audit) -> audit_pb2.EntryState.ValueType:
    """Without its saga an entry only tells whether it counts."""
    if audit.state is not None:
        return state_number(audit.state)
    return audit_pb2.ENTRY_STATE_DONE if audit.live else audit_pb2.ENTRY_STATE_UNDONE
