"""A user's past in the database, read as far as a refold asks for it (RULES 5.1).

Facts are found by (user, time, position). The awards that came with them are the rows of the ledger from one fact's
count of awards to the next one's; what refolds wrote later has an index of its own. So an event pays for none of it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from services.points import rows
from services.points.domain.days import Days
from services.points.domain.decisions import CountedFact
from services.points.domain.definitions import Catalogue, TriggerKey
from services.points.domain.dependence import Dependence
from services.points.domain.edits import LiveAward, Names
from services.points.domain.facts import Due, Fact, Identity, Instant
from services.points.domain.ledger import Award, Change
from services.points.domain.lots import Lots
from services.points.domain.shortcuts import Shift
from services.points.domain.state import UserState
from services.points.domain.streaks import LivePeriod
from services.points.refolding import Chunk
from services.points.store import DAYS, LOTS, WINDOWS, counted_facts
from services.points.terms import Terms
from shared.calendar import EARLIEST_DATE
from shared.entries import MetricFact
from shared.postgres.pool import Connection
from shared.postgres.request_log import State

FACTS: Final = """
    SELECT position, entry_id, occur_time, local_date, state, follows, contribution_micros, triggers, terms, boosts,
           award_count, apply_time AS came
      FROM request_log
     WHERE user_id = $1 AND position IS NOT NULL AND position BETWEEN $2 AND $3
     ORDER BY position
"""
FACTS_AT: Final = """
    SELECT position, entry_id, occur_time, local_date, state, follows, contribution_micros, triggers, terms, boosts,
           award_count
      FROM request_log
     WHERE user_id = $1 AND position IS NOT NULL AND position = ANY($2::bigint[])
     ORDER BY position
"""
AWARDS_AT: Final = """
    SELECT award.*
      FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS wanted (position, first, last)
     CROSS JOIN LATERAL (
               SELECT *
                 FROM awards
                WHERE user_id = $1 AND sequence > wanted.first AND sequence <= wanted.last AND NOT refolded
                  AND position = wanted.position
               OFFSET 0
           ) AS award
     UNION ALL
    SELECT *
      FROM awards
     WHERE user_id = $1 AND refolded AND position = ANY($2)
     ORDER BY sequence
"""
# Both sums after each fact: as it was, and less what the first of them lost. They are counted from the end, so that one
# window is enough.
CROSSING: Final = """
    WITH counted AS (
        SELECT position, entry_id, occur_time, local_date, state, follows, contribution_micros, triggers, terms, boosts,
               award_count, $4::bigint + contribution_micros
                                - (sum(contribution_micros) OVER (ORDER BY position DESC))::bigint AS upto
          FROM request_log
         WHERE user_id = $1 AND position IS NOT NULL AND position >= $2 AND state = 1 AND $3 = ANY(triggers)
    )
    SELECT position, entry_id, occur_time, local_date, state, follows, contribution_micros, triggers, terms, boosts,
           award_count, upto - contribution_micros AS sum_before
      FROM counted
     WHERE upto / $5 - (upto - contribution_micros) / $5
           <> (upto - $6) / $5 - (upto - contribution_micros - CASE position WHEN $2 THEN 0 ELSE $6 END) / $5
     ORDER BY position
"""
# A condition that is true or not hashes the positions; with = ANY each row would go through thousands of them.
AWARDS_OF: Final = """
    SELECT *
      FROM awards
     WHERE user_id = $1 AND sequence > $2 AND points_system = $3 AND trigger = $4
       AND (position IN (SELECT unnest($5::bigint[]))) IS TRUE
     ORDER BY sequence
"""
AWARDS_BETWEEN: Final = """
    SELECT *
      FROM awards
     WHERE user_id = $1 AND sequence > $2 AND sequence <= $3 AND NOT refolded AND position BETWEEN $4 AND $5
     UNION ALL
    SELECT *
      FROM awards
     WHERE user_id = $1 AND refolded AND position BETWEEN $4 AND $5
     ORDER BY sequence
"""
SUMS: Final = """
    SELECT name, sum(contribution_micros)::bigint AS sum
      FROM request_log CROSS JOIN LATERAL unnest(triggers) AS name
     WHERE user_id = $1 AND position IS NOT NULL AND position BETWEEN $2 AND $3 AND state = 1
       AND triggers IS NOT NULL
     GROUP BY name
