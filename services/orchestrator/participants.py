"""The participants as the runner sees them: a batch of commands in, one answer each out."""

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import grpc.aio
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2_grpc
from msgspec import Struct

from services.orchestrator import effects
from services.orchestrator.effects import EntrySaga
from services.orchestrator.saga import Act, Move, Step
from shared.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    LaurelError,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Unavailable,
)
from shared.rpc.channel import call
from shared.rpc.convert import to_timestamp
from shared.rpc.error_messages import error_from_message
from shared.rpc.turns import Turns
from shared.rpc.wire import Part

DEFINITE: Final = (
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    OutOfRange,
    PermissionDenied,
)
"""Answers that say no. Anything else is an unknown outcome (RULES 7.5)."""

Answer = effects_pb2.Effects | pb.RevertOutcome

_ENTRY: Final = Part(pb.Command, "entry")
_DIGEST: Final = Part(pb.Command, "digest")
_EFFECTS: Final = Part(pb.Command, "effects")
_COMMAND: Final = Part(pb.ApplyEntriesRequest, "commands")
_SERVICE: Final = pb.DESCRIPTOR.services_by_name["ParticipantService"].full_name

Q = TypeVar("Q")
A = TypeVar("A")


class Told(Struct, frozen=True):
    """What one saga has to say to participants: its entry, its correction if there is one, and its story."""

    entry: entry_pb2.Entry
    command: bytes
    """What all participants are told alike: `common_part`."""
    before: effects_pb2.Effects
    """What had changed before the first step."""
    saga: EntrySaga
    before_told: bytes = b""
    """What had changed before, as steps are told of it."""
    followed: Mapping[Step, bytes] = {}
    """What steps answered, as those that follow are told of it: made once for all of them."""
    correction: bytes = b""
    """The correction that follows from its undoing, serialized."""
    correction_digest: bytes = b""
    void_time: datetime | None = None
    """When it was decided to void it; None for one that was refused: then its own `now` is the instant."""


def common_part(entry: bytes, digest: bytes) -> bytes:
    """What a command says to every participant alike, serialized: the entry and its digest."""
    return _ENTRY.holding(entry) + _DIGEST.holding(digest)


def apply_command(step: Step, told: Told) -> bytes:
    """The serialized command that applies an entry at a step: with what the steps before it answered."""
    followed = told.followed
    if step in followed:  # it is asked again
        followed = {visited: body for visited, body in followed.items() if visited is not step}
    return told.command + _EFFECTS.holding(b"".join((told.before_told, *followed.values())))


def correct_command(step: Step, told: Told) -> bytes:
    """The serialized command that tells a participant what followed from undoing the entry."""
    changed = effects.to_correct(step, told.saga, told.before).SerializeToString()
    return common_part(told.correction, told.correction_digest) + _EFFECTS.holding(changed)


def reversal(told: Told) -> pb.Reversal:
    """The undoing of an entry, at the instant when that was decided: what was final by then stays (RULES 6.12)."""
    now = told.entry.now if told.void_time is None else to_timestamp(told.void_time)
    version = entry_pb2.Entry.FromString(told.correction).user.version if told.correction else 0
    user_id = told.entry.user.user_id
    return pb.Reversal(
        entry_id=told.entry.entry_id,
        user_id=user_id,
        now=now,
        user_version=version,
        other_user_ids=[other.user_id for other in told.entry.other_users],
    )


