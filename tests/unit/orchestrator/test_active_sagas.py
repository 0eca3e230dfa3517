"""What is held of a saga in hand, and the answer that its caller waits for."""

import asyncio
import gc
from typing import Any
from uuid import UUID

from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.ledger.v1.entry_pb2 import Entry
from laurel.participant.v1.participant_service_pb2 import Command
from laurel.streak.v1 import streak_pb2

from services.orchestrator.active_sagas import ActiveSaga, coming, refuse, started
from services.orchestrator.operations import OPERATIONS
from services.orchestrator.participants import apply_command
from services.orchestrator.saga import Step
from shared.errors import Unavailable

STREAKS = Effects(
    streaks=[
        streak_pb2.StreakEffect(
            state=streak_pb2.StreakState(streak="daily", length=4),
            change=streak_pb2.StreakChange(streak="daily", length=4),
        )
    ]
)
ACHIEVEMENTS = Effects(achievements=[achievement_pb2.AchievementChange(completion_id="c")])


def event() -> ActiveSaga:
    entry = Entry(entry_id=str(UUID(int=1)))
    return started(
        UUID(int=1), OPERATIONS["metric_event"], entry, entry.SerializeToString(), asyncio.Future()
    )


async def test_nobody_has_to_look_at_an_answer_that_is_refused() -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    usual = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        answer = coming()
        refuse(answer, Unavailable("away", reason="X"))
        del answer
        gc.collect()
    finally:
        loop.set_exception_handler(usual)
    assert not complaints


async def test_what_an_entry_changed_is_what_all_steps_answered() -> None:
    active = event()
    active.applied(Step.STREAK, STREAKS)
    active.applied(Step.ACHIEVEMENT, ACHIEVEMENTS)
    entire = Effects()
    entire.MergeFrom(STREAKS)
    entire.MergeFrom(ACHIEVEMENTS)
    assert Effects.FromString(active.changed()) == entire


async def test_a_step_that_is_asked_again_is_not_told_its_own_answer() -> None:
    active = event()
    active.applied(Step.STREAK, STREAKS)
    active.applied(Step.ACHIEVEMENT, ACHIEVEMENTS)
    told = Command.FromString(apply_command(Step.ACHIEVEMENT, active.told())).effects
    assert [effect.change.length for effect in told.streaks] == [4]
    assert not told.achievements
