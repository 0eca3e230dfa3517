"""Messages with everything that a test does not care about filled in."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from laurel.common.v1 import entry_pb2
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from shared.ids import derived_id
from shared.rpc.convert import to_timestamp

UNIT = 1_000_000


def at(day: int, hour: int = 12, minute: int = 0, *, month: int = 3) -> datetime:
    """An instant in March 2025; the third is a Monday."""
    return datetime(2025, month, day, hour, minute, tzinfo=UTC)


def entry_id(name: object) -> UUID:
    return derived_id("test", str(name))


def event(
    name: object,
    time: datetime,
    *,
    user: str = "alice",
    metric: str = "commits",
    value: float = 1,
    zone: str = "UTC",
    now: datetime | None = None,
    attributes: Mapping[str, str] | None = None,
) -> pb.ApplyEventsCommand:
    micros = int(value * UNIT)
    return pb.ApplyEventsCommand(
        entry=entry_pb2.Entry(
            entry_id=str(entry_id(name)),
            kind=entry_pb2.ENTRY_KIND_METRIC_EVENT,
            user=entry_pb2.UserSnapshot(
                user_id=user,
                time_zone=zone,
                attributes=attributes or {},
                create_time=to_timestamp(at(1)),
                version=1,
            ),
            now=to_timestamp(now or time),
            occur_time=to_timestamp(time),
            time_zone=zone,
            metric=entry_pb2.MetricFact(metric=metric, value_micros=micros, total_after_micros=micros),
        )
    )


def apply(*commands: pb.ApplyEventsCommand) -> pb.ApplyEventsRequest:
    return pb.ApplyEventsRequest(commands=commands)


def revert(*names: object, user: str = "alice", now: datetime | None = None) -> pb.RevertEventsRequest:
    return pb.RevertEventsRequest(
        reversals=[
            entry_pb2.Reversal(entry_id=str(entry_id(name)), user_id=user, now=to_timestamp(now or at(1)))
            for name in names
        ]
    )


def streak(key: str = "daily", **fields: Any) -> streak_pb2.Streak:
    fields.setdefault("frequency", streak_pb2.FREQUENCY_DAILY)
    fields.setdefault("metrics", [streak_pb2.MetricThreshold(metric="commits", threshold=1)])
    return streak_pb2.Streak(key=key, name=key.title(), **fields)


def day(value: streak_pb2.LocalDate) -> date:
    return date(value.year, value.month, value.day)
