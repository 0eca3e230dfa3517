"""Messages with everything that a test does not care about filled in."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from laurel.common.v1 import date_pb2
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2

from shared.rpc.convert import to_timestamp
from tests.fixtures import participants
from tests.fixtures.participants import apply, entry_id

__all__ = ["apply", "entry_id"]

UNIT = 1_000_000


def at(day: int, hour: int = 12, minute: int = 0, *, month: int = 3) -> datetime:
    """An instant in March 2025; the third is a Monday."""
    return datetime(2025, month, day, hour, minute, tzinfo=UTC)


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
) -> participant_pb.Command:
    micros = int(value * UNIT)
    return participants.command(
        entry_pb2.Entry(
            entry_id=str(entry_id(name)),
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
            metric_event=entry_pb2.MetricFact(metric=metric, value_micros=micros, total_after_micros=micros),
        )
    )


def revert(
    *names: object, user: str = "alice", now: datetime | None = None
) -> participant_pb.RevertEntriesRequest:
    return participants.revert(*names, user=user, now=now or at(1))


def streak(key: str = "daily", **fields: Any) -> streak_pb2.Streak:
    fields.setdefault("frequency", streak_pb2.FREQUENCY_DAILY)
    fields.setdefault("metrics", [streak_pb2.MetricThreshold(metric="commits", threshold=1)])
    return streak_pb2.Streak(key=key, name=key.title(), **fields)


def day(value: date_pb2.LocalDate) -> date:
    return date(value.year, value.month, value.day)
