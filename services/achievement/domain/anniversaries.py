"""Anniversaries: years since the date on which a user signed up, in the user's zone (RULES 4).

What is due follows from what the last entry said of its user: the date, the zone, and which filters matched. An
instant at which something is due is a fact of its own, in front of whatever arrives after it; an entry or a pass of
maintenance writes it, whichever comes first, and both write the same.

Of what an entry says anew, such as a date that lies years back, all past anniversaries are due with it. They are
backdated as what a backfill finds: nobody wants ten congratulations at once.
"""

from collections.abc import Iterator
from datetime import date, datetime
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from services.achievement.domain.completions import completed, dated, made
from services.achievement.domain.composites import composites_followed
from services.achievement.domain.definitions import MAX_COMPLETIONS, Achievement, Catalogue, Status
from services.achievement.domain.fold import Grant
from services.achievement.domain.past import Past
from services.achievement.domain.state import (
    Change,
    ChangeKind,
    Fact,
    SignUp,
    UserState,
    threshold,
)
from shared.calendar import LATEST_DATE, local_date, local_midnight
from shared.entries import Entry, EntryKind, UserSnapshot, sign_up_date
from shared.filters import matches
from shared.ids import derived_id_at


class Came(Struct, frozen=True):
    """An instant at which something was due."""

    fact: Fact
    zone: str
    changes: tuple[Change, ...]
    time: datetime
    """When it is told of: of what is backdated, when it was found."""


def told_by(catalogue: Catalogue, user: UserSnapshot) -> SignUp:
    """What anniversaries follow from, by what is known of a user."""
    held = user.attributes_now
    eligible = frozenset(
        each.key for each in catalogue.anniversary_filters if matches(each.user_filters, held)
    )
    return SignUp(sign_up_date(held), user.time_zone, user.version, eligible)


def heard(catalogue: Catalogue, state: UserState, user: UserSnapshot) -> UserState:
    """The state after an entry of the user: what is newer holds."""
    if not catalogue.anniversaries:
        return state
    known, told = state.sign_up, told_by(catalogue, user)
    if known is None:
        return state if told.day is None else waiting(catalogue, replace(state, sign_up=told))
    if known.version <= told.version:
        state = replace(state, sign_up=told)
    return waiting(catalogue, state)


def waiting(catalogue: Catalogue, state: UserState) -> UserState:
    """The state that knows when something is due next."""
    sign_up = state.sign_up
    if sign_up is None:
        return state
    times = [
        time
        for achievement in catalogue.anniversaries
        if (time := next((time for time, _ in _coming(achievement, state)), None)) is not None
    ]
    next_time = min(times, default=None)
    if next_time == sign_up.next_time:
        return state
    return replace(state, sign_up=replace(sign_up, next_time=next_time))


def is_due(state: UserState, now: datetime) -> bool:
    """Whether there is anything to do."""
    sign_up = state.sign_up
    return sign_up is not None and sign_up.next_time is not None and sign_up.next_time <= now


def advanced(
    catalogue: Catalogue,
    state: UserState,
    now: datetime,
    past: Past,
    *,
    since: datetime | None = None,
    only: Achievement | None = None,
) -> tuple[UserState, tuple[Came, ...]]:
    """The state with all that is due at `now`, or what of it is due of one achievement, and what that was. Raises
    `WantedFacts`.

    `since`: what was due before is backdated; None: nothing is.
    """
    if not is_due(state, now):
        return state, ()
    due: dict[datetime, list[Achievement]] = {}
    for achievement in catalogue.anniversaries if only is None else (only,):
        for time, each in _coming(achievement, state):
            if time > now:
                break
            due.setdefault(time, []).append(each)
    came = []
    for time in sorted(due):
        state, one = _came(catalogue, state, due[time], time, now, since, past)
        past = replace(past, facts={**past.facts, one.fact.entry_id: one.fact})
        came.append(one)
    return waiting(catalogue, state), tuple(came)


def backdated_before(before: SignUp | None, after: SignUp | None, now: datetime) -> datetime | None:
    """What was due before this is no news: where the date is said anew, or somebody may earn more than before. Who has
    moved to another zone alone has missed nothing.
    """
    if after is None or (before is not None and (before.day, before.eligible) == (after.day, after.eligible)):
        return None
    return local_midnight(local_date(now, after.zone), after.zone)


