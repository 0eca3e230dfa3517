"""Freezes: granted with time, never above the maximum (RULES 3.5)."""

from datetime import date, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain.by_hand import NOTHING_BY_HAND, ByHand
from services.streak.domain.definition import FreezeSettings
from services.streak.domain.rows import FreezeReason, LedgerLine

_DAY: Final = timedelta(days=1)


class Freezes(Struct, frozen=True, omit_defaults=True):
    """The freezes of a user's streak after everything up to some date."""

    origin: date
    """The local date of the first fact, from which grants are counted."""
    balance: int = 0
    grant_count: int = 0
    """How many grants have come due: the initial one, and one every `earn_every_days`."""
    manual_date: date | None = None
    """Up to which date what was given by hand is in it; None where nothing was."""
    era: int = 0
    """Which of the settings it has come to."""


Eras = tuple[tuple[date, FreezeSettings], ...]
"""Which settings hold from which date on, ascending; the first from the beginning."""


def grant_until(
    eras: Eras, freezes: Freezes, day: date, by_hand: ByHand = NOTHING_BY_HAND
) -> tuple[Freezes, tuple[LedgerLine, ...]]:
    """The freezes with every grant that is due on `day`, and a ledger line for each that gave something.

    A grant at the maximum gives nothing and leaves no line. Where the settings change, what users hold stays, and the
    next grant is the next that the new ones have due, counted from the date of the first fact as ever.
    """
    lines: tuple[LedgerLine, ...] = ()
    while freezes.era + 1 < len(eras) and eras[freezes.era + 1][0] <= day:
        begin, settings = eras[freezes.era + 1]
        freezes, granted = _granted_until(eras[freezes.era][1], freezes, begin - _DAY, by_hand)
        lines += granted
        due = _due_count(settings, freezes.origin, begin - _DAY)
        freezes = replace(freezes, era=freezes.era + 1, grant_count=due)
    freezes, granted = _granted_until(eras[freezes.era][1], freezes, day, by_hand)
    return freezes, lines + granted if lines else granted


def _granted_until(
    settings: FreezeSettings, freezes: Freezes, day: date, by_hand: ByHand
) -> tuple[Freezes, tuple[LedgerLine, ...]]:
    if not by_hand.grants:
        return _earned_until(settings, freezes, day)
    known = freezes.manual_date or date.min
    lines: tuple[LedgerLine, ...] = ()
    for given_day, given in by_hand.grants_by_day(freezes.origin):
        if not known < given_day <= day:
            continue
        freezes, earned = _earned_until(settings, freezes, given_day)
        amount = min(given, settings.max_count - freezes.balance)
        lines += earned
        if amount > 0:
            lines += (LedgerLine(given_day, FreezeReason.MANUAL, amount, given_day),)
            freezes = replace(freezes, balance=freezes.balance + amount)
    freezes, earned = _earned_until(settings, freezes, day)
    return replace(freezes, manual_date=max(known, day)), lines + earned


def _earned_until(
    settings: FreezeSettings, freezes: Freezes, day: date
) -> tuple[Freezes, tuple[LedgerLine, ...]]:
    """What comes with the passing of days."""
    balance, count = freezes.balance, freezes.grant_count
    lines: list[LedgerLine] = []
    if settings.max_count == 0:
        return freezes, ()
    while (due := _grant_date(settings, freezes.origin, count)) is not None and due <= day:
        if count > 0 and balance >= settings.max_count:
            count = _due_count(settings, freezes.origin, day)
            break
        offered = settings.earn_count if count > 0 else settings.initial_count
        amount = max(0, min(offered, settings.max_count - balance))
        if amount > 0:
            reason = FreezeReason.ACCUMULATION if count > 0 else FreezeReason.INITIAL
            lines.append(LedgerLine(due, reason, amount, due))
        balance += amount
        count += 1
    if count == freezes.grant_count:
        return freezes, ()
    return replace(freezes, balance=balance, grant_count=count), tuple(lines)


def consume(freezes: Freezes, day: date) -> tuple[Freezes, LedgerLine]:
    """One freeze less, spent on the period that ends on `day`."""
    spent = replace(freezes, balance=freezes.balance - 1)
    return spent, LedgerLine(day, FreezeReason.CONSUMED, -1, day)


def consumed_and_refunded(day: date, refund_date: date) -> tuple[LedgerLine, LedgerLine]:
    """A freeze spent on the period that ends on `day`, and given back."""
    return (
        LedgerLine(day, FreezeReason.CONSUMED, -1, day),
        LedgerLine(refund_date, FreezeReason.REFUNDED, 1, day),
    )


def freezes_left(
    eras: Eras, origin: date, balance: int, day: date, by_hand: ByHand = NOTHING_BY_HAND
) -> Freezes:
    """The freezes after everything up to `day`, where so many were left of them."""
    era = max(number for number, (begin, _) in enumerate(eras) if begin <= day)
    due = _due_count(eras[era][1], origin, day)
    return Freezes(origin, balance, due, day if by_hand.grants else None, era)


def _due_count(settings: FreezeSettings, origin: date, day: date) -> int:
    """How many grants have come due on `day`; where there are no freezes, none is counted."""
    if settings.max_count == 0 or day < origin:
        return 0
    return (day - origin).days // settings.earn_every_days + 1 if settings.earns else 1


def _grant_date(settings: FreezeSettings, origin: date, number: int) -> date | None:
    """The date of a grant, of which the initial one is number 0; None where there is no such grant."""
    if number == 0:
        return origin
    return origin + timedelta(days=number * settings.earn_every_days) if settings.earns else None
