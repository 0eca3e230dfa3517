"""Builders of boards, users and entries for the tests of the leaderboard's rules."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from services.leaderboard.domain.boards import Board, Source, SourceKind
from services.leaderboard.domain.facts import Award, Command, PointsChange, command_of
from services.leaderboard.domain.lengths import StreakChange
from services.leaderboard.domain.scores import Fact
from shared.entries import Entry, EntryKind, MetricFact, UserSnapshot

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
"""A Wednesday."""

COMMITS = Source(SourceKind.METRIC, "commits")
GRACE = timedelta(hours=1)


def entry_id(number: int) -> UUID:
    return UUID(int=number)


def fact(
    number: int,
    amount: int | None,
    at: datetime = NOON,
    *,
    source: Source = COMMITS,
    version: int = 0,
    contribution: int | None = None,
    day: date | None = None,
) -> Fact:
    return Fact(
        source=source,
        entry_id=entry_id(number),
        amount=amount,
        reach_time=at,
        local_date=day or at.date(),
        version=version,
        contribution=contribution,
    )


def award(number: int, amount: int, at: datetime = NOON) -> Award:
    return Award(entry_id(number), amount, at, at.date())


def entry(
    number: int,
    *,
    user: str = "ada",
    kind: EntryKind = EntryKind.METRIC_EVENT,
    value: int | None = None,
    at: datetime = NOON,
    now: datetime | None = None,
    time_zone: str = "UTC",
    attributes: Mapping[str, str] | None = None,
    newest_attributes: Mapping[str, str] | None = None,
    snapshot_version: int = 1,
    corrects: int | None = None,
) -> Entry:
    metric = None if value is None else MetricFact("commits", value, 0, 0, 0, 0, {})
    return Entry(
        entry_id=entry_id(number),
        kind=kind,
        user=UserSnapshot(
            user, "UTC", attributes or {}, NOON, snapshot_version, user.title(), newest_attributes
        ),
        now=now or at,
        occur_time=at,
        time_zone=time_zone,
        metric=metric,
        corrected_entry_id=None if corrects is None else entry_id(corrects),
    )


def command(
    happened: Entry, *, streak: StreakChange | None = None, points: PointsChange | None = None
) -> Command:
    return command_of(happened, (streak,) if streak else (), (points,) if points else ())


ALL_TIME = Board("all-time", COMMITS)
