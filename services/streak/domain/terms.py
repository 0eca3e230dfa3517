"""What a streak asks in a period: what the definition was by its end, and what the user wants otherwise (RULES 3.11).

A change takes effect with the period in which it is made: with the first that ends after it. So what was closed stays,
and a late event is judged as it would have been in time.
"""

from datetime import date, datetime, timedelta
from typing import Final

from msgspec.structs import replace

from services.streak.domain.by_hand import ByHand, Override
from services.streak.domain.definition import MetricThreshold, StreakDefinition
from services.streak.domain.facts import Fact
from services.streak.domain.freezes import Eras
from services.streak.domain.zones import Steps, zone_at

_DAY: Final = timedelta(days=1)


def terms(definition: StreakDefinition, period: int, zone: str, by_hand: ByHand) -> StreakDefinition:
    """The definition that a period is judged by, which closes in this zone."""
    if not (definition.earlier or by_hand.overrides):
        return definition
    found = _as_of(definition, period, zone)
    override = by_hand.override_in(definition, period)
    return _overridden(found, override) if override else found


def terms_at(definition: StreakDefinition, period: int, zones: Steps, by_hand: ByHand) -> StreakDefinition:
    """The definition that a period is judged by, where the user was in these zones."""
    if not (definition.earlier or by_hand.overrides):
        return definition
    return terms(definition, period, zone_at(zones, period), by_hand)


def counts(definition: StreakDefinition, zones: Steps, by_hand: ByHand, fact: Fact) -> bool:
    """Whether an event counts for its period: not one from before a reset, nor where the user has switched it off."""
    if not by_hand.counts(definition, fact.order, fact.local_date):
        return False
    judged = terms_at(definition, definition.period_of(fact.local_date), zones, by_hand)
    return judged.counts(fact.metric) and not judged.switched_off


def freeze_eras(definition: StreakDefinition, zones: Steps) -> Eras:
    """Which freezes there are from which date on."""
    if not definition.earlier:
        return ((date.min, definition.freezes),)
    eras = [(date.min, definition.earlier[0][1].freezes)]
    later = [each for _, each in definition.earlier[1:]] + [definition]
    for (until, _), after in zip(definition.earlier, later, strict=True):
        eras.append((definition.first_date(first_after(definition, zones, until)), after.freezes))
    return tuple(eras)


def first_after(definition: StreakDefinition, zones: Steps, instant: datetime) -> int:
    """The first period that ends after an instant: the one in which something takes effect that is made then."""
    period = definition.period_of((instant - _DAY).date())
    while _end_time(definition, period, zone_at(zones, period)) <= instant:
        period += 1
    return period


def _as_of(definition: StreakDefinition, period: int, zone: str) -> StreakDefinition:
    if not definition.earlier:
        return definition
    end = _end_time(definition, period, zone)
    return next((before for until, before in definition.earlier if end <= until), definition)


def _overridden(definition: StreakDefinition, override: Override) -> StreakDefinition:
    """With what a user wants otherwise; metrics that the streak does not have any more are passed over."""
    wanted = dict(override.metrics)
    metrics = tuple(
        MetricThreshold(each.metric, wanted[each.metric] or each.threshold_micros)
        for each in definition.metrics
        if each.metric in wanted
    )
    days_off = override.days_off
    return replace(
        definition,
        mode=override.mode or definition.mode,
        metrics=metrics or definition.metrics,
        days_off=definition.days_off if days_off is None else frozenset(days_off),
        switched_off=override.switched_off,
    )


def _end_time(definition: StreakDefinition, period: int, zone: str) -> datetime:
    return definition.day_begins(definition.last_date(period) + _DAY, zone)