"""
# All rows of an award together are its amount; what is above zero of that is its share of the lifetime.
ADDED: Final = """
    SELECT points_system, sum(amount)::bigint AS balance, sum(greatest(amount, 0))::bigint AS lifetime
      FROM (SELECT points_system, sum(amount) AS amount
              FROM awards
             WHERE user_id = $1 AND position >= $2
               AND sequence > (SELECT min(award_count)
                                 FROM request_log
                                WHERE user_id = $1 AND position IS NOT NULL AND position = $2)
             GROUP BY points_system, trigger, position, entry_id, completion_id, period) AS award
     GROUP BY points_system
"""
# Nearly always one of the newest rows is live; only where none is, all are asked.
REACH_TIME: Final = """
    SELECT max(occur_time)
      FROM (SELECT occur_time
              FROM awards
             WHERE user_id = $1 AND points_system = $2
               AND occur_time >= coalesce((SELECT occur_time
                                             FROM awards
                                            WHERE user_id = $1 AND points_system = $2
                                            ORDER BY occur_time DESC
                                           OFFSET $3
                                            LIMIT 1), '-infinity')
             GROUP BY position, trigger, entry_id, completion_id, period, occur_time
            HAVING sum(amount) <> 0) AS live
"""
ARRIVES_BEFORE: Final = """
    SELECT EXISTS (SELECT FROM request_log
                    WHERE user_id = $1 AND occur_time < $2 AND position IS NOT NULL AND position > $3)
"""
NAMED: Final = """
    SELECT position, entry_id, occur_time, local_date, state, follows, contribution_micros, triggers, terms, boosts,
           contribution_version
      FROM request_log
     WHERE entry_id = ANY($1::uuid[]) AND user_id = $2
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""
GIVEN: Final = """
    SELECT *
      FROM awards
     WHERE user_id = $1 AND completion_id IS NOT NULL AND completion_id = ANY($2::uuid[])
     UNION ALL
    SELECT award.*
      FROM unnest($3::text[], $4::text[]) AS wanted (points_system, trigger)
     CROSS JOIN LATERAL (
               SELECT *
                 FROM awards
                WHERE user_id = $1 AND points_system = wanted.points_system AND trigger = wanted.trigger
                  AND period IS NOT NULL
               OFFSET 0
           ) AS award
     ORDER BY sequence
"""
WRITE: Final = """
    INSERT INTO awards (user_id, sequence, award_id, points_system, trigger, times, base_amount, amount, entry_id,
                        occur_time, local_date, completion_id, reversed_award_id, position, refolded,
                        cause_entry_id, period, multiplied_amount, multiplier, boosts, level, expire_date)
    SELECT * FROM unnest($1::award_row_4[])
"""
KEEP_REVISIONS: Final = """
    INSERT INTO revisions (user_id, entry_id, version, contribution_micros)
    SELECT $1, * FROM unnest($2::uuid[], $3::bigint[], $4::bigint[])
        ON CONFLICT (entry_id) DO UPDATE
           SET version = EXCLUDED.version, contribution_micros = EXCLUDED.contribution_micros
         WHERE revisions.version < EXCLUDED.version
"""
REVISE: Final = """
    UPDATE request_log
       SET contribution_micros = revised.contribution_micros, contribution_version = $3
      FROM unnest($1::uuid[], $2::bigint[]) AS revised (entry_id, contribution_micros)
     WHERE request_log.entry_id = revised.entry_id
"""

_LAST: Final = 2**63 - 1
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_SOME: Final = 100
_LAST_ZONE: Final = timedelta(hours=12)
"""A date begins that much later in the last zone than in UTC."""