def lost(catalogue: Catalogue, before: UserState, state: UserState, entry: Entry) -> tuple[Change, ...]:
    """What an undoing takes away: what was reached by the date as it was said, and is not by the one that holds now.
    What the date had not given it does not take away, and nothing that arrives does.
    """
    was, now_is = before.sign_up, state.sign_up
    if entry.kind is not EntryKind.CORRECTION or was is None or now_is is None or was.day == now_is.day:
        return ()
    changes = []
    for achievement in catalogue.anniversaries:
        for number in range(MAX_COMPLETIONS if achievement.repeatable else 1, 0, -1):
            live = state.completions.get(achievement.numbered(number).place)
            if live is None:
                continue
            years = threshold(achievement.numbered(number), live)
            gave, gives = _midnight(was, years), _midnight(now_is, years)
            if gave is not None and gave <= entry.now and (gives is None or gives > entry.now):
                changes.append(Change(ChangeKind.REVOKED, live))
    return tuple(changes)


def years_of(sign_up: SignUp | None, now: datetime) -> float:
    """How long a user has been there, with a part of the running year that is never the whole."""
    if sign_up is None or sign_up.day is None:
        return 0.0
    today = local_date(now, sign_up.zone)
    whole = today.year - sign_up.day.year
    if today < anniversary_in(sign_up.day, today.year):
        whole -= 1
    last = anniversary_in(sign_up.day, sign_up.day.year + whole)
    following = anniversary_in(sign_up.day, sign_up.day.year + whole + 1)
    return max(0.0, whole + (today - last).days * 100 // (following - last).days / 100)


def anniversary_in(day: date, year: int) -> date:
    """The date in a year; 29 February is the 28th where there is none."""
    try:
        return day.replace(year=year)
    except ValueError:
        return day.replace(year=year, day=28)


def _coming(achievement: Achievement, state: UserState) -> Iterator[tuple[datetime, Achievement]]:
    """When it is earned next, and then; for whom it can be."""
    sign_up, key = state.sign_up, achievement.key
    if sign_up is None or achievement.status is not Status.ACTIVE:
        return
    if key in state.awaited or key in state.withheld:
        return
    if achievement.user_filters and key not in sign_up.eligible:
        return
    had = state.count(achievement)
    if had and not achievement.repeatable:
        return
    for each in achievement.times(after=had):
        time = _midnight(sign_up, each.trigger.target)
        if time is not None and achievement.earn_from is not None:
            time = max(time, achievement.earn_from)
        if time is None or not achievement.is_open_at(time):
            return
        yield time, each


def _midnight(sign_up: SignUp, years: int) -> datetime | None:
    if sign_up.day is None or sign_up.day.year + years >= LATEST_DATE.year:
        return None
    return local_midnight(anniversary_in(sign_up.day, sign_up.day.year + years), sign_up.zone)


def _came(
    catalogue: Catalogue,
    before: UserState,
    earned: list[Achievement],
    time: datetime,
    now: datetime,
    since: datetime | None,
    past: Past,
) -> tuple[UserState, Came]:
    sign_up, user_id = before.sign_up, before.user_id
    assert sign_up is not None  # nothing is due of who has said nothing
    at = now if since is not None and time < since else time
    position = before.entry_count + 1
    # The place in the order of arrival tells it from one of the same date that was undone.
    entry_id = derived_id_at(at, "anniversary", user_id, time.isoformat(), str(position))
    above = catalogue.selective_above(earned)
    grounds = tuple(each.key for each in (*earned, *above) if each.key in sign_up.eligible)
    fact = Fact(entry_id, position, time, local_date(time, sign_up.zone), grounds=grounds)
    date_of = partial(dated, active_since=since) if since is not None else None
    grant = Grant(fact.reach, fact.cause)
    changes = [made(user_id, str(entry_id), each, each.trigger.target, grant) for each in earned]
    state = completed(replace(before, entry_count=position), changes)
    state, more = composites_followed(catalogue, before, state, fact, past, cause=str(entry_id), undoes=False)
    found = tuple([*changes, *more] if date_of is None else map(date_of, [*changes, *more]))
    return completed(state, found), Came(fact, sign_up.zone, found, at)
