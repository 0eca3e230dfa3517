"""A user of a league goes up or down at the end of a run: found by the leaderboard (RULES 6.12)."""

from datetime import UTC
from uuid import UUID

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2

from services.orchestrator.domain import Origin
from services.orchestrator.operation import Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.rpc.convert import digest_of

NAME = "league_move"


def found(change: participant_service_pb2.Change) -> Incoming:
    """The entry of a move: it happened when the run was final, whenever that was found."""
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
    entry.league_move.CopyFrom(change.league_move)


OPERATION = Operation(
    name=NAME,
    request_type=participant_service_pb2.Change,
    steps=(Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    reply=None,
    found=found,
    tell=_tell,
    refusable=False,
)
