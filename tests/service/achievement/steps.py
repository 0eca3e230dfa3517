"""What tests do with the service over and over."""

from typing import Any

from laurel.achievement.v1 import achievement_pb2 as types
from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from tests.service.achievement.conftest import Service

# What users and other services see. Versions, the log and the append-only facts remember what was undone.
DERIVED_STATE = {
    "sources": "SELECT user_id, key, kind, current, highest FROM sources ORDER BY 1, 2, 3",
    "accumulators": """
        SELECT user_id, achievement, sum_micros, peak_micros, negative_count FROM accumulators
         WHERE (sum_micros, peak_micros, negative_count) <> (0, 0, 0) ORDER BY 1, 2
    """,
    "live_completions": "SELECT user_id, achievement, complete_time, target FROM live_completions ORDER BY 1, 2",
}


async def define(service: Service, key: str, **fields: Any) -> types.Achievement:
    wanted = types.Achievement(key=key, name=key.title(), **fields)
    created: types.Achievement = await service.definitions.create(wanted)
    return created


async def shown(service: Service, user: str = "alice", **fields: Any) -> list[types.UserAchievement]:
    response = await service.stub.ListUserAchievements(pb.ListUserAchievementsRequest(user_id=user, **fields))
    return list(response.achievements)


async def held(service: Service, user: str = "alice") -> set[str]:
    return {one.achievement for one in await shown(service, user, completed_only=True)}


async def derived_state(service: Service) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: [tuple(row) for row in await service.database.fetch(query)]
        for name, query in DERIVED_STATE.items()
    }


def completed(outcome: participant_pb.Outcome) -> list[str]:
    return _keys(outcome, types.ACHIEVEMENT_CHANGE_KIND_COMPLETED)


def revoked(outcome: participant_pb.Outcome | participant_pb.RevertOutcome) -> list[str]:
    return _keys(outcome, types.ACHIEVEMENT_CHANGE_KIND_REVOKED)


def _keys(outcome: participant_pb.Outcome | participant_pb.RevertOutcome, kind: int) -> list[str]:
    return [change.achievement for change in outcome.effects.achievements if change.kind == kind]
