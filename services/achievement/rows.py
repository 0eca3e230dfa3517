"""Between rows of the database and the domain: the order of a tuple is that of its row type (docs/adr/0012)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from services.achievement.domain import (
    UNREAD,
    Accumulator,
    Cause,
    Change,
    ChangeKind,
    Completion,
    Fact,
    FirstReach,
    Key,
    Reach,
    Revision,
    SignUp,
    Source,
    SourceKey,
    SourceKind,
    Total,
    UserState,
    place_of,
)

_KINDS: Final = {int(kind): kind for kind in SourceKind}


# What is read


def state_of(row: asyncpg.Record) -> UserState:
    """A user's state."""
    return UserState(
        user_id=row["user_id"],
        version=row["version"],
        entry_count=row["entry_count"],
        sources={
            SourceKey(_KINDS[kind], key): Source(version, current, highest)
            for key, kind, version, current, highest, *_ in row["sources"]
        },
        totals=totals_of(row["sources"]),
        accumulators=accumulators_of(row["accumulators"]),
        completions=_held(row["held"]) | completions_of(row["completions"]),
        unseen=frozenset(place_of(key, number) for key, number in row.get("unseen") or ()),
        withheld=frozenset(row["withheld"] or ()),
        sign_up=_sign_up(row),
        awaited=frozenset(key for key, cursor in row["awaited"] if row["user_id"] > cursor),
        reaches={
            (streak, length): FirstReach(version, Reach(entry_id, occurred, day) if entry_id else None)
            for streak, length, version, entry_id, occurred, day in row["reaches"]
        },
    )


def _sign_up(row: asyncpg.Record) -> SignUp | None:
    if row["sign_up_version"] is None:
        return None
    return SignUp(
        row["sign_up_date"],
        row["sign_up_zone"],
        row["sign_up_version"],
        frozenset(row["eligible"] or ()),
        row["next_anniversary"],
    )


def totals_of(records: Iterable[Any]) -> dict[str, Total]:
    """By metric, of its source's row."""
    return {
        key: Total(Accumulator(total, highest, negatives), newest)
        for key, kind, _, _, highest, total, negatives, newest in records
        if kind == SourceKind.METRIC
    }


def accumulators_of(records: Iterable[Any]) -> dict[str, Accumulator]:
    """By achievement."""
    return {key: Accumulator(total, peak, negatives) for key, total, peak, negatives in records}


def completions_of(records: Iterable[Any]) -> dict[str, Completion]:
    """By place."""
    completions = (
        Completion(
            completion_id,
            key,
            Reach(entry_id, time, day),
            target,
            Cause(position, Key(cause_time, cause_id)),
            number,
            backdated,
        )
        for (
            key,
            completion_id,
            entry_id,
            time,
            day,
            target,
            position,
            cause_time,
            cause_id,
            number,
            backdated,
        ) in records
    )
    return {completion.place: completion for completion in completions}


def _held(counts: Iterable[Any]) -> dict[str, Completion]:
    """By place, of how many times each achievement is held."""
    return {place_of(key, number): UNREAD for key, count in counts for number in range(1, count + 1)}


def fact_of(row: asyncpg.Record) -> Fact:
    """A fact, of any entry that came since facts have times."""
    return Fact(
        row["entry_id"],
        row["position"],
        row["occur_time"],
        row["local_date"],
        row["metric"],
        row["value_micros"],
        row["version"],
        tuple(row["counted"] or ()),
        tuple(row["grounds"] or ()),
        row["late"],
        row["live"],
        row.get("undone_count"),
    )


# What is written


def user_row(old: UserState, new: UserState) -> tuple[Any, ...]:
    """A user, one version on."""
    head = (new.user_id, old.version + 1, new.entry_count)
    told = new.sign_up
    if told is None:
        return (*head, None, None, None, None, None)
    return (*head, told.day, told.zone, told.version, sorted(told.eligible) or None, told.next_time)


