"""What an entry says about the sources that boards rank by (RULES 6.1, 6.3)."""

from collections.abc import Iterable
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.leaderboard.domain.boards import Source, SourceKind
from services.leaderboard.domain.lengths import StreakChange
from services.leaderboard.domain.scores import Fact, FactKey, key_of
from shared.calendar import local_date, local_day_and_minute
from shared.entries import Entry, EntryKind, MetricFact


class Award(Struct, frozen=True):
    """A row of the award ledger: points, and the entry and the local date that they belong to."""

    entry_id: UUID
    amount: int
    occur_time: datetime
    local_date: date


class PointsChange(Struct, frozen=True):
    """The user's balance in one system, and what was added; the greatest version is the newest."""

    points_system: str
    version: int
    balance: int
    lifetime: int
    reach_time: datetime | None
    awards: tuple[Award, ...] = ()


class Revision(Struct, frozen=True):
    """What another event contributes from now on; the greatest version holds. It may come before that event."""

    entry_id: UUID
    contribution: int
    version: int


class Command(Struct, frozen=True):
    """An entry and what it says about the sources that boards rank by."""

    entry: Entry
    facts: tuple[Fact, ...]
    """At most one under each key."""
    streaks: tuple[StreakChange, ...] = ()
    revisions: tuple[Revision, ...] = ()
    halves: tuple["Command", ...] = ()
    """What it says about others than its user, each under an id of its own."""


def command_of(
    entry: Entry, streak_changes: Iterable[StreakChange], points_changes: Iterable[PointsChange]
) -> Command:
    """What an entry says."""
    streaks = tuple(streak_changes)
    facts = [_of_streak(entry, change) for change in _newest_streaks(streaks)]
    facts += _of_points(entry, points_changes)
    metric = entry.metric
    if entry.kind is EntryKind.METRIC_EVENT and metric is not None:
        facts.append(_of_metric(entry, metric))
    return Command(entry, tuple(facts), streaks, _revisions(metric) if metric and metric.revisions else ())


def _of_metric(entry: Entry, metric: MetricFact) -> Fact:
    source = Source(SourceKind.METRIC, metric.metric)
    day, minute = local_day_and_minute(entry.occur_time, entry.time_zone)
    if not metric.revisable:
        return Fact(source, entry.entry_id, metric.value_micros, entry.occur_time, day, local_minute=minute)
    return Fact(
        source,
        entry.entry_id,
        metric.value_micros,
        entry.occur_time,
        day,
        metric.total_version,
        metric.contribution_micros,
        minute,
    )


def _revisions(metric: MetricFact) -> tuple[Revision, ...]:
    return tuple(
        Revision(revision.entry_id, revision.contribution_micros, metric.total_version)
        for revision in metric.revisions
    )


def _of_streak(entry: Entry, change: StreakChange) -> Fact:
    """The present length. A late event that joins it to today's counts today.

    Who never had a streak at all is on no board; who lost one has length 0.
    """
    reach_time = change.reach_time or entry.occur_time
    return Fact(
        Source(SourceKind.STREAK, change.streak),
        entry.entry_id,
        change.length if change.longest else None,
        reach_time,
        local_date(max(entry.occur_time, reach_time), entry.time_zone),
        change.version,
    )


def _newest_streaks(changes: Iterable[StreakChange]) -> list[StreakChange]:
    newest: dict[str, StreakChange] = {}
    for change in changes:
        held = newest.get(change.streak)
        if held is None or change.version > held.version:
            newest[change.streak] = change
    return list(newest.values())


def _of_points(entry: Entry, changes: Iterable[PointsChange]) -> list[Fact]:
    """The newest balance of each system, and what was added, under the entries and dates that it belongs to.

    What is taken back stands under the entry under which it was given: so that the run of that date is as though it
    had never been (RULES 7.3).
    """
    newest: dict[str, PointsChange] = {}
    added: dict[FactKey, Fact] = {}
    for change in changes:
        held = newest.get(change.points_system)
        if held is None or change.version > held.version:
            newest[change.points_system] = change
        source = Source(SourceKind.POINTS, change.points_system)
        for award in change.awards:
            fact = Fact(source, award.entry_id, award.amount, award.occur_time, award.local_date)
            known = added.get(key_of(fact))
            added[key_of(fact)] = fact if known is None else replace(fact, amount=known.added + fact.added)
    balances = [_of_balance(entry, change) for change in newest.values()]
    return balances + [fact for fact in added.values() if fact.added]


def _of_balance(entry: Entry, change: PointsChange) -> Fact:
    """Who has a balance of 0 and never earned anything is on no board."""
    balance = change.balance if change.balance or change.lifetime else None
    return Fact(
        Source(SourceKind.BALANCE, change.points_system),
        entry.entry_id,
        balance,
        change.reach_time or entry.occur_time,
        local_date(entry.occur_time, entry.time_zone),
        change.version,
    )
