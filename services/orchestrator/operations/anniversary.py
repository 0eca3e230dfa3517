"""A user has been there for so many years: found by the achievement service, followed by points (RULES 4)."""

from datetime import UTC
from uuid import UUID

from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.participant.v1 import participant_service_pb2

from services.orchestrator.domain import Origin
from services.orchestrator.operation import Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.rpc.convert import digest_of

NAME = "anniversary"


def found(change: participant_service_pb2.Change) -> Incoming:
    """The entry of an anniversary: it happened at the local midnight, whenever it was found."""
    occur_time = change.occur_time.ToDatetime(tzinfo=UTC)
    return Incoming(
        entry_id=UUID(change.entry_id),
        operation=NAME,
        patch=UserPatch(change.user_id),
        occur_time=occur_time,
        now=occur_time,
        digest=digest_of(change),
        request=change.SerializeToString(deterministic=True),
        time_zone=change.time_zone,
        origin=Origin(change.origin or Origin.MAINTENANCE),
    )


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    change = participant_service_pb2.Change.FromString(request)
    entry.anniversary.CopyFrom(change.anniversary)


def _effects_before(entry: entry_pb2.Entry) -> effects_pb2.Effects:
    return effects_pb2.Effects(achievements=entry.anniversary.changes)


OPERATION = Operation(
    name=NAME,
    request_type=participant_service_pb2.Change,
    steps=(Step.POINTS, Step.LEADERBOARD),
    reply=None,
    found=found,
    tell=_tell,
    effects_before=_effects_before,
    refusable=False,
)
