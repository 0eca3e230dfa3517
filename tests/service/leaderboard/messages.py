"""Messages with everything that a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

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
    newest: Mapping[str, str] | None = None,
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
    if newest is not None:
        message.user.has_newest_attributes = True
        message.user.newest_attributes.update(newest)
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
    newest: Mapping[str, str] | None = None,
    contribution: float | None = None,
    version: int = 1,
    revisions: Mapping[object, float] | None = None,
    effects: Effects | None = None,
) -> participant_pb.Command:
    """With a `contribution` it is of a metric whose contributions can be revised, as of the total's `version`."""
    message = entry(
        name,
        user=user,
        at=at or NOON + timedelta(minutes=minutes),
        now=now,
        zone=zone,
        attributes=attributes,
        snapshot=snapshot,
        newest=newest,
    )
    fact = message.metric_event
    fact.metric = metric
    fact.value_micros = round(value * MICROS)
    if contribution is not None:
        fact.revisable = True
        fact.contribution_micros = round(contribution * MICROS)
        fact.total_version = version
        _revise(fact, revisions or {})
    return participants.command(message, effects)


def metric_correction(
    name: object,
    *,
    corrects: object,
    version: int,
    revisions: Mapping[object, float],
    metric: str = "commits",
    user: str = "ada",
    at: datetime = NOON,
) -> participant_pb.Command:
    """What follows from undoing an event of a metric whose contributions can be revised."""
    message = entry(name, user=user, at=at, corrects=corrects)
    fact = message.correction.metric
    fact.metric, fact.revisable, fact.total_version = metric, True, version
    _revise(fact, revisions)
    return participants.command(message)


def _revise(fact: entry_pb2.MetricFact, revisions: Mapping[object, float]) -> None:
    for name, contribution in revisions.items():
        fact.revisions.add(entry_id=str(entry_id(name)), contribution_micros=round(contribution * MICROS))


def user_update(
    name: object, attributes: Mapping[str, str], *, user: str = "ada", snapshot: int = 2
) -> participant_pb.Command:
    message = entry(name, user=user, attributes=attributes, snapshot=snapshot)
    message.user_update.SetInParent()
    return participants.command(message)


class Recorded(NamedTuple):
    """A period of a daily streak at which the length changes; without `at` it broke the streak, without a length the
    length does not change at it any more.
    """

    day: date
    length: int | None
    at: datetime | None = None
    entry: object = None
    days: int = 1


def streak_effect(
    version: int,
    length: int,
    longest: int,
    *,
    at: datetime | None = NOON,
    periods: Sequence[Recorded] = (),
) -> streak_pb2.StreakEffect:
    change = streak_pb2.StreakChange(
        streak="daily",
        version=version,
        length=length,
        longest=longest,
        reach_time=to_timestamp(at) if at else None,
    )
    for recorded in periods:
        message = change.period_changes.add(
            start_date=local_date(recorded.day),
            end_date=local_date(recorded.day + timedelta(days=recorded.days - 1)),
            length_after=recorded.length or 0,
            qualified_after=recorded.at is not None,
            recorded_after=recorded.length is not None,
        )
        if recorded.at is not None:
            message.reach.CopyFrom(
                streak_pb2.Reach(
                    entry_id=str(entry_id(recorded.entry)),
                    occur_time=to_timestamp(recorded.at),
                    local_date=local_date(recorded.day),
                )
            )
    return streak_pb2.StreakEffect(change=change)


def streak_change(
    name: object,
    version: int,
    length: int,
    longest: int,
    *,
    user: str = "ada",
    at: datetime = NOON,
    now: datetime | None = None,
    corrects: object = None,
    reached: datetime | None = None,
    periods: Sequence[Recorded] = (),
) -> participant_pb.Command:
    effect = streak_effect(version, length, longest, at=reached or at, periods=periods)
    message = entry(name, user=user, at=at, now=now, corrects=corrects)
    if corrects is None:
        message.streak_closing.effect.CopyFrom(effect)
    return participants.command(message, Effects(streaks=[effect]))


class Given(NamedTuple):
    """A row of the award ledger, and the entry that it belongs to."""

    amount: int
    belongs_to: object
    at: datetime = NOON


def points_effect(
    version: int,
    balance: int,
    awards: Sequence[Given],
    *,
    lifetime: int | None = None,
    at: datetime | None = NOON,
    cause: object = None,
) -> points_pb2.PointsChange:
    return points_pb2.PointsChange(
        points_system="xp",
        version=version,
        added=sum(given.amount for given in awards),
        balance=balance,
        lifetime=balance if lifetime is None else lifetime,
        reach_time=to_timestamp(at) if at else None,
        awards=[
            points_pb2.Award(
                points_system="xp",
                amount=given.amount,
                entry_id=str(entry_id(given.belongs_to)),
                cause_entry_id=str(entry_id(cause)),
                occur_time=to_timestamp(given.at),
                local_date=local_date(given.at.date()),
            )
            for given in awards
        ],
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
    now: datetime | None = None,
    corrects: object = None,
    awards: Sequence[Given] | None = None,
) -> participant_pb.Command:
    """Where nothing else is said, points belong to the entry itself, and what is taken back to the corrected one."""
    if awards is None:
        awards = [Given(added, name if corrects is None else corrects, at)] if added else []
    change = points_effect(version, balance, awards, lifetime=lifetime, at=at, cause=name)
    message = entry(name, user=user, at=at, now=now, corrects=corrects)
    if corrects is None:
        message.achievement_call.achievement = "badge"
    return participants.command(message, Effects(points=[change]))


def revert(*names: object, user: str = "ada", now: datetime = NOON) -> participant_pb.RevertEntriesRequest:
    return participants.revert(*names, user=user, now=now)


def selector(
    board: str, segment: Mapping[str, str] | None = None, day: date_pb2.LocalDate = WEDNESDAY
) -> pb.SegmentSelector:
    return pb.SegmentSelector(leaderboard=board, segment=segment or {}, run_date=day)
