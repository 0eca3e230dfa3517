"""Between the rows of the database and the domain. Rows that are written have the fields of their types in order."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import IntEnum
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.account import Account
from services.points.domain.clocks import Clock
from services.points.domain.counting import Timeline, stored
from services.points.domain.days import UNKNOWN, Days, Given
from services.points.domain.definitions import BoostKey, TriggerKey
from services.points.domain.facts import Fact, Instant
from services.points.domain.fold import Points
from services.points.domain.holds import HOLD, Hold
from services.points.domain.ledger import Award, Change
from services.points.domain.lots import Lots, moved
from services.points.domain.multipliers import Product
from services.points.domain.state import Owed, Passing, StreakCount, UserState
from shared.postgres.request_log import State

Row = asyncpg.Record | Mapping[str, Any]


class _Periods(Struct, frozen=True, array_like=True):
    """What a streak trigger's row says of single periods, each as its count does."""

    owed: tuple[Owed, ...]
    idle: tuple[date, ...]
    withdrawn: tuple[date, ...]
    passings: tuple[Passing, ...] = ()


_PERIODS: Final = msgspec.json.Decoder(_Periods)
_HOLDS: Final = msgspec.json.Decoder(tuple[Hold, ...])
_NOT_COUNTED: Final = (0, 0, 0, False, False, None, 0)
"""The columns of what a metric trigger counts."""


class CauseKind(IntEnum):
    """What a counting trigger counts."""

    METRIC = 1
    STREAK = 2
    TIME = 3
    HOLD = 4
    """Nothing: it says what is held."""


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
    fact: Fact | None = None
    """None where it was refused."""
    contribution_version: int | None = None
    award_count: int | None = None


