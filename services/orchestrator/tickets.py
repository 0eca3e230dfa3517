"""Sagas in hand: what the runner holds of each, and the answers that callers wait for."""

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from laurel.common.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2
from laurel.streak.v1 import streak_pb2, streak_service_pb2
from msgspec import Struct

from services.orchestrator import replies, saga
from services.orchestrator.participants import ApplyOutcome, Command, outcome_from_bytes
from services.orchestrator.saga import Act, Saga, State, Step
from services.orchestrator.store.sagas import StoredSaga
from shared.entries import EntryKind
from shared.errors import LaurelError, Unavailable


class Answer(Struct, frozen=True):
    """The answer to an entry: serialized, as stored."""

    reply: bytes
    replayed: bool = False


class StillRunning(Exception):
    """The entry is in other hands, a replica's or recovery's: its answer will be in the database."""

    def __init__(self, entry_id: UUID) -> None:
        super().__init__(str(entry_id))
        self.entry_id = entry_id


@dataclass(slots=True)
class Ticket:
    """One saga in hand."""

    entry_id: UUID
    kind: EntryKind
    entry: entry_pb2.Entry
    saga: Saga[ApplyOutcome]
    answer: "asyncio.Future[Answer]"
    achievement: str = ""
    closing: streak_pb2.StreakChange | None = None
    correction: entry_pb2.Entry | None = None
    attempt_count: int = 0
    abandon_reason: str | None = None
    finished: bool = field(default=False)

    def command(self) -> Command:
        """What this saga has to say to a participant."""
        return Command(self.entry, self.correction, self.saga, self.achievement, self.closing)


def new_ticket(entry_id: UUID, kind: EntryKind, entry: entry_pb2.Entry, request: bytes) -> Ticket:
    """The ticket of an entry that has just been recorded."""
    return Ticket(
        entry_id,
        kind,
        entry,
        Saga(kind),
        unobserved(),
        achievement=achievement_of(kind, request),
        closing=closing_of(kind, request),
    )


def achievement_of(kind: EntryKind, request: bytes) -> str:
    """The achievement that an ACHIEVEMENT_CALL completes; empty for other kinds."""
    if kind is not EntryKind.ACHIEVEMENT_CALL:
        return ""
    return orchestrator_service_pb2.CompleteAchievementRequest.FromString(request).achievement


def closing_of(kind: EntryKind, request: bytes) -> streak_pb2.StreakChange | None:
    """The change that a STREAK_CLOSING brings from the streak service's feed; None for other kinds."""
    if kind is not EntryKind.STREAK_CLOSING:
        return None
    return streak_service_pb2.Change.FromString(request).change


def pending(cause: LaurelError) -> Unavailable:
    """What a caller is told whose event is recorded but not finished: it goes on by itself (RULES 7.8)."""
    return Unavailable(
        f"the event is recorded and will be finished; ask again with the same key ({cause.message})",
        reason="EVENT_PENDING",
        metadata={"cause": cause.reason},
        retry_after_seconds=1.0,
    )


def resumed_ticket(stored: StoredSaga) -> Ticket:
    """The ticket of a saga that somebody has to go on with."""
    entry = entry_pb2.Entry.FromString(stored.entry)
    correction = None if stored.correction is None else entry_pb2.Entry.FromString(stored.correction)
    return Ticket(
        entry_id=stored.entry_id,
        kind=stored.kind,
        entry=entry,
        saga=_resumed(stored),
        answer=unobserved(),
        achievement=achievement_of(stored.kind, stored.request),
        closing=closing_of(stored.kind, stored.request),
        correction=correction,
        attempt_count=stored.attempt_count,
        abandon_reason=stored.abandon_reason,
    )


def unobserved() -> "asyncio.Future[Answer]":
    """A future whose exception nobody has to look at: a caller may have gone away."""
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _resumed(stored: StoredSaga) -> Saga[ApplyOutcome]:
    """A saga as it stands in the database. Answers given since are asked for again: they are remembered."""
    if stored.state is State.RUNNING:
        return Saga(stored.kind)
    applied: dict[Step, ApplyOutcome] = {
        step: outcome_from_bytes(step, Act.APPLY, body) for step, body in stored.applied.items()
    }
    if stored.state is State.VOIDING:
        resumed = saga.voiding(stored.kind, applied)
    else:
        assert stored.rejection is not None
        resumed = Saga(
            stored.kind,
            State.COMPENSATING,
            applied=applied,
            rejection=replies.rejection_from_bytes(stored.rejection),
            decided=True,
            undo=stored.undo,
        )
    return resumed
