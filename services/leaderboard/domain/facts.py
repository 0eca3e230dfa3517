"""What an entry says about the sources that boards rank by (RULES 6.1, 6.3)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from services.leaderboard.domain.boards import Source, SourceKind
from services.leaderboard.domain.scores import Fact
from shared.calendar import local_date, local_midnight
from shared.entries import Entry, EntryKind


class StreakChange(Struct, frozen=True):
    """The present state of one of the user's streaks; the greatest version is the newest."""

    streak: str
    version: int
    length: int
    longest: int
    reach_time: datetime | None


class PointsChange(Struct, frozen=True):
    """What was added to the user's points in one system, and the balance; the greatest version is the
    newest.
    """

    points_system: str
    version: int
    added: int
    balance: int
    lifetime: int
    reach_time: datetime | None
    added_by_date: Mapping[date, int] = field(default_factory=dict)
    """What was added, by the local date for which it counts; empty where all of it counts for the entry's."""


def facts_of(
    entry: Entry, streak_changes: Iterable[StreakChange], points_changes: Iterable[PointsChange]
) -> tuple[Fact, ...]:
    """The facts of an entry: at most one about each source, of points added one for each local date."""
    facts = [_of_streak(entry, change) for change in _newest_streaks(streak_changes)]
    for change in _merged_points(entry, points_changes):
        facts.append(_of_balance(entry, change))
        facts += _of_points(entry, change)
    if entry.kind is EntryKind.METRIC_EVENT and entry.metric is not None:
        source = Source(SourceKind.METRIC, entry.metric.metric)
        facts.append(_fact(entry, source, entry.metric.value_micros, entry.occur_time, entry.occur_time))
    return tuple(facts)


def _of_streak(entry: Entry, change: StreakChange) -> Fact:
    """A length counts where it is reached: a late event that joins it to today's counts today.

    Who never had a streak at all is on no board; who lost one has length 0.
    """
    reach_time = change.reach_time or entry.occur_time
    length = change.length if change.longest else None
    source = Source(SourceKind.STREAK, change.streak)
    counted = max(entry.occur_time, reach_time)
    return _fact(entry, source, length, reach_time, counted, change.version)


def _of_balance(entry: Entry, change: PointsChange) -> Fact:
    """Who has a balance of 0 and never earned anything is on no board."""
    balance = change.balance if change.balance or change.lifetime else None
    source = Source(SourceKind.BALANCE, change.points_system)
    reach_time = change.reach_time or entry.occur_time
    return _fact(entry, source, balance, reach_time, entry.occur_time, change.version)


def _of_points(entry: Entry, change: PointsChange) -> list[Fact]:
    """What is taken back counts for the date on which it had been given, so that the run of that date is as
    though it had never been (RULES 7.3). It is dated to that date's beginning: it is no later achievement.
    """
    source = Source(SourceKind.POINTS, change.points_system)
    own = _fact(entry, source, 0, entry.occur_time, entry.occur_time)
    return [
        replace(own, amount=added)
        if day == own.local_date
        else replace(own, amount=added, local_date=day, reach_time=local_midnight(day, entry.time_zone))
        for day, added in sorted(_added_by_date(entry, change).items())
        if added
    ]


def _added_by_date(entry: Entry, change: PointsChange) -> Mapping[date, int]:
    return change.added_by_date or {_date(entry, entry.occur_time): change.added}


def _fact(
    entry: Entry,
    source: Source,
    amount: int | None,
    reach_time: datetime,
    counted: datetime,
    version: int = 0,
) -> Fact:
    return Fact(
        source=source,
        entry_id=entry.entry_id,
        origin_id=_origin(entry),
        amount=amount,
        reach_time=reach_time,
        local_date=_date(entry, counted),
        version=version,
    )


def _origin(entry: Entry) -> UUID:
    return entry.corrected_entry_id or entry.entry_id


def _date(entry: Entry, instant: datetime) -> date:
    return local_date(instant, entry.time_zone)


def _newest_streaks(changes: Iterable[StreakChange]) -> list[StreakChange]:
    newest: dict[str, StreakChange] = {}
    for change in changes:
        held = newest.get(change.streak)
        if held is None or change.version > held.version:
            newest[change.streak] = change
    return list(newest.values())


def _merged_points(entry: Entry, changes: Iterable[PointsChange]) -> list[PointsChange]:
    """One change per system: the newest balance, and all that was added."""
    merged: dict[str, PointsChange] = {}
    for change in changes:
        held = merged.get(change.points_system)
        if held is None:
            merged[change.points_system] = change
        else:
            newest = change if change.version > held.version else held
            added_by_date = Counter(_added_by_date(entry, held))
            added_by_date.update(_added_by_date(entry, change))
            merged[change.points_system] = replace(
                newest, added=held.added + change.added, added_by_date=added_by_date
            )
    return list(merged.values())
