"""How a streak changed with each arrival (RULES 2.5, 7.3).

What others grant by lengths stays on its date when an earlier event arrives afterwards. So where an event is undone,
what is granted without it does not follow from the streak alone: it takes the lengths after each arrival. Where the
undone event and all since came in the order of the events' times they say nothing that the streak does not; unless
lengths can become less, by what takes away or by contributions that others took, or others contribute more without it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain.definition import StreakDefinition
from services.streak.domain.facts import Fact, Facts, Order, dated
from services.streak.domain.fold import fold
from services.streak.domain.rows import NO_CHANGE, HistoryChange, Rows, history_change
from services.streak.domain.state import Checkpoint
from services.streak.domain.zones import ZoneChange, changes_of
from shared.as_told import AsTold
from shared.entries import MetricArrival

AROUND: Final = timedelta(days=14)
"""So far before and behind an event that is undone it is asked what came when."""
MOST_EVENTS: Final = 100
"""Each is a fold. With more of them it is not asked."""


class Arrival(Struct, frozen=True):
    """What the arrival of an event changed."""

    entry_id: UUID
    change: HistoryChange


class Arrivals(Struct, frozen=True):
    """What each arrival changed, oldest first, with an event and without it."""

    before: tuple[Arrival, ...] = ()
    after: tuple[Arrival, ...] = ()

    @property
    def differ(self) -> bool:
        """Whether the event made a difference when it or another one came."""
        return self.before != self.after


NOT_ASKED: Final = Arrivals()


class Contributed(Struct, frozen=True):
    """What events contributed as they came, with an event that is undone and without it, where that is told."""

    before: Sequence[MetricArrival] = ()
    after: Sequence[MetricArrival] = ()
    others: tuple[Fact, ...] = ()
    """Of those that it is told of, the ones that do not count for the streak."""
    revised: Mapping[UUID, int] = {}
    """What events contribute today, of those that contribute something else without the one that is undone."""


AS_TODAY: Final = Contributed()


def asked_since(definition: StreakDefinition, gone: Fact) -> date:
    """The first date of the earliest period of which it is asked what came when."""
    return definition.first_date(definition.period_of(gone.local_date - AROUND))


def asked_until(definition: StreakDefinition, gone: Fact) -> date:
    """The first date of the first period of which it is not asked any more."""
    return definition.first_date(definition.period_of(gone.local_date + AROUND) + 1)


def as_they_came(
    definition: StreakDefinition,
    facts: Facts,
    gone: Fact,
    now: datetime,
    start: Checkpoint | None,
    contributed: Contributed = AS_TODAY,
) -> Arrivals:
    """What each arrival changed, with an event that is undone and without it; `facts` have it where it counts, and all
    that came around it. Nothing where it is not asked.
    """
    known = (dated(definition, event) for event in facts.events)
    events = {
        event.entry_id: event
        for event in known
        if start is None or definition.period_of(event.local_date) > start.anchor.period
    }
    came = sorted((*events.values(), *contributed.others), key=lambda event: (event.arrive_time, event.order))
    tells_more = contributed.before or contributed.revised or _tell_more(came, gone)
    if len(came) > MOST_EVENTS or not tells_more:
        return NOT_ASKED
    zones = tuple(zone for zone in facts.zones if zone.entry_id != gone.entry_id)
    today = {event.entry_id: event.contribution_micros for event in came}
    told_before = AsTold(today, contributed.before)
    told_after = AsTold({**today, **contributed.revised}, contributed.after)
    others = [event for event in came if event.entry_id != gone.entry_id]
    left = replace(facts, zones=zones or facts.zones)
    return Arrivals(
        tuple(_changes(definition, facts, events, came, told_before, now, start)),
        tuple(_changes(definition, left, events, others, told_after, now, start)),
    )


def _tell_more(events: Sequence[Fact], gone: Fact) -> bool:
    """Whether the event that is gone, or one that came after it, is earlier than one that was there; or one takes away:
    then something is granted for lengths that there are no more.
    """
    if any(event.contribution_micros < 0 for event in events):
        return True
    latest: Order | None = None
    is_since = False
    for event in events:
        is_since = is_since or event.entry_id == gone.entry_id
        if is_since and latest is not None and event.order < latest:
            return True
        latest = event.order if latest is None else max(latest, event.order)
    return False


def _changes(
    definition: StreakDefinition,
    facts: Facts,
    counted: Mapping[UUID, Fact],
    came: Sequence[Fact],
    told: AsTold,
    now: datetime,
    start: Checkpoint | None,
) -> Iterator[Arrival]:
    longest, rows, known = start.longest if start else 0, Rows(), Facts()
    for count, arrival in enumerate(came, 1):
        told.come(arrival.entry_id)
        events = [_as_it_stood(event, told) for event in came[:count] if event.entry_id in counted]
        here = _arrived(facts, events, came[:count], came[count:])
        if here == known:
            continue
        folded, known = fold(definition, here, now, start), here
        more = folded.rows if folded else Rows()
        change = history_change(longest, rows, more)
        if change != NO_CHANGE:
            yield Arrival(arrival.entry_id, change)
        rows = more


def _as_it_stood(event: Fact, told: AsTold) -> Fact:
    micros = told.micros(event.entry_id)
    return event if micros == event.contribution_micros else replace(event, contribution_micros=micros)


def _arrived(facts: Facts, events: Sequence[Fact], came: Sequence[Fact], to_come: Sequence[Fact]) -> Facts:
    """The facts when these events had come and those had not, where the user then was as far as they say it."""
    unheard = {event.entry_id for event in to_come}
    heard = [ZoneChange(event.occur_time, event.entry_id, event.time_zone) for event in came]
    heard += [zone for zone in facts.zones if zone.entry_id not in unheard]
    return Facts(tuple(events), changes_of(heard), facts.by_hand)
