"""A correction: what follows from undoing an earlier entry travels forward (RULES 7.3, docs/adr/0003)."""

from datetime import datetime
from uuid import UUID

from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator import convert
from services.orchestrator.operation import Operation
from services.orchestrator.saga import CORRECTED
from services.orchestrator.store.undo import TakenOut
from shared.decimals import from_micros
from shared.ids import derived_id_beside
from shared.rpc.convert import to_timestamp

NAME = "correction"


def correction_id(entry_id: str) -> UUID:
    """The id of the correction that follows when this entry is undone."""
    return derived_id_beside(UUID(entry_id), "correction")


def correction_of(
    origin: entry_pb2.Entry, left: TakenOut, now: datetime, default_zone: str, *, voided: bool
) -> entry_pb2.Entry:
    """The entry that tells participants what is left without `origin`, which was voided or else refused."""
    entry = entry_pb2.Entry(
        entry_id=str(correction_id(origin.entry_id)),
        user=convert.snapshot(left.user, default_zone, changed=left.user_changed),
        user_sequence=left.user_sequence,
        now=to_timestamp(now),
        occur_time=origin.occur_time,
        time_zone=origin.time_zone,
        origin=origin.origin,
        other_users=origin.other_users,
    )
    entry.correction.corrected_entry_id = origin.entry_id
    entry.correction.voided = voided
    if left.metric is not None and left.before is not None and left.after is not None:
        fact = entry.correction.metric
        fact.metric = left.metric
        fact.attributes.update(origin.metric_event.attributes)
        convert.set_total(fact, left.before, left.after)
        if left.contributed is not None:
            convert.set_revisions(fact, left.contributed.revisions)
            convert.set_arrivals(fact, left.contributed.arrivals)
            fact.one_value = left.contributed.one_value
    return entry


def void_reply(
    entry_id: str, correction: entry_pb2.Entry, effects: effects_pb2.Effects
) -> pb.VoidEntryResponse:
    """What voiding an entry undid."""
    return pb.VoidEntryResponse(
        entry_id=entry_id,
        total_after=from_micros(correction.correction.metric.total_after_micros),
        effects=effects,
    )


OPERATION = Operation(
    name=NAME,
    request_type=entry_pb2.Entry,
    steps=CORRECTED,
    reply=None,
    refusable=False,
)
