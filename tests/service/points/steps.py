"""What tests do with the service over and over."""

from collections.abc import Sequence
from typing import Any

from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from tests.service.points.conftest import Service
from tests.service.points.messages import apply

# What users and other services see. Versions, the log and the append-only ledger remember what was undone.
DERIVED_STATE = {
    "balances": """
        SELECT user_id, points_system, balance, lifetime, level, reach_time FROM balances
         WHERE (balance, lifetime) <> (0, 0) ORDER BY 1, 2
    """,
    "trigger_states": """
        SELECT user_id, points_system, trigger, granted_count, due_count, accumulated_micros, high_micros
          FROM trigger_states
         WHERE (granted_count, due_count, accumulated_micros) <> (0, 0, 0) ORDER BY 1, 2, 3
    """,
    "completions": "SELECT * FROM completions WHERE net_count <> 0 ORDER BY 1, 2",
    "awards": """
        SELECT user_id, points_system, trigger, sum(times), sum(amount) FROM awards
         GROUP BY 1, 2, 3 HAVING (sum(times), sum(amount)) <> (0, 0) ORDER BY 1, 2, 3
    """,
}


async def define(
    service: Service, key: str, triggers: Sequence[types.PointsTrigger] = (), **fields: Any
) -> types.PointsSystem:
    wanted = types.PointsSystem(key=key, name=key.title(), triggers=triggers, **fields)
    created: types.PointsSystem = await service.definitions.create(wanted)
    return created


async def send(service: Service, *commands: participant_pb.Command) -> list[participant_pb.Outcome]:
    """The outcomes of these commands, sent in one batch."""
    return list((await service.participant.ApplyEntries(apply(*commands))).outcomes)


async def points(service: Service, user: str = "alice") -> dict[str, types.UserPoints]:
    response = await service.stub.ListUserPoints(pb.ListUserPointsRequest(user_id=user))
    return {point.points_system: point for point in response.points}


async def balance(service: Service, user: str = "alice", key: str = "xp") -> int:
    return (await points(service, user))[key].balance


async def derived_state(service: Service) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: [tuple(row) for row in await service.database.fetch(query)]
        for name, query in DERIVED_STATE.items()
    }


async def check_ledger(service: Service) -> None:
    """The sum of every ledger is its balance."""
    sums = await service.database.fetch(
        "SELECT user_id, points_system, sum(amount)::bigint FROM awards GROUP BY 1, 2 ORDER BY 1, 2"
    )
    balances = await service.database.fetch(
        "SELECT user_id, points_system, balance FROM balances ORDER BY 1, 2"
    )
    assert [tuple(row) for row in sums] == [tuple(row) for row in balances]


def amounts(outcome: participant_pb.Outcome | participant_pb.RevertOutcome) -> list[int]:
    return [award.amount for change in outcome.effects.points for award in change.awards]


def days(outcome: participant_pb.Outcome | participant_pb.RevertOutcome) -> list[int]:
    """The days of the month for which the rows count."""
    return [award.local_date.day for change in outcome.effects.points for award in change.awards]