class UserHistory:
    """The past of one user, who is locked, in a transaction."""

    def __init__(self, connection: Connection, state: UserState, terms: Terms) -> None:
        self._connection = connection
        self._state = state
        self._user_id = state.user_id
        self._terms = terms

    async def at(self, positions: Sequence[int]) -> Chunk:
        """The facts at these positions."""
        wanted = set(positions)
        among = sorted({*wanted, *(position + 1 for position in wanted)})
        found = await self._connection.fetch(FACTS_AT, self._user_id, among)
        counts = {row["position"]: row["award_count"] for row in found}
        facts = [row for row in found if row["position"] in wanted]
        places = [
            (row["position"], row["award_count"], counts.get(row["position"] + 1) or _LAST) for row in facts
        ]
        awards = await self._connection.fetch(AWARDS_AT, self._user_id, *rows.columns(3, places))
        live = live_awards(map(rows.award, awards))
        return Chunk(_complete(facts, live, self._terms), live)

    async def chunk(self, start: int, size: int | None) -> Chunk:
        """So many facts from a position on; None: all."""
        last = self._state.entry_count if size is None else start + size - 1
        return await self._between(start, last)

    async def sums_before(self, start: int) -> Mapping[TriggerKey, int]:
        """For each metric trigger, what the facts before a position contributed; from the shorter side."""
        if 2 * start < self._state.entry_count:
            return await self._sums(1, start - 1)
        since = await self._sums(start, _LAST)
        return {
            key: timeline.accumulated_micros - since.get(key, 0)
            for key, timeline in self._state.points.timelines.items()
        }

    async def crossing(self, shift: Shift, start: int) -> tuple[Sequence[tuple[Fact, int]], Names]:
        """The facts with which a trigger passes more or fewer multiples, and its awards that came with them."""
        key = shift.key
        found = await self._connection.fetch(
            CROSSING,
            self._user_id,
            start,
            f"{key.points_system}/{key.trigger}",
            shift.accumulated_micros,
            shift.every_micros,
            shift.delta_micros,
        )
        if not found:
            return [], {}
        awards = await self._connection.fetch(
            AWARDS_OF,
            self._user_id,
            found[0]["award_count"],
            key.points_system,
            key.trigger,
            [row["position"] for row in found],
        )
        return [(rows.fact(row), row["sum_before"]) for row in found], live_awards(map(rows.award, awards))

    async def added_since(self, start: int) -> Mapping[str, tuple[int, int]]:
        """For each system, what awards that count at a position or later add to the balance, and to the lifetime."""
        found = await self._connection.fetch(ADDED, self._user_id, start)
        return {row["points_system"]: (row["balance"], row["lifetime"]) for row in found}

    async def days(self, since: date | None, before: int | None = None) -> Days:
        """What was given on dates from one on (None: on all), by arrivals before a position."""
        systems = sorted(self._terms.ever_day_limited)
        first = since or EARLIEST_DATE
        row = await self._connection.fetchrow(DAYS, [self._user_id], [first], [before or _LAST], systems)
        assert row is not None
        return rows.days(row["days"], since)

    async def lots(self, before: int | None = None) -> Lots:
        """What is left of awards, by arrivals before a position."""
        return rows.lots(await self._connection.fetch(LOTS, [self._user_id], before or _LAST)).get(
            self._user_id, Lots()
        )

    async def arrives_before(self, day: date, position: int) -> bool:
        """Whether something arrived after a position that occurred before a date has begun in the last zone."""
        end = datetime.combine(day, time(), UTC) + _LAST_ZONE
        found: bool = await self._connection.fetchval(ARRIVES_BEFORE, self._user_id, end, position)
        return found

    async def window(self, since: datetime | None, before: int | None = None) -> Sequence[CountedFact]:
        """The facts since an instant, with the awards that arrivals before a position brought them."""
        row = await self._connection.fetchrow(
            WINDOWS, [self._user_id], [since or _BEGINNING], [before or _LAST]
        )
        assert row is not None
        return counted_facts(row)

    async def write(self, changes: Sequence[Change]) -> None:
        """Add the rows to the ledger."""
        written = rows.awards_of(changes, refolded=True)
        await self._connection.execute(WRITE, rows.award_rows(self._user_id, written))

    async def reach_time(self, points_system: str) -> datetime | None:
        """When the newest live award of a system occurred that moved the balance."""
        for skipped in (_SOME, _LAST):
            found: datetime | None = await self._connection.fetchval(
                REACH_TIME, self._user_id, points_system, skipped
            )
            if found is not None:
                return found
        return None

    def terms(self, version: int) -> Catalogue:
        """The definitions of a version."""
        return self._terms.at(version)

    def dependence(self, points_system: str) -> Dependence:
        """On what earlier facts the system's awards ever depended."""
        return self._terms.dependence(points_system)

    async def named(self, entry_ids: Collection[UUID]) -> Mapping[UUID, Fact]:
        """The facts of those entries that are live."""
        found = await self._connection.fetch(NAMED, sorted(entry_ids), self._user_id)
        return {
            row["entry_id"]: rows.fact(row)
            for row in found
            if row["state"] == State.APPLIED and row["position"] is not None
        }

    async def given(
        self, completion_ids: Collection[UUID], triggers: Collection[TriggerKey]
    ) -> Sequence[LivePeriod]:
        """The live awards for these completions, and those of these streak triggers."""
        found = await self._connection.fetch(
            GIVEN, self._user_id, list(completion_ids), *rows.columns(2, sorted(triggers))
        )
        awards = [rows.award(row) for row in found]
        causes = {award.award_id: award.cause_entry_id for award in awards}
        return [
            LivePeriod(position, live.due, causes[live.award_id])
            for (position, _), live in live_awards(awards).items()
            if live.due.times
        ]

    async def newer(self, metric: MetricFact) -> Mapping[UUID, int]:
        """The revisions of live facts that are newer than what is known of these. Those of unknown entries are kept."""
        revisions = {revision.entry_id: revision.contribution_micros for revision in metric.revisions}
        found = await self._connection.fetch(NAMED, sorted(revisions), self._user_id)
        known = {row["entry_id"]: row for row in found}
        unknown = [
            (entry_id, metric.total_version, contribution)
            for entry_id, contribution in sorted(revisions.items())
            if entry_id not in known
        ]
        if unknown:
            await self._connection.execute(KEEP_REVISIONS, self._user_id, *rows.columns(3, unknown))
        return {
            entry_id: revisions[entry_id]
            for entry_id, row in known.items()
            if row["state"] == State.APPLIED and (row["contribution_version"] or 0) < metric.total_version
        }

    async def revise(self, contributions: Mapping[UUID, int], version: int) -> None:
        """Change what facts contribute."""
        await self._connection.execute(REVISE, list(contributions), list(contributions.values()), version)

    async def _sums(self, first: int, last: int) -> dict[TriggerKey, int]:
        found = await self._connection.fetch(SUMS, self._user_id, first, last)
        return {rows.trigger_key(row["name"]): row["sum"] for row in found}

    async def _between(self, first: int, last: int) -> Chunk:
        found = await self._connection.fetch(FACTS, self._user_id, first, last + 1)
        facts = [row for row in found if row["position"] <= last]
        if not facts:
            return Chunk([], {})
        following = found[-1] if found[-1]["position"] > last else None
        awards = await self._connection.fetch(
            AWARDS_BETWEEN,
            self._user_id,
            facts[0]["award_count"],
            following["award_count"] if following and following["award_count"] else _LAST,
            first,
            last,
        )
        live = live_awards(map(rows.award, awards))
        return Chunk(_complete(facts, live, self._terms), live, is_last=following is None)


