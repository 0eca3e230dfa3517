"""Points that are held for purchases which wait for an outside answer (RULES 5.7).

A hold lowers what can be spent, not the balance; it is captured, released, or ends by itself. What it stands in the way
of is decided once, when something arrives. So the fold of facts knows of no hold: a capture is a spending like others.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.points.domain.account import EMPTY_ACCOUNT, Account
from services.points.domain.definitions import Catalogue
from services.points.domain.limits import (
    HoldEnded,
    HoldTooSmall,
    InsufficientPoints,
    NotGiven,
    Refusal,
    TooManyHolds,
)
from shared.entries import Entry, HoldEnd, PointsCapture, PointsGift, PointsHold

MAX_HOLDS: Final = 100
"""Of a user in one system, at once."""

HOLD: Final = "(hold)"
"""Where the key of a trigger stands: the points are to be held."""


class Hold(Struct, frozen=True, array_like=True):
    """Points that are held."""

    hold_id: UUID
    """The entry of the hold."""
    amount: int
    expire_time: datetime
    """When it ends by itself."""


Holds = Mapping[str, tuple[Hold, ...]]
"""By system, the first to end first."""


class Holding(Struct, frozen=True):
    """What is held after an entry, and what it takes by itself."""

    holds: Holds
    gifts: tuple[PointsGift, ...]


def live(holds: Holds, now: datetime) -> Holds:
    """Without those that have ended by themselves."""
    if all(hold.expire_time > now for those in holds.values() for hold in those):
        return holds
    return {key: tuple(hold for hold in those if hold.expire_time > now) for key, those in holds.items()}


def held(holds: Holds) -> dict[str, int]:
    """How much is held, by system."""
    if not holds:
        return {}
    return {key: sum(hold.amount for hold in those) for key, those in holds.items() if those}


def without(holds: Holds, hold_id: UUID) -> Holds:
    """The same without one."""
    return {key: tuple(hold for hold in those if hold.hold_id != hold_id) for key, those in holds.items()}


def decide(
    catalogue: Catalogue, holds: Holds, accounts: Mapping[str, Account], entry: Entry
) -> Holding | Refusal:
    """What an entry does to what is held; or why it is refused."""
    holds = live(holds, entry.now) if holds else holds
    match entry.content:
        case PointsHold() as call:
            return _held(catalogue, holds, accounts, entry, call)
        case HoldEnd() as call:
            return _ended(holds, call)
    return Holding(holds, entry.gifts)


def _ended(holds: Holds, call: HoldEnd) -> Holding | Refusal:
    amount = call.amount if isinstance(call, PointsCapture) else 0
    for key, those in holds.items():
        hold = next((one for one in those if one.hold_id == call.hold_entry_id), None)
        if hold is None:
            continue
        if amount > hold.amount:
            return HoldTooSmall(hold.hold_id, hold.amount, amount)
        taken = amount or hold.amount
        gifts = (PointsGift(key, -taken),) if isinstance(call, PointsCapture) else ()
        return Holding(without(holds, hold.hold_id), gifts)
    return HoldEnded(call.hold_entry_id)


def _held(
    catalogue: Catalogue, holds: Holds, accounts: Mapping[str, Account], entry: Entry, call: PointsHold
) -> Holding | Refusal:
    key = call.points_system
    system = catalogue.systems.get(key)
    if system is None or not system.active:
        return NotGiven(key, archived=system is not None)
    known = holds.get(key, ())
    if len(known) >= MAX_HOLDS:
        return TooManyHolds(key)
    balance, already = accounts.get(key, EMPTY_ACCOUNT).balance, held(holds).get(key, 0)
    if balance - already - call.amount < system.min_balance:
        return InsufficientPoints(key, HOLD, balance, call.amount, system.min_balance, already)
    hold = Hold(entry.entry_id, call.amount, call.expire_time)
    return Holding({**holds, key: tuple(sorted((*known, hold), key=lambda one: one.expire_time))}, ())
