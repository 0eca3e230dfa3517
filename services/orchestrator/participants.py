"""The four participants as the runner sees them: a batch of commands in, one answer each out.

What is sent to whom is decided here, from an entry and what earlier steps answered, and nowhere else.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import grpc.aio
from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2, achievement_service_pb2_grpc
from laurel.common.v1 import entry_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2, leaderboard_service_pb2_grpc
from laurel.points.v1 import points_pb2, points_service_pb2, points_service_pb2_grpc
from laurel.streak.v1 import streak_pb2, streak_service_pb2, streak_service_pb2_grpc
from msgspec import Struct

from services.orchestrator.saga import Act, Move, Saga, Step
from shared.entries import EntryKind
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
from shared.rpc.convert import error_from_message

DEFINITE: Final = (
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    OutOfRange,
    PermissionDenied,
)
"""Answers that say no. Anything else is an unknown outcome (RULES 7.5)."""

ApplyOutcome = Any
"""An ApplyEventsOutcome or RevertEventsOutcome of whichever participant."""


class Command(Struct, frozen=True):
    """What one saga has to say to a participant: its entry, its correction if there is one, and its story."""

    entry: entry_pb2.Entry
    correction: entry_pb2.Entry | None
    saga: Saga[ApplyOutcome]
    achievement: str = ""
    closing: streak_pb2.StreakChange | None = None


def streak_changes(effects: Sequence[Any]) -> list[streak_pb2.StreakChange]:
    """The changes among a streak outcome's effects."""
    return [effect.change for effect in effects if effect.HasField("change")]


def apply_command(step: Step, command: Command) -> Any:
    """The command that applies an entry at a step."""
    entry, applied = command.entry, command.saga.applied
    streaks = streak_changes(applied[Step.STREAK].effects) if Step.STREAK in applied else []
    if command.closing is not None:
        streaks.append(command.closing)
    match step:
        case Step.STREAK:
            return streak_service_pb2.ApplyEventsCommand(entry=entry)
        case Step.ACHIEVEMENT:
            return achievement_service_pb2.ApplyEventsCommand(
                entry=entry, streak_changes=streaks, achievement=command.achievement
            )
        case Step.POINTS:
            return points_service_pb2.ApplyEventsCommand(
                entry=entry,
                streak_changes=streaks,
                achievement_changes=applied[Step.ACHIEVEMENT].changes if Step.ACHIEVEMENT in applied else [],
            )
        case Step.LEADERBOARD:
            return leaderboard_service_pb2.ApplyEventsCommand(
                entry=entry,
                streak_changes=streaks,
                points_changes=applied[Step.POINTS].changes if Step.POINTS in applied else [],
            )


def correct_command(step: Step, command: Command) -> Any:
    """The command that tells a participant what followed from undoing the entry.

    Absolute values are those of the reverts: the newest. Differences have to add up to what each participant
    has not seen: points that never applied the entry have not seen its forward half either.
    """
    saga = command.saga
    undone = streak_changes(saga.reverted[Step.STREAK].effects) if Step.STREAK in saga.reverted else []
    match step:
        case Step.ACHIEVEMENT:
            return achievement_service_pb2.ApplyEventsCommand(entry=command.correction, streak_changes=undone)
        case Step.POINTS:
            return points_service_pb2.ApplyEventsCommand(
                entry=command.correction,
                streak_changes=[*_unseen_streak_changes(saga), *undone],
                achievement_changes=_unseen_achievement_changes(saga),
            )
        case Step.LEADERBOARD:
            return leaderboard_service_pb2.ApplyEventsCommand(
                entry=command.correction, streak_changes=undone, points_changes=points_undone(saga)
            )
        case Step.STREAK:
            raise ValueError("streaks follow from nobody")


def points_undone(saga: Saga[ApplyOutcome]) -> list[points_pb2.PointsChange]:
    """Every change of points that the undoing brought."""
    reverted = list(saga.reverted[Step.POINTS].changes) if Step.POINTS in saga.reverted else []
    return [*reverted, *saga.corrected[Step.POINTS].changes]


def achievements_undone(saga: Saga[ApplyOutcome]) -> list[achievement_pb2.AchievementChange]:
    """Every change of achievements that the undoing brought."""
    reverted = list(saga.reverted[Step.ACHIEVEMENT].changes) if Step.ACHIEVEMENT in saga.reverted else []
    return [*reverted, *saga.corrected[Step.ACHIEVEMENT].changes]


def _unseen_streak_changes(saga: Saga[ApplyOutcome]) -> list[streak_pb2.StreakChange]:
    if Step.POINTS in saga.reverted and saga.reverted[Step.POINTS].reverted:
        return []
    return streak_changes(saga.applied[Step.STREAK].effects) if Step.STREAK in saga.applied else []