def columns(width: int, keys: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Keys that are asked for, as one array for each of their parts."""
    return [[key[index] for key in keys] for index in range(width)]


def state(row: asyncpg.Record) -> UserState:
    """A row of the load statement."""
    timelines: dict[TriggerKey, Timeline] = {}
    streaks: dict[TriggerKey, StreakCount] = {}
    clocks: dict[TriggerKey, Clock] = {}
    holds: dict[str, tuple[Hold, ...]] = {}
    for points_system, trigger, kind, granted, due, *counts, next_time, zone, day, periods in row["triggers"]:
        key = TriggerKey(points_system, trigger)
        if kind == CauseKind.METRIC:
            accumulated, high, every, irregular, fractional, newest, late = counts
            timelines[key] = stored(
                Timeline(accumulated, high, due, granted, every, irregular, fractional, newest, late)
            )
        elif kind == CauseKind.STREAK:
            of_periods = msgspec.structs.astuple(_PERIODS.decode(periods)) if periods else ()
            streaks[key] = StreakCount(due, granted, *of_periods)
        elif kind == CauseKind.HOLD:
            holds[points_system] = _HOLDS.decode(periods) if periods else ()
        elif next_time is not None:
            clocks[key] = Clock(next_time, zone, day)
    first_position = row["first_position"]
    return UserState(
        user_id=row["user_id"],
        version=row["version"],
        entry_count=row["entry_count"],
        award_count=row["award_count"],
        first_position=first_position,
        points=Points(first_position is not None, timelines, accounts(row["balances"])),
        streaks=streaks,
        completions=dict(row["completions"]),
        clocks=clocks,
        holds=holds,
    )


def accounts(records: Iterable[Any]) -> dict[str, Account]:
    """Balances by system, from records as the load statement has them."""
    return {points_system: Account(*rest) for points_system, *rest in records}


def days(records: Iterable[Any], known_since: date | None) -> Days:
    """What was given on dates, from records as the statement for days has them."""
    given: dict[tuple[str, date], dict[str, Given]] = {}
    for points_system, trigger, day, amount, times in records:
        given.setdefault((points_system, day), {})[trigger] = Given(amount, tuple(times))
    return Days(given, known_since)


def lots(records: Iterable[Row]) -> dict[str, Lots]:
    """What is left of awards by user, from what each came to, in the order of arrival."""
    found: dict[str, dict[str, Lots]] = {}
    for row in records:
        own = found.setdefault(row["user_id"], {})
        system = row["points_system"]
        own[system] = moved(own.get(system, Lots()), system, [(row["amount"], row["expire_date"])])
    return {
        user_id: Lots(
            {system: one.left[system] for system, one in own.items()},
            {system: one.owed[system] for system, one in own.items()},
        )
        for user_id, own in found.items()
    }


def fact(row: Row) -> Fact:
    """The fact of a row of the log, without what was given with it. One that was undone is nothing by itself."""
    instant = Instant(row["entry_id"], row["occur_time"], row["local_date"])
    if row["state"] != State.APPLIED:
        return Fact(
            row["position"], instant, row["terms"], follows=True, boosts=_boosts(row), came=row.get("came")
        )
    return Fact(
        position=row["position"],
        instant=instant,
        terms=row["terms"],
        follows=row["follows"],
        contribution_micros=row["contribution_micros"] or 0,
        triggers=tuple(map(trigger_key, row["triggers"] or ())),
        boosts=_boosts(row),
        came=row.get("came"),
    )


def award(row: Row) -> Award:
    """A row of the ledger."""
    return Award(
        award_id=row["award_id"],
        sequence=row["sequence"],
        position=row["position"],
        key=TriggerKey(row["points_system"], row["trigger"]),
        times=row["times"],
        base_amount=row["base_amount"],
        product=_product(row),
        amount=row["amount"],
        entry_id=row["entry_id"],
        occur_time=row["occur_time"],
        local_date=row["local_date"],
        cause_entry_id=row["cause_entry_id"],
        refolded=row["refolded"],
        completion_id=row["completion_id"],
        period=row["period"],
        reversed_award_id=row["reversed_award_id"],
        expire_date=row["expire_date"],
    )


def _boosts(row: Row) -> tuple[BoostKey, ...]:
    return tuple(BoostKey(*name.split("/")) for name in row["boosts"] or ())


def _product(row: Row) -> Product:
    if row["multiplied_amount"] is None:
        return Product(row["base_amount"])
    return Product(
        row["multiplied_amount"], row["multiplier"], tuple(row["boosts"] or ()), row["level"] or ""
    )


def trigger_key(name: str) -> TriggerKey:
    """A trigger from its name in the request log: system/trigger."""
    points_system, _, trigger = name.partition("/")
    return TriggerKey(points_system, trigger)


def user_row(old: UserState, new: UserState) -> tuple[Any, ...]:
    """A `user_row_2`, which guards the state: however many entries the batch has of the user, it moves once."""
    return (new.user_id, old.version + 1, new.entry_count, new.award_count, new.first_position)


def as_loaded(old: UserState, new: UserState) -> UserState:
    """The state after a store as it would be loaded: without what was only known on the way."""
    before = old.points.timelines
    timelines = {
        key: timeline if before.get(key) is timeline else stored(timeline)
        for key, timeline in new.points.timelines.items()
    }
    points = replace(new.points, timelines=timelines, days=UNKNOWN, lots=None)
    return replace(new, version=old.version + 1, completions={}, points=points)


def log_row(entry: LogEntry) -> tuple[Any, ...]:
    """The `log_row_3` of a decided entry."""
    fact = entry.fact
    decided = (
        entry.entry_id,
        entry.user_id,
        entry.digest,
        entry.state,
        entry.outcome,
        entry.apply_time,
        entry.occur_time,
        entry.local_date,
    )
    if fact is None:
        return (*decided, None, None, None, None, None, None, None, None)
    return (
        *decided,
        fact.position,
        fact.contribution_micros,
        [*map("/".join, fact.triggers)] or None,
        entry.contribution_version,
        fact.follows,
        fact.terms,
        entry.award_count,
        [*map("/".join, fact.boosts)] or None,
    )


def award_rows(user_id: str, awards: Iterable[Award]) -> list[tuple[Any, ...]]:
    """The ledger's new rows, as `award_row_4`s."""
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
            award.position,
            award.refolded,
            award.cause_entry_id,
            award.period,
            *_product_columns(award),
            award.expire_date,
        )
        for award in awards
    ]


