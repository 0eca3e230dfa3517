"""Messages with everything that a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from laurel.common.v1 import entry_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from shared.ids import derived_id
from shared.rpc.convert import to_timestamp

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
"""A Wednesday."""

MICROS = 1_000_000
WEEKLY = leaderboard_pb2.RunSchedule(unit=leaderboard_pb2.RUN_UNIT_WEEK)
WEDNESDAY = streak_pb2.LocalDate(year=2026, month=3, day=4)
NEXT_WEEK = streak_pb2.LocalDate(year=2026, month=3, day=11)


def entry_id(name: object) -> UUID:
    return derived_id("test", str(name))


def local_date(day: date) -> streak_pb2.LocalDate:
    return streak_pb2.LocalDate(year=day.year, month=day.month, day=day.day)


def entry(
    name: object,
    kind: entry_pb2.EntryKind.ValueType,
    *,
    user: str = "ada",
    at: datetime = NOON,
    now: datetime | None = None,
    zone: str = "UTC",
    attributes: Mapping[str, str] | None = None,
    snapshot: int = 1,
    corrects: object = None,
) -> entry_pb2.Entry:
    return entry_pb2.Entry(
        entry_id=str(entry_id(name)),
        kind=kind,
        user=entry_pb2.UserSnapshot(
            user_id=user,
            time_zone="UTC",
            attributes=attributes or {},
            create_time=to_timestamp(NOON),
            version=snapshot,
            name=user.title(),
        ),
        now=to_timestamp(now or at),
        occur_time=to_timestamp(at),
        time_zone=zone,
        corrected_entry_id="" if corrects is None else str(entry_id(corrects)),
    )


def event(
    name: object,
    value: float,
    *,
    user: str = "ada",
    minutes: float = 0,
    at: datetime | None = None,
    now: datetime | None = None,
    metric: str = "commits",
    zone: str = "UTC",
    attributes: Mapping[str, str] | None = None,
    snapshot: int = 1,
) -> pb.ApplyEventsCommand:
    message = entry(
        name,
        entry_pb2.ENTRY_KIND_METRIC_EVENT,
        user=user,
        at=at or NOON + timedelta(minutes=minutes),
        now=now,
        zone=zone,
        attributes=attributes,
        snapshot=snapshot,
    )
    message.metric.metric = metric
    message.metric.value_micros = round(value * MICROS)
    return pb.ApplyEventsCommand(entry=message)


def user_update(
    name: object, attributes: Mapping[str, str], *, user: str = "ada", snapshot: int = 2
) -> pb.ApplyEventsCommand:
    message = entry(
        name, entry_pb2.ENTRY_KIND_USER_UPDATE, user=user, attributes=attributes, snapshot=snapshot
    )
    return pb.ApplyEventsCommand(entry=message)


def streak_change(
    name: object,
    version: int,
    length: int,
    longest: int,
    *,
    user: str = "ada",
    at: datetime = NOON,
    corrects: object = None,
) -> pb.ApplyEventsCommand:
    kind = entry_pb2.ENTRY_KIND_STREAK_CLOSING if corrects is None else entry_pb2.ENTRY_KIND_CORRECTION
    change = streak_pb2.StreakChange(
        streak="daily", version=version, length=length, longest=longest, reach_time=to_timestamp(at)
    )
    return pb.ApplyEventsCommand(
        entry=entry(name, kind, user=user, at=at, corrects=corrects), streak_changes=[change]
    )


def points_change(
    name: object,
    version: int,
    added: int,
    balance: int,
    *,
    lifetime: int | None = None,
    user: str = "ada",
    at: datetime = NOON,
    corrects: object = None,
    awards: Sequence[tuple[int, date]] = (),
) -> pb.ApplyEventsCommand:
    kind = entry_pb2.ENTRY_KIND_ACHIEVEMENT_CALL if corrects is None else entry_pb2.ENTRY_KIND_CORRECTION
    change = points_pb2.PointsChange(
        points_system="xp",
        version=version,
        added=added,
        balance=balance,
        lifetime=balance if lifetime is None else lifetime,
        reach_time=to_timestamp(at),
        awards=[points_pb2.Award(amount=amount, local_date=local_date(day)) for amount, day in awards],
    )
    return pb.ApplyEventsCommand(
        entry=entry(name, kind, user=user, at=at, corrects=corrects), points_changes=[change]
    )


def apply(*commands: pb.ApplyEventsCommand) -> pb.ApplyEventsRequest:
    return pb.ApplyEventsRequest(commands=commands)


def revert(*names: object, user: str = "ada", now: datetime = NOON) -> pb.RevertEventsRequest:
    return pb.RevertEventsRequest(
        reversals=[
            entry_pb2.Reversal(entry_id=str(entry_id(name)), user_id=user, now=to_timestamp(now))
            for name in names
        ]
    )


def selector(
    board: str, segment: Mapping[str, str] | None = None, day: streak_pb2.LocalDate = WEDNESDAY
) -> pb.SegmentSelector:
    return pb.SegmentSelector(leaderboard=board, segment=segment or {}, run_date=day)