def _unseen_achievement_changes(saga: Saga[ApplyOutcome]) -> list[achievement_pb2.AchievementChange]:
    """What points have not seen of a completion that came and went is nothing: both halves are left out."""
    undone = achievements_undone(saga)
    if Step.POINTS in saga.reverted and saga.reverted[Step.POINTS].reverted:
        return undone
    applied = list(saga.applied[Step.ACHIEVEMENT].changes) if Step.ACHIEVEMENT in saga.applied else []
    came = {change.completion_id for change in applied}
    went = {change.completion_id for change in undone}
    return [
        *(change for change in applied if change.completion_id not in went),
        *(change for change in undone if change.completion_id not in came),
    ]


_MODULES: Final[Mapping[Step, Any]] = {
    Step.STREAK: streak_service_pb2,
    Step.ACHIEVEMENT: achievement_service_pb2,
    Step.POINTS: points_service_pb2,
    Step.LEADERBOARD: leaderboard_service_pb2,
}


def outcome_from_bytes(step: Step, act: Act, body: bytes) -> ApplyOutcome:
    """A stored answer of a participant."""
    module = _MODULES[step]
    kind = module.RevertEventsOutcome if act is Act.REVERT else module.ApplyEventsOutcome
    return kind.FromString(body)


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
    """Stubs of the four services, called with batches."""

    def __init__(
        self,
        channels: Mapping[Step, grpc.aio.Channel],
        timeout_seconds: float,
        breakers: Mapping[Step, Breaker],
    ) -> None:
        self.streak = streak_service_pb2_grpc.StreakServiceStub(channels[Step.STREAK])
        self.achievement = achievement_service_pb2_grpc.AchievementServiceStub(channels[Step.ACHIEVEMENT])
        self.points = points_service_pb2_grpc.PointsServiceStub(channels[Step.POINTS])
        self.leaderboard = leaderboard_service_pb2_grpc.LeaderboardServiceStub(channels[Step.LEADERBOARD])
        self._stubs: Mapping[Step, Any] = {
            Step.STREAK: self.streak,
            Step.ACHIEVEMENT: self.achievement,
            Step.POINTS: self.points,
            Step.LEADERBOARD: self.leaderboard,
        }
        self._timeout_seconds = timeout_seconds
        self._breakers = breakers

    def away(self) -> Step | None:
        """A participant that is known not to answer, if there is one."""
        return next((step for step, breaker in self._breakers.items() if breaker.is_open), None)

    async def make(self, move: Move, commands: Sequence[Command]) -> list[ApplyOutcome | LaurelError]:
        """Makes one move for many sagas with one call: an answer or an error each, in order.

        Raises `LaurelError` when the call itself failed: then nothing is known of any of them.
        """
        module = _MODULES[move.step]
        if move.act is Act.REVERT:
            reversals = [
                entry_pb2.Reversal(
                    entry_id=command.entry.entry_id,
                    user_id=command.entry.user.user_id,
                    now=command.entry.now,
                )
                for command in commands
            ]
            request = module.RevertEventsRequest(reversals=reversals)
            response = await self._call(move.step, self._stubs[move.step].RevertEvents, request)
        else:
            build = apply_command if move.act is Act.APPLY else correct_command
            request = module.ApplyEventsRequest(commands=[build(move.step, command) for command in commands])
            response = await self._call(move.step, self._stubs[move.step].ApplyEvents, request)
        if len(response.outcomes) != len(commands):
            raise Unavailable(f"{move.step.name} answered for another batch", reason="DEPENDENCY_UNAVAILABLE")
        return [_answer(outcome) for outcome in response.outcomes]

    async def _call(self, step: Step, method: Any, request: Any) -> Any:
        breaker = self._breakers[step]
        if breaker.is_open:
            raise Unavailable(
                f"the {step.name.lower()} service is away",
                reason="DEPENDENCY_UNAVAILABLE",
                metadata={"service": step.name.lower()},
            )
        try:
            response = await call(method, request, timeout_seconds=self._timeout_seconds)
        except LaurelError:
            breaker.failed()
            raise
        breaker.succeeded()
        return response


def _answer(outcome: ApplyOutcome) -> ApplyOutcome | LaurelError:
    if "error" in outcome.DESCRIPTOR.fields_by_name and outcome.HasField("error"):
        return error_from_message(outcome.error)
    return outcome


def is_definite(error: LaurelError, kind: EntryKind, move: Move) -> bool:
    """Whether an error is a no that turns the saga round.

    Only on the way forward, and not behind the pivot: the leaderboard never says no (RULES 7.7). An entry that
    was undone elsewhere is no refusal of ours: whoever undid it goes on with it. Nor is one that was answered, so
    long ago that the answer is not kept: it counts, and only an operator can give it up.
    """
    return (
        move.act is Act.APPLY
        and move.step is not Step.LEADERBOARD
        and kind is not EntryKind.STREAK_CLOSING
        and isinstance(error, DEFINITE)
        and error.reason not in ("ENTRY_REVERTED", "ENTRY_CONFLICT", "OUTCOME_EXPIRED")
    )


async def gather_all(*work: Awaitable[Any]) -> list[Any]:
    """Runs calls side by side and waits for all of them; the first failure is raised when all have ended."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)
