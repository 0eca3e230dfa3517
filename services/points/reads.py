"""What is read of points: balances and history, summaries, distributions, what would be, and the audit."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.points.amending import apply_amending
from services.points.definitions import POINTS_SYSTEM, Configuration
from services.points.domain.audit import Difference, wrong_accounts, wrong_awards
from services.points.domain.counting import HistoryNeeded
from services.points.domain.decisions import Applied
from services.points.domain.definitions import EXPIRED, BoostKey, LevelBasis, PointsSystem, TriggerKey
from services.points.domain.facts import Command, Instant
from services.points.domain.ledger import Award, Change
from services.points.domain.limits import Refusal
from services.points.domain.lots import NEVER, Lots
from services.points.domain.multipliers import boosts_at
from services.points.domain.refold import folded
from services.points.domain.state import UserState
from services.points.domain.timing import advanced, asks_for_lots, with_lots
from services.points.history import UserHistory
from services.points.store import AwardFilter, Store
from services.points.terms import Terms
from shared.calendar import local_date
from shared.pages import Page
from shared.postgres import definitions as stored
from shared.postgres.one_instant import one_instant
from shared.postgres.pool import Pool

# The awards of a user that count on local dates from one on, each with all that changed it. An award is younger than
# the entry that it belongs to.
SUMMARY: Final = """
    WITH award AS (
        SELECT trigger, local_date, sum(times)::bigint AS times, sum(base_amount)::bigint AS base_amount,
               sum(amount)::bigint AS amount
          FROM awards
         WHERE user_id = $1 AND points_system = $2 AND local_date >= $3
           AND sequence > (SELECT min(award_count)
                             FROM request_log
                            WHERE user_id = $1 AND position IS NOT NULL
                              AND occur_time >= $3::timestamp AT TIME ZONE 'Etc/GMT-14')
         GROUP BY trigger, local_date, position, entry_id, completion_id, period
    )
    SELECT CASE WHEN local_date > $4 THEN NULL ELSE date_trunc($5, local_date::timestamp)::date END AS period, trigger,
           sum(times)::bigint AS times, sum(base_amount)::bigint AS base_amount,
           coalesce(sum(amount) FILTER (WHERE amount > 0), 0)::bigint AS earned,
           coalesce(-sum(amount) FILTER (WHERE amount < 0), 0)::bigint AS spent
      FROM award
     WHERE (times, amount) <> (0, 0)
     GROUP BY 1, 2
     ORDER BY 1, 2
