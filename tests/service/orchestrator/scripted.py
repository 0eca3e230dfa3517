"""Participants that do as a test tells them, each a real gRPC server; they write down what the orchestrator says.

Like every participant they remember what they answered (RULES 7.4).
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from laurel.common.v1 import error_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.participant.v1 import (
    participant_service_pb2_grpc,
    trace_service_pb2,
    trace_service_pb2_grpc,
)
from laurel.points.v1 import points_service_pb2, points_service_pb2_grpc

from services.orchestrator.saga import Step

Decide = Callable[[pb.Command], Effects | error_pb2.Error]


def changes_nothing(_command: pb.Command) -> Effects:
    """The answer of a participant that nothing is configured for."""
    return Effects()


@dataclass
class Script(
    participant_service_pb2_grpc.ParticipantServiceServicer,
    trace_service_pb2_grpc.TraceServiceServicer,
    points_service_pb2_grpc.PointsServiceServicer,
):
    """One participant."""

    step: Step
    heard: list[tuple[Step, str, list[str]]]
    """Every call to any participant, in order: who, which method, and the entries."""
    decide: Decide = changes_nothing
    away: int = 0
    """So many calls are answered UNAVAILABLE before anything is done."""
    lost: int = 0
    """Of so many calls the answer is lost: all is done, the caller hears UNAVAILABLE."""
    commands: list[pb.Command] = field(default_factory=list)
    reversals: list[pb.Reversal] = field(default_factory=list)
    maintained: list[pb.RunMaintenanceRequest] = field(default_factory=list)
    parts: list[pb.RunMaintenanceResponse] = field(default_factory=list)
    """What the next calls of maintenance answer; then nothing is due."""
    feed: list[pb.Change] = field(default_factory=list)
    listed: int = 0
    """How often the feed was asked for."""
    applied: dict[str, tuple[bytes, pb.Outcome]] = field(default_factory=dict)
    reverted: dict[str, pb.RevertOutcome] = field(default_factory=dict)
    stuck: str = ""
    """Whoever has an entry of this user in a call gets no answer."""
    balances: dict[str, int] = field(default_factory=dict)
    """Of users who have points."""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, calls wait."""
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    """A call waits."""

    def __post_init__(self) -> None:
        self.open.set()

    def hold(self) -> None:
        """Calls wait from now on."""
        self.open.clear()
        self.waiting.clear()

    async def ApplyEntries(self, request: pb.ApplyEntriesRequest, context: Any) -> pb.ApplyEntriesResponse:
        await self._hear("ApplyEntries", [command.entry.entry_id for command in request.commands], context)
        if self.stuck and any(command.entry.user.user_id == self.stuck for command in request.commands):
            await asyncio.Event().wait()
        self.commands.extend(request.commands)
        response = pb.ApplyEntriesResponse(outcomes=[self._applied(sent) for sent in request.commands])
        await self._lose(context)
        return response

    async def ApplyEntriesInTurn(
        self, requests: AsyncIterator[pb.ApplyEntriesInTurnRequest], context: Any
    ) -> AsyncIterator[pb.ApplyEntriesInTurnResponse]:
        async for request in requests:
            applied = await self.ApplyEntries(pb.ApplyEntriesRequest(commands=request.commands), context)
            yield pb.ApplyEntriesInTurnResponse(outcomes=applied.outcomes)

    async def RevertEntries(self, request: pb.RevertEntriesRequest, context: Any) -> pb.RevertEntriesResponse:
        await self._hear("RevertEntries", [reversal.entry_id for reversal in request.reversals], context)
        self.reversals.extend(request.reversals)
        response = pb.RevertEntriesResponse(
            outcomes=[self._reverted(reversal) for reversal in request.reversals]
        )
        await self._lose(context)
        return response

    async def RunMaintenance(
        self, request: pb.RunMaintenanceRequest, context: Any
    ) -> pb.RunMaintenanceResponse:
        await self._hear("RunMaintenance", [], context)
        self.maintained.append(request)
        return self.parts.pop(0) if self.parts else pb.RunMaintenanceResponse()

    async def ListChanges(self, request: pb.ListChangesRequest, _context: Any) -> pb.ListChangesResponse:
        self.listed += 1
        first = int(request.after_cursor or 0)
        page = self.feed[first : first + request.page_size]
        return pb.ListChangesResponse(changes=page, cursor=str(first + len(page)))

    async def ListLoggedEntries(
        self, request: pb.ListLoggedEntriesRequest, _context: Any
    ) -> pb.ListLoggedEntriesResponse:
        known = sorted(entry_id for entry_id in self.applied if entry_id > request.after_entry_id)
        entries = [pb.LoggedEntry(entry_id=each, state=pb.LOG_STATE_APPLIED) for each in known]
        return pb.ListLoggedEntriesResponse(entries=entries)

    async def PrepareHealing(
        self, _request: pb.PrepareHealingRequest, _context: Any
    ) -> pb.PrepareHealingResponse:
        return pb.PrepareHealingResponse()

    async def FinishHealing(
        self, _request: pb.FinishHealingRequest, _context: Any
    ) -> pb.FinishHealingResponse:
        return pb.FinishHealingResponse()

    async def EraseTraces(
        self, request: trace_service_pb2.EraseTracesRequest, context: Any
    ) -> trace_service_pb2.EraseTracesResponse:
        await self._hear("EraseTraces", list(request.entry_ids), context)
        return trace_service_pb2.EraseTracesResponse()

    async def GetPointsDistribution(
        self, request: points_service_pb2.GetPointsDistributionRequest, context: Any
    ) -> points_service_pb2.GetPointsDistributionResponse:
        await self._hear("GetPointsDistribution", list(request.only.user_ids), context)
        counts = [0] * (len(request.bounds) + 1)
        for user_id in request.only.user_ids:
            if user_id in self.balances:
                counts[bisect_right(request.bounds, self.balances[user_id])] += 1
        response = points_service_pb2.GetPointsDistributionResponse()
        response.ranges.add(user_count=counts[0])
        for bound, count in zip(request.bounds, counts[1:], strict=True):
            response.ranges.add(first=bound, user_count=count)
        return response

    def _applied(self, command: pb.Command) -> pb.Outcome:
        entry_id = command.entry.entry_id
        if entry_id in self.reverted:
            return _refusal(entry_id, "FAILED_PRECONDITION", "ENTRY_REVERTED")
        if entry_id not in self.applied:
            decided = self.decide(command)
            outcome = (
                pb.Outcome(entry_id=entry_id, effects=decided)
                if isinstance(decided, Effects)
                else pb.Outcome(entry_id=entry_id, error=decided)
            )
            self.applied[entry_id] = (command.digest, outcome)
        digest, outcome = self.applied[entry_id]
        return outcome if digest == command.digest else _refusal(entry_id, "ALREADY_EXISTS", "ENTRY_CONFLICT")

    def _reverted(self, reversal: pb.Reversal) -> pb.RevertOutcome:
        known = self.applied.get(reversal.entry_id)
        done = known is not None and known[1].HasField("effects")
        return self.reverted.setdefault(
            reversal.entry_id, pb.RevertOutcome(entry_id=reversal.entry_id, reverted=done)
        )

    async def _hear(self, method: str, entry_ids: list[str], context: Any) -> None:
        self.heard.append((self.step, method, entry_ids))
        self.waiting.set()
        await self.open.wait()
        if self.away:
            self.away -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "scripted")

    async def _lose(self, context: Any) -> None:
        if self.lost:
            self.lost -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "scripted")


