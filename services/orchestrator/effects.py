"""What changed, put together from what the participants answered."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1 import effects_pb2
from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.streak.v1 import streak_pb2

from services.orchestrator.saga import Saga, Step

T = TypeVar("T")

EntrySaga = Saga[effects_pb2.Effects, pb.RevertOutcome]

_CONTROL: Final = effects_pb2.Effects(control=True).SerializeToString()


def merged(parts: Iterable[effects_pb2.Effects]) -> effects_pb2.Effects:
    """All of them, in order."""
    effects = effects_pb2.Effects()
    for part in parts:
        effects.MergeFrom(part)
    return effects


def of_entry(before: effects_pb2.Effects, saga: EntrySaga) -> effects_pb2.Effects:
    """Everything that applying the entry changed."""
    return merged([before, *_in_order(saga.steps, saga.applied)])


def of_undoing(saga: EntrySaga) -> effects_pb2.Effects:
    """Everything that undoing the entry changed, and what followed from that."""
    parts = [outcome.effects for outcome in _in_order(saga.steps, saga.reverted)]
    return merged([*parts, *_in_order(tuple(Step), saga.corrected)])


def serialized(
    before: bytes, steps: tuple[Step, ...], answers: Mapping[Step, bytes], *, control: bool
) -> bytes:
    """The same as bytes, from serialized parts: one after the other they are their merge (`shared.rpc.wire`), and
    nothing is copied.
    """
    return b"".join((before, *_in_order(steps, answers), _CONTROL if control else b""))


def for_followers(part: effects_pb2.Effects, body: bytes) -> bytes:
    """What the participants that follow are told of an answer, serialized: of streaks they look at changes alone.

    `body` is the answer, serialized.
    """
    if not (part.streaks or part.leaderboards or part.control):
        return body
    effects = effects_pb2.Effects(
        achievements=part.achievements, points=part.points, completion_causes=part.completion_causes
    )
    for effect in part.streaks:
        if effect.HasField("change"):
            effects.streaks.add(user_id=effect.user_id, change=effect.change)
    return effects.SerializeToString()


def to_correct(step: Step, saga: EntrySaga, before: effects_pb2.Effects) -> effects_pb2.Effects:
    """What a participant is told of an undoing.

    Absolute values are those of the reverts: the newest. Differences have to add up to what each participant
    has not seen: points that never applied the entry have not seen its forward half either.
    """
    effects = effects_pb2.Effects()
    if step is Step.POINTS:
        effects.streaks.extend(_unseen_streaks(saga, before))
        effects.achievements.extend(_unseen_achievements(saga))
        effects.completion_causes.extend(of_undoing(saga).completion_causes)
    if Step.STREAK in saga.reverted:
        effects.streaks.extend(_changes(saga.reverted[Step.STREAK].effects.streaks))
    if Step.STREAK in saga.corrected:
        effects.streaks.extend(_changes(saga.corrected[Step.STREAK].streaks))
    if step is Step.LEADERBOARD:
        effects.points.extend(of_undoing(saga).points)
    return effects


def _in_order(steps: tuple[Step, ...], answers: Mapping[Step, T]) -> list[T]:
    return [answers[step] for step in steps if step in answers]


def _changes(streaks: Iterable[streak_pb2.StreakEffect]) -> list[streak_pb2.StreakEffect]:
    return [
        streak_pb2.StreakEffect(user_id=effect.user_id, change=effect.change)
        for effect in streaks
        if effect.HasField("change")
    ]


def _points_had_it(saga: EntrySaga) -> bool:
    return Step.POINTS in saga.reverted and saga.reverted[Step.POINTS].reverted


def _unseen_streaks(saga: EntrySaga, before: effects_pb2.Effects) -> list[streak_pb2.StreakEffect]:
    if _points_had_it(saga):
        return []
    applied = saga.applied.get(Step.STREAK)
    return _changes([*before.streaks, *(applied.streaks if applied else ())])


def _unseen_achievements(saga: EntrySaga) -> Sequence[achievement_pb2.AchievementChange]:
    """What points have not seen of a completion that came and went is nothing: both halves are left out."""
    undone = of_undoing(saga).achievements
    if _points_had_it(saga):
        return undone
    applied = saga.applied[Step.ACHIEVEMENT].achievements if Step.ACHIEVEMENT in saga.applied else ()
    came = {change.completion_id for change in applied}
    went = {change.completion_id for change in undone}
    return [
        *(change for change in applied if change.completion_id not in went),
        *(change for change in undone if change.completion_id not in came),
    ]
