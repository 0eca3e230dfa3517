"""Sums of metrics by local date, kept behind the replies (docs/adr/0025).

Whose total has moved is told by the feed of domain events. Of an import nothing is told, nor of what there was before
this: the totals are looked through after one, and when a process begins to lead. How far a total is summed is known by
its version, so everything here can be done again, and by several at once.
"""

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from laurel.ledger.v1 import entry_pb2

from services.orchestrator.domain import Aggregation, Metric
from services.orchestrator.metric_days import (
    NOTHING,
    Amount,
    Change,
    Counted,
    Key,
    added,
    change_of,
    difference,
    fact_of,
    folded,
    following,
)
from services.orchestrator.store.domain_events import NEWEST, DomainEventStore
from services.orchestrator.store.metric_days import DayTotal, LedgerEvent, MetricDayStore, Rollup, SummedTotal
from shared import faults
from shared.errors import Aborted

_ROWS_AT_ONCE: Final = 2_000
_PAGES_A_ROUND: Final = 25
_TOTALS_AT_ONCE: Final = 1_000
_ATTEMPTS: Final = 10
_CLOCKS_APART: Final = timedelta(minutes=10)
"""What was recorded after an event was received at most so long before it."""

BEFORE_ADD: Final = faults.declare(
    "orchestrator.rollup.before_commit", "a page of changes is summed by date, nothing of it is stored"
)
AFTER_ADD: Final = faults.declare(
    "orchestrator.rollup.after_commit", "sums by date are stored, the feed is not followed up to them"
)


