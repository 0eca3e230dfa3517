"""Messages with everything that a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1 import entry_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types
from laurel.streak.v1 import streak_pb2

from shared.ids import derived_id
from shared.rpc.convert import date_to_proto, to_datetime, to_timestamp
from tests.fixtures import participants
from tests.fixtures.participants import apply, entry_id

__all__ = ["apply", "entry_id"]

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
DAY_ZERO = date(2024, 1, 1)
"""The day before a streak's first period."""
UNIT = 1_000_000

TEN_PER_THREE = types.PointsTrigger(
    key="commits", amount=10, metric=types.MetricPointsTrigger(metric="commits", every=3)
)
WEEK = types.PointsTrigger(key="week", amount=50, streak=types.StreakPointsTrigger(streak="daily", length=7))
BADGE = types.PointsTrigger(key="badge", amount=100, achievement=types.AchievementPointsTrigger())
WELCOME = types.PointsTrigger(key="welcome", amount=25, user_created=types.UserCreatedPointsTrigger())
SPEND = types.PointsTrigger(
    key="spend", amount=-20, metric=types.MetricPointsTrigger(metric="spending", every=1), block=True
)
BRONZE = types.Level(key="bronze", name="Bronze", threshold=10, badge_url="https://b/1")
SILVER = types.Level(key="silver", name="Silver", threshold=50)


def completion_id(name: str) -> UUID:
    return derived_id("completion", name)


def entry(name: object, *, user: str = "alice", minutes: int = 0) -> entry_pb2.Entry:
    moment = to_timestamp(NOON + timedelta(minutes=minutes))
    return entry_pb2.Entry(
        entry_id=str(entry_id(name)),
        user=entry_pb2.UserSnapshot(
            user_id=user, time_zone="UTC", create_time=to_timestamp(NOON), version=1, name=user.title()
        ),
        now=moment,
        occur_time=moment,
        time_zone="UTC",
    )


def event(
    name: object,
    value: float,
    *,
    metric: str = "commits",
    user: str = "alice",
    minutes: int = 0,
    attributes: Mapping[str, str] | None = None,
    periods: Sequence[tuple[int, int]] = (),
    completed: Sequence[str] = (),
) -> participant_pb.Command:
    message = entry(name, user=user, minutes=minutes)
    message.metric_event.CopyFrom(
        entry_pb2.MetricFact(
            metric=metric, value_micros=round(value * UNIT), total_version=1, attributes=attributes or {}
        )
    )
    return _command(message, periods, completed, ())


def gift(
    name: object, amount: int, *, system: str = "xp", user: str = "alice", minutes: int = 0
) -> participant_pb.Command:
    """Points given by call; taken, where the amount is negative."""
    message = entry(name, user=user, minutes=minutes)
    given = entry_pb2.PointsGift(points_system=system, amount=amount)
    if amount < 0:
        message.points_spend.gift.CopyFrom(given)
    else:
        message.points_grant.gift.CopyFrom(given)
    return _command(message, (), (), ())


def transfer(
    name: object,
    amount: int,
    *,
    giver: str = "alice",
    getter: str = "bob",
    system: str = "xp",
    minutes: int = 0,
) -> participant_pb.Command:
    """Points that pass from one user to another."""
    message = entry(name, user=giver, minutes=minutes)
    message.points_transfer.gift.CopyFrom(entry_pb2.PointsGift(points_system=system, amount=-amount))
    message.other_users.append(entry(name, user=getter).user)
    return _command(message, (), (), ())


def held(
    name: object, amount: int, *, until: int, system: str = "xp", minutes: int = 0
) -> participant_pb.Command:
    """Points that are held up to a minute."""
    message = entry(name, minutes=minutes)
    message.points_hold.points_system, message.points_hold.amount = system, amount
    message.points_hold.expire_time.CopyFrom(to_timestamp(NOON + timedelta(minutes=until)))
    return _command(message, (), (), ())


def captured(name: object, hold: object, amount: int = 0, *, minutes: int = 0) -> participant_pb.Command:
    """Of points that are held so many are taken, or all."""
    message = entry(name, minutes=minutes)
    message.points_capture.hold_entry_id, message.points_capture.amount = str(entry_id(hold)), amount
    return _command(message, (), (), ())


def released(name: object, hold: object, *, minutes: int = 0) -> participant_pb.Command:
    """Points that are held no more."""
    message = entry(name, minutes=minutes)
    message.points_release.hold_entry_id = str(entry_id(hold))
    return _command(message, (), (), ())


def correction(
    name: object,
    *,
    periods: Sequence[tuple[int, int]] = (),
    revoked: Sequence[str] = (),
    user: str = "alice",
    minutes: int = 0,
    corrects: object = "origin",
) -> participant_pb.Command:
    message = entry(name, user=user, minutes=minutes)
    message.correction.corrected_entry_id = str(entry_id(corrects))
    return _command(message, periods, (), revoked)


def closing(
    name: object, *, periods: Sequence[tuple[int, int]] = (), user: str = "alice", minutes: int = 0
) -> participant_pb.Command:
    """A streak closed at local midnight."""
    message = entry(name, user=user, minutes=minutes)
    message.streak_closing.effect.change.streak = "daily"
    return _command(message, periods, (), ())


def _command(
    message: entry_pb2.Entry,
    periods: Sequence[tuple[int, int]],
    completed: Sequence[str],
    revoked: Sequence[str],
) -> participant_pb.Command:
    kinds = {
        **dict.fromkeys(completed, achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED),
        **dict.fromkeys(revoked, achievement_pb2.ACHIEVEMENT_CHANGE_KIND_REVOKED),
    }
    effects = Effects(
        achievements=[
            achievement_pb2.AchievementChange(
                achievement=key, kind=kind, completion_id=str(completion_id(key))
            )
            for key, kind in kinds.items()
        ],
    )
    if periods:
        change = streak_pb2.StreakChange(streak="daily", version=1)
        for before, after in periods:
            change.period_changes.append(_period(message, before, after))
        effects.streaks.add(change=change)
    return participants.command(message, effects)


def _period(message: entry_pb2.Entry, before: int, after: int) -> streak_pb2.PeriodChange:
    """The period on which a streak has one of these lengths; 0: it has not qualified. The entry qualifies it."""
    day = DAY_ZERO + timedelta(days=max(before, after))
    change = streak_pb2.PeriodChange(
        start_date=date_to_proto(day),
        end_date=date_to_proto(day),
        length_before=before,
        length_after=after,
        qualified_before=before > 0,
        qualified_after=after > 0,
    )
    if after > 0:
        change.reach.CopyFrom(
            streak_pb2.Reach(
                entry_id=message.entry_id,
                occur_time=message.occur_time,
                local_date=date_to_proto(to_datetime(message.occur_time).date()),
            )
        )
    return change


def revert(*names: object, user: str = "alice") -> participant_pb.RevertEntriesRequest:
    return participants.revert(*names, user=user, now=NOON)