"""
BALANCE: Final = "SELECT balance FROM balances WHERE user_id = $1 AND points_system = $2"
USERS_AFTER: Final = "SELECT user_id FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2"

_NEWEST: Final = 2**63 - 1


class TriggerSum(Struct, frozen=True):
    """What one trigger gave, or took, in a period."""

    trigger: str
    """Empty: points given or taken by call."""
    times: int
    base_amount: int
    """Before multipliers and limits."""
    amount: int


class PeriodSum(Struct, frozen=True):
    """What happened to a balance in a period."""

    first_day: date
    earned: int
    spent: int
    balance: int
    """At its end."""
    triggers: tuple[TriggerSum, ...]


class Audited(Struct, frozen=True):
    """What an audit has found."""

    user_count: int
    award_count: int
    differences: tuple[Difference, ...]


class Reads:
    """The use cases that only read."""

    def __init__(
        self, pool: Pool, store: Store, configuration: stored.Catalogue[Configuration], terms: Terms
    ) -> None:
        self._pool = pool
        self._store = store
        self._configuration = configuration
        self._terms = terms

    async def list_user_points(
        self, user_id: str, page: Page, now: datetime
    ) -> tuple[Configuration, UserState, list[str], str]:
        """A page of the systems in which a user stands somewhere, by key: every active one, and others where there are
        points; with the user's state as of `now`, and the token of the next page.
        """
        configuration = await self._configuration.latest()
        state = (await self._store.load([user_id])).states[user_id]
        if asks_for_lots(configuration.catalogue, state, now):
            state = with_lots(state, (await self._store.lots([user_id])).get(user_id, Lots()))
        state, _ = advanced(configuration.catalogue, state, now)
        accounts = state.points.accounts
        active = {key for key, system in configuration.catalogue.systems.items() if system.active}
        after = page.after[0] if page.after else ""
        keys = sorted(key for key in active.union(accounts) if key > after)
        shown = keys[: page.size]
        token = page.next_token(shown[-1]) if len(keys) > page.size else ""
        return configuration, state, shown, token

    async def list_awards(self, user_id: str, wanted: AwardFilter, page: Page) -> tuple[Sequence[Award], str]:
        """A page of the user's awards, newest first, and the token of the next. Raises `NotFound`."""
        if wanted.points_system:
            _defined(await self._configuration.latest(), wanted.points_system)
        before = page.after[0] if page.after else _NEWEST
        awards = await self._store.awards(user_id, wanted, before, page.size + 1)
        shown = awards[: page.size]
        return shown, page.next_token(shown[-1].sequence) if len(awards) > page.size else ""

    async def level_distribution(
        self, points_system: str
    ) -> tuple[Configuration, PointsSystem, Sequence[int]]:
        """How many users are below the first level, and at each. Raises `NotFound`."""
        configuration = await self._configuration.latest()
        system = _defined(configuration, points_system)
        counts = await self._store.users_by_level(
            points_system,
            by_lifetime=system.level_basis is LevelBasis.LIFETIME,
            thresholds=[level.threshold for level in system.levels],
        )
        return configuration, system, counts

    async def summary(
        self, user_id: str, points_system: str, unit: str, first: date, last: date
    ) -> Sequence[PeriodSum]:
        """The periods (`day`, `week` or `month`) in which something changed, oldest first. Raises `NotFound`."""
        _defined(await self._configuration.latest(), points_system)
        async with one_instant(self._pool, "request_log") as connection:
            found = await connection.fetch(SUMMARY, user_id, points_system, first, last, unit)
            balance = await connection.fetchval(BALANCE, user_id, points_system) or 0
        by_period: dict[date, list[TriggerSum]] = {}
        earned: dict[date, int] = {}
        spent: dict[date, int] = {}
        for row in found:
            period = row["period"]
            if period is None:
                balance -= row["earned"] - row["spent"]
                continue
            earned[period] = earned.get(period, 0) + row["earned"]
            spent[period] = spent.get(period, 0) + row["spent"]
            amount = row["earned"] - row["spent"]
            by_period.setdefault(period, []).append(
                TriggerSum(row["trigger"], row["times"], row["base_amount"], amount)
            )
        sums = []
        for period in sorted(by_period, reverse=True):
            triggers = tuple(by_period[period])
            sums.append(PeriodSum(period, earned[period], spent[period], balance, triggers))
            balance -= earned[period] - spent[period]
        return sums[::-1]

    async def users_by_range(
        self,
        points_system: str,
        bounds: Sequence[int],
        *,
        by_lifetime: bool,
        only: Sequence[str] | None = None,
    ) -> Sequence[int]:
        """How many users, of these or of all, are below the first of the ascending bounds, and from each of them on.
        Raises `NotFound`.
        """
        _defined(await self._configuration.latest(), points_system)
        return await self._store.users_by_level(
            points_system, by_lifetime=by_lifetime, thresholds=bounds, only=only
        )

    async def expiring(
        self, user_id: str, points_system: str, within_days: int, now: datetime
    ) -> Sequence[tuple[date, int]]:
        """What is left and expires within so many days (0: ever), the soonest first. Raises `NotFound`."""
        configuration = await self._configuration.latest()
        _defined(configuration, points_system)
        async with one_instant(self._pool) as connection:
            state = (await self._store.load([user_id], connection=connection)).states[user_id]
            lots = (await self._store.lots([user_id], connection)).get(user_id, Lots())
        state, _ = advanced(configuration.catalogue, with_lots(state, lots), now)
        clock = state.clocks.get(TriggerKey(points_system, EXPIRED))
        if state.points.lots is None or clock is None:
            return []
        left = state.points.lots.left.get(points_system, {})
        last = local_date(now, clock.zone) + timedelta(days=within_days) if within_days else NEVER
        return sorted((day, amount) for day, amount in left.items() if day < NEVER and day <= last)

    async def boosts(
        self, user_id: str, attributes: Mapping[str, str], instant: datetime, day: date
    ) -> tuple[Configuration, Sequence[BoostKey]]:
        """The boosts that apply to what a user with these attributes does at an instant, on a local date."""
        configuration = await self._configuration.latest()
        moment = Instant(UUID(int=0), instant, day)
        return configuration, boosts_at(configuration.catalogue, user_id, attributes, moment)

    async def preview(self, command: Command) -> Refusal | Sequence[Change]:
        """What an event would give its user now. Nothing is changed."""
        user_id = command.entry.user.user_id
        async with one_instant(self._pool, "request_log") as connection:
            loaded = await self._store.load([user_id], connection=connection)
            configuration = await self._configuration.at(loaded.configuration_version, connection)
            await self._terms.learn(connection)
            self._terms.note(configuration)
            state = loaded.states[user_id]
            history = UserHistory(connection, state, self._terms)
            decided = await apply_amending(history, configuration.catalogue, state, command)
        return decided.changes if isinstance(decided, Applied) else decided

    async def audit(self, user_id: str, page: Page) -> tuple[Audited, str]:
        """The audit of one user, or of a page of all; and the token of the next page."""
        token = ""
        if user_id:
            user_ids = [user_id]
        else:
            after = page.after[0] if page.after else ""
            user_ids = [row["user_id"] for row in await self._pool.fetch(USERS_AFTER, after, page.size + 1)]
            if len(user_ids) > page.size:
                user_ids.pop()
                token = page.next_token(user_ids[-1])
        differences: list[Difference] = []
        award_count = 0
        for audited in user_ids:
            count, wrong = await self._audited(audited)
            award_count += count
            differences.extend(wrong)
        return Audited(len(user_ids), award_count, tuple(differences)), token

    async def _audited(self, user_id: str) -> tuple[int, list[Difference]]:
        async with one_instant(self._pool, "request_log") as connection:
            state = (await self._store.load([user_id], connection=connection)).states[user_id]
            await self._terms.learn(connection)
            past = await UserHistory(connection, state, self._terms).chunk(1, None)
        wrong = wrong_accounts(state, past.awards, self._terms.versions)
        for settling in (True, False):
            try:
                granted = list(folded(past.facts, self._terms.at, settling=settling))
            except HistoryNeeded:
                continue
            return len(past.awards), [*wrong, *wrong_awards(user_id, granted, past.awards)]
        raise AssertionError("the whole history decides everything")


def _defined(configuration: Configuration, key: str) -> PointsSystem:
    system = configuration.catalogue.systems.get(key)
    if system is None:
        raise POINTS_SYSTEM.unknown(key)
    return system
