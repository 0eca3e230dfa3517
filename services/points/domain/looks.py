"""What expires in front of a fact that came before, where a refold gives something otherwise.

What is over by an arrival expires in front of it (`timing`). Where an award counts at another place from now on, it may
be over by the arrivals after that place, which looked when it was not there. So it expires as part of the first of
these: the others alone would have had it expire there.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from msgspec.structs import replace

from services.points.domain.definitions import EXPIRED, TriggerKey
from services.points.domain.facts import Due, Fact, Instant
from services.points.domain.fold import Points
from shared.calendar import local_date, local_midnight
from shared.ids import derived_id_at

_LAST_ZONE: Final = "Etc/GMT+12"
"""Where nobody tells where the user is, a date is over once it is everywhere."""

_NOTHING: Final[Mapping[date, int]] = {}


def looked_at(before: Points, after: Points, fact: Fact, systems: Iterable[str], zone: str | None) -> Fact:
    """The fact with what is over by its arrival and is there by the fold as it is now alone. `zone`: of the user."""
    if fact.came is None or before.lots is None or after.lots is None or before.lots is after.lots:
        return fact
    zone = zone or _LAST_ZONE
    today, dues = local_date(fact.came, zone), []
    for system in sorted(systems):
        key = TriggerKey(system, EXPIRED)
        was = before.lots.left.get(system, _NOTHING)
        left = after.lots.left.get(system, _NOTHING).items()
        over = [day for day, amount in left if day <= today and amount > was.get(day, 0)]
        if over and not any(due.key == key for due in fact.given):
            dues.append(_expiring(key, fact, max(over), zone))
    return replace(fact, given=(*dues, *fact.given)) if dues else fact


def _expiring(key: TriggerKey, fact: Fact, day: date, zone: str) -> Due:
    time = local_midnight(day, zone)
    name = derived_id_at(time, "points", str(fact.instant.entry_id), str(day), *key)
    return Due(key, Instant(name, time, day), 1, 0, period=day)
