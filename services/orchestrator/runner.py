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

from laurel.ledger.v1 import effects_pb2

from services.orchestrator import domain_events, effects, participants, replies, saga
from services.orchestrator.active_sagas import ActiveSaga, Answer, StillRunning, pending, refuse
from services.orchestrator.config import Settings
from services.orchestrator.domain import Metric
from services.orchestrator.erasing import Erasing
from services.orchestrator.merging import Merging
from services.orchestrator.operations import correction
from services.orchestrator.participants import Participants, is_definite
from services.orchestrator.saga import Act, Move, State, next_move
from services.orchestrator.store.sagas import Completed, SagaStore, due_pause
from services.orchestrator.store.undo import UndoStore
from shared import faults
from shared.clock import Clock
from shared.errors import DeadlineExceeded, FailedPrecondition, LaurelError, Unavailable
from shared.postgres.errors import translate
from shared.rpc.error_messages import error_message

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
    """Drives sagas until their sagas are finished or have to be left to recovery."""

    def __init__(
        self,
        sagas: SagaStore,
        undo: UndoStore,
        participants: Participants,
        erasing: Erasing,
        merging: Merging,
        metrics: Callable[[], Coroutine[Any, Any, Mapping[str, Metric]]],
        settings: Settings,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._sagas = sagas
        self._undo = undo
        self._participants = participants
        self._erasing = erasing
        self._merging = merging
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._in_hand: dict[UUID, ActiveSaga] = {}
        self._expected: set[UUID] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_hand(self) -> Collection[UUID]:
        """Entries whose sagas this runner drives or is about to get: recovery leaves them alone."""
        return self._in_hand.keys() | self._expected

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
        active = self._in_hand.get(entry_id)
        return active.answer if active else None

    def take(self, sagas: Sequence[ActiveSaga]) -> None:
        """Takes sagas in hand; from now on their answers can be waited for."""
        for active in sagas:
            self._in_hand[active.entry_id] = active

    async def forward(self, sagas: Sequence[ActiveSaga]) -> None:
        """Drives new sagas through all participants; those that are turned round go on by themselves."""
        sagas = self._without_lonely(sagas)
        await self._drive(sagas, through=Act.COMPLETE)
        rest = [active for active in sagas if not active.finished]
        if rest:
            self._spawn(self._drive(rest, through=Act.SETTLE))

    async def finish(self, sagas: Sequence[ActiveSaga]) -> None:
        """Drives sagas to their end."""
        self.take(sagas)
        await self._drive(self._without_lonely(sagas), through=Act.SETTLE)

    def _without_lonely(self, sagas: Sequence[ActiveSaga]) -> Sequence[ActiveSaga]:
        """The others; what may take long, such as a deletion, goes by itself."""
        for active in sagas:
            if active.operation.goes_alone:
                self._spawn(self._drive([active], through=Act.SETTLE))
        return [active for active in sagas if not active.operation.goes_alone]

    def start(self, active: ActiveSaga) -> "asyncio.Future[Answer]":
        """Drives a saga in the background to its end; returns its coming answer."""
        self.take([active])
        self._spawn(self._drive([active], through=Act.SETTLE))
        return active.answer

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

    async def _drive(self, sagas: Sequence[ActiveSaga], *, through: Act) -> None:
        """Makes the earliest move that any saga has to make, for all that have to make it, again and again."""
        try:
            while True:
                due = [(next_move(active.saga), active) for active in sagas if not active.finished]
                if not due:
                    return
                move = min(move for move, _ in due)
                if move.act > through:
                    return
                await self._persist_in(move, [active for its_move, active in due if its_move == move])
        except BaseException:
            self._drop(sagas)
            raise

    async def _persist_in(self, move: Move, sagas: Sequence[ActiveSaga]) -> None:
        """Makes a move, again while its outcome is unknown; in the end leaves the sagas to recovery."""
        error: LaurelError = Unavailable("no attempt was made", reason="DEPENDENCY_UNAVAILABLE")
        for attempt in range(self._settings.participant_attempts):
            try:
                await self._make(move, sagas)
                return
            except Exception as failure:
                error = _unknown_outcome(failure, move)
                if isinstance(error, DeadlineExceeded) and len(sagas) > 1:
                    # Together they may be too much, or one of them is: the others go on without it.
                    await self._in_halves(move, sagas)
                    return
            sagas = [active for active in sagas if not active.finished and next_move(active.saga) == move]
            if attempt + 1 < self._settings.participant_attempts and not self._participants.away():
                await asyncio.sleep(self._pause(attempt))
            else:
                break
        await self._leave([(active, error) for active in sagas])

    async def _in_halves(self, move: Move, sagas: Sequence[ActiveSaga]) -> None:
        middle = len(sagas) // 2
        for half in (sagas[:middle], sagas[middle:]):
            due = [active for active in half if not active.finished and next_move(active.saga) == move]
            if due:
                await self._persist_in(move, due)

    async def _make(self, move: Move, sagas: Sequence[ActiveSaga]) -> None:
        match move.act:
            case Act.APPLY | Act.REVERT | Act.CORRECT:
                await self._call(move, sagas)
            case Act.COMPLETE if sagas[0].operation.erases:
                await self._erase(sagas[0])
            case Act.COMPLETE if sagas[0].operation.merges:
                await self._merge(sagas[0])
            case Act.COMPLETE:
                await self._complete(sagas)
            case Act.DECIDE:
                for active in sagas:
                    await self._decide(active)
            case Act.TAKE_OUT:
                for active in sagas:
                    await self._take_out(active)
            case Act.SETTLE:
                for active in sagas:
                    await self._settle(active)

    async def _call(self, move: Move, sagas: Sequence[ActiveSaga]) -> None:
        await BEFORE_CALL.reach()
        answers = await self._participants.make(move, [active.told() for active in sagas])
        await AFTER_CALL.reach()
        left = []
        for active, answer in zip(sagas, answers, strict=True):
            if not isinstance(answer, LaurelError):
                _answered(active, move, answer)
            elif is_definite(
                answer,
                move,
                refusable=active.operation.refusable,
                alone=active.operation.steps == (move.step,),
            ):
                active.saga = saga.refused(active.saga, move.step, answer)
            else:
                left.append((active, answer))
        await self._leave(left)

    async def _complete(self, sagas: Sequence[ActiveSaga]) -> None:
        await BEFORE_COMPLETE.reach()
        completed = [_completed(active) for active in sagas]
        first = await self._sagas.complete(completed)
        await AFTER_COMPLETE.reach()
        for active, done in zip(sagas, completed, strict=True):
            if done.entry_id in first:
                self._finish(active, Answer(done.reply))
            else:
                # Another replica took the saga over: its answer is the one answer.
                self._finish(active, StillRunning(done.entry_id))

    async def _erase(self, active: ActiveSaga) -> None:
        """Alone: see `_without_lonely`."""
        await self._erasing.erase(active)
        reply = active.operation.reply_bytes(active.entry, b"")
        if await self._erasing.complete(active, reply, self._clock.now()):
            self._finish(active, Answer(reply))
        else:
            self._finish(active, StillRunning(active.entry_id))

    async def _merge(self, active: ActiveSaga) -> None:
        """Alone, as `_erase`."""
        await self._merging.merge(active)
        reply = active.operation.reply_bytes(active.entry, b"")
        if await self._merging.complete(active, reply, self._clock.now()):
            self._finish(active, Answer(reply))
        else:
            self._finish(active, StillRunning(active.entry_id))

    async def _decide(self, active: ActiveSaga) -> None:
        await BEFORE_DECIDE.reach()
        assert active.saga.rejection is not None
        applied = {step: answer.SerializeToString() for step, answer in active.saga.applied.items()}
        rejection = error_message(active.saga.rejection, replies.DOMAIN).SerializeToString()
        if not await self._sagas.decide(active.entry_id, rejection, active.saga.undo, applied):
            stored = await self._sagas.stored(active.entry_id)
            if stored is None or stored.state is not State.COMPENSATING:
                self._finish(active, StillRunning(active.entry_id))
                return
        await AFTER_DECIDE.reach()
        active.saga = saga.decided(active.saga)

    async def _take_out(self, active: ActiveSaga) -> None:
        await BEFORE_TAKE_OUT.reach()
        metrics = await self._metrics()
        zone = self._settings.default_time_zone
        now = self._clock.now()
        stored = await self._undo.take_out(
            active.entry_id,
            correction.correction_id(active.entry.entry_id),
            now,
            {key: metric.aggregation for key, metric in metrics.items()},
            lambda left: correction.correction_of(
                active.entry, left, now, zone, voided=active.saga.state is State.VOIDING
            ).SerializeToString(),
        )
        await AFTER_TAKE_OUT.reach()
        active.correct_with(stored)
        active.saga = saga.taken_out(active.saga)

    async def _settle(self, active: ActiveSaga) -> None:
        await BEFORE_SETTLE.reach()
        state = saga.final_state(active.saga)
        assert active.correction is not None
        undone = effects.of_undoing(active.saga)
        reply = None
        if state is State.VOIDED:
            reply = correction.void_reply(
                active.entry.entry_id, active.correction, undone
            ).SerializeToString()
        else:
            applied = effects.of_entry(active.before, active.saga)
            undone = domain_events.told_of_refusal(applied, undone)
        told = domain_events.told_of(active.correction, active.correction_body, undone.SerializeToString())
        await self._sagas.settle(active.entry_id, state, reply, told)
        await AFTER_SETTLE.reach()
        if reply is not None:
            self._finish(active, Answer(reply))
        else:
            assert active.saga.rejection is not None
            self._finish(active, active.saga.rejection)

    async def _leave(self, failures: Sequence[tuple[ActiveSaga, LaurelError]]) -> None:
        """Leaves sagas to recovery. One that an operator has given up is turned round instead."""
        left = []
        for active, error in failures:
            move = next_move(active.saga)
            if active.abandon_reason is not None and move.act is Act.APPLY:
                active.saga = saga.given_up(active.saga, _abandoned(active, error))
            else:
                left.append((active, error))
        if not left:
            return
        try:
            await self._sagas.leave(
                [(active.entry_id, str(error), self._pause(active.attempt_count)) for active, error in left],
                self._settings.park_after_attempts,
            )
        except Exception as failure:
            if translate(failure) is None:
                raise
            _LOGGER.warning("sagas are left without a note: the database is away", extra={"sagas": len(left)})
        for active, error in left:
            self._finish(active, pending(error))

    def _finish(self, active: ActiveSaga, outcome: Answer | LaurelError | StillRunning) -> None:
        active.finished = True
        self._in_hand.pop(active.entry_id, None)
        if active.answer.done():
            return
        if isinstance(outcome, Answer):
            active.answer.set_result(outcome)
        else:
            refuse(active.answer, outcome)

    def _drop(self, sagas: Sequence[ActiveSaga]) -> None:
        """Something unforeseen: recovery goes on with what is stored."""
        for active in sagas:
            if not active.finished:
                self._finish(active, Unavailable("the entry is not finished yet", reason="ENTRY_PENDING"))

    def _pause(self, attempt: int) -> float:
        return due_pause(
            attempt,
            self._settings.retry_pause_seconds,
            self._settings.longest_retry_pause_seconds,
            self._rng.random(),
        )


def _completed(active: ActiveSaga) -> Completed:
    """The reply to an entry that every participant has applied, and what is told of it."""
    changed = active.changed()
    return Completed(
        active.entry_id,
        active.operation.reply_bytes(active.entry, changed),
        domain_events.told_of(active.entry, active.body, changed),
    )


def _answered(active: ActiveSaga, move: Move, answer: participants.Answer) -> None:
    """A participant has answered a move."""
    if not isinstance(answer, effects_pb2.Effects):
        active.saga = saga.reverted(active.saga, move.step, answer)
    elif move.act is Act.APPLY:
        active.applied(move.step, answer)
    else:
        active.saga = saga.corrected(active.saga, move.step, answer)


def _unknown_outcome(failure: Exception, move: Move) -> LaurelError:
    """What a failed move is noted as. Nothing about it is known; one that nobody foresaw is also logged."""
    error = failure if isinstance(failure, LaurelError) else translate(failure)
    if error is not None:
        return error
    _LOGGER.error("a move failed", exc_info=failure, extra={"act": move.act.name})
    return Unavailable("the orchestrator met an error", reason="DEPENDENCY_UNAVAILABLE")


def _abandoned(active: ActiveSaga, error: LaurelError) -> FailedPrecondition:
    return FailedPrecondition(
        f"given up by an operator: {active.abandon_reason}",
        reason="SAGA_ABANDONED",
        metadata={"cause": error.reason},
    )
