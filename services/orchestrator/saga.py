"""The saga of one entry: which move comes next, and what an answer does to it (RULES 7).

Pure. An entry goes forward through the steps of its operation. A definite no turns it round: what was applied is
undone in reverse order, the ledger takes the event out, and a correction brings up to date what others derived
meanwhile from what is now undone. Undoing a finished entry (VoidEntry) is the same road, entered at its end.
A time-out is no answer and changes nothing: the same move is made again.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final, Generic, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from shared.errors import LaurelError

E = TypeVar("E")
"""What a participant answers to an entry; opaque here."""
R = TypeVar("R")
"""What a participant answers to a reversal; opaque here."""


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


class Step(Enum):
    """The participants, in the order in which they are called (RULES 7.7). Stored by name: the order is not."""

    # Looked up some fifty times an event: an enumeration's own hash is written in Python.
    __hash__ = object.__hash__

    STREAK = "streak"
    ACHIEVEMENT = "achievement"
    POINTS = "points"
    LEADERBOARD = "leaderboard"


CORRECTED: Final = (Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD)
"""Who hears of an undoing: whoever knows the user, or derives something from what others answered."""

_ORDER: Final = tuple(Step)


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
    """Place among the moves of the act: for calls that of the step, counted backwards where steps go backwards."""

    @property
    def step(self) -> Step:
        """The participant that the move calls."""
        return _ORDER[abs(self.turn)]


_CALLS: Final[Mapping[tuple[Act, Step], Move]] = {
    (act, step): Move(act, -turn if act is Act.REVERT else turn)
    for turn, step in enumerate(_ORDER)
    for act in (Act.APPLY, Act.REVERT, Act.CORRECT)
}


def calling(act: Act, step: Step) -> Move:
    """The move that calls a participant."""
    return _CALLS[act, step]


class Saga(Struct, Generic[E, R], frozen=True):
    """One entry under way."""

    steps: tuple[Step, ...]
    """Those that the entry visits, in order."""
    state: State = State.RUNNING
    applied: Mapping[Step, E] = field(default_factory=dict)
    """What participants answered to the entry."""
    reverted: Mapping[Step, R] = field(default_factory=dict)
    """What they answered to its undoing."""
    corrected: Mapping[Step, E] = field(default_factory=dict)
    """What they answered to the correction that followed."""
    rejection: LaurelError | None = None
    decided: bool = False
    """The decision to undo is durable."""
    taken_out: bool = False
    """The ledger, the total and the user no longer count the entry."""
    undo: tuple[Step, ...] = ()
    """The steps to undo, in the order of the calls. For a rejection: those before the one that said no."""
    hears: tuple[Step, ...] = CORRECTED
    """Who hears of its undoing."""


def beginning(steps: tuple[Step, ...], *, control: bool = False) -> Saga[E, R]:
    """The saga of an entry that has been recorded. Of a user in the control group nobody ever hears."""
    return Saga(steps, hears=() if control else CORRECTED)


def next_move(saga: Saga[E, R]) -> Move:
    """What has to be done next for this entry."""
    if saga.state is State.RUNNING and saga.rejection is None:
        for step in saga.steps:
            if step not in saga.applied:
                return calling(Act.APPLY, step)
        return Move(Act.COMPLETE)
    if not saga.decided:
        return Move(Act.DECIDE)
    for step in reversed(saga.undo):
        if step not in saga.reverted:
            return calling(Act.REVERT, step)
    if not saga.taken_out:
        return Move(Act.TAKE_OUT)
    for step in saga.hears:
        if step not in saga.corrected:
            return calling(Act.CORRECT, step)
    return Move(Act.SETTLE)


def applied(saga: Saga[E, R], step: Step, answer: E) -> Saga[E, R]:
    """The saga after a participant has applied the entry."""
    return replace(saga, applied={**saga.applied, step: answer})


def reverted(saga: Saga[E, R], step: Step, answer: R) -> Saga[E, R]:
    """The saga after a participant has undone the entry."""
    return replace(saga, reverted={**saga.reverted, step: answer})


def corrected(saga: Saga[E, R], step: Step, answer: E) -> Saga[E, R]:
    """The saga after a participant has heard of the undoing."""
    return replace(saga, corrected={**saga.corrected, step: answer})


def refused(saga: Saga[E, R], step: Step, error: LaurelError) -> Saga[E, R]:
    """The saga after a participant's definite no: everything applied so far has to be undone."""
    if saga.decided:
        raise ValueError("what is being undone cannot be refused")
    return replace(saga, rejection=error, undo=saga.steps[: saga.steps.index(step)])


def given_up(saga: Saga[E, R], error: LaurelError) -> Saga[E, R]:
    """The saga after an operator gave it up. Earlier attempts may have come further: all steps are undone."""
    return replace(saga, rejection=error, undo=saga.steps)


def decided(saga: Saga[E, R]) -> Saga[E, R]:
    """The saga once the decision to undo is durable."""
    return replace(
        saga, decided=True, state=State.COMPENSATING if saga.state is State.RUNNING else saga.state
    )


def taken_out(saga: Saga[E, R]) -> Saga[E, R]:
    """The saga once the ledger no longer counts the entry."""
    return replace(saga, taken_out=True)


def voiding(steps: tuple[Step, ...], applied: Mapping[Step, E]) -> Saga[E, R]:
    """The saga of a finished entry that is to be undone, once that is decided."""
    return Saga(steps, State.VOIDING, applied=applied, decided=True, undo=steps)


def final_state(saga: Saga[E, R]) -> State:
    """The state in which the saga ends."""
    if saga.state is State.VOIDING:
        return State.VOIDED
    return State.REJECTED if saga.rejection is not None else State.DONE
