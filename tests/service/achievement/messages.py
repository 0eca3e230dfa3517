"""Messages with everything that a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2
from laurel.common.v1 import entry_pb2, filter_pb2
from laurel.streak.v1 import streak_pb2

from shared.ids import derived_id
from shared.rpc.convert import to_timestamp

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
UNIT = 1_000_000
MERGED = filter_pb2.AttributeFilter(attribute="state", equals="merged")
PRO = filter_pb2.AttributeFilter(attribute="plan", equals="pro")
API = achievement_pb2.ApiTrigger()


def entry_id(name: object) -> UUID:
    return derived_id("test", str(name))


def by_metric(
    threshold: float, filters: Sequence[filter_pb2.AttributeFilter] = ()
) -> achievement_pb2.MetricTrigger:
    return achievement_pb2.MetricTrigger(metric="commits", threshold=threshold, event_filters=filters)


def by_streak(length: int) -> achievement_pb2.StreakTrigger:
    return achievement_pb2.StreakTrigger(streak="daily", length=length)


def entry(
    name: object,
    kind: entry_pb2.EntryKind.ValueType,
    *,
    user: str = "alice",
    plan: str = "",
    minutes: int = 0,
) -> entry_pb2.Entry:
    moment = to_timestamp(NOON + timedelta(minutes=minutes))
    return entry_pb2.Entry(
        entry_id=str(entry_id(name)),
        kind=kind,
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
) -> achievement_service_pb2.ApplyEventsCommand:
    message = entry(name, entry_pb2.ENTRY_KIND_METRIC_EVENT, user=user, plan=plan, minutes=version)
    message.metric.CopyFrom(_fact(value, version, total, peak, attributes))
    return achievement_service_pb2.ApplyEventsCommand(entry=message, streak_changes=streaks)


def correction(
    name: object, *, version: int, total: int, peak: int | None = None
) -> achievement_service_pb2.ApplyEventsCommand:
    message = entry(name, entry_pb2.ENTRY_KIND_CORRECTION, minutes=version)
    message.corrected_entry_id = str(entry_id("origin"))
    message.metric.CopyFrom(_fact(0, version, total, peak, None))
    return achievement_service_pb2.ApplyEventsCommand(entry=message)


def call(name: object, key: str, *, plan: str = "") -> achievement_service_pb2.ApplyEventsCommand:
    message = entry(name, entry_pb2.ENTRY_KIND_ACHIEVEMENT_CALL, plan=plan)
    return achievement_service_pb2.ApplyEventsCommand(entry=message, achievement=key)


def streak(version: int, length: int, longest: int | None = None) -> streak_pb2.StreakChange:
    return streak_pb2.StreakChange(
        streak="daily", version=version, length=length, longest=longest if longest is not None else length
    )


def apply(
    *commands: achievement_service_pb2.ApplyEventsCommand,
) -> achievement_service_pb2.ApplyEventsRequest:
    return achievement_service_pb2.ApplyEventsRequest(commands=commands)


def revert(*names: object, user: str = "alice") -> achievement_service_pb2.RevertEventsRequest:
    return achievement_service_pb2.RevertEventsRequest(
        reversals=[
            entry_pb2.Reversal(entry_id=str(entry_id(name)), user_id=user, now=to_timestamp(NOON))
            for name in names
        ]
    )


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
