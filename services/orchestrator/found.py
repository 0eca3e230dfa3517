"""What operations have in common that a service finds by itself: the entry is the finding, as it stands in the feed."""

from collections.abc import Callable
from datetime import UTC
from uuid import UUID

from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.participant.v1 import participant_service_pb2

from services.orchestrator.domain import Origin
from services.orchestrator.operation import AnyOperation, Operation, nothing_before
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.entries import EntryKind
from shared.rpc.convert import digest_of


def finding(
    kind: EntryKind,
    steps: tuple[Step, ...],
    *,
    effects_before: Callable[[entry_pb2.Entry], effects_pb2.Effects] = nothing_before,
    refusable: bool = False,
    voidable: bool = False,
) -> AnyOperation:
    """The operation of what a service finds. It happened when the service says, whenever it was found."""
    name = kind.value

    def found(change: participant_service_pb2.Change) -> Incoming:
        occur_time = change.occur_time.ToDatetime(tzinfo=UTC)
        return Incoming(
            entry_id=UUID(change.entry_id),
            operation=name,
            patch=UserPatch(change.user_id),
            occur_time=occur_time,
            now=occur_time,
            digest=digest_of(change),
            request=change.SerializeToString(deterministic=True),
            time_zone=change.time_zone,
            origin=Origin(change.origin or Origin.MAINTENANCE),
        )

    def tell(entry: entry_pb2.Entry, request: bytes) -> None:
        change = participant_service_pb2.Change.FromString(request)
        getattr(entry, name).CopyFrom(getattr(change, name))

    return Operation(
        name=name,
        request_type=participant_service_pb2.Change,
        steps=steps,
        reply=None,
        found=found,
        tell=tell,
        effects_before=effects_before,
        refusable=refusable,
        voidable=voidable,
    )