class Rollups:
    """Follows what happens to metrics, and reads the sums."""

    def __init__(
        self,
        store: MetricDayStore,
        domain_events: DomainEventStore,
        metrics: Callable[[], Coroutine[Any, Any, Mapping[str, Metric]]],
        default_zone: str,
    ) -> None:
        self._store = store
        self._domain_events = domain_events
        self._metrics = metrics
        self._default_zone = default_zone
        self._leads = False

    async def round(self) -> None:
        """A bounded part of what is to be done; the leader's loop calls it again and again."""
        if not self._leads:
            self._leads = True
            if await self._store.sweep() is None:
                await self._store.ask_for_sweep()
        for _ in range(_PAGES_A_ROUND):
            if not await self._follow():
                break
        for _ in range(_PAGES_A_ROUND):
            if not await self._sweep():
                break

    async def catch_up(self) -> None:
        """All that is to be done."""
        while await self._follow():
            pass
        while await self._sweep():
            pass

    async def catch_up_with(self, user_id: str) -> None:
        """Everything of a user who is about to be deleted: afterwards nobody knows on what dates it was."""
        await self._add_behind(await self._store.summed_totals_of(user_id), erasing=user_id)

    async def user_days(self, user_id: str, metric: str, last: date) -> dict[date, Amount]:
        """What a user's events contribute, by local dates up to one; also those that are not summed yet."""
        for _ in range(_ATTEMPTS):
            total, days = await self._store.user_days((user_id, metric), last)
            if not total.behind:
                return days
            rollup = await self._behind(total)
            if rollup is not None and rollup.version_before == total.version:
                summed = {day: days.get(day, NOTHING) + more for day, more in rollup.days.items()}
                return {day: amount for day, amount in (days | summed).items() if day <= last}
        raise Aborted("it moved at each look", reason="CONTENTION")

    async def _follow(self) -> bool:
        """A page of the feed; whether there may be more."""
        place = await self._store.cursor()
        if place is None:
            # What came before is looked through.
            await self._store.followed((await self._domain_events.place(NEWEST, "cursor")).cursor)
            return True
        page = await self._domain_events.after(place, _ROWS_AT_ONCE)
        if not page.rows:
            return False
        changes: dict[Key, list[Change]] = {}
        for row in page.rows:
            change = change_of(entry_pb2.Entry.FromString(row.told.entry))
            if change is not None:
                changes.setdefault(change.key, []).append(change)
        await self._add(changes)
        await AFTER_ADD.reach()
        await self._store.followed(page.cursor)
        return True

    async def _sweep(self) -> bool:
        """A page of the totals; whether there may be more."""
        sweep = await self._store.sweep()
        if sweep is None:
            return False
        summed_totals = await self._store.summed_totals_after(sweep.after, _TOTALS_AT_ONCE)
        await self._add_behind(summed_totals)
        is_last = len(summed_totals) < _TOTALS_AT_ONCE
        await self._store.swept(sweep, None if is_last else summed_totals[-1].key)
        return True

    async def _add(self, changes: Mapping[Key, Sequence[Change]]) -> None:
        """Sums what was told."""
        left: Collection[Key] = changes.keys()
        for _ in range(_ATTEMPTS):
            rollups = []
            for total in _open(await self._store.summed_totals(left)):
                told = following(changes[total.key], total.version)
                # Without any of them, what is not summed is yet to be told.
                rollup = _rollup(total, told) if told else None
                if told is None:
                    rollup = await self._behind(total)
                if rollup is not None:
                    rollups.append(rollup)
            left = await self._store_each(rollups)
            if not left:
                return
        raise Aborted("others kept summing the same", reason="CONTENTION")

    async def _add_behind(self, summed_totals: Sequence[SummedTotal], erasing: str = "") -> None:
        """Sums what the ledger has of those who are behind."""
        for _ in range(_ATTEMPTS):
            rollups = [await self._behind(total) for total in _open(summed_totals, erasing)]
            left = await self._store_each([each for each in rollups if each is not None], erasing)
            if not left:
                return
            summed_totals = await self._store.summed_totals(left)
        raise Aborted("others kept summing the same", reason="CONTENTION")

    async def _store_each(self, rollups: Sequence[Rollup], erasing: str = "") -> list[Key]:
        """Stores them together, else one by one; those that have to be looked at again."""
        if not rollups or await self._stored(rollups, erasing):
            return []
        if len(rollups) == 1:
            return [rollups[0].key]
        return [each.key for each in rollups if not await self._stored([each], erasing)]

    async def _stored(self, rollups: Sequence[Rollup], erasing: str) -> bool:
        touched = [(*each.key, day) for each in rollups for day in each.days]
        totals = _over_all(rollups, await self._store.days(touched))
        await BEFORE_ADD.reach()
        return await self._store.add(rollups, totals, erasing)

    async def _behind(self, total: SummedTotal) -> Rollup | None:
        """What the ledger has beyond what is summed: among what was received since, else all of it is summed anew."""
        if total.version:
            since = total.receive_time - _CLOCKS_APART
            bodies = await self._store.received_since(total.key, since)
            changes = [change_of(entry_pb2.Entry.FromString(body)) for body in bodies if body]
            told = following(
                [each for each in changes if each is not None and each.key == total.key], total.version
            )
            if told and told[-1].version >= total.total_version:
                return _rollup(total, told)
        return await self._anew(total.key)

    async def _anew(self, key: Key) -> Rollup | None:
        """Sums all that the ledger has."""
        metric = (await self._metrics()).get(key[1])
        if metric is None:
            return None  # it has no events any more
        days: dict[date, Amount] = {}
        events: list[Counted] = []
        newest = None

        def take(event: LedgerEvent) -> None:
            nonlocal newest
            zone = entry_pb2.Entry.FromString(event.entry).time_zone or self._default_zone
            counted = fact_of(
                event.entry_id, event.value_micros, event.occur_time, event.position, event.unique_value, zone
            )
            newest = event.receive_time if newest is None else max(newest, event.receive_time)
            if metric.aggregation is Aggregation.SUM:
                days[counted.day] = days.get(counted.day, NOTHING) + Amount(event.value_micros, 1)
            else:
                events.append(counted)

        total, summed = await self._store.read(key, take)
        if total.version == total.total_version:
            return None
        if metric.aggregation is not Aggregation.SUM:
            days = folded(metric.aggregation, events, total.total_micros)
        received = max(newest or total.receive_time, total.receive_time)
        return Rollup(key, total.version, total.total_version, received, difference(days, summed))


def _open(summed_totals: Iterable[SummedTotal], erasing: str = "") -> list[SummedTotal]:
    """Those who are behind, but for users whom others are deleting."""
    return [each for each in summed_totals if each.behind and (not each.closing or each.key[0] == erasing)]


def _rollup(total: SummedTotal, changes: Sequence[Change]) -> Rollup:
    received = max(total.receive_time, *(change.receive_time for change in changes))
    return Rollup(total.key, total.version, changes[-1].version, received, added(changes))


def _over_all(
    rollups: Iterable[Rollup], before: Mapping[tuple[str, str, date], Amount]
) -> list[tuple[str, DayTotal]]:
    """The same over all users. A first event of a date, or one less than that, changes how many users have one."""
    totals: dict[tuple[str, date], DayTotal] = {}
    for rollup in rollups:
        user_id, metric = rollup.key
        for day, amount in rollup.days.items():
            had = before.get((user_id, metric, day), NOTHING).event_count
            users = int(had + amount.event_count > 0) - int(had > 0)
            known = totals.get((metric, day), DayTotal(day, NOTHING, 0))
            totals[metric, day] = DayTotal(day, known.amount + amount, known.user_count + users)
    return [(metric, total) for (metric, _), total in totals.items()]
