"""What a refold reads: the SQL for events that touch the past, and for events that are undone (DESIGN 3)."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

import asyncpg

from services.streak.domain import (
    Around,
    Fact,
    History,
    LedgerLine,
    Past,
    Period,
    Rows,
    Since,
    Window,
    facts_since,
    facts_until,
)
from services.streak.rows import Key, columns_of, fact_of, key_of, ledger_line_of, period_of
from shared.calendar import EARLIEST
from shared.postgres.pool import Connection, Pool

# The last qualified period before what is touched, and what the rows up to it come to.
HISTORY_PAST: Final = """
    SELECT wanted.user_id, wanted.streak, last.*, past.*,
           (SELECT coalesce(sum(amount), 0) FROM freeze_ledger
             WHERE user_id = wanted.user_id AND streak = wanted.streak
               AND about_date <= last.end_date) AS freeze_count
      FROM unnest($1::text[], $2::text[], $3::date[]) AS wanted (user_id, streak, touched)
     CROSS JOIN LATERAL (
           SELECT start_date, end_date, status, length, settle_time, entry_id, local_date FROM periods
            WHERE user_id = wanted.user_id AND streak = wanted.streak AND start_date < wanted.touched
              AND status = 2
            ORDER BY start_date DESC LIMIT 1
     ) AS last
     CROSS JOIN LATERAL (
           SELECT max(start_date) FILTER (WHERE status = 2 AND length = 1) AS run_start_date,
                  max(length) AS longest
             FROM periods
            WHERE user_id = wanted.user_id AND streak = wanted.streak AND start_date <= last.start_date
     ) AS past
"""

# OFFSET 0 keeps the planner from turning the look-up by user into a join over the whole index, which costs the
# same while the tables are empty and is cached for when they are not.
HISTORY_FACTS: Final = """
    SELECT wanted.user_id, wanted.streak, fact.*
      FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
               AS wanted (user_id, streak, since, until)
     CROSS JOIN LATERAL (
           SELECT entry_id, metric, contribution_micros, occur_time, time_zone, apply_time FROM request_log
            WHERE user_id = wanted.user_id AND occur_time >= wanted.since
              AND occur_time < coalesce(wanted.until, 'infinity')
              AND state = 1 AND streaks IS NOT NULL AND wanted.streak = ANY(streaks)
           OFFSET 0
     ) AS fact
"""
HISTORY_PERIODS: Final = """
    SELECT wanted.user_id, wanted.streak, period.*
      FROM unnest($1::text[], $2::text[], $3::date[]) AS wanted (user_id, streak, after)
     CROSS JOIN LATERAL (
           SELECT start_date, end_date, status, length, settle_time, entry_id, local_date FROM periods
            WHERE user_id = wanted.user_id AND streak = wanted.streak AND start_date > wanted.after
            ORDER BY start_date
     ) AS period
"""
HISTORY_LEDGER: Final = """
    SELECT wanted.user_id, wanted.streak, line.*
      FROM unnest($1::text[], $2::text[], $3::date[]) AS wanted (user_id, streak, after)
     CROSS JOIN LATERAL (
           SELECT effective_date, reason, amount, about_date FROM freeze_ledger
            WHERE user_id = wanted.user_id AND streak = wanted.streak AND about_date > wanted.after
            ORDER BY effective_date, reason, about_date
     ) AS line
"""


class HistoryStore:
    """The histories of users' streaks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def histories(
        self, wanted: Mapping[Key, Since], connection: Connection | None = None
    ) -> dict[Key, History]:
        """As much of each history as is wanted, in three statements; four where the state does not know what
        comes before. What they are used for is guarded by version.
        """
        if not wanted:
            return {}
        source = connection or self._pool
        pasts = await _pasts(source, wanted)
        facts = await _facts(source, {key: [(_since(pasts.get(key)), None)] for key in wanted})
        rows = await _rows(source, {key: _after(pasts.get(key)) for key in wanted})
        return {key: History(facts[key], rows[key], pasts.get(key)) for key in wanted}

    async def around(self, key: Key, window: Window, connection: Connection | None = None) -> Around:
        """What is in a window of a history, in two statements; with rows in four."""
        source = connection or self._pool
        past = (await _pasts(source, {key: window.since})).get(key)
        facts = await _facts(source, {key: [(_since(past), facts_until(window)), *window.spans]})
        rows = await _rows(source, {key: _after(past)} if window.with_rows else {})
        return Around(facts[key], past, rows.get(key, Rows()))


async def _facts(
    source: Connection | Pool, wanted: Mapping[Key, Sequence[tuple[datetime, datetime | None]]]
) -> dict[Key, tuple[Fact, ...]]:
    """The facts from one instant to another, or all later ones; each once."""
    spans = [(*key, *span) for key, spans in sorted(wanted.items()) for span in spans]
    found: dict[Key, dict[UUID, Fact]] = {key: {} for key in wanted}
    for row in await source.fetch(HISTORY_FACTS, *columns_of(spans, 4)):
        known = found[key_of(row)]
        if row["entry_id"] not in known:
            known[row["entry_id"]] = fact_of(row)
    return {key: tuple(facts.values()) for key, facts in found.items()}


async def _rows(source: Connection | Pool, after: Mapping[Key, date]) -> dict[Key, Rows]:
    """What is recorded behind these dates."""
    if not after:
        return {}
    dates = columns_of(((*key, day) for key, day in sorted(after.items())), 3)
    periods: dict[Key, list[Period]] = {key: [] for key in after}
    ledger: dict[Key, list[LedgerLine]] = {key: [] for key in after}
    for row in await source.fetch(HISTORY_PERIODS, *dates):
        periods[key_of(row)].append(period_of(row))
    for row in await source.fetch(HISTORY_LEDGER, *dates):
        ledger[key_of(row)].append(ledger_line_of(row))
    return {key: Rows(tuple(periods[key]), tuple(ledger[key])) for key in after}


async def _pasts(source: Connection | Pool, wanted: Mapping[Key, Since]) -> dict[Key, Past]:
    """What lies before that which is wanted; nothing where all is."""
    known = {key: since.past for key, since in wanted.items() if since.past}
    unknown = [
        (*key, since.touched)
        for key, since in sorted(wanted.items(), key=lambda item: item[0])
        if key not in known and since.touched > date.min
    ]
    if not unknown:
        return known
    found = await source.fetch(HISTORY_PAST, *columns_of(unknown, 3))
    return known | {key_of(row): _past(row) for row in found}


def _past(row: asyncpg.Record) -> Past:
    return Past(period_of(row), row["run_start_date"], row["longest"], row["freeze_count"])


def _after(past: Past | None) -> date:
    return past.last.end_date if past else date.min


def _since(past: Past | None) -> datetime:
    return facts_since(past) if past else EARLIEST
