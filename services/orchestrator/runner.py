"""Drives sagas: whole groups of them, one call or transaction for each move (DESIGN 2).

The runner owns its work. A caller may go away, a participant may be away: the sagas go on, here or by recovery.
Nothing is written between recording and completing, because participants remember what they answered; what is
durable at once is the decision to undo.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from laurel.common.v1 import entry_pb2
from msgspec.structs import replace

from services.orchestrator import convert, replies, saga
from services.orchestrator.config import Settings
from services.orchestrator.domain import Metric
from services.orchestrator.participants import (
    Participants,
    is_definite,
)
from services.orchestrator.saga import STEPS, Act, Move, State, next_move
from services.orchestrator.store.sagas import SagaStore, due_pause
from services.orchestrator.store.undo import UndoStore
from services.orchestrator.tickets import Answer, StillRunning, Ticket, pending
from shared import faults
from shared.clock import Clock
from shared.errors import FailedPrecondition, LaurelError, Unavailable
from shared.postgres.errors import translate
from shared.rpc.convert import error_message

_LOGGER: Final = logging.getLogger(__name__)

BEFORE_CALL: Final = faults.declare(
    "orchestrator.call.before", "a move is due, the participant has not been called"
)
AFTER_CALL: Final = faults.declare(
    "orchestrator.call.after", "the participant has answered, nothing is written here"
)
BEFORE_COMPLETE: Final = faults.declare(
    "orchestrator.complete.before_commit", "all have answered, no reply is stored"
)
AFTER_COMPLETE: Final = faults.declare(
    "orchestrator.complete.after_commit", "the reply is stored, the caller has none"
)
BEFORE_DECIDE: Final = faults.declare(
    "orchestrator.decide.before_commit", "a no has come, the decision is not durable"
)
AFTER_DECIDE: Final = faults.declare(
    "orchestrator.decide.after_commit", "the decision is durable, nothing is undone"
)
BEFORE_TAKE_OUT: Final = faults.declare(
    "orchestrator.take_out.before_commit", "participants have undone, the ledger has not"
)
AFTER_TAKE_OUT: Final = faults.declare(
    "orchestrator.take_out.after_commit", "the ledger has undone, nobody is corrected"
)
BEFORE_SETTLE: Final = faults.declare(
    "orchestrator.settle.before_commit", "everything is undone, the saga is open"
)
AFTER_SETTLE: Final = faults.declare(
    "orchestrator.settle.after_commit", "the saga is closed, the caller has no answer"
)


class Runner:
    """Drives tickets until their sagas are finished or have to be left to recovery."""

    def __init__(
        self,
        sagas: SagaStore,
        undo: UndoStore,
        participants: Participants,
        metrics: Callable[[], Coroutine[Any, Any, Mapping[str, Metric]]],
        settings: Settings,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._sagas = sagas
        self._undo = undo
        self._participants = participants
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._tickets: dict[UUID, Ticket] = {}
        self._expected: set[UUID] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_hand(self) -> Collection[UUID]:
        """Entries whose sagas this runner drives or is about to get: recovery leaves them alone."""
        return self._tickets.keys() | self._expected

    @contextmanager
    def expecting(self, entry_ids: Collection[UUID]) -> Iterator[None]:
        """Inside the block these entries are recorded and handed over."""
        self._expected.update(entry_ids)
        try:
            yield
        finally:
            self._expected.difference_update(entry_ids)

    def answer_of(self, entry_id: UUID) -> "asyncio.Future[Answer] | None":
        """The coming answer to an entry in hand."""
        ticket = self._tickets.get(entry_id)
        return ticket.answer if ticket else None

    def take(self, tickets: Sequence[Ticket]) -> None:
        """Takes sagas in hand; from now on their answers can be waited for."""
        for ticket in tickets:
            self._tickets[ticket.entry_id] = ticket

    async def forward(self, tickets: Sequence[Ticket]) -> None:
        """Drives new sagas through all participants; those that are turned round go on by themselves."""
        await self._drive(tickets, through=Act.COMPLETE)
        rest = [ticket for ticket in tickets if not ticket.finished]
        if rest:
            self._spawn(self._drive(rest, through=Act.SETTLE))

    async def finish(self, tickets: Sequence[Ticket]) -> None:
        """Drives sagas to their end."""
        self.take(tickets)
        await self._drive(tickets, through=Act.SETTLE)

    def start(self, ticket: Ticket) -> "asyncio.Future[Answer]":
        """Drives a saga in the background to its end; returns its coming answer."""
        self.take([ticket])
        self._spawn(self._drive([ticket], through=Act.SETTLE))
        return ticket.answer

    async def drain(self, grace_seconds: float) -> None:
        """Waits for what is under way; what is not done then is left to recovery."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, tickets: Sequence[Ticket], *, through: Act) -> None:
        """Makes the earliest move that any saga has to make, for all that have to make it, again and again."""
        try:
            while True:
                due = [(next_move(ticket.saga), ticket) for ticket in tickets if not ticket.finished]
                if not due:
                    return
                move = min(move for move, _ in due)
                if move.act > through:
                    return
                await self._persist_in(move, [ticket for its_move, ticket in due if its_move == move])
        except BaseException:
            self._drop(tickets)
            raise

    async def _persist_in(self, move: Move, tickets: Sequence[Ticket]) -> None:
        """Makes a move, again while its outcome is unknown; in the end leaves the sagas to recovery."""
        error: LaurelError = Unavailable("no attempt was made", reason="DEPENDENCY_UNAVAILABLE")
        for attempt in range(self._settings.participant_attempts):
            try:
                await self._make(move, tickets)
                return
            except Exception as failure:
                error = _unknown_outcome(failure, move)
            tickets = [ticket for ticket in tickets if not ticket.finished and next_move(ticket.saga) == move]
            if attempt + 1 < self._settings.participant_attempts and not self._participants.away():
                await asyncio.sleep(self._pause(attempt))
            else:
                break
        await self._leave([(ticket, error) for ticket in tickets])

    async def _make(self, move: Move, tickets: Sequence[Ticket]) -> None:
        match move.act:
            case Act.APPLY | Act.REVERT | Act.CORRECT:
                await self._call(move, tickets)
            case Act.COMPLETE:
                await self._complete(tickets)
            case Act.DECIDE:
                for ticket in tickets:
                    await self._decide(ticket)
            case Act.TAKE_OUT:
                for ticket in tickets:
                    await self._take_out(ticket)
            case Act.SETTLE:
                for ticket in tickets:
                    await self._settle(ticket)

    async def _call(self, move: Move, tickets: Sequence[Ticket]) -> None:
        await BEFORE_CALL.reach()
        answers = await self._participants.make(move, [ticket.command() for ticket in tickets])
        await AFTER_CALL.reach()
        left = []
        for ticket, answer in zip(tickets, answers, strict=True):
            if not isinstance(answer, LaurelError):
                ticket.saga = saga.answered(ticket.saga, move, answer)
            elif is_definite(answer, ticket.kind, move):
                ticket.saga = saga.refused(ticket.saga, move, answer)
            else:
                left.append((ticket, answer))
        await self._leave(left)

    async def _complete(self, tickets: Sequence[Ticket]) -> None:
        await BEFORE_COMPLETE.reach()
        completed = [
            (ticket.entry_id, replies.reply_of(ticket.kind, ticket.entry, ticket.saga.applied))
            for ticket in tickets
        ]
        first = await self._sagas.complete(completed)
        await AFTER_COMPLETE.reach()
        for ticket, (entry_id, reply) in zip(tickets, completed, strict=True):
            if entry_id in first:
                self._finish(ticket, Answer(reply))
            else:
                # Another replica took the saga over: its answer is the one answer.
                self._finish(ticket, StillRunning(entry_id))

    async def _decide(self, ticket: Ticket) -> None:
        await BEFORE_DECIDE.reach()
        assert ticket.saga.rejection is not None
        applied = {step: answer.SerializeToString() for step, answer in ticket.saga.applied.items()}
        rejection = error_message(ticket.saga.rejection, replies.DOMAIN).SerializeToString()
        if not await self._sagas.decide(ticket.entry_id, rejection, ticket.saga.undo, applied):
            stored = await self._sagas.stored(ticket.entry_id)
            if stored is None or stored.state is not State.COMPENSATING:
                self._finish(ticket, StillRunning(ticket.entry_id))
                return
        await AFTER_DECIDE.reach()
        ticket.saga = saga.decided(ticket.saga)

    async def _take_out(self, ticket: Ticket) -> None:
        await BEFORE_TAKE_OUT.reach()
        metrics = await self._metrics()
        zone = self._settings.default_time_zone
        now = self._clock.now()
        correction = await self._undo.take_out(
            ticket.entry_id,
            convert.correction_id(ticket.entry.entry_id),
            now,
            {key: metric.aggregation for key, metric in metrics.items()},
            convert.patch_of,
            lambda left: convert.correction_message(ticket.entry, left, now, zone).SerializeToString(),
        )
        await AFTER_TAKE_OUT.reach()
        ticket.correction = entry_pb2.Entry.FromString(correction)
        ticket.saga = saga.taken_out(ticket.saga)

    async def _settle(self, ticket: Ticket) -> None:
        await BEFORE_SETTLE.reach()
        state = saga.final_state(ticket.saga)
        reply = None
        if state is State.VOIDED:
            assert ticket.correction is not None
            reply = replies.void_reply(ticket.entry, ticket.correction, ticket.saga).SerializeToString()
        await self._sagas.settle(ticket.entry_id, state, reply)
        await AFTER_SETTLE.reach()
        if reply is not None:
            self._finish(ticket, Answer(reply))
        else:
            assert ticket.saga.rejection is not None
            self._finish(ticket, ticket.saga.rejection)

    async def _leave(self, failures: Sequence[tuple[Ticket, LaurelError]]) -> None:
        """Leaves sagas to recovery. One that an operator has given up is turned round instead."""
        left = []
        for ticket, error in failures:
            move = next_move(ticket.saga)
            if ticket.abandon_reason is not None and move.act is Act.APPLY:
                ticket.saga = saga.refused(ticket.saga, move, _abandoned(ticket, error))
                # Which steps were applied is unknown, since earlier attempts may have come further: undo all.
                ticket.saga = replace(ticket.saga, undo=STEPS[ticket.kind])
            else:
                left.append((ticket, error))
        if not left:
            return
        try:
            await self._sagas.leave(
                [(ticket.entry_id, str(error), self._pause(ticket.attempt_count)) for ticket, error in left],
                self._settings.park_after_attempts,
            )
        except Exception as failure:
            if translate(failure) is None:
                raise
            _LOGGER.warning("sagas are left without a note: the database is away", extra={"sagas": len(left)})
        for ticket, error in left:
            self._finish(ticket, pending(error))

    def _finish(self, ticket: Ticket, outcome: Answer | LaurelError | StillRunning) -> None:
        ticket.finished = True
        self._tickets.pop(ticket.entry_id, None)
        if ticket.answer.done():
            return
        if isinstance(outcome, Answer):
            ticket.answer.set_result(outcome)
        else:
            ticket.answer.set_exception(outcome)

    def _drop(self, tickets: Sequence[Ticket]) -> None:
        """Something unforeseen: recovery goes on with what is stored."""
        for ticket in tickets:
            if not ticket.finished:
                self._finish(ticket, Unavailable("the event is not finished yet", reason="EVENT_PENDING"))

    def _pause(self, attempt: int) -> float:
        return due_pause(
            attempt,
            self._settings.retry_pause_seconds,
            self._settings.longest_retry_pause_seconds,
            self._rng.random(),
        )


def _unknown_outcome(failure: Exception, move: Move) -> LaurelError:
    """What a failed move is noted as. Nothing about it is known; one that nobody foresaw is also logged."""
    error = failure if isinstance(failure, LaurelError) else translate(failure)
    if error is not None:
        return error
    _LOGGER.error("a move failed", exc_info=failure, extra={"act": move.act.name})
    return Unavailable("the orchestrator met an error", reason="DEPENDENCY_UNAVAILABLE")


def _abandoned(ticket: Ticket, error: LaurelError) -> FailedPrecondition:
    return FailedPrecondition(
        f"given up by an operator: {ticket.abandon_reason}",
        reason="SAGA_ABANDONED",
        metadata={"cause": error.reason},
    )
