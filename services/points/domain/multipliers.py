"""What multiplies an award (RULES 5.3): the boosts of the entry that it belongs to, and the level before it.

Which boosts apply to what an entry earns is decided by that entry alone: its instant, its local date, its user as of
then. So a boost multiplies the same awards in every order of arrival. The level is the one that all facts before the
arrival left, as limits look at the balance that they left. Points that an entry gives by itself, and deductions, are
multiplied by nothing.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from services.points.domain.definitions import (
    GIFT,
    ONE,
    POINTS_LIMIT,
    Boost,
    BoostKey,
    Catalogue,
    Level,
    PointsSystem,
    Rounding,
    Stacking,
    TriggerKey,
)
from services.points.domain.facts import Due, Instant
from shared.filters import matches


class Product(Struct, frozen=True):
    """What is due, multiplied, before any limit."""

    amount: int
    multiplier: float = 1
    boosts: tuple[str, ...] = ()
    """Keys of the boosts that made the multiplier."""
    level: str = ""
    """The level that made it, too; empty where none did."""

    @property
    def multiplies_nothing(self) -> bool:
        """There is neither a boost nor a level in it."""
        return self.multiplier == 1 and not self.boosts and not self.level


def boosts_at(
    catalogue: Catalogue, user_id: str, attributes: Mapping[str, str], instant: Instant
) -> tuple[BoostKey, ...]:
    """The boosts for what belongs to an entry of this user."""
    if not catalogue.boosts:
        return ()
    return tuple(
        key for key, boost in catalogue.boosts.items() if _applies(boost, user_id, attributes, instant)
    )


def for_trigger(catalogue: Catalogue, boosts: Iterable[BoostKey], trigger: TriggerKey) -> tuple[Boost, ...]:
    """Those of these boosts that multiply a trigger's awards, as the catalogue has them."""
    found = (
        catalogue.boosts.get(key)
        for key in boosts
        if key.points_system == trigger.points_system and trigger.trigger != GIFT
    )
    return tuple(
        boost for boost in found if boost and (not boost.triggers or trigger.trigger in boost.triggers)
    )


def product(system: PointsSystem, level: Level | None, due: Due) -> Product:
    """What is due, with all that multiplies it. `level`: the one that the user has."""
    by_level = ONE if level is None else level.multiplier_micros
    if due.base_amount <= 0 or due.key.trigger == GIFT or (by_level == ONE and not due.boosts):
        return Product(due.base_amount)
    boosts = due.boosts
    if boosts and system.stacking is Stacking.HIGHEST:
        boosts = (max(boosts, key=lambda boost: boost.multiplier_micros),)
    # Whole numbers: what is exact as a fraction costs several times as much.
    numerator = by_level
    for boost in boosts:
        numerator *= boost.multiplier_micros
    denominator = ONE ** (1 + len(boosts))
    roundings = {boost.rounding for boost in boosts}
    rounding = roundings.pop() if len(roundings) == 1 else Rounding.FLOOR
    amount = min(POINTS_LIMIT, _whole(due.base_amount * numerator, denominator, rounding))
    names = tuple(boost.key for boost in boosts)
    return Product(amount, numerator / denominator, names, level.key if level and by_level != ONE else "")


def _applies(boost: Boost, user_id: str, attributes: Mapping[str, str], instant: Instant) -> bool:
    return (
        boost.window.holds(instant.occur_time, instant.local_date)
        and boost.user_id in ("", user_id)
        and matches(boost.user_filters, attributes)
    )


def _whole(numerator: int, denominator: int, rounding: Rounding) -> int:
    match rounding:
        case Rounding.FLOOR:
            return numerator // denominator
        case Rounding.CEIL:
            return -(-numerator // denominator)
        case Rounding.NEAREST:
            return (2 * numerator + denominator) // (2 * denominator)
