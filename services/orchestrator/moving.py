"""An entry that is recorded for another user than it was asked for: since that one was merged (RULES 2.7). Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from google.protobuf.message import Message
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2
from msgspec.structs import replace

from services.orchestrator.domain import Origin, TimeWindow
from services.orchestrator.operation import AnyOperation, Asked
from services.orchestrator.operations import OPERATIONS, user_erasure, user_merge
from services.orchestrator.recording import MERGED, Incoming
from shared.errors import LaurelError
from shared.ids import derived_id_beside

_ACCEPTED: Final = TimeWindow(timedelta(days=366 * 200), timedelta(days=366))
"""It was checked when it came."""
_HISTORY: Final = TimeWindow(None, _ACCEPTED.max_ahead)

MOVED: Final = sorted(
    operation.name
    for operation in OPERATIONS.values()
    if (operation.incoming or operation.voidable) and not operation.goes_alone
)
"""What goes to the other user. The rest follows from it anew, or is time's and the other has it anyway."""
UNDONE: Final = sorted(name for name in MOVED if OPERATIONS[name].voidable)
"""What is undone for the merged user. The rest leaves nothing that another service looks at."""


def moved_id(entry_id: UUID) -> UUID:
    """The id of an entry after it was moved: the same whoever moves it, and however often."""
    return derived_id_beside(entry_id, "moved")


def moved(
    entry_id: UUID,
    operation: AnyOperation,
    request: bytes,
    receive_time: datetime,
    origin: Origin,
    actor: str,
    time_zone: str,
    user_id: str,
    into: str,
) -> Incoming:
    """A stored entry as the other user's: as of its own time and zone. Raises `LaurelError` for one that makes no sense
    there, such as a transfer between the two.
    """
    message = operation.request_of(request)
    readdress(message, user_id, into)
    if isinstance(message, pb.CapturePointsRequest | pb.ReleasePointsRequest):
        message.hold_entry_id = str(moved_id(UUID(message.hold_entry_id)))
    incoming = _made(operation, message, receive_time, origin, actor)
    return replace(
        incoming,
        entry_id=moved_id(entry_id),
        key_id=None,
        time_zone=time_zone or incoming.time_zone,
        moved=True,
    )


def leads_on(incoming: Incoming, refusal: LaurelError) -> bool:
    """Whether it is refused because of a merge, and what is asked for is asked of the other then."""
    if refusal.reason != MERGED or incoming.operation == user_erasure.NAME:
        return False
    return incoming.operation != user_merge.NAME or refusal.metadata["user_id"] != incoming.patch.user_id


def found_of(found: Sequence[Incoming], outcomes: Sequence[object]) -> list[Incoming] | None:
    """What services have found by themselves, with what is another user's since a merge, such as a prize for a run that
    has just ended; None where nothing is.
    """
    led = [
        led_on(item, refusal.metadata["user_id"], refusal.metadata["into_user_id"], hold_moved=False)
        if isinstance(refusal, LaurelError) and item.operation in MOVED and leads_on(item, refusal)
        else item
        for item, refusal in zip(found, outcomes, strict=True)
    ]
    return led if any(new is not old for new, old in zip(led, found, strict=True)) else None


def led_on(incoming: Incoming, user_id: str, into: str, *, hold_moved: bool) -> Incoming:
    """The same, asked of the user whom the id leads to. `hold_moved`: the hold that it is about was moved too.

    Raises `LaurelError`.
    """
    operation = OPERATIONS[incoming.operation]
    message = operation.request_of(incoming.request)
    readdress(message, user_id, into)
    hold = hold_of(incoming)
    if hold_moved and hold is not None:
        message.hold_entry_id = str(moved_id(hold))
    found = _made(operation, message, incoming.now, incoming.origin, incoming.actor)
    if incoming.moved:
        found = replace(
            found, entry_id=incoming.entry_id, key_id=None, time_zone=incoming.time_zone, moved=True
        )
    return found


def hold_of(incoming: Incoming) -> UUID | None:
    """The hold of points that it is about."""
    request = OPERATIONS[incoming.operation].request_of(incoming.request)
    if isinstance(request, pb.CapturePointsRequest | pb.ReleasePointsRequest):
        return UUID(request.hold_entry_id)
    return None


def readdress(message: Message, user_id: str, into: str) -> None:
    """Puts another id where a request names a user."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            if not (field.is_repeated or field.message_type.GetOptions().map_entry):
                readdress(value, user_id, into)
        elif field.name.endswith("user_id") and value == user_id:
            setattr(message, field.name, into)


def _made(
    operation: AnyOperation, request: Message, receive_time: datetime, origin: Origin, actor: str
) -> Incoming:
    if operation.incoming is not None:
        window = _HISTORY if origin is Origin.IMPORT else _ACCEPTED
        return operation.incoming(request, Asked(receive_time, window, origin, actor))
    assert operation.found is not None
    assert isinstance(request, participant_service_pb2.Change)
    return operation.found(request)
