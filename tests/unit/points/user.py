"""One user's points driven by the domain alone; what the service keeps in its database is in lists here."""

from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from msgspec.structs import replace

from services.points.amending import apply_amending, undo
from services.points.domain.account import EMPTY_ACCOUNT, Account
from services.points.domain.amendments import amends
from services.points.domain.counting import HistoryNeeded, stored
from services.points.domain.days import UNKNOWN, Days, Given
from services.points.domain.decisions import Applied, CountedFact, apply, days_asked, with_days
from services.points.domain.definitions import Catalogue, PointsSystem, TriggerKey
from services.points.domain.dependence import Dependence
from services.points.domain.edits import LiveAward, Names
from services.points.domain.facts import (
    AchievementChange,
    Command,
    Due,
    Fact,
    Identity,
    Instant,
    PeriodChange,
    StreakChange,
)
from services.points.domain.ledger import Award, Change
from services.points.domain.limits import InsufficientPoints, Refusal
from services.points.domain.lots import Lots, moved
from services.points.domain.shortcuts import Shift
from services.points.domain.state import UserState
from services.points.domain.streaks import LivePeriod
from services.points.domain.timing import advanced, with_lots
from services.points.refolding import Chunk
from shared.entries import ContributionRevision, Entry, EntryKind, MetricFact, UserSnapshot
from shared.ids import derived_id

T = TypeVar("T")

START = datetime(2024, 3, 1, 12, tzinfo=UTC)
UNIT = 1_000_000
"""One unit of a metric, in micro-units."""


