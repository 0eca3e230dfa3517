"""The saga as a pure machine (RULES 7): which calls it makes, in which order, whatever happens."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.orchestrator import saga
from services.orchestrator.operations import OPERATIONS
from services.orchestrator.saga import CORRECTED, Act, Move, Saga, State, Step, next_move
from shared.errors import FailedPrecondition

Steps = tuple[Step, ...]
Story = Saga[str, str]

EVERYBODY = tuple(Step)
NO = FailedPrecondition("no", reason="INSUFFICIENT_POINTS")


def run(steps: Steps, refuse_at: Step | None = None) -> tuple[list[Move], Story]:
    """Every move of a saga in which nothing is unknown, and the saga at its end."""
    fresh: Story = Saga(steps)
    return _finish(fresh, refuse_at)


def _finish(running: Story, refuse_at: Step | None = None) -> tuple[list[Move], Story]:
    moves = []
    while True:
        move = next_move(running)
        moves.append(move)
        match move.act:
            case Act.APPLY if move.step is refuse_at:
                running = saga.refused(running, move.step, NO)
            case Act.APPLY:
                running = saga.applied(running, move.step, "applied")
            case Act.REVERT:
                running = saga.reverted(running, move.step, "reverted")
            case Act.CORRECT:
                running = saga.corrected(running, move.step, "corrected")
            case Act.DECIDE:
                running = saga.decided(running)
            case Act.TAKE_OUT:
                running = saga.taken_out(running)
            case Act.COMPLETE | Act.SETTLE:
                return moves, running


def calls(moves: Sequence[Move], act: Act) -> list[Step]:
    return [move.step for move in moves if move.act is act]


def test_an_event_visits_every_participant_in_order_and_is_completed() -> None:
    moves, running = run(EVERYBODY)
    assert calls(moves, Act.APPLY) == [Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD]
    assert moves[-1].act is Act.COMPLETE
    assert saga.final_state(running) is State.DONE


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_each_operation_visits_its_own_steps_in_the_order_of_the_saga(name: str) -> None:
    moves, _ = run(OPERATIONS[name].steps)
    visited = calls(moves, Act.APPLY)
    assert tuple(visited) == OPERATIONS[name].steps
    assert visited == sorted(visited, key=EVERYBODY.index)


@pytest.mark.parametrize("step", list(Step))
def test_a_refusal_undoes_exactly_the_steps_before_it_in_reverse(step: Step) -> None:
    moves, running = run(EVERYBODY, refuse_at=step)
    before = list(Step)[: EVERYBODY.index(step)]
    assert calls(moves, Act.REVERT) == before[::-1]
    assert saga.final_state(running) is State.REJECTED


def test_nothing_is_undone_anywhere_when_the_first_step_refuses() -> None:
    moves, _ = run(EVERYBODY, refuse_at=Step.STREAK)
    assert calls(moves, Act.REVERT) == []
    assert Act.TAKE_OUT in [move.act for move in moves]


def test_the_decision_to_undo_is_made_durable_before_anything_is_undone() -> None:
    moves, _ = run(EVERYBODY, refuse_at=Step.POINTS)
    acts = [move.act for move in moves]
    assert (
        acts.index(Act.DECIDE) < acts.index(Act.REVERT) < acts.index(Act.TAKE_OUT) < acts.index(Act.CORRECT)
    )


def test_whoever_derives_from_others_hears_of_an_undoing_in_the_order_of_the_saga() -> None:
    moves, _ = run(EVERYBODY, refuse_at=Step.POINTS)
    assert tuple(calls(moves, Act.CORRECT)) == CORRECTED


def test_the_error_of_the_participant_survives_to_the_end() -> None:
    _, running = run(EVERYBODY, refuse_at=Step.POINTS)
    assert running.rejection is NO


def test_voiding_a_finished_event_undoes_every_step_in_reverse() -> None:
    moves, running = _finish(saga.voiding(EVERYBODY, {}))
    assert calls(moves, Act.REVERT) == list(Step)[::-1]
    assert saga.final_state(running) is State.VOIDED


def test_what_is_being_undone_cannot_be_refused() -> None:
    running: Story = saga.voiding(EVERYBODY, {})
    with pytest.raises(ValueError, match="cannot be refused"):
        saga.refused(running, Step.POINTS, NO)


@given(st.sampled_from(sorted(OPERATIONS)), st.sampled_from([None, *Step]))
def test_moves_only_ever_go_on(name: str, refuse_at: Step | None) -> None:
    """A group makes the earliest move first: that is only right if no saga ever goes back."""
    moves, _ = run(OPERATIONS[name].steps, refuse_at)
    assert moves == sorted(set(moves))


class Participant:
    """What RULES 7.4 promises of a participant: the same answer for ever, and nothing after an undoing."""

    def __init__(self) -> None:
        self.answer: str | None = None
        self.effects = 0
        self.undone = False

    def apply(self, answer: str) -> str:
        """Applies once; a late original after its compensation is refused."""
        if self.undone:
            return "no"
        if self.answer is None:
            self.answer = answer
            self.effects += answer == "yes"
        return self.answer

    def revert(self) -> None:
        """Undoes once; also what it has never seen."""
        if not self.undone and self.answer == "yes":
            self.effects -= 1
        self.undone = True


class SagaUnderFire(RuleBasedStateMachine):
    """One saga and four participants: calls that are lost on the way there or back, crashes of the runner at any
    moment, refusals by anybody but the last, duplicates that come late, and an undoing of what was finished.
    """

    def __init__(self) -> None:
        super().__init__()
        self.participants = {step: Participant() for step in Step}
        self.durable: State = State.RUNNING
        self.durable_undo: tuple[Step, ...] = ()
        self.durable_taken_out = False
        self.one: Story = Saga(EVERYBODY)
        self.will_refuse: Step | None = None
        self.voided = False

    @initialize(refuse_at=st.sampled_from([None, Step.STREAK, Step.ACHIEVEMENT, Step.POINTS]))
    def begin(self, refuse_at: Step | None) -> None:
        self.will_refuse = refuse_at

    def _says(self, step: Step) -> str:
        return "no" if step is self.will_refuse else "yes"

    def _open(self) -> bool:
        return self.durable in saga.UNFINISHED

    @precondition(lambda self: self._open())
    @rule(lost=st.sampled_from(["nothing", "request", "answer"]))
    def make_the_next_move(self, lost: str) -> None:
        move = next_move(self.one)
        match move.act:
            case Act.APPLY:
                if lost == "request":
                    return
                answer = self.participants[move.step].apply(self._says(move.step))
                if lost == "answer":
                    return
                self.one = (
                    saga.applied(self.one, move.step, answer)
                    if answer == "yes"
                    else saga.refused(self.one, move.step, NO)
                )
            case Act.REVERT:
                if lost == "request":
                    return
                self.participants[move.step].revert()
                if lost == "answer":
                    return
                self.one = saga.reverted(self.one, move.step, "undone")
            case Act.CORRECT:
                if lost == "nothing":
                    self.one = saga.corrected(self.one, move.step, "corrected")
            case Act.COMPLETE:
                self.durable = State.DONE
            case Act.DECIDE:
                self.durable, self.durable_undo = State.COMPENSATING, self.one.undo
                self.one = saga.decided(self.one)
            case Act.TAKE_OUT:
                self.durable_taken_out = True
                self.one = saga.taken_out(self.one)
            case Act.SETTLE:
                self.durable = saga.final_state(self.one)

    @precondition(lambda self: self._open())
    @rule()
    def the_runner_crashes_and_another_goes_on_with_what_is_durable(self) -> None:
        match self.durable:
            case State.RUNNING:
                self.one = Saga(EVERYBODY)
            case State.COMPENSATING:
                self.one = Saga(
                    EVERYBODY,
                    State.COMPENSATING,
                    rejection=NO,
                    decided=True,
                    undo=self.durable_undo,
                )
            case State.VOIDING:
                self.one = saga.voiding(EVERYBODY, {})

    @precondition(lambda self: self.durable is State.DONE)
    @rule()
    def somebody_voids_the_finished_event(self) -> None:
        self.durable = State.VOIDING
        self.voided = True
        self.one = saga.voiding(EVERYBODY, {})

    @rule(step=st.sampled_from(Step))
    def a_duplicate_of_an_earlier_call_arrives_late(self, step: Step) -> None:
        if self.participants[step].answer is not None:
            self.participants[step].apply(self._says(step))

    @invariant()
    def nobody_ever_applies_twice_or_undoes_twice(self) -> None:
        assert all(participant.effects in (0, 1) for participant in self.participants.values())

    @invariant()
    def a_settled_saga_is_applied_everywhere_or_nowhere(self) -> None:
        effects = {participant.effects for participant in self.participants.values()}
        if self.durable is State.DONE:
            assert effects == {1}
        if self.durable in (State.REJECTED, State.VOIDED):
            assert effects == {0}
            assert self.durable_taken_out

    @invariant()
    def a_refused_event_is_never_done(self) -> None:
        if self.will_refuse is not None:
            assert self.durable not in (State.DONE, State.VOIDING, State.VOIDED)


SagaUnderFire.TestCase.settings = settings(stateful_step_count=40)
TestSagaUnderFire = SagaUnderFire.TestCase