def live_awards(awards: Iterable[Award]) -> dict[tuple[int, Identity], LiveAward]:
    """The awards that rows of the ledger together are, by their places and names."""
    live: dict[tuple[int, Identity], LiveAward] = {}
    for award in awards:
        name = (award.position, award.identity)
        known = live.get(name)
        if known is None:
            owner = Instant(award.entry_id, award.occur_time, award.local_date)
            due = Due(award.key, owner, award.times, award.base_amount, award.completion_id, award.period)
            first_amount = 0 if award.refolded else award.amount
            live[name] = LiveAward(award.award_id, due, award.product, award.amount, first_amount)
        else:
            due = replace(
                known.due,
                times=known.due.times + award.times,
                base_amount=known.due.base_amount + award.base_amount,
            )
            product = replace(award.product, amount=known.product.amount + award.product.amount)
            live[name] = replace(known, due=due, product=product, amount=known.amount + award.amount)
    return live


def _complete(
    found: Sequence[asyncpg.Record], live: Mapping[tuple[int, Identity], LiveAward], terms: Terms
) -> list[Fact]:
    """The facts with what was given with them, and what their deductions took when they came."""
    given: dict[int, list[LiveAward]] = {}
    spent: dict[int, dict[Identity, int]] = {}
    for (position, identity), award in live.items():
        if award.due.times and identity.is_given:
            given.setdefault(position, []).append(award)
        if award.first_amount < 0:
            spent.setdefault(position, {})[identity] = award.first_amount
    facts = []
    for row in found:
        fact = rows.fact(row)
        if fact.position in given or fact.position in spent:
            catalogue = terms.at(fact.terms)
            dues = tuple(award.given_under(catalogue) for award in given.get(fact.position, ()))
            fact = replace(fact, given=dues, spent=spent.get(fact.position, {}))
        facts.append(fact)
    return facts