@dataclass
class Past:
    """A history in lists: what is stored of one user."""

    facts: dict[int, Fact] = field(default_factory=dict)
    undone: set[int] = field(default_factory=set)
    versions: dict[UUID, int] = field(default_factory=dict)
    revisions: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    """Of entries that have not come yet: version and contribution."""
    ledger: list[Award] = field(default_factory=list)
    catalogues: list[Catalogue] = field(default_factory=list)
    chunk_size: int = 3
    asked: list[str] = field(default_factory=list)

    def live_awards(self) -> dict[tuple[int, Identity], LiveAward]:
        found: dict[tuple[int, Identity], LiveAward] = {}
        for award in self.ledger:
            name = (award.position, award.identity)
            known = found.get(name)
            owner = Instant(award.entry_id, award.occur_time, award.local_date)
            times = award.times + (known.due.times if known else 0)
            base = award.base_amount + (known.due.base_amount if known else 0)
            multiplied = award.product.amount + (known.product.amount if known else 0)
            found[name] = LiveAward(
                known.award_id if known else award.award_id,
                Due(award.key, owner, times, base, award.completion_id, award.period),
                replace(award.product, amount=multiplied),
                award.amount + (known.amount if known else 0),
                known.first_amount if known else (0 if award.refolded else award.amount),
            )
        return found

    def complete(self, fact: Fact) -> Fact:
        live = {
            identity: award for (at, identity), award in self.live_awards().items() if at == fact.position
        }
        given = tuple(
            award.given_under(self.catalogues[fact.terms])
            for identity, award in live.items()
            if award.due.times and identity.is_given
        )
        spent = {identity: award.first_amount for identity, award in live.items() if award.first_amount < 0}
        fact = replace(fact, given=given, spent=spent)
        if fact.position in self.undone:
            return replace(fact, follows=True, triggers=(), contribution_micros=0)
        return fact

    def _chunk(self, facts: Sequence[Fact], *, is_last: bool) -> Chunk:
        positions = {fact.position for fact in facts}
        awards = {name: award for name, award in self.live_awards().items() if name[0] in positions}
        return Chunk([self.complete(fact) for fact in facts], awards, is_last)

    async def at(self, positions: Sequence[int]) -> Chunk:
        return self._chunk([self.facts[position] for position in positions], is_last=True)

    async def chunk(self, start: int, size: int | None) -> Chunk:
        self.asked.append("chunk")
        following = [fact for position, fact in sorted(self.facts.items()) if position >= start]
        taken = following if size is None else following[: self.chunk_size]
        return self._chunk(taken, is_last=len(taken) == len(following))

    async def sums_before(self, start: int) -> Mapping[TriggerKey, int]:
        sums: dict[TriggerKey, int] = {}
        for position, fact in self.facts.items():
            if position < start and position not in self.undone:
                for key in fact.triggers:
                    sums[key] = sums.get(key, 0) + fact.contribution_micros
        return sums

    async def crossing(self, shift: Shift, start: int) -> tuple[Sequence[tuple[Fact, int]], Names]:
        self.asked.append("crossing")
        sums, found = (await self.sums_before(start)).get(shift.key, 0), []
        for position, fact in sorted(self.facts.items()):
            if position < start or position in self.undone or shift.key not in fact.triggers:
                continue
            before, after = sums, sums - (shift.delta_micros if position > start else 0)
            sums += fact.contribution_micros
            times = sums // shift.every_micros - before // shift.every_micros
            if times != (sums - shift.delta_micros) // shift.every_micros - after // shift.every_micros:
                found.append((fact, before))
        assert sums == shift.accumulated_micros
        names = {name: award for name, award in self.live_awards().items() if name[1].key == shift.key}
        return found, names

    async def added_since(self, start: int) -> Mapping[str, tuple[int, int]]:
        added: dict[str, tuple[int, int]] = {}
        for (position, identity), award in self.live_awards().items():
            if position >= start:
                balance, lifetime = added.get(identity.key.points_system, (0, 0))
                added[identity.key.points_system] = (
                    balance + award.amount,
                    lifetime + max(0, award.amount),
                )
        return added

    async def days(self, since: date | None, before: int | None = None) -> Days:
        self.asked.append("days")
        given: dict[tuple[str, date], dict[str, Given]] = {}
        for (position, identity), award in self.live_awards().items():
            day = award.due.owner.local_date
            if (since is not None and day < since) or (before is not None and position >= before):
                continue
            if award.amount > 0 and identity.key.trigger:
                own = given.setdefault((identity.key.points_system, day), {})
                known = own.get(identity.key.trigger, Given(0, ()))
                times = (*known.times, award.due.owner.occur_time)
                own[identity.key.trigger] = Given(known.amount + award.amount, times)
        return Days(given, since)

    async def lots(self, before: int | None = None) -> Lots:
        self.asked.append("lots")
        lots = Lots()
        ends: dict[tuple[int, Identity], date] = {}
        for row in self.ledger:
            if row.expire_date is not None:
                name = (row.position, row.identity)
                ends[name] = max(row.expire_date, ends.get(name, row.expire_date))
        live = [(*one, ends.get(one[0])) for one in self.live_awards().items() if one[1].amount]
        live.sort(key=lambda one: (one[0][0], one[1].amount < 0, one[2] or date.max))
        for (position, identity), award, end in live:
            if before is None or position < before:
                lots = moved(lots, identity.key.points_system, [(award.amount, end)])
        return lots

    async def arrives_before(self, day: date, position: int) -> bool:
        return any(
            at > position and fact.instant.local_date < day + timedelta(days=1)
            for at, fact in self.facts.items()
        )

    async def window(self, since: datetime | None, before: int | None = None) -> Sequence[CountedFact]:
        self.asked.append("window")
        found = []
        for position, fact in self.facts.items():
            late_enough = since is None or fact.instant.occur_time >= since
            if position not in self.undone and late_enough and (before is None or position < before):
                granted: dict[TriggerKey, int] = {}
                for award in self.ledger:
                    if award.entry_id == fact.instant.entry_id and (
                        before is None or award.position < before
                    ):
                        granted[award.key] = granted.get(award.key, 0) + award.times
                found.append(CountedFact(fact, granted))
        return found

    async def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.ledger.extend(change.awards)

    async def reach_time(self, points_system: str) -> datetime | None:
        live = (
            award for award in self.live_awards().values() if award.due.key.points_system == points_system
        )
        return max((award.due.owner.occur_time for award in live if award.amount), default=None)

    def terms(self, version: int) -> Catalogue:
        return self.catalogues[version]

    def dependence(self, points_system: str) -> Dependence:
        systems = [each.systems[points_system] for each in self.catalogues if points_system in each.systems]
        return Dependence.of(systems)

    async def named(self, entry_ids: Collection[UUID]) -> Mapping[UUID, Fact]:
        return {
            fact.instant.entry_id: fact
            for position, fact in self.facts.items()
            if fact.instant.entry_id in entry_ids and position not in self.undone
        }

    async def given(
        self, completion_ids: Collection[UUID], triggers: Collection[TriggerKey]
    ) -> Sequence[LivePeriod]:
        causes = {award.award_id: award.cause_entry_id for award in self.ledger}
        return [
            LivePeriod(position, live.due, causes[live.award_id])
            for (position, identity), live in self.live_awards().items()
            if live.due.times
            and (identity.completion_id in completion_ids or (identity.period and identity.key in triggers))
        ]

    async def newer(self, metric: MetricFact) -> Mapping[UUID, int]:
        changed = {}
        by_entry = {fact.instant.entry_id: position for position, fact in self.facts.items()}
        for revision in metric.revisions:
            position = by_entry.get(revision.entry_id)
            if position is None:
                known = self.revisions.get(revision.entry_id, (-1, 0))
                if known[0] < metric.total_version:
                    self.revisions[revision.entry_id] = (metric.total_version, revision.contribution_micros)
            elif self.versions[revision.entry_id] < metric.total_version and position not in self.undone:
                changed[revision.entry_id] = revision.contribution_micros
        return changed

    async def revise(self, contributions: Mapping[UUID, int], version: int) -> None:
        for position, fact in self.facts.items():
            if fact.instant.entry_id in contributions:
                contribution = contributions[fact.instant.entry_id]
                self.facts[position] = replace(fact, contribution_micros=contribution)
                self.versions[fact.instant.entry_id] = version


