"""What becomes of the periods that did not qualify, between one that did and the next, or now (RULES 3.4)."""

from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct

from services.streak.domain.by_hand import ByHand
from services.streak.domain.definition import Frequency, StreakDefinition
from services.streak.domain.freezes import Freezes, consume, consumed_and_refunded, grant_until
from services.streak.domain.rows import LedgerLine, Period, PeriodStatus, Rows
from services.streak.domain.state import Settled
from services.streak.domain.terms import freeze_eras, terms
from services.streak.domain.zones import Steps, zone_at

_DAY: Final = timedelta(days=1)
_NO_ROWS: Final = Rows()


class Gap(Struct, frozen=True):
    """What became of the periods after an anchor."""

    rows: Rows
    freezes: Freezes
    break_time: datetime | None


def refund(
    definition: StreakDefinition, period: int, refund_date: date, zones: Steps, by_hand: ByHand
) -> tuple[LedgerLine, ...]:
    """The freeze that was spent on a period and given back; nothing where nothing was expected of it."""
    if carrying(definition, period, zone_at(zones, period), by_hand):
        return ()
    return consumed_and_refunded(definition.last_date(period), refund_date)


def close_gap(
    definition: StreakDefinition,
    settled: Settled,
    zones: Steps,
    by_hand: ByHand,
    until: int,
    forgiven: int = 0,
    *,
    is_open: bool = False,
) -> Gap:
    """Close the periods between the anchor and `until`, none of which qualified, in the order of RULES 3.4.

    The last `forgiven` of them were lost to travel. After a break nothing is recorded. `until` is the period that
    qualified next, or else the open one, where a reset shows (RULES 3.9).
    """
    anchor, freezes = settled.anchor, settled.freezes
    if anchor is None or until <= anchor.period:
        return Gap(_NO_ROWS, freezes, None)
    reset = by_hand.reset_between(definition, anchor.period, until)
    if until == anchor.period + 1 and reset is None:
        return Gap(_NO_ROWS, freezes, None)
    periods: list[Period] = []
    ledger: list[LedgerLine] = []
    break_time = None
    spent = _Spent(definition, anchor.known_date)
    eras = freeze_eras(definition, zones)
    for period in range(anchor.period + 1, reset[0] if reset else until):
        end = definition.last_date(period)
        zone = zone_at(zones, period)
        settle_time = end_time(definition, period, zone)
        freezes, granted = grant_until(eras, freezes, end, by_hand)
        ledger += granted
        is_forgiven = period >= until - forgiven
        if (carried := carrying(definition, period, zone, by_hand, is_forgiven)) is not None:
            status = carried
            if status is PeriodStatus.EXCUSED:
                ledger += spent.on(period, zone, freezes.balance)
        elif freezes.balance > 0:
            status = PeriodStatus.FROZEN
            freezes, consumed = consume(freezes, end)
            ledger.append(consumed)
        else:
            status = PeriodStatus.BROKEN
            break_time = settle_time
        length = 0 if break_time else anchor.run.length
        periods.append(Period(definition.first_date(period), end, status, length, settle_time))
        if break_time:
            break
    if reset and break_time is None:
        period, break_time = reset[0], reset[1].occur_time
        if period < until or is_open:
            start, end = definition.first_date(period), definition.last_date(period)
            periods.append(Period(start, end, PeriodStatus.RESET, 0, break_time))
    return Gap(Rows(tuple(periods), tuple(ledger)), freezes, break_time)


class _Spent:
    """Freezes that were spent on periods before it was known that those are excused, and given back: the consumption
    and the refund cancel out. Of several such periods in a row each has them for which a freeze was at hand.
    """

    def __init__(self, definition: StreakDefinition, known_date: date) -> None:
        self._definition = definition
        self._known_date = known_date
        self._count = 0
        self._lost = False
        """By what was known the streak had ended."""

    def on(self, period: int, zone: str, balance: int) -> tuple[LedgerLine, ...]:
        """The lines for an excused period, at the end of which so many freezes were there."""
        end = self._definition.last_date(period)
        declare_time = self._definition.excused_since(*bounds(self._definition, period, zone))
        refund_date = self._definition.day_of(declare_time, zone) if declare_time else end
        if self._lost or refund_date <= end or self._known_date > end:
            return ()
        if balance <= self._count:
            self._lost = True
            return ()
        self._count += 1
        return consumed_and_refunded(end, refund_date)


def carrying(
    definition: StreakDefinition, period: int, zone: str, by_hand: ByHand, is_forgiven: bool = False
) -> PeriodStatus | None:
    """What lets a period that did not qualify carry the length on, by itself; None where that takes a freeze."""
    first, last = definition.first_date(period), definition.last_date(period)
    judging = terms(definition, period, zone, by_hand)
    if judging.switched_off or by_hand.is_paused(first, last):
        return PeriodStatus.PAUSED
    if judging.is_day_off(period):
        return PeriodStatus.DAY_OFF
    if is_forgiven or not _exists(definition, period, zone):
        return PeriodStatus.SKIPPED
    if definition.amnesties and definition.excused_since(*bounds(definition, period, zone)):
        return PeriodStatus.EXCUSED
    return PeriodStatus.RESTORED if by_hand.is_restored(first, last) else None


def end_time(definition: StreakDefinition, period: int, zone: str) -> datetime:
    """The instant at which a period closes: the beginning of the day after it."""
    return definition.day_begins(definition.last_date(period) + _DAY, zone)


def bounds(definition: StreakDefinition, period: int, zone: str) -> tuple[datetime, datetime]:
    """The instants at which a period begins and closes."""
    return definition.day_begins(definition.first_date(period), zone), end_time(definition, period, zone)


def _exists(definition: StreakDefinition, period: int, zone: str) -> bool:
    """Whether a period was at all: Pacific/Apia went from 2011-12-29 to 2011-12-31, and nobody skipped more than a
    day.
    """
    if definition.frequency is not Frequency.DAILY:
        return True
    begin, end = bounds(definition, period, zone)
    return begin < end