@dataclass(frozen=True)
class Cast:
    """All participants."""

    of: Mapping[Step, Script]
    targets: Mapping[Step, str]
    heard: list[tuple[Step, str, list[str]]]

    def calls(self, method: str) -> list[Step]:
        """Who was called by this method, in order."""
        return [step for step, name, _ in self.heard if name == method]

    def sizes(self, step: Step) -> list[int]:
        """How many entries each ApplyEntries of a participant had."""
        return [len(ids) for one, method, ids in self.heard if (one, method) == (step, "ApplyEntries")]


@asynccontextmanager
async def cast() -> AsyncIterator[Cast]:
    """Four participants that are listening."""
    heard: list[tuple[Step, str, list[str]]] = []
    # Of traces it erases alone, and of points it counts users.
    scripts = {step: Script(step, heard) for step in Step}  # type: ignore[abstract]
    servers: list[grpc.aio.Server] = []
    targets = {}
    for step, script in scripts.items():
        server = grpc.aio.server()
        participant_service_pb2_grpc.add_ParticipantServiceServicer_to_server(script, server)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(script, server)
        points_service_pb2_grpc.add_PointsServiceServicer_to_server(script, server)
        targets[step] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        servers.append(server)
    try:
        yield Cast(scripts, targets, heard)
    finally:
        for script in scripts.values():
            script.open.set()
        await asyncio.gather(*(server.stop(None) for server in servers))


def refusal(reason: str) -> Decide:
    """A participant that says no to everything but corrections."""

    def decide(command: pb.Command) -> Effects | error_pb2.Error:
        if command.entry.HasField("correction"):
            return Effects()
        return error_pb2.Error(code="FAILED_PRECONDITION", reason=reason, domain="scripted.laurel")

    return decide


def _refusal(entry_id: str, code: str, reason: str) -> pb.Outcome:
    return pb.Outcome(entry_id=entry_id, error=error_pb2.Error(code=code, reason=reason))


def entries_of(commands: Sequence[pb.Command]) -> list[str]:
    """The ids of commands, in order."""
    return [command.entry.entry_id for command in commands]