class Breaker:
    """Circuit breaking for one participant: one that is away costs a quick answer, not a wait (RULES 7.8)."""

    def __init__(
        self, failures: int, seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._seconds = seconds
        self._monotonic = monotonic
        self._failures = 0
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are refused at once. When the pause is over, calls may try again."""
        return self._failures >= self._limit and self._monotonic() < self._closed_until

    def succeeded(self) -> None:
        """An answer came, whatever it says."""
        self._failures = 0

    def failed(self) -> None:
        """No answer came."""
        self._failures += 1
        self._closed_until = self._monotonic() + self._seconds


class Participants:
    """Stubs of the participants, called with batches."""

    def __init__(
        self,
        channels: Mapping[Step, grpc.aio.Channel],
        timeout_seconds: float,
        breakers: Mapping[Step, Breaker],
    ) -> None:
        self._stubs = {
            step: participant_service_pb2_grpc.ParticipantServiceStub(channel)
            for step, channel in channels.items()
        }
        # Its requests are put together from serialized parts, and both its forms have the same bytes.
        self._apply: Mapping[Step, Turns[pb.ApplyEntriesResponse]] = {
            step: Turns(
                channel,
                f"/{_SERVICE}/ApplyEntriesInTurn",
                channel.unary_unary(
                    f"/{_SERVICE}/ApplyEntries", response_deserializer=pb.ApplyEntriesResponse.FromString
                ),
                pb.ApplyEntriesInTurnRequest,
                pb.ApplyEntriesResponse.FromString,
                timeout_seconds=timeout_seconds,
            )
            for step, channel in channels.items()
        }
        self._timeout_seconds = timeout_seconds
        self._breakers = breakers

    def away(self) -> Step | None:
        """A participant that is known not to answer, if there is one."""
        return next((step for step, breaker in self._breakers.items() if breaker.is_open), None)

    async def close(self) -> None:
        """Ends the streams to participants that are at rest."""
        for turns in self._apply.values():
            turns.close()

    async def make(self, move: Move, told: Sequence[Told]) -> list[Answer | LaurelError]:
        """Makes one move for many sagas with one call: an answer or an error each, in order.

        Raises `LaurelError` when the call itself failed: then nothing is known of any of them.
        """
        step = move.step
        answers: list[Answer | LaurelError]
        if move.act is Act.REVERT:
            reversals = [reversal(each) for each in told]
            request = pb.RevertEntriesRequest(reversals=reversals)
            undone = await self._call(step, self._stubs[step].RevertEntries, request)
            answers = list(undone.outcomes)
        else:
            build = apply_command if move.act is Act.APPLY else correct_command
            commands = b"".join(_COMMAND.holding(build(step, each)) for each in told)
            done = await self._within(step, self._apply[step].call(commands))
            answers = [_answer(outcome) for outcome in done.outcomes]
        if len(answers) != len(told):
            raise Unavailable(f"{step.value} answered for another batch", reason="DEPENDENCY_UNAVAILABLE")
        return answers

    async def run_maintenance(
        self, step: Step, request: pb.RunMaintenanceRequest
    ) -> pb.RunMaintenanceResponse:
        """A bounded part of a participant's time-driven work. Raises `LaurelError`."""
        return await self._call(step, self._stubs[step].RunMaintenance, request)

    async def list_changes(self, step: Step, request: pb.ListChangesRequest) -> pb.ListChangesResponse:
        """A page of what a participant changed by itself. Raises `LaurelError`."""
        return await self._call(step, self._stubs[step].ListChanges, request)

    async def list_logged(
        self, step: Step, request: pb.ListLoggedEntriesRequest
    ) -> pb.ListLoggedEntriesResponse:
        """A page of the entries that a participant knows. Raises `LaurelError`."""
        return await self._call(step, self._stubs[step].ListLoggedEntries, request)

    async def prepare_healing(
        self, step: Step, request: pb.PrepareHealingRequest
    ) -> pb.PrepareHealingResponse:
        """Before a participant gets again what it has lost. Raises `LaurelError`."""
        return await self._call(step, self._stubs[step].PrepareHealing, request)

    async def finish_healing(self, step: Step, request: pb.FinishHealingRequest) -> pb.FinishHealingResponse:
        """After it. Raises `LaurelError`."""
        return await self._call(step, self._stubs[step].FinishHealing, request)

    async def _call(self, step: Step, method: "grpc.aio.UnaryUnaryMultiCallable[Q, A]", request: Q) -> A:
        return await self._within(step, call(method, request, timeout_seconds=self._timeout_seconds))

    async def _within(self, step: Step, coming: Coroutine[Any, Any, A]) -> A:
        """An answer of a participant, unless it is known to be away."""
        breaker = self._breakers[step]
        if breaker.is_open:
            coming.close()
            raise Unavailable(
                f"the {step.value} service is away",
                reason="DEPENDENCY_UNAVAILABLE",
                metadata={"service": step.value},
            )
        try:
            response = await coming
        except LaurelError:
            breaker.failed()
            raise
        breaker.succeeded()
        return response


def _answer(outcome: pb.Outcome) -> effects_pb2.Effects | LaurelError:
    return error_from_message(outcome.error) if outcome.HasField("error") else outcome.effects


def is_definite(error: LaurelError, move: Move, *, refusable: bool, alone: bool = False) -> bool:
    """Whether an error is a no that turns the saga round.

    Only on the way forward, and not behind the pivot: the leaderboard never says no (RULES 7.7), but to what it is
    `alone` to hear of. An entry that
    was undone elsewhere is no refusal of ours: whoever undid it goes on with it. Nor is one that was answered, so
    long ago that the answer is not kept: it counts, and only an operator can give it up.
    """
    return (
        refusable
        and move.act is Act.APPLY
        and (alone or move.step is not Step.LEADERBOARD)
        and isinstance(error, DEFINITE)
        and error.reason not in ("ENTRY_REVERTED", "ENTRY_CONFLICT", "OUTCOME_EXPIRED")
    )
