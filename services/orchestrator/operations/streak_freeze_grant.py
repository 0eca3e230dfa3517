"""GrantFreezes: freezes of a streak are given by hand (RULES 3.5)."""

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.calls import EVERYWHERE, call
from shared.entries import EntryKind

OPERATION = call(
    EntryKind.STREAK_FREEZE_GRANT, "GrantFreezes", pb.GrantFreezesRequest, pb.GrantFreezesResponse, EVERYWHERE
)
