"""Messages with everything that a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.ledger.v1 import entry_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from shared.rpc.convert import to_timestamp
from tests.fixtures import participants
from tests.fixtures.participants import apply, entry_id

__all__ = ["apply", "entry_id"]

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
"""A Wednesday."""

MICROS = 1_000_000
WEEKLY = leaderboard_pb2.RunSchedule(unit=leaderboard_pb2.RUN_UNIT_WEEK)
WEDNESDAY = date_pb2.LocalDate(year=2026, month=3, day=4)
NEXT_WEEK = date_pb2.LocalDate(year=2026, month=3, day=11)


def local_date(day: date) -> date_pb2.LocalDate:
    return date_pb2.LocalDate(year=day.year, month=day.month, day=day.day)


def entry(
    name: object,
    *,
    user: str = "ada",
    at: datetime = NOON,
    now: datetime | None = None,
    zone: str = "UTC",
    attributes: Mapping[str, str] | None = None,
    snapshot: int = 1,
    corrects: object = None,
) -> entry_pb2.Entry:
    message = entry_pb2.Entry(
        entry_id=str(entry_id(name)),
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
    )
    if corrects is not None:
        message.correction.corrected_entry_id = str(entry_id(corrects))
    return message


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
) -> participant_pb.Command:
    message = entry(
        name,
        user=user,
        at=at or NOON + timedelta(minutes=minutes),
        now=now,
        zone=zone,
        attributes=attributes,
        snapshot=snapshot,
    )
    message.metric_event.metric = metric
    message.metric_event.value_micros = round(value * MICROS)
    return participants.command(message)


def user_update(
    name: object, attributes: Mapping[str, str], *, user: str = "ada", snapshot: int = 2
) -> participant_pb.Command:
    message = entry(name, user=user, attributes=attributes, snapshot=snapshot)
    message.user_update.SetInParent()
    return participants.command(message)


def streak_change(
    name: object,
    version: int,
    length: int,
    longest: int,
    *,
    user: str = "ada",
    at: datetime = NOON,
    corrects: object = None,
) -> participant_pb.Command:
    change = streak_pb2.StreakChange(
        streak="daily", version=version, length=length, longest=longest, reach_time=to_timestamp(at)
    )
    message = entry(name, user=user, at=at, corrects=corrects)
    if corrects is None:
        message.streak_closing.change.CopyFrom(change)
    return participants.command(message, Effects(streaks=[streak_pb2.StreakEffect(change=change)]))


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
) -> participant_pb.Command:
    change = points_pb2.PointsChange(
        points_system="xp",
        version=version,
        added=added,
        balance=balance,
        lifetime=balance if lifetime is None else lifetime,
        reach_time=to_timestamp(at),
        awards=[points_pb2.Award(amount=amount, local_date=local_date(day)) for amount, day in awards],
    )
    message = entry(name, user=user, at=at, corrects=corrects)
    if corrects is None:
        message.achievement_call.achievement = "badge"
    return participants.command(message, Effects(points=[change]))


def revert(*names: object, user: str = "ada", now: datetime = NOON) -> participant_pb.RevertEntriesRequest:
    return participants.revert(*names, user=user, now=now)


def selector(
    board: str, segment: Mapping[str, str] | None = None, day: date_pb2.LocalDate = WEDNESDAY
) -> pb.SegmentSelector:
    return pb.SegmentSelector(leaderboard=board, segment=segment or {}, run_date=day)
