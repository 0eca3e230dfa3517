"""Between the rows of the database and the domain. Rows that are written have the fields of their types in order."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from services.points.domain import (
    Award,
    CauseKind,
    Change,
    LiveAward,
    Standing,
    TriggerKey,
    TriggerState,
    UserState,
)
from shared.postgres.request_log import State


class LogEntry(Struct, frozen=True):
    """A decided entry, as it goes into the log."""

    entry_id: UUID
    user_id: str
    digest: bytes
    state: State
    outcome: bytes
    apply_time: datetime
    occur_time: datetime
    local_date: date
    position: int | None = None
    metric: str | None = None
    value_micros: int | None = None
    triggers: tuple[TriggerKey, ...] = ()


def columns(width: int, keys: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Keys that are asked for, as one array for each of their parts."""
    return [[key[index] for key in keys] for index in range(width)]


def state(row: asyncpg.Record) -> UserState:
    """A row of the load statement, without live awards."""
    return UserState(
        user_id=row["user_id"],
        version=row["version"],
        entry_count=row["entry_count"],
        award_count=row["award_count"],
        first_entry_id=row["first_entry_id"],
        standings=standings(row["balances"]),
        triggers={
            TriggerKey(points_system, trigger): TriggerState(CauseKind(kind), *counts)
            for points_system, trigger, kind, *counts in row["triggers"]
        },
        completions=dict(row["completions"]),
    )


def standings(records: Iterable[Any]) -> dict[str, Standing]:
    """Balances by system, from records as the load statement has them."""
    return {
        points_system: Standing(balance, lifetime, level, version, reach_time)
        for points_system, balance, lifetime, level, version, reach_time in records
    }


def award(row: asyncpg.Record) -> Award:
    """A row of the ledger."""
    return Award(
        award_id=row["award_id"],
        sequence=row["sequence"],
        key=TriggerKey(row["points_system"], row["trigger"]),
        times=row["times"],
        base_amount=row["base_amount"],
        amount=row["amount"],
        entry_id=row["entry_id"],
        occur_time=row["occur_time"],
        local_date=row["local_date"],
        completion_id=row["completion_id"],
        reversed_award_id=row["reversed_award_id"],
    )


def live_award(row: asyncpg.Record) -> LiveAward:
    """A row of the view of live awards."""
    return LiveAward(award(row), row["live_times"])


def trigger_key(name: str) -> TriggerKey:
    """A trigger from its name in the request log: system/trigger."""
    points_system, _, trigger = name.partition("/")
    return TriggerKey(points_system, trigger)


def user_row(old: UserState, new: UserState) -> tuple[Any, ...]:
    """A `user_row`, which guards the state: however many entries the batch has of the user, it moves once."""
    return (new.user_id, old.version + 1, new.entry_count, new.award_count, new.first_entry_id)


def log_row(entry: LogEntry) -> tuple[Any, ...]:
    """The `log_row` of a decided entry."""
    return (
        entry.entry_id,
        entry.user_id,
        entry.digest,
        entry.state,
        entry.outcome,
        entry.apply_time,
        entry.occur_time,
        entry.local_date,
        entry.position,
        entry.metric,
        entry.value_micros,
        [*map("/".join, entry.triggers)] or None,
    )


def award_rows(user_id: str, changes: Iterable[Change]) -> list[tuple[Any, ...]]:
    """The ledger's new rows, as `award_row`s."""
    return [
        (
            user_id,
            award.sequence,
            award.award_id,
            *award.key,
            award.times,
            award.base_amount,
            award.amount,
            award.entry_id,
            award.occur_time,
            award.local_date,
            award.completion_id,
            award.reversed_award_id,
        )
        for change in changes
        for award in change.awards
    ]


def balance_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """The balances that differ, as `balance_row`s."""
    return [
        (new.user_id, key, one.balance, one.lifetime, one.level, one.version, one.reach_time)
        for key, one in sorted(new.standings.items())
        if old.standings.get(key) != one
    ]


def trigger_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """The trigger states that differ, as `trigger_state_row`s."""
    return [
        (
            new.user_id,
            *key,
            one.kind,
            one.granted_count,
            one.net_count,
            one.accumulated_micros,
            one.high_micros,
            one.every_micros,
            one.negative_count,
        )
        for key, one in sorted(new.triggers.items())
        if old.triggers.get(key) != one
    ]


def completion_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """The completion counts that differ, as `completion_row`s."""
    return [
        (new.user_id, completion_id, net_count)
        for completion_id, net_count in sorted(new.completions.items())
        if old.completions.get(completion_id) != net_count
    ]
