"""Sagas in hand: what the runner holds of each, and the answers that callers wait for."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from laurel.ledger.v1 import effects_pb2, entry_pb2
from msgspec.structs import replace

from services.orchestrator import operations, replies, saga
from services.orchestrator.effects import EntrySaga, for_followers, serialized
from services.orchestrator.operation import AnyOperation
from services.orchestrator.participants import Told, common_part
from services.orchestrator.saga import State, Step
from services.orchestrator.store.sagas import StoredSaga
from shared.errors import LaurelError, Unavailable
from shared.ids import sha256


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an entry: serialized, as stored."""

    reply: bytes
    replayed: bool = False


class StillRunning(Exception):
    """The entry is in other hands, a replica's or recovery's: its answer will be in the database."""

    def __init__(self, entry_id: UUID) -> None:
        super().__init__(str(entry_id))
        self.entry_id = entry_id


@dataclass(slots=True)
class ActiveSaga:
    """One saga in hand."""

    entry_id: UUID
    operation: AnyOperation
    entry: entry_pb2.Entry
    body: bytes
    """The entry, serialized."""
    command: bytes
    """What all participants are told alike."""
    before: effects_pb2.Effects
    saga: EntrySaga
    answer: "asyncio.Future[Answer]"
    correction: entry_pb2.Entry | None = None
    correction_body: bytes = b""
    correction_digest: bytes = b""
    attempt_count: int = 0
    abandon_reason: str | None = None
    void_time: datetime | None = None
    finished: bool = field(default=False)
    _answers: dict[Step, bytes] = field(default_factory=dict)
    """What participants answered, serialized."""
    _followed: dict[Step, bytes] = field(default_factory=dict)
    """The same, as those that follow are told of it."""
    _before: bytes = field(init=False)
    _before_told: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._before = self.before.SerializeToString()
        self._before_told = for_followers(self.before, self._before)

    def applied(self, step: Step, answer: effects_pb2.Effects) -> None:
        """A participant has applied the entry."""
        self.saga = saga.applied(self.saga, step, answer)
        body = self._answers[step] = answer.SerializeToString()
        if step is not self.saga.steps[-1]:
            self._followed[step] = for_followers(answer, body)

    def changed(self) -> bytes:
        """Everything that applying the entry changed, serialized."""
        return serialized(self._before, self.saga.steps, self._answers, control=self.entry.user.control)

    def told(self) -> Told:
        """What this saga has to say to a participant."""
        return Told(
            self.entry,
            self.command,
            self.before,
            self.saga,
            self._before_told,
            self._followed,
            self.correction_body,
            self.correction_digest,
            self.void_time,
        )

    def correct_with(self, correction: bytes) -> None:
        """The correction that follows from undoing the entry, as it is stored."""
        self.correction = entry_pb2.Entry.FromString(correction)
        self.correction_body = correction
        self.correction_digest = sha256(correction)


def started(
    entry_id: UUID,
    operation: AnyOperation,
    entry: entry_pb2.Entry,
    stored: bytes,
    answer: "asyncio.Future[Answer]",
) -> ActiveSaga:
    """The saga of an entry that has just been recorded as these bytes; it ends with this answer."""
    return ActiveSaga(
        entry_id,
        operation,
        entry,
        stored,
        common_part(stored, sha256(stored)),
        operation.effects_before(entry),
        saga.beginning(operation.steps_for(entry), control=entry.user.control),
        answer,
    )


def resumed(stored: StoredSaga) -> ActiveSaga:
    """A saga that somebody has to go on with."""
    operation = operations.OPERATIONS[stored.operation]
    entry = operations.stored_entry(operation, stored.entry, stored.request)
    body = entry.SerializeToString()
    active = ActiveSaga(
        entry_id=stored.entry_id,
        operation=operation,
        entry=entry,
        body=body,
        command=common_part(body, sha256(stored.entry)),
        before=operation.effects_before(entry),
        saga=_resumed(operation.steps_for(entry), stored, control=entry.user.control),
        answer=coming(),
        attempt_count=stored.attempt_count,
        abandon_reason=stored.abandon_reason,
        void_time=stored.void_time,
    )
    if stored.correction is not None:
        active.correct_with(stored.correction)
    return active


def pending(cause: LaurelError) -> Unavailable:
    """What a caller is told whose entry is recorded but not finished: it goes on by itself (RULES 7.8)."""
    return Unavailable(
        f"the entry is recorded and will be finished; ask again with the same key ({cause.message})",
        reason="ENTRY_PENDING",
        metadata={"cause": cause.reason},
        retry_after_seconds=1.0,
    )


def coming() -> "asyncio.Future[Answer]":
    """An answer that is not there yet."""
    return asyncio.get_running_loop().create_future()


def refuse(answer: "asyncio.Future[Answer]", error: BaseException) -> None:
    """Ends an answer with an error. Nobody has to look at it: a caller may have gone away."""
    answer.set_exception(error)
    answer.exception()


def _resumed(steps: tuple[Step, ...], stored: StoredSaga, *, control: bool) -> EntrySaga:
    """A saga as it stands in the database. Answers given since are asked for again: they are remembered."""
    first: EntrySaga = saga.beginning(steps, control=control)
    if stored.state is State.RUNNING:
        return first
    applied = {step: effects_pb2.Effects.FromString(body) for step, body in stored.applied.items()}
    if stored.state is State.VOIDING:
        return replace(saga.voiding(steps, applied), hears=first.hears)
    assert stored.rejection is not None
    return replace(
        first,
        state=State.COMPENSATING,
        applied=applied,
        rejection=replies.rejection_from_bytes(stored.rejection),
        decided=True,
        undo=stored.undo,
    )
