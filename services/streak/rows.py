"""Between rows of the database and the domain: the order of a tuple is that of its row type (docs/adr/0012)."""

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from services.streak.domain import (
    NOTHING_BY_HAND,
    Fact,
    Followed,
    FreezeReason,
    LedgerLine,
    Period,
    PeriodStatus,
    Reach,
    UserStreak,
    fact,
)
from services.streak.encoding import decode, decode_by_hand

Key = tuple[str, str]
"""A user's streak: user id and streak key."""


def user_streak_of(row: asyncpg.Record) -> UserStreak:
    """A row of `streak_states`."""
    by_hand = decode_by_hand(row["by_hand"]) if row["by_hand"] is not None else NOTHING_BY_HAND
    return UserStreak(
        version=row["version"],
        followed=Followed(row["length"], row["longest"], row["reach_time"]),
        fingerprint=row["fingerprint"],
        closed_time=row["closed_time"],
        state=decode(row["state"], by_hand) if row["state"] is not None else None,
        by_hand=by_hand,
    )


def key_of(row: asyncpg.Record) -> Key:
    """Whose streak a row is about."""
    return row["user_id"], row["streak"]


def fact_of(row: asyncpg.Record) -> Fact:
    """The fact of a row of `request_log`."""
    return fact(
        row["entry_id"],
        row["metric"],
        row["contribution_micros"],
        row["occur_time"],
        row["time_zone"],
        row["apply_time"],
    )


def period_of(row: asyncpg.Record) -> Period:
    """A row of `periods`."""
    reach = None
    if row["entry_id"] is not None:
        reach = Reach(row["entry_id"], row["settle_time"], row["local_date"])
    status = PeriodStatus(row["status"])
    return Period(row["start_date"], row["end_date"], status, row["length"], row["settle_time"], reach)


def ledger_line_of(row: asyncpg.Record) -> LedgerLine:
    """A row of `freeze_ledger`."""
    return LedgerLine(row["effective_date"], FreezeReason(row["reason"]), row["amount"], row["about_date"])


def period_row(key: Key, row: Period) -> tuple[Any, ...]:
    """As it is written."""
    reach = (row.reach.entry_id, row.reach.local_date) if row.reach else (None, None)
    return (*key, row.start_date, row.end_date, row.status, row.length, row.settle_time, *reach)


def ledger_row(key: Key, line: LedgerLine) -> tuple[Any, ...]:
    """As it is written."""
    return (*key, line.effective_date, line.reason, line.amount, line.about_date)


def columns_of(keys: Iterable[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    """Keys that are asked for, as one array for each of their parts."""
    return list(zip(*keys, strict=True)) or [()] * width