@dataclass
class User:
    """A user, the configuration, and every entry that was applied."""

    systems: Sequence[PointsSystem]
    user_id: str = "alice"
    attributes: Mapping[str, str] = field(default_factory=dict)
    state: UserState = field(default_factory=lambda: UserState("alice"))
    past: Past = field(default_factory=Past)
    count: int = 0

    @property
    def ledger(self) -> list[Award]:
        return self.past.ledger

    @property
    def catalogue(self) -> Catalogue:
        if not self.past.catalogues or [*self.past.catalogues[-1].systems.values()] != sorted(
            self.systems, key=lambda system: system.key
        ):
            self.past.catalogues.append(Catalogue.of(self.systems, len(self.past.catalogues)))
        return self.past.catalogues[-1]

    def earn(
        self, value: float, *, metric: str = "commits", at: float | None = None, **attributes: str
    ) -> Applied:
        """Apply a metric event of this value, in units."""
        return self.applied(self.metric_event(round(value * UNIT), metric=metric, at=at, **attributes))

    def metric_event(
        self, value_micros: int, *, metric: str = "commits", at: float | None = None, **attributes: str
    ) -> Command:
        """`at`: minutes after the start; without it, the next one."""
        fact = MetricFact(metric, value_micros, 0, 0, 0, 0, attributes)
        return Command(self.entry(EntryKind.METRIC_EVENT, fact, at))

    def revisable_event(
        self,
        contribution: float,
        version: int,
        *revisions: tuple[UUID, float],
        at: float | None = None,
        kind: EntryKind = EntryKind.METRIC_EVENT,
    ) -> Command:
        """An event of a metric whose contributions change, with what it changes of others."""
        fact = MetricFact(
            metric="commits",
            value_micros=0 if kind is EntryKind.CORRECTION else UNIT,
            total_before_micros=0,
            total_after_micros=0,
            peak_micros=0,
            total_version=version,
            attributes={},
            revisable=True,
            revisable_contribution_micros=round(contribution * UNIT),
            revisions=tuple(
                ContributionRevision(entry_id, round(value * UNIT)) for entry_id, value in revisions
            ),
        )
        return Command(self.entry(kind, fact, at))

    def streak_event(
        self,
        *periods: PeriodChange,
        kind: EntryKind = EntryKind.USER_UPDATE,
        at: float | None = None,
        corrects: UUID | None = None,
    ) -> Command:
        return Command(self.entry(kind, None, at, corrects), streak_changes=(StreakChange("daily", periods),))

    def extension(self, length: int, *, kind: EntryKind = EntryKind.USER_UPDATE) -> Command:
        """An event that extends the streak to a length: its period is new, and the event qualifies it."""
        command = self.streak_event(kind=kind)
        change = period(length, None, length, instant(command.entry))
        return replace(command, streak_changes=(StreakChange("daily", (change,)),))

    def achievement_event(
        self,
        *changes: tuple[str, bool],
        kind: EntryKind = EntryKind.ACHIEVEMENT_CALL,
        owner: Instant | None = None,
        corrects: UUID | None = None,
    ) -> Command:
        """Completions (True) and revocations; a completion is known by its achievement."""
        entry = self.entry(kind, corrects=corrects)
        return Command(
            entry,
            achievement_changes=tuple(
                AchievementChange(key, derived_id("completion", key), completed, owner or instant(entry))
                for key, completed in changes
            ),
        )

    def entry(
        self,
        kind: EntryKind,
        fact: MetricFact | None = None,
        at: float | None = None,
        corrects: UUID | None = None,
    ) -> Entry:
        self.count += 1
        now = START + timedelta(minutes=self.count)
        is_correction = kind is EntryKind.CORRECTION
        return Entry(
            entry_id=derived_id("entry", str(self.count)),
            kind=kind,
            user=UserSnapshot(self.user_id, "UTC", dict(self.attributes), START, 1, ""),
            now=now,
            occur_time=now if at is None else START + timedelta(minutes=at),
            time_zone="UTC",
            metric=fact,
            corrected_entry_id=(corrects or derived_id("origin", str(self.count))) if is_correction else None,
        )

    def apply(self, command: Command) -> Applied | Refusal:
        """As the service does: from what is stored, one step where that is enough."""
        entry_id, metric = command.entry.entry_id, command.entry.metric
        if metric is not None and metric.revisable and entry_id in self.past.revisions:
            version, contribution = self.past.revisions.pop(entry_id)
            if version > metric.total_version:
                metric = replace(metric, revisable_contribution_micros=contribution, total_version=version)
                command = replace(command, entry=replace(command.entry, metric=metric))
        written = len(self.past.ledger)
        try:
            if amends(command):
                raise HistoryNeeded
            state = self.state
            asked = days_asked(self.catalogue, state, command)
            if asked is not None:
                state = with_days(state, now(self.past.days(asked)))
            decided = apply(self.catalogue, state, command)
        except HistoryNeeded:
            decided = now(apply_amending(self.past, self.catalogue, self.state, command))
        if not isinstance(decided, Applied):
            del self.past.ledger[written:]
            return decided
        del self.past.ledger[written:]
        self._keep(decided.state, decided.changes)
        self.past.facts[decided.fact.position] = replace(decided.fact, came=command.entry.now)
        self.past.versions[entry_id] = metric.total_version if metric else 0
        return decided

    def applied(self, command: Command) -> Applied:
        decided = self.apply(command)
        assert isinstance(decided, Applied)
        return decided

    def refused(self, command: Command) -> InsufficientPoints:
        decided = self.apply(command)
        assert isinstance(decided, InsufficientPoints)
        return decided

    def undo(self, entry_id: UUID) -> tuple[Change, ...]:
        (position,) = [at for at, fact in self.past.facts.items() if fact.instant.entry_id == entry_id]
        written = len(self.past.ledger)
        state, changes = now(undo(self.past, self.catalogue, self.state, entry_id, position))
        self.past.undone.add(position)
        del self.past.ledger[written:]
        self._keep(state, changes)
        return changes

    def pass_time(self, at: datetime) -> None:
        """What is due by then comes, as a pass or the next entry would have it come."""
        state = with_lots(self.state, now(self.past.lots()))
        state, came = advanced(self.catalogue, state, at)
        known = {fact.instant.entry_id for fact in self.past.facts.values()}
        for one in came:
            assert one.fact.instant.entry_id not in known
            known.add(one.fact.instant.entry_id)
            self.past.facts[one.fact.position] = replace(one.fact, came=at)
        self._keep(state, [change for one in came for change in one.changes])

    def points(self, points_system: str = "xp") -> Account:
        return self.state.points.accounts.get(points_system, EMPTY_ACCOUNT)

    @property
    def balance(self) -> int:
        return self.points().balance

    def by_entry(self) -> dict[tuple[str, UUID], int]:
        """What each entry has brought, by system; those that brought nothing are left out."""
        sums: dict[tuple[str, UUID], int] = {}
        for award in self.ledger:
            name = (award.key.points_system, award.entry_id)
            sums[name] = sums.get(name, 0) + award.amount
        return {name: amount for name, amount in sums.items() if amount}

    def by_date(self) -> dict[date, int]:
        sums: dict[date, int] = {}
        for award in self.ledger:
            sums[award.local_date] = sums.get(award.local_date, 0) + award.amount
        return {day: amount for day, amount in sums.items() if amount}

    def _keep(self, state: UserState, changes: Sequence[Change]) -> None:
        timelines = {key: stored(timeline) for key, timeline in state.points.timelines.items()}
        points = replace(state.points, timelines=timelines, days=UNKNOWN, lots=None)
        self.state = replace(state, points=points, rewarded_periods=None)
        for change in changes:
            self.past.ledger.extend(change.awards)
        self.past.ledger.sort(key=lambda award: award.sequence)


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("lists are never waited for")


def instant(entry: Entry) -> Instant:
    return Instant(entry.entry_id, entry.occur_time, entry.occur_time.date())


def period(day: int, before: int | None, after: int | None, reach: Instant | None = None) -> PeriodChange:
    """A period of the streak that begins so many days after a date; a length of None: not qualified."""
    return PeriodChange(
        date(2024, 3, 1) + timedelta(days=day),
        before or 0,
        after or 0,
        before is not None,
        after is not None,
        reach if after is not None else None,
    )


def only_change(decided: Applied | Sequence[Change]) -> Change:
    """The one change of a decision."""
    (change,) = decided.changes if isinstance(decided, Applied) else decided
    return change


def amounts(decided: Applied | Sequence[Change]) -> list[int]:
    """The amounts of all rows of a decision."""
    changes = decided.changes if isinstance(decided, Applied) else decided
    return [award.amount for change in changes for award in change.awards]
