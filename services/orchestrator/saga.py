"""The saga of one entry: which move comes next, and what an answer does to it (RULES 7).

Pure. An entry goes forward through the steps of its kind. A definite no turns it round: what was applied is
undone in reverse order, the ledger takes the event out, and a correction brings up to date what others derived
meanwhile from what is now undone. Undoing a finished event (VoidEvent) is the same road, entered at its end.
A time-out is no answer and changes nothing: the same move is made again.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Generic, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from shared.entries import EntryKind
from shared.errors import LaurelError

P = TypeVar("P")
"""What a participant answers; opaque here."""


class State(IntEnum):
    """How far an entry has come, as stored."""

    RUNNING = 1
    COMPENSATING = 2
    DONE = 3
    REJECTED = 4
    VOIDING = 5
    VOIDED = 6
    PARKED = 7


UNFINISHED = (State.RUNNING, State.COMPENSATING, State.VOIDING)
"""States in which somebody has to go on."""


class Step(IntEnum):
    """The participants, in the order in which they are called (RULES 7.7)."""

    STREAK = 1
    ACHIEVEMENT = 2
    POINTS = 3
    LEADERBOARD = 4


STEPS: Mapping[EntryKind, tuple[Step, ...]] = {
    EntryKind.METRIC_EVENT: (Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    EntryKind.USER_UPDATE: (Step.POINTS, Step.LEADERBOARD),
    EntryKind.ACHIEVEMENT_CALL: (Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD),
    EntryKind.STREAK_CLOSING: (Step.LEADERBOARD,),
}
"""Each kind of entry enters the saga at its own step."""

CORRECTED = (Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD)
"""Who hears of an undoing: those who derive something from what others answered."""


class Act(IntEnum):
    """The acts of a saga, in their order."""

    APPLY = 1
    COMPLETE = 2
    DECIDE = 3
    REVERT = 4
    TAKE_OUT = 5
    CORRECT = 6
    SETTLE = 7


class Move(Struct, frozen=True, order=True):
    """One thing to do. Moves of different sagas that are equal are made together."""

    act: Act
    turn: int = 0
    """Place among the moves of the act; for calls the step, counted backwards where steps go backwards."""

    @property
    def step(self) -> Step:
        """The participant that the move calls."""
        return Step(-self.turn if self.act is Act.REVERT else self.turn)


class Saga(Struct, Generic[P], frozen=True):
    """One entry under way."""

    kind: EntryKind
    state: State = State.RUNNING
    applied: Mapping[Step, P] = field(default_factory=dict)
    """What participants answered to the entry."""
    reverted: Mapping[Step, P] = field(default_factory=dict)
    """What they answered to its undoing."""
    corrected: Mapping[Step, P] = field(default_factory=dict)
    """What they answered to the correction that followed."""
    rejection: LaurelError | None = None
    decided: bool = False
    """The decision to undo is durable."""
    taken_out: bool = False
    """The ledger, the total and the user no longer count the entry."""
    undo: tuple[Step, ...] = ()
    """The steps to undo, in the order of the calls. For a rejection: those before the one that said no."""


def next_move(saga: Saga[P]) -> Move:
    """What has to be done next for this entry."""
    if saga.state is State.RUNNING and saga.rejection is None:
        for step in STEPS[saga.kind]:
            if step not in saga.applied:
                return Move(Act.APPLY, step)
        return Move(Act.COMPLETE)
    if not saga.decided:
        return Move(Act.DECIDE)
    for step in reversed(saga.undo):
        if step not in saga.reverted:
            return Move(Act.REVERT, -step)
    if not saga.taken_out:
        return Move(Act.TAKE_OUT)
    for step in CORRECTED:
        if step not in saga.corrected:
            return Move(Act.CORRECT, step)
    return Move(Act.SETTLE)


def answered(saga: Saga[P], move: Move, answer: P) -> Saga[P]:
    """The saga after a participant has answered a move."""
    step = move.step
    match move.act:
        case Act.APPLY:
            return replace(saga, applied={**saga.applied, step: answer})
        case Act.REVERT:
            return replace(saga, reverted={**saga.reverted, step: answer})
        case Act.CORRECT:
            return replace(saga, corrected={**saga.corrected, step: answer})
        case _:
            raise ValueError(f"{move.act.name} calls nobody")


def refused(saga: Saga[P], move: Move, error: LaurelError) -> Saga[P]:
    """The saga after a participant's definite no: everything applied so far has to be undone."""
    if move.act is not Act.APPLY:
        raise ValueError(f"{move.act.name} cannot be refused")
    undo = tuple(step for step in STEPS[saga.kind] if step < move.step)
    return replace(saga, rejection=error, undo=undo)


def decided(saga: Saga[P]) -> Saga[P]:
    """The saga once the decision to undo is durable."""
    return replace(
        saga, decided=True, state=State.COMPENSATING if saga.state is State.RUNNING else saga.state
    )


def taken_out(saga: Saga[P]) -> Saga[P]:
    """The saga once the ledger no longer counts the entry."""
    return replace(saga, taken_out=True)


def voiding(kind: EntryKind, applied: Mapping[Step, P]) -> Saga[P]:
    """The saga of a finished entry that is to be undone, once that is decided."""
    return Saga(kind, State.VOIDING, applied=applied, decided=True, undo=STEPS[kind])


def final_state(saga: Saga[P]) -> State:
    """The state in which the saga ends."""
    if saga.state is State.VOIDING:
        return State.VOIDED
    return State.REJECTED if saga.rejection is not None else State.DONE
