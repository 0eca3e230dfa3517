"""What tests do with the service over and over."""

from datetime import date, datetime
from typing import Any

from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from shared.rpc.convert import to_timestamp
from tests.service.streak.conftest import Service
from tests.service.streak.messages import apply, day, streak

# What users and other services see, apart from versions, which remember what was undone.
DERIVED_STATE = (
    "SELECT user_id, streak, length, longest, reach_time, state::text FROM streak_states"
    " WHERE state IS NOT NULL ORDER BY 1, 2",
    "SELECT * FROM periods ORDER BY user_id, streak, start_date",
    "SELECT * FROM freeze_ledger ORDER BY user_id, streak, effective_date, reason",
)


async def define(service: Service, key: str = "daily", **fields: Any) -> streak_pb2.Streak:
    created: streak_pb2.Streak = await service.definitions.create(streak(key, **fields))
    return created


async def applied(service: Service, *commands: pb.ApplyEventsCommand) -> list[pb.ApplyEventsOutcome]:
    response = await service.stub.ApplyEvents(apply(*commands))
    return list(response.outcomes)


async def effect(service: Service, command: pb.ApplyEventsCommand) -> pb.StreakEffect:
    """What an event does to the only streak."""
    (outcome,) = await applied(service, command)
    assert not outcome.HasField("error"), outcome.error
    (only,) = outcome.effects
    return only


async def maintain(service: Service, now: datetime, **fields: int) -> int:
    request = pb.RunMaintenanceRequest(now=to_timestamp(now), **fields)
    return (await service.stub.RunMaintenance(request)).closed_count


async def feed(service: Service, after: int = 0, **fields: int) -> list[pb.Change]:
    response = await service.stub.ListChanges(pb.ListChangesRequest(after_sequence=after, **fields))
    return list(response.changes)


async def shown(service: Service, now: datetime, user: str = "alice") -> list[streak_pb2.StreakState]:
    request = pb.ListUserStreaksRequest(user_id=user, read_time=to_timestamp(now))
    return list((await service.stub.ListUserStreaks(request)).states)


async def recorded(service: Service, user: str = "alice") -> list[tuple[date, str]]:
    """The stored periods of a user: first dates and what became of them."""
    rows = await service.database.fetch(
        "SELECT start_date, status FROM periods WHERE user_id = $1 ORDER BY streak, start_date", user
    )
    return [(row["start_date"], status_name(row["status"])) for row in rows]


async def derived_state(service: Service) -> list[list[tuple[Any, ...]]]:
    return [[tuple(row) for row in await service.database.fetch(query)] for query in DERIVED_STATE]


def status_name(status: int) -> str:
    return streak_pb2.PeriodStatus.Name(status).removeprefix("PERIOD_STATUS_")  # type: ignore[arg-type]


def statuses(effect: pb.StreakEffect) -> list[tuple[int, str]]:
    """The periods that an effect closed or changed, by their days of the month."""
    return [(day(row.start_date).day, status_name(row.status)) for row in effect.periods]
