"""Messages with everything that a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from laurel.achievement.v1 import achievement_pb2
from laurel.common.v1 import filter_pb2
from laurel.ledger.v1 import entry_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2

from shared.rpc.convert import date_to_proto, to_timestamp
from tests.fixtures import participants
from tests.fixtures.participants import apply, entry_id

__all__ = ["apply", "entry_id"]

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
UNIT = 1_000_000
MERGED = filter_pb2.AttributeFilter(attribute="state", equals="merged")
PRO = filter_pb2.AttributeFilter(attribute="plan", equals="pro")
API = achievement_pb2.ApiTrigger()


def by_metric(
    threshold: float, filters: Sequence[filter_pb2.AttributeFilter] = ()
) -> achievement_pb2.MetricTrigger:
    return achievement_pb2.MetricTrigger(metric="commits", threshold=threshold, event_filters=filters)


def by_streak(length: int) -> achievement_pb2.StreakTrigger:
    return achievement_pb2.StreakTrigger(streak="daily", length=length)


def entry(
    name: object,
    *,
    user: str = "alice",
    plan: str = "",
    minutes: int = 0,
) -> entry_pb2.Entry:
    moment = to_timestamp(NOON + timedelta(minutes=minutes))
    return entry_pb2.Entry(
        entry_id=str(entry_id(name)),
        user=entry_pb2.UserSnapshot(
            user_id=user,
            time_zone="UTC",
            attributes={"plan": plan} if plan else {},
            create_time=to_timestamp(NOON),
            version=1,
        ),
        now=moment,
        occur_time=moment,
        time_zone="UTC",
    )


def event(
    name: object,
    value: int,
    *,
    version: int,
    total: int,
    peak: int | None = None,
    user: str = "alice",
    plan: str = "",
    attributes: Mapping[str, str] | None = None,
    streaks: Sequence[streak_pb2.StreakChange] = (),
    minutes: int | None = None,
    zone: str = "UTC",
) -> participant_pb.Command:
    message = entry(name, user=user, plan=plan, minutes=version if minutes is None else minutes)
    message.time_zone = zone
    message.metric_event.CopyFrom(_fact(value, version, total, peak, attributes))
    effects = Effects(streaks=[streak_pb2.StreakEffect(change=change) for change in streaks])
    return participants.command(message, effects)


def correction(
    name: object,
    *,
    version: int,
    total: int,
    peak: int | None = None,
    of: object = "origin",
    user: str = "alice",
) -> participant_pb.Command:
    message = entry(name, user=user, minutes=version)
    message.correction.corrected_entry_id = str(entry_id(of))
    message.correction.metric.CopyFrom(_fact(0, version, total, peak, None))
    return participants.command(message)


def call(
    name: object, key: str, *, user: str = "alice", plan: str = "", minutes: int = 0
) -> participant_pb.Command:
    message = entry(name, user=user, plan=plan, minutes=minutes)
    message.achievement_call.achievement = key
    return participants.command(message)


def closing(name: object, change: streak_pb2.StreakChange, *, user: str = "alice") -> participant_pb.Command:
    """A streak closed at local midnight."""
    message = entry(name, user=user, minutes=change.version)
    message.streak_closing.change.CopyFrom(change)
    return participants.command(message, Effects(streaks=[streak_pb2.StreakEffect(change=change)]))


def streak(
    version: int, length: int, longest: int | None = None, *, reached: Mapping[int, object] | None = None
) -> streak_pb2.StreakChange:
    """A change of the streak, with the entries that first reached lengths, each that many minutes after noon."""
    return streak_pb2.StreakChange(
        streak="daily",
        version=version,
        length=length,
        longest=longest if longest is not None else length,
        first_reaches=[
            streak_pb2.FirstReach(length=one, reach=reach(name, one)) for one, name in (reached or {}).items()
        ],
    )


def reach(name: object, minutes: int) -> streak_pb2.Reach:
    moment = NOON + timedelta(minutes=minutes)
    return streak_pb2.Reach(
        entry_id=str(entry_id(name)),
        occur_time=to_timestamp(moment),
        local_date=date_to_proto(moment.date()),
    )


def revert(*names: object, user: str = "alice") -> participant_pb.RevertEntriesRequest:
    return participants.revert(*names, user=user, now=NOON)


def _fact(
    value: int, version: int, total: int, peak: int | None, attributes: Mapping[str, str] | None
) -> entry_pb2.MetricFact:
    return entry_pb2.MetricFact(
        metric="commits",
        value_micros=value * UNIT,
        total_before_micros=(total - value) * UNIT,
        total_after_micros=total * UNIT,
        peak_micros=(total if peak is None else peak) * UNIT,
        total_version=version,
        attributes=attributes or {},
    )