def _product_columns(award: Award) -> tuple[Any, ...]:
    """Nothing where nothing multiplies the award."""
    product = award.product
    if product.amount == award.base_amount and product.multiplies_nothing:
        return (None, None, None, None)
    return (product.amount, product.multiplier, list(product.boosts) or None, product.level or None)


def awards_of(changes: Iterable[Change], *, refolded: bool) -> list[Award]:
    """Those rows of the changes that a refold wrote, or the others."""
    return [award for change in changes for award in change.awards if award.refolded is refolded]


def balance_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """The balances that differ, as `balance_row_2`s."""
    before = old.points.accounts
    return [
        (
            new.user_id,
            key,
            account.balance,
            account.lifetime,
            account.level,
            account.version,
            account.reach_time,
            account.cut_position,
        )
        for key, account in sorted(new.points.accounts.items())
        if before.get(key) != account
    ]


def trigger_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """The trigger states that differ, as `trigger_state_row_5`s."""
    before = old.points.timelines
    rows: list[tuple[Any, ...]] = [
        (
            new.user_id,
            *key,
            CauseKind.METRIC,
            timeline.granted_count,
            timeline.due_count,
            timeline.accumulated_micros,
            timeline.high_micros,
            timeline.every_micros,
            timeline.irregular,
            timeline.fractional,
            timeline.newest_time,
            timeline.late_position,
            None,
            None,
            None,
            None,
        )
        for key, timeline in new.points.timelines.items()
        if before.get(key) is not timeline
    ]
    if new.streaks is not old.streaks:
        rows.extend(
            (
                new.user_id,
                *key,
                CauseKind.STREAK,
                count.granted_count,
                count.due_count,
                *_NOT_COUNTED,
                None,
                None,
                None,
                _periods(count),
            )
            for key, count in new.streaks.items()
            if old.streaks.get(key) != count
        )
    clocks = set() if new.clocks is old.clocks else {*old.clocks, *new.clocks}
    for key in clocks:
        if old.clocks.get(key) == new.clocks.get(key):
            continue
        clock = new.clocks.get(key)
        ends = (clock.next_time, clock.zone, clock.day) if clock else (None, None, None)
        rows.append((new.user_id, *key, CauseKind.TIME, 0, 0, *_NOT_COUNTED, *ends, None))
    for system, holds in new.holds.items():
        if old.holds.get(system, ()) != holds:
            ends_first = holds[0].expire_time if holds else None
            said = msgspec.json.encode(holds).decode() if holds else None
            rows.append(
                (new.user_id, system, HOLD, CauseKind.HOLD, 0, 0, *_NOT_COUNTED, ends_first, None, None, said)
            )
    rows.sort(key=lambda row: row[:3])
    return rows


def _periods(count: StreakCount) -> str | None:
    """Nothing where every period that is due is granted, and no other, and no correction was made of late."""
    periods = (count.owed, count.idle, count.withdrawn, count.passings)
    return msgspec.json.encode(periods).decode() if any(periods) else None


def came_entry(user_id: str, fact: Fact, award_count: int, now: datetime) -> LogEntry:
    """What came due by time, or with another user's entry, as it goes into the log: nobody asks for it, so there is no
    outcome.
    """
    instant = fact.instant
    return LogEntry(
        entry_id=instant.entry_id,
        user_id=user_id,
        digest=b"",
        state=State.APPLIED,
        outcome=b"",
        apply_time=now,
        occur_time=instant.occur_time,
        local_date=instant.local_date,
        fact=fact,
        award_count=award_count,
    )


def completion_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """The completion counts that differ, as `completion_row`s."""
    return [
        (new.user_id, completion_id, net_count)
        for completion_id, net_count in sorted(new.completions.items())
        if old.completions.get(completion_id) != net_count
    ]
