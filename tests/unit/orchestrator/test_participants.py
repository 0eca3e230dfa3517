"""What is asked of whom, which answers say no, and when a participant counts as away (RULES 7.5, 7.8)."""

import pytest
from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.ledger.v1.entry_pb2 import Entry, UserSnapshot
from laurel.participant.v1.participant_service_pb2 import Command, RevertOutcome
from laurel.streak.v1 import streak_pb2
from msgspec.structs import replace

from services.orchestrator.effects import EntrySaga, for_followers, of_entry, serialized
from services.orchestrator.participants import (
    Breaker,
    Told,
    apply_command,
    common_part,
    correct_command,
    is_definite,
    reversal,
)
from services.orchestrator.saga import Act, Saga, State, Step, calling
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
    assert is_definite(error, calling(Act.APPLY, Step.POINTS), refusable=True)


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
    assert not is_definite(error, calling(Act.APPLY, Step.POINTS), refusable=True)


def test_nobody_says_no_behind_the_pivot_or_to_an_undoing() -> None:
    no = FailedPrecondition("no", reason="X")
    assert not is_definite(no, calling(Act.APPLY, Step.LEADERBOARD), refusable=True)
    assert is_definite(no, calling(Act.APPLY, Step.LEADERBOARD), refusable=True, alone=True)
    assert not is_definite(no, calling(Act.REVERT, Step.STREAK), refusable=True)
    assert not is_definite(no, calling(Act.CORRECT, Step.POINTS), refusable=True)


def test_nobody_says_no_to_what_has_already_happened() -> None:
    no = FailedPrecondition("no", reason="X")
    assert not is_definite(no, calling(Act.APPLY, Step.POINTS), refusable=False)


def streak_effect(before: int, after: int, version: int) -> streak_pb2.StreakEffect:
    change = streak_pb2.StreakChange(
        streak="daily",
        version=version,
        run_changes=[streak_pb2.RunChange(length_before=before, length_after=after)],
    )
    return streak_pb2.StreakEffect(change=change)


def completion(completion_id: str, *, revoked: bool = False) -> achievement_pb2.AchievementChange:
    kind = (
        achievement_pb2.ACHIEVEMENT_CHANGE_KIND_REVOKED
        if revoked
        else achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED
    )
    return achievement_pb2.AchievementChange(
        achievement=completion_id, completion_id=completion_id, kind=kind
    )


def undone(*, points_applied: bool) -> EntrySaga:
    """A saga that has been undone up to the correction of points."""
    reverted = {
        Step.STREAK: RevertOutcome(reverted=True, effects=Effects(streaks=[streak_effect(4, 3, 2)])),
        Step.ACHIEVEMENT: RevertOutcome(
            reverted=True, effects=Effects(achievements=[completion("gone", revoked=True)])
        ),
    }
    if points_applied:
        reverted[Step.POINTS] = RevertOutcome(reverted=True)
    return Saga(
        tuple(Step),
        State.COMPENSATING,
        applied={
            Step.STREAK: Effects(streaks=[streak_effect(3, 4, 1)]),
            Step.ACHIEVEMENT: Effects(achievements=[completion("gone"), completion("kept")]),
        },
        reverted=reverted,
        corrected={Step.ACHIEVEMENT: Effects()},
        decided=True,
        taken_out=True,
    )


def corrected_points(saga: EntrySaga) -> Effects:
    told = Told(Entry(), b"", Effects(), saga, correction=b"")
    return Command.FromString(correct_command(Step.POINTS, told)).effects


def runs(effects: Effects) -> list[tuple[int, int]]:
    return [
        (run.length_before, run.length_after)
        for effect in effects.streaks
        for run in effect.change.run_changes
    ]


def test_points_that_refused_an_event_are_told_both_halves_of_what_they_have_not_seen() -> None:
    effects = corrected_points(undone(points_applied=False))
    assert runs(effects) == [(3, 4), (4, 3)]
    assert [change.completion_id for change in effects.achievements] == ["kept"]


def test_points_that_applied_an_event_are_told_what_its_undoing_changed() -> None:
    effects = corrected_points(undone(points_applied=True))
    assert runs(effects) == [(4, 3)]
    assert [change.completion_id for change in effects.achievements] == ["gone"]


def test_who_follows_is_told_what_another_zone_made_of_streaks() -> None:
    saga = undone(points_applied=True)
    zone = Effects(streaks=[streak_effect(3, 2, 3)])
    saga = replace(saga, corrected={Step.STREAK: zone, **saga.corrected})
    assert runs(corrected_points(saga)) == [(4, 3), (3, 2)]


def told_of(answer: Effects) -> bytes:
    return for_followers(answer, answer.SerializeToString())


def test_who_follows_is_told_of_streaks_what_changed_and_nothing_of_their_state() -> None:
    state = streak_pb2.StreakState(streak="daily", length=4)
    changed = streak_effect(3, 4, 1)
    changed.state.CopyFrom(state)
    unchanged = streak_pb2.StreakEffect(state=state)
    entry = Entry(entry_id="e")
    command = common_part(entry.SerializeToString(), b"d" * 32)
    followed = {Step.STREAK: told_of(Effects(streaks=[changed, unchanged]))}
    asked = Told(entry, command, Effects(), Saga(tuple(Step)), followed=followed)
    told = Command.FromString(apply_command(Step.ACHIEVEMENT, asked))
    assert told.entry == entry
    assert list(told.effects.streaks) == [streak_effect(3, 4, 1)]
    assert told.digest == b"d" * 32


def test_who_follows_is_told_what_all_before_it_answered_each_as_it_was_made() -> None:
    streaks = Effects(streaks=[streak_effect(3, 4, 1)])
    achievements = Effects(achievements=[completion("kept")])
    before = Effects(achievements=[completion("before")])
    followed = {Step.STREAK: told_of(streaks), Step.ACHIEVEMENT: told_of(achievements)}
    asked = Told(Entry(), b"", before, Saga(tuple(Step)), told_of(before), followed)
    told = Command.FromString(apply_command(Step.POINTS, asked)).effects
    assert runs(told) == [(3, 4)]
    assert [change.completion_id for change in told.achievements] == ["before", "kept"]


def test_the_serialized_effects_of_an_entry_are_those_of_all_steps_in_order() -> None:
    applied = {
        Step.ACHIEVEMENT: Effects(achievements=[completion("second")]),
        Step.STREAK: Effects(streaks=[streak_effect(3, 4, 1)]),
    }
    saga: EntrySaga = Saga(tuple(Step), applied=applied)
    before = Effects(achievements=[completion("first")])
    entire = of_entry(before, saga)
    assert [change.completion_id for change in entire.achievements] == ["first", "second"]
    answers = {step: answer.SerializeToString() for step, answer in applied.items()}
    for entire.control in (False, True):
        told = serialized(before.SerializeToString(), saga.steps, answers, control=entire.control)
        assert Effects.FromString(told) == entire


def test_a_reversal_says_which_version_of_the_user_the_undoing_made() -> None:
    entry = Entry(entry_id="e", user=UserSnapshot(user_id="alice", version=3))
    correction = Entry(user=UserSnapshot(user_id="alice", version=5)).SerializeToString()
    saga: EntrySaga = Saga(tuple(Step))
    told = Told(entry, b"", Effects(), saga, correction=correction)
    assert (reversal(told).user_id, reversal(told).user_version) == ("alice", 5)
    assert reversal(replace(told, correction=b"")).user_version == 0
