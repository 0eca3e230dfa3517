"""What is asked of whom, which answers say no, and when a participant counts as away (RULES 7.5, 7.8)."""

import pytest
from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2
from laurel.common.v1 import entry_pb2
from laurel.points.v1 import points_service_pb2
from laurel.streak.v1 import streak_pb2, streak_service_pb2

from services.orchestrator.participants import Breaker, Command, correct_command, is_definite
from services.orchestrator.saga import Act, Move, Saga, State, Step
from shared.entries import EntryKind
from shared.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    LaurelError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

EVENT = EntryKind.METRIC_EVENT


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_a_participant_counts_as_away_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(failures=3, seconds=1.0, monotonic=Hand())
    breaker.failed()
    breaker.failed()
    assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open


def test_an_answer_between_failures_begins_the_count_anew() -> None:
    breaker = Breaker(failures=2, seconds=1.0, monotonic=Hand())
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert not breaker.is_open


def test_when_the_pause_is_over_it_is_tried_again_and_one_more_failure_begins_another_pause() -> None:
    clock = Hand()
    breaker = Breaker(failures=1, seconds=1.0, monotonic=clock)
    breaker.failed()
    clock.time = 1.0
    assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open
    clock.time = 2.0
    breaker.succeeded()
    assert not breaker.is_open


@pytest.mark.parametrize(
    "error", [FailedPrecondition("no", reason="INSUFFICIENT_POINTS"), NotFound("no", reason="X")]
)
def test_a_business_answer_turns_the_saga_round(error: LaurelError) -> None:
    assert is_definite(error, EVENT, Move(Act.APPLY, Step.POINTS))


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("away", reason="X"),
        DeadlineExceeded("late", reason="X"),
        Aborted("contention", reason="X"),
        ResourceExhausted("full", reason="X"),
        Internal("defect", reason="X"),
        FailedPrecondition("undone elsewhere", reason="ENTRY_REVERTED"),
        FailedPrecondition("answered long ago", reason="OUTCOME_EXPIRED"),
    ],
)
def test_an_unknown_outcome_turns_nothing_round(error: LaurelError) -> None:
    assert not is_definite(error, EVENT, Move(Act.APPLY, Step.POINTS))


def test_nobody_says_no_behind_the_pivot_or_to_an_undoing() -> None:
    no = FailedPrecondition("no", reason="X")
    assert not is_definite(no, EVENT, Move(Act.APPLY, Step.LEADERBOARD))
    assert not is_definite(no, EVENT, Move(Act.REVERT, -Step.STREAK))
    assert not is_definite(no, EVENT, Move(Act.CORRECT, Step.POINTS))


def streak_effect(before: int, after: int, version: int) -> streak_service_pb2.StreakEffect:
    change = streak_pb2.StreakChange(
        streak="daily",
        version=version,
        run_changes=[streak_pb2.RunChange(length_before=before, length_after=after)],
    )
    return streak_service_pb2.StreakEffect(change=change)


def completion(completion_id: str, *, revoked: bool = False) -> achievement_pb2.AchievementChange:
    kind = (
        achievement_pb2.ACHIEVEMENT_CHANGE_KIND_REVOKED
        if revoked
        else achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED
    )
    return achievement_pb2.AchievementChange(
        achievement=completion_id, completion_id=completion_id, kind=kind
    )


def undone(*, points_applied: bool) -> Saga[object]:
    """A saga that has been undone up to the correction of points."""
    reverted: dict[Step, object] = {
        Step.STREAK: streak_service_pb2.RevertEventsOutcome(reverted=True, effects=[streak_effect(4, 3, 2)]),
        Step.ACHIEVEMENT: achievement_service_pb2.RevertEventsOutcome(
            reverted=True, changes=[completion("gone", revoked=True)]
        ),
    }
    if points_applied:
        reverted[Step.POINTS] = points_service_pb2.RevertEventsOutcome(reverted=True)
    return Saga(
        EVENT,
        State.COMPENSATING,
        applied={
            Step.STREAK: streak_service_pb2.ApplyEventsOutcome(effects=[streak_effect(3, 4, 1)]),
            Step.ACHIEVEMENT: achievement_service_pb2.ApplyEventsOutcome(
                changes=[completion("gone"), completion("kept")]
            ),
        },
        reverted=reverted,
        corrected={Step.ACHIEVEMENT: achievement_service_pb2.ApplyEventsOutcome()},
        decided=True,
        taken_out=True,
    )


def corrected_points(saga: Saga[object]) -> points_service_pb2.ApplyEventsCommand:
    command = correct_command(Step.POINTS, Command(entry_pb2.Entry(), entry_pb2.Entry(), saga))
    assert isinstance(command, points_service_pb2.ApplyEventsCommand)
    return command


def test_points_that_refused_an_event_are_told_both_halves_of_what_they_have_not_seen() -> None:
    command = corrected_points(undone(points_applied=False))
    runs = [
        (run.length_before, run.length_after)
        for change in command.streak_changes
        for run in change.run_changes
    ]
    assert runs == [(3, 4), (4, 3)]
    assert [change.completion_id for change in command.achievement_changes] == ["kept"]


def test_points_that_applied_an_event_are_told_what_its_undoing_changed() -> None:
    command = corrected_points(undone(points_applied=True))
    runs = [
        (run.length_before, run.length_after)
        for change in command.streak_changes
        for run in change.run_changes
    ]
    assert runs == [(4, 3)]
    assert [change.completion_id for change in command.achievement_changes] == ["gone"]
