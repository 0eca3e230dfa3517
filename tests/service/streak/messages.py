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
    stored: str = "",
    named: bool = True,
    version: int = 1,
    fact: entry_pb2.MetricFact | None = None,
) -> participant_pb.Command:
    """An event, which names its zone. The user's stored zone is that, where nothing else is said."""
    micros = int(value * UNIT)
    return participants.command(
        entry_pb2.Entry(
            entry_id=str(entry_id(name)),
            user=entry_pb2.UserSnapshot(
                user_id=user,
                time_zone=stored or zone,
                attributes=attributes or {},
                create_time=to_timestamp(at(1)),
                version=version,
            ),
            now=to_timestamp(now or time),
            occur_time=to_timestamp(time),
            time_zone=zone,
            takes_time_zone=not named,
            metric_event=fact
            or entry_pb2.MetricFact(metric=metric, value_micros=micros, total_after_micros=micros),
        )
    )


def update(
    name: object, time: datetime, zone: str, *, user: str = "alice", version: int
) -> participant_pb.Command:
    """UpdateUser, after which the stored zone is this one."""
    return participants.command(
        participants.entry(
            name,
            entry_pb2.UserUpdate(),
            user=participants.snapshot(user, at(1), zone=zone, version=version),
            at=time,
            zone=zone,
        )
    )


def correction(
    name: object,
    time: datetime,
    zone: str = "UTC",
    *,
    user: str = "alice",
    version: int = 1,
    metric: entry_pb2.MetricFact | None = None,
) -> participant_pb.Command:
    """What follows from an undoing: what is left."""
    return participants.command(
        participants.entry(
            name,
            entry_pb2.Correction(corrected_entry_id=str(entry_id("gone")), metric=metric),
            user=participants.snapshot(user, at(1), zone=zone, version=version),
            at=time,
            zone=zone,
        )
    )


def by_hand(
    name: object, time: datetime, operation: participants.Operation, *, user: str = "alice", zone: str = "UTC"
) -> participant_pb.Command:
    """Something that is done to a user's streak."""
    return participants.command(
        participants.entry(
            name, operation, user=participants.snapshot(user, at(1), zone=zone), at=time, zone=zone
        )
    )


def local(day: int, month: int = 3) -> date_pb2.LocalDate:
    """A date in 2025."""
    return date_pb2.LocalDate(year=2025, month=month, day=day)


def revisable(
    metric: str,
    contribution: float,
    version: int,
    revisions: Mapping[object, float] | None = None,
    value: float = 1,
) -> entry_pb2.MetricFact:
    """A fact of a metric whose contributions change, with what others contribute from now on."""
    return entry_pb2.MetricFact(
        metric=metric,
        value_micros=int(value * UNIT),
        total_version=version,
        revisable=True,
        contribution_micros=int(contribution * UNIT),
        revisions=[
            entry_pb2.ContributionRevision(
                entry_id=str(entry_id(name)), contribution_micros=int(micros * UNIT)
            )
            for name, micros in (revisions or {}).items()
        ],
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
