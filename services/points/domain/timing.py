"""What came due by time (RULES 5.2, 5.6): facts of their own, one for each instant, in front of whatever comes next.

They are the same whether a pass finds them or the next entry of the user: an instant is a fact with an id that follows
from the user, the instant and how much came before it, and it comes before everything that arrives after it. Where the
balance is at its limit already, an instant gives nothing and is no fact: regeneration stops at the cap.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.account import EMPTY_ACCOUNT, Account
from services.points.domain.clocks import Clock, following, refreshed, started
from services.points.domain.counting import HistoryNeeded
from services.points.domain.definitions import (
    EXPIRED,
    POINTS_LIMIT,
    Catalogue,
    ConfiguredTrigger,
    PointsSystem,
    TimeCause,
    TriggerKey,
)
from services.points.domain.facts import Due, Fact, Instant
from services.points.domain.fold import step
from services.points.domain.holds import live
from services.points.domain.ledger import Change, Draft, write
from services.points.domain.limits import InsufficientPoints
from services.points.domain.lots import Lots, expired, first_left, next_date
from services.points.domain.state import UserState
from shared.calendar import LATEST, local_date, local_midnight
from shared.entries import UserSnapshot
from shared.filters import matches
from shared.ids import derived_id_at

_MOST: Final = 10_000
"""Instants that are looked at together; a user for whom more are due has the rest with the next entry, or pass."""


_ZONES_APART: Final = timedelta(hours=26)
"""A date begins in the last zone so long after it has begun in the first."""

_MOST_AHEAD: Final = 1_000
"""Instants until a balance is full; beyond, nobody can tell."""


class Came(Struct, frozen=True):
    """An instant that gave or took something."""

    fact: Fact
    zone: str
    changes: tuple[Change, ...]
    award_count: int
    """Of the user before it."""


def advanced(
    catalogue: Catalogue, state: UserState, now: datetime, user: UserSnapshot | None = None
) -> tuple[UserState, tuple[Came, ...]]:
    """The state with all that is due at `now`, and what that was.

    `user`: as an entry knows it; None: as the last one did. Of a trigger that a user meets for the first time nothing
    is due yet. Raises `HistoryNeeded` where it has to be known what is left of awards (`asks_for_lots`).
    """
    if state.holds:
        holds = live(state.holds, now)
        if holds is not state.holds:
            state = replace(state, holds=holds)
    if not catalogue.by_time and not state.clocks:
        return state, ()
    triggers = {trigger.key: trigger for trigger in catalogue.by_time}
    clocks = _clocks(triggers, state, user, now)
    came = []
    for _ in range(_MOST):
        time = min((clock.next_time for clock in clocks.values()), default=now)
        if not clocks or time > now:
            break
        due = {key: clock for key, clock in sorted(clocks.items()) if clock.next_time == time}
        zone = next(iter(due.values())).zone
        state, one = _came(catalogue, state, due, time, zone)
        came.extend(one)
        for key, clock in due.items():
            if key.trigger != EXPIRED:
                clocks[key] = following(_cause(triggers[key]), clock)
                continue
            del clocks[key]
            day = next_date(_lots(state), key.points_system, clock.day)
            if day is not None:
                clocks[key] = ends_with(day, zone)
        for each in one:
            clocks |= sooner(clocks, each.changes, zone)
    return (state if clocks == state.clocks else replace(state, clocks=clocks)), tuple(came)


def asks_for_lots(
    catalogue: Catalogue, state: UserState, now: datetime, user: UserSnapshot | None = None
) -> bool:
    """Whether something may expire by then, be it something that is given only now. `user`: as `advanced` takes it."""
    clocks = state.clocks
    return bool(clocks) and any(
        _earliest(clock, user) <= now and (key.trigger == EXPIRED or _expires(catalogue, key))
        for key, clock in clocks.items()
    )


def _earliest(clock: Clock, user: UserSnapshot | None) -> datetime:
    """When it may be due: in another zone a date begins sooner."""
    return clock.next_time if user is None or user.time_zone == clock.zone else clock.next_time - _ZONES_APART


def _expires(catalogue: Catalogue, key: TriggerKey) -> bool:
    system = catalogue.systems.get(key.points_system)
    return system is not None and system.expiry is not None


def with_lots(state: UserState, lots: Lots) -> UserState:
    """The state that knows what is left of awards."""
    return replace(state, points=replace(state.points, lots=lots))


def ends_with(day: date, zone: str) -> Clock:
    """The clock of what is gone once a date has begun."""
    return Clock(local_midnight(day, zone), zone, day)


def sooner(
    clocks: Mapping[TriggerKey, Clock], changes: Sequence[Change], zone: str
) -> dict[TriggerKey, Clock]:
    """The clocks of what expires sooner than anything before."""
    found: dict[TriggerKey, Clock] = {}
    for change in changes:
        key = TriggerKey(change.points_system, EXPIRED)
        for award in change.awards:
            known = found.get(key) or clocks.get(key)
            day = award.expire_date
            if day is not None and award.amount > 0 and (known is None or day < known.day):
                found[key] = ends_with(day, zone)
    return found


def set_by(state: UserState, lots: Lots, systems: Iterable[str], zone: str | None) -> UserState:
    """The state after awards have changed: what is left by now of dates that are over, or sooner, expires first.

    `zone`: where the user is, as far as it is told; else where the next entry, or another clock, says.
    """
    clocks = dict(state.clocks)
    zone = zone or next((clock.zone for clock in clocks.values()), "UTC")
    for system in systems:
        key = TriggerKey(system, EXPIRED)
        known, day = clocks.get(key), first_left(lots, system)
        if day is not None and (known is None or day < known.day):
            clocks[key] = ends_with(day, known.zone if known else zone)
    return state if clocks == state.clocks else replace(state, clocks=clocks)


def next_time(catalogue: Catalogue, state: UserState, system: PointsSystem) -> datetime | None:
    """When the user's balance in the system grows by itself; None: it does not, or is full."""
    if _standing(state, system).balance >= system.max_balance:
        return None
    keys = [trigger.key for trigger in catalogue.by_time if trigger.trigger.amount > 0]
    times = [
        state.clocks[key].next_time for key in keys if key.points_system == system.key and key in state.clocks
    ]
    return min(times, default=None)


