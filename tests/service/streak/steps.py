"""What tests do with the service over and over."""

from datetime import date, datetime
from typing import Any

from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from shared.rpc.convert import to_timestamp
from tests.fixtures.feeds import listed
from tests.service.streak.conftest import Service
from tests.service.streak.messages import apply, day, streak

# What users and other services see, apart from versions, which remember what was undone.
DERIVED_STATE = (
    "SELECT user_id, streak, length, longest, reach_time, state::text FROM streak_states"
    " WHERE state IS NOT NULL ORDER BY 1, 2",
    "SELECT * FROM periods ORDER BY user_id, streak, start_date",
    "SELECT * FROM freeze_ledger ORDER BY user_id, streak, effective_date, reason, about_date",
)


async def define(service: Service, key: str = "daily", **fields: Any) -> streak_pb2.Streak:
    created: streak_pb2.Streak = await service.definitions.create(streak(key, **fields))
    return created


async def applied(service: Service, *commands: participant_pb.Command) -> list[participant_pb.Outcome]:
    response = await service.participant.ApplyEntries(apply(*commands))
    return list(response.outcomes)


async def effect(service: Service, command: participant_pb.Command) -> streak_pb2.StreakEffect:
    """What an event does to the only streak."""
    (outcome,) = await applied(service, command)
    assert not outcome.HasField("error"), outcome.error
    (only,) = outcome.effects.streaks
    return only


async def maintain(service: Service, now: datetime, **fields: Any) -> int:
    """A whole pass, part by part: how many user streaks were brought up to date."""
    done = 0
    while True:
        request = participant_pb.RunMaintenanceRequest(now=to_timestamp(now), **fields)
        part = await service.participant.RunMaintenance(request)
        done += part.done_count
        if not part.more:
            return done


async def feed_page(
    service: Service, after: str = "", page_size: int = 0
) -> participant_pb.ListChangesResponse:
    """What maintenance found by itself after a cursor."""
    request = participant_pb.ListChangesRequest(after_cursor=after, page_size=page_size)
    return await listed(service, request)


async def feed(service: Service) -> list[participant_pb.Change]:
    """All that maintenance found by itself."""
    return list((await feed_page(service)).changes)


async def shown(service: Service, now: datetime, user: str = "alice") -> list[streak_pb2.StreakState]:
    request = pb.ListUserStreaksRequest(user_id=user, read_time=to_timestamp(now))
    return list((await service.stub.ListUserStreaks(request)).streaks)


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


def statuses(effect: streak_pb2.StreakEffect) -> list[tuple[int, str]]:
    """The periods that an effect closed or changed, by their days of the month."""
    return [(day(row.start_date).day, status_name(row.status)) for row in effect.periods]


def lengths(change: streak_pb2.StreakChange) -> list[tuple[int, int, int]]:
    """The periods of a change at which the length changes, by their days of the month: the lengths before and after."""
    return [
        (day(period.start_date).day, period.length_before, period.length_after)
        for period in change.period_changes
    ]
