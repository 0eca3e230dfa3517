"""Which streaks end soon, of many users at once: as whoever reminds them asks."""

from collections.abc import Iterable
from datetime import date, datetime

from msgspec import Struct

from services.streak.domain.definition import StreakDefinition
from services.streak.domain.fold import close, expire_time, today_in
from services.streak.domain.freezes import Eras, Freezes, grant_until
from services.streak.domain.gaps import end_time
from services.streak.domain.state import Current, StreakState
from services.streak.domain.terms import freeze_eras


class _Zone(Struct, frozen=True):
    """What is the same for all who were in one zone alone and of whom nothing special is known."""

    today: date
    period: int
    """The one that is running."""
    end: datetime | None
    """When a streak ends for which nothing is done in it."""
    eras: Eras
    kept: dict[Freezes, bool]
    """Whether a freeze would keep it, by the freezes of whom that has been looked at: those of many are equal."""


def ends_of(
    definition: StreakDefinition, states: Iterable[StreakState], now: datetime
) -> list[datetime | None]:
    """When each of these streaks is lost unless its user acts, as it looks at `now`; None where none is, the period is
    done, or a freeze would keep it.
    """
    zones: dict[str, _Zone] = {}
    return [_end(definition, state, now, zones) for state in states]


def end_of(current: Current) -> datetime | None:
    """The same of one streak, by how it looks."""
    return None if current.period_qualified or current.freeze_count else current.expire_time


def _end(
    definition: StreakDefinition, state: StreakState, now: datetime, zones: dict[str, _Zone]
) -> datetime | None:
    """What `close` says, without it where nothing was missed lately: that is most users, and much less work."""
    if state.by_hand or len(state.zones) > 1:
        return end_of(close(definition, state, now)[1])
    name = state.zone
    zone = zones.get(name)
    if zone is None:
        zone = zones[name] = _zone(definition, state, now)
    if state.latest_date > zone.today:
        return end_of(close(definition, state, now)[1])
    tally, anchor, freezes = state.tally, state.settled.anchor, state.settled.freezes
    last = tally.period if tally.reach else anchor.period if anchor else None
    if last is None or last == zone.period:
        return None
    if last != zone.period - 1 or (tally.reach and anchor and anchor.period != last - 1):
        return end_of(close(definition, state, now)[1])
    kept = zone.kept.get(freezes)
    if kept is None:
        kept = zone.kept[freezes] = grant_until(zone.eras, freezes, zone.today)[0].balance > 0
    return None if kept else zone.end


def _zone(definition: StreakDefinition, state: StreakState, now: datetime) -> _Zone:
    today = today_in(definition, now, state.zone)
    period = definition.period_of(today)
    end = expire_time(definition, state, period, end_time(definition, period, state.zone))
    return _Zone(today, period, end, freeze_eras(definition, state.zones), {})
