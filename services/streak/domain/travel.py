"""Travel never costs a period by itself (RULES 3.6)."""

from datetime import datetime

from msgspec import Struct

from services.streak.domain.definition import StreakDefinition


class Sighting(Struct, frozen=True):
    """Where and when a user was active."""

    time: datetime
    zone: str


def forgiven_count(definition: StreakDefinition, missed: int, leaving: Sighting, arriving: Sighting) -> int:
    """How many of the periods missed between two qualifying ones are lost to travel alone.

    `leaving` is the latest fact of the first, `arriving` the earliest of the second. The periods between are
    counted by the facts' own dates (`missed`), by both dates in the one zone, and in the other; the smallest
    count is what the user missed.
    """
    if missed <= 0 or leaving.zone == arriving.zone:
        return 0
    counts = (
        _missed(definition, leaving.time, arriving.time, zone) for zone in (leaving.zone, arriving.zone)
    )
    return missed - max(0, min(missed, *counts))


def _missed(definition: StreakDefinition, leaving: datetime, arriving: datetime, zone: str) -> int:
    first = definition.period_of(definition.day_of(leaving, zone))
    return definition.period_of(definition.day_of(arriving, zone)) - first - 1