def full_time(catalogue: Catalogue, state: UserState, system: PointsSystem) -> datetime | None:
    """When the balance has grown to its limit, where nothing is spent; None: it is there, or nobody can tell, as where
    some of it is gone before.
    """
    if system.max_balance == POINTS_LIMIT or system.expiry is not None:
        return None
    time = None
    own = {key: clock for key, clock in state.clocks.items() if key.points_system == system.key}
    # What was given while the system still had an expiry is not looked at.
    state = replace(state, clocks={key: clock for key, clock in own.items() if key.trigger != EXPIRED})
    for _ in range(_MOST_AHEAD):
        following_time = next_time(catalogue, state, system)
        if following_time is None:
            return time if _standing(state, system).balance >= system.max_balance else None
        if following_time >= LATEST:
            return None
        time = following_time
        state, _came_then = advanced(catalogue, state, time)
    return None


def _clocks(
    triggers: Mapping[TriggerKey, ConfiguredTrigger],
    state: UserState,
    user: UserSnapshot | None,
    now: datetime,
) -> dict[TriggerKey, Clock]:
    expiring = {key: clock for key, clock in state.clocks.items() if key.trigger == EXPIRED}
    if user is None:
        return expiring | {key: clock for key, clock in state.clocks.items() if key in triggers}
    clocks = {
        key: clock if clock.zone == user.time_zone else ends_with(clock.day, user.time_zone)
        for key, clock in expiring.items()
    }
    for key, trigger in triggers.items():
        known, cause = state.clocks.get(key), _cause(trigger)
        clock = None
        if matches(trigger.trigger.user_filters, user.attributes):
            clock = refreshed(cause, known, user, now) if known else started(cause, user, now)
        if clock is not None:
            clocks[key] = clock
    return clocks


def _came(
    catalogue: Catalogue, state: UserState, due: Mapping[TriggerKey, Clock], time: datetime, zone: str
) -> tuple[UserState, list[Came]]:
    day = local_date(time, zone)
    names = [*map("/".join, due)]
    if any(key.trigger == EXPIRED for key in due):
        # A date that is over comes again where something is given late that it ends, too.
        names.append(str(state.entry_count + 1))
    owner = Instant(derived_id_at(time, "points", state.user_id, str(day), *names), time, day)
    dues = tuple(
        one for key, clock in due.items() if (one := _due(catalogue, state, key, clock, owner)) is not None
    )
    if not dues:
        return state, []
    fact = Fact(state.entry_count + 1, owner, catalogue.version, follows=True, given=dues)
    stepped = step(state.points, fact, catalogue)
    if isinstance(stepped, InsufficientPoints):
        raise AssertionError("time is not refused")
    award_count = state.award_count
    state = replace(state, points=replace(state.points, lots=stepped.points.lots))
    drafts = [Draft.of(fact.position, grant) for grant in stepped.grants]
    state, changes = write(catalogue, state, drafts, owner.entry_id)
    return replace(state, entry_count=fact.position), [Came(fact, zone, changes, award_count)]


def _due(catalogue: Catalogue, state: UserState, key: TriggerKey, clock: Clock, owner: Instant) -> Due | None:
    """What is due of a clock; None where it moves nothing."""
    if key.trigger == EXPIRED:
        amount = expired(_lots(state), key.points_system, clock.day)
        return Due(key, owner, 1, -amount, period=clock.day)
    trigger = next(each for each in catalogue.by_time if each.key == key)
    if not _moves(trigger, _standing(state, trigger.system)):
        return None
    return Due(key, owner, 1, trigger.trigger.amount, period=owner.local_date)


def _lots(state: UserState) -> Lots:
    if state.points.lots is None:
        raise HistoryNeeded
    return state.points.lots


def _moves(trigger: ConfiguredTrigger, account: Account) -> bool:
    if trigger.trigger.amount > 0:
        return account.balance < trigger.system.max_balance
    return account.balance > trigger.system.min_balance


def _standing(state: UserState, system: PointsSystem) -> Account:
    return state.points.accounts.get(system.key, EMPTY_ACCOUNT)


def _cause(trigger: ConfiguredTrigger) -> TimeCause:
    cause = trigger.trigger.cause
    assert isinstance(cause, TimeCause)
    return cause