def fact_columns(fact: Fact) -> tuple[Any, ...]:
    """Of a row of the log, from its position on."""
    return (
        fact.position,
        fact.value_micros,
        fact.counted or None,
        fact.grounds or None,
        fact.metric or None,
        fact.occur_time,
        fact.local_date,
        fact.version or None,
        fact.late or None,
    )


def source_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """Of a metric together with its total."""
    return [
        _source_row(new.user_id, key, source, new.totals.get(key.key))
        for key, source in sorted(new.sources.items())
        if old.sources.get(key) != source
        or (key.kind is SourceKind.METRIC and old.totals.get(key.key) != new.totals.get(key.key))
    ]


def _source_row(user_id: str, key: SourceKey, source: Source, total: Total | None) -> tuple[Any, ...]:
    head = (user_id, key.key, key.kind, source.version, source.current)
    if key.kind is SourceKind.STREAK:
        return (*head, source.highest, 0, 0, None)
    total = total or Total()
    sums = total.sums
    return (*head, sums.peak_micros, sums.sum_micros, sums.negative_count, total.newest)


def accumulator_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """Those that changed."""
    if new.accumulators is old.accumulators:
        return []
    return [
        accumulator_row(new.user_id, key, accumulator)
        for key, accumulator in sorted(new.accumulators.items())
        if old.accumulators.get(key) != accumulator
    ]


def accumulator_row(user_id: str, achievement: str, accumulator: Accumulator) -> tuple[Any, ...]:
    """One of them."""
    return (user_id, achievement, accumulator.sum_micros, accumulator.peak_micros, accumulator.negative_count)


def completion_fact_row(
    user_id: str, cause_id: UUID, change: Change, revoke_time: datetime
) -> tuple[Any, ...]:
    """A completion counts from when its condition was met, a revocation from when it was decided."""
    live = change.completion
    reach = live.reach
    time = reach.occur_time if change.kind is ChangeKind.COMPLETED else revoke_time
    return (
        user_id,
        live.achievement,
        live.completion_id,
        change.kind,
        cause_id,
        time,
        reach.entry_id,
        reach.local_date,
        live.number,
        live.backdated,
    )


def earned_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """Live completions that are new, or others than before."""
    if new.completions is old.completions:
        return []
    return [
        live_row(new.user_id, live)
        for key, live in sorted(new.completions.items())
        if old.completions.get(key) != live
    ]


def live_row(user_id: str, live: Completion) -> tuple[Any, ...]:
    """One of them."""
    reach, cause = live.reach, live.cause
    return (
        user_id,
        live.achievement,
        live.completion_id,
        reach.entry_id,
        reach.occur_time,
        live.target,
        reach.local_date,
        cause.position,
        *cause.key,
        live.number,
        live.backdated,
    )


def lost_rows(old: UserState, new: UserState) -> list[tuple[str, str, int]]:
    """Keys of those that are gone: only where all is read does one go."""
    if new.completions is old.completions:
        return []
    return [
        (new.user_id, live.achievement, live.number)
        for place, live in sorted(old.completions.items())
        if place not in new.completions
    ]


def reach_rows(old: UserState, new: UserState) -> list[tuple[Any, ...]]:
    """Of lengths that are first reached otherwise than before."""
    if new.reaches is old.reaches:
        return []
    return [
        (new.user_id, *key, reach.version, *_reach_columns(reach.reach))
        for key, reach in sorted(new.reaches.items())
        if old.reaches.get(key) != reach
    ]


def _reach_columns(reach: Reach | None) -> tuple[Any, ...]:
    return (None, None, None) if reach is None else (reach.entry_id, reach.occur_time, reach.local_date)


def revision_row(user_id: str, revision: Revision) -> tuple[Any, ...]:
    """What an entry contributes from now on."""
    return (user_id, revision.entry_id, revision.version, revision.contribution_micros)
