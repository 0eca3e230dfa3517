"""Reads. What is due is closed before it is shown (RULES 3.7), by the fold alone: a read stores nothing."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct

from services.streak import convert, convert_reads
from services.streak.domain import (
    EVERYTHING,
    Current,
    Facts,
    LedgerLine,
    Period,
    Reach,
    Rows,
    StreakDefinition,
    UserStreak,
    UserZone,
    close,
    end_of,
    ends_of,
    expires_by,
    fold,
    is_outdated,
    running_period,
    settled_until,
    whole_life,
)
from services.streak.handlers import StoredCatalogue
from services.streak.rows import Key
from services.streak.store import Store
from services.streak.store_history import HistoryStore
from services.streak.store_reads import Ending, Longest, ReadStore, Statistics
from services.streak.store_zones import ZoneStore
from shared.calendar import EARLIEST, EARLIEST_DATE, LATEST_DATE
from shared.clock import Clock
from shared.errors import NotFound
from shared.pages import read_page
from shared.postgres.pool import Pool

_DAY: Final = timedelta(days=1)
LENGTH_BOUNDS: Final = (1, 2, 3, 7, 14, 30, 60, 100, 180, 365)
"""The least length of each range that statistics count in."""
_LONGER_THAN_ANY: Final = 2**31 - 1
_ENDS_AT_ONCE: Final = 1_000
"""So many are decided before others have their turn."""
_LAST_USER: Final = "\U0010ffff"

Ends = dict[tuple[datetime, str], list[str]]
"""Users, by the instant at which their streak ends and the zone that they are in."""


class _Recent(Struct, frozen=True):
    """The end of a user's streak as of now: `rows` come after what is recorded up to `settled_until`."""

    current: Current
    rows: Rows
    settled_until: date | None


class AtRisk(Struct, frozen=True):
    """A streak that ends unless its user acts."""

    user_id: str
    definition: StreakDefinition
    current: Current


class Queries:
    """The use cases that change nothing."""

    def __init__(self, pool: Pool, catalogue: StoredCatalogue, clock: Clock) -> None:
        self._store = Store(pool)
        self._histories = HistoryStore(pool)
        self._zones = ZoneStore(pool)
        self._reads = ReadStore(pool)
        self._catalogue = catalogue
        self._clock = clock

    async def list_user_streaks(
        self, user_id: str, read_time: datetime | None, page_size: int, page_token: str
    ) -> tuple[list[tuple[StreakDefinition, Current]], str]:
        """A page of a user's streaks in order of key, as they look at an instant, or now, and the next one's token."""
        page = read_page(page_size, page_token, keyset=[str], query=["user_streaks", user_id])
        now = read_time or self._clock.now()
        loaded = await self._store.load_whole(user_id)
        catalogue = await self._catalogue.at(loaded.configuration_version)
        shown: list[tuple[StreakDefinition, Current]] = []
        for key, streak in sorted(loaded.streaks.items(), key=lambda item: item[0]):
            if page.after and key[1] <= page.after[0]:
                continue
            if len(shown) > page.size:
                break
            definition = catalogue.get(key[1])
            recent = definition and await self._recent(key, definition, streak, loaded.zones, now)
            if definition and recent:
                shown.append((definition, recent.current))
        if len(shown) <= page.size:
            return shown, ""
        return shown[: page.size], page.next_token(shown[page.size - 1][0].key)

    async def list_periods(
        self, user_id: str, streak: str, page_size: int, page_token: str
    ) -> tuple[list[Period], str]:
        """A page of the periods, newest first, and the token of the next one."""
        page = read_page(page_size, page_token, keyset=[date], query=["periods", user_id, streak])
        recent = await self._required(user_id, streak)
        before = page.after[0] if page.after else LATEST_DATE
        found = [row for row in reversed(recent.rows.periods) if row.start_date < before]
        missing = page.size + 1 - len(found)
        if missing > 0 and recent.settled_until:
            before = min(before, recent.settled_until + _DAY)
            found += await self._reads.periods((user_id, streak), before, missing)
        shown = found[: page.size]
        return shown, page.next_token(shown[-1].start_date) if len(found) > page.size else ""

    async def list_freeze_ledger(
        self, user_id: str, streak: str, page_size: int, page_token: str
    ) -> tuple[list[LedgerLine], str]:
        """A page of the freeze ledger, oldest first, and the token of the next one."""
        page = read_page(page_size, page_token, keyset=[date, int, date], query=["ledger", user_id, streak])
        recent = await self._required(user_id, streak)
        after = (
            (page.after[0], page.after[1], page.after[2]) if page.after else (EARLIEST_DATE, 0, EARLIEST_DATE)
        )
        found: list[LedgerLine] = []
        if recent.settled_until:
            found = await self._reads.ledger((user_id, streak), after, recent.settled_until, page.size + 1)
        found += [line for line in recent.rows.ledger if line.key > after]
        # What was given back for a settled period may be dated later than what follows it.
        found.sort(key=lambda line: line.key)
        shown = found[: page.size]
        return shown, page.next_token(*shown[-1].key) if len(found) > page.size else ""

    async def list_longest_streaks(
        self, streak: str, page_size: int, page_token: str
    ) -> tuple[list[Longest], str]:
        """A page of the users with the longest runs, longest first, and the token of the next one."""
        page = read_page(page_size, page_token, keyset=[int, str], query=["longest", streak])
        if (await self._catalogue.latest()).get(streak) is None:
            raise convert.unknown_streak(streak)
        after = (page.after[0], page.after[1]) if page.after else (_LONGER_THAN_ANY, "")
        found = await self._reads.longest(streak, after, page.size + 1)
        shown = found[: page.size]
        token = page.next_token(shown[-1].longest, shown[-1].user_id) if len(found) > page.size else ""
        return shown, token

    async def calendar(self, user_id: str, streak: str, first: date, last: date) -> list[Period]:
        """The periods of a range of dates, oldest first, with the one that is running. Raises `NotFound`."""
        recent = await self._required(user_id, streak)
        until = recent.settled_until
        found = await self._reads.between((user_id, streak), first, min(last, until)) if until else []
        current = recent.current
        rows = [*found, *recent.rows.periods]
        if current.run and not current.period_qualified:
            rows.append(running_period(current))
        return [row for row in rows if row.end_date >= first and row.start_date <= last]

    async def batch_get_user_streaks(
        self, streak: str, user_ids: Sequence[str], read_time: datetime | None
    ) -> tuple[StreakDefinition, list[tuple[str, Current | None]]]:
        """A streak of these users, longest first, then by user id. Raises `NotFound`."""
        now = read_time or self._clock.now()
        loaded = await self._store.load(user_ids, [streak])
        definition = (await self._catalogue.at(loaded.configuration_version)).get(streak)
        if definition is None:
            raise convert.unknown_streak(streak)
        found: list[tuple[str, Current | None]] = []
        for user_id in dict.fromkeys(user_ids):
            known = loaded.streaks.get((user_id, streak))
            recent = known and await self._recent((user_id, streak), definition, known, loaded.zones, now)
            found.append((user_id, recent.current if recent else None))
        return definition, sorted(found, key=lambda each: (-(each[1].length if each[1] else 0), each[0]))

    async def list_first_reaches(
        self, streak: str, user_ids: Sequence[str], least: int, most_count: int
    ) -> list[tuple[str, int, int, Reach]]:
        """User, version of the streak, length, and with which event it was first reached; by user and length."""
        return await self._reads.first_reaches(streak, user_ids, least, most_count)

    async def list_streaks_at_risk(
        self,
        streak: str,
        within: timedelta,
        zone: str,
        read_time: datetime | None,
        page_size: int,
        page_token: str,
    ) -> tuple[list[AtRisk], str]:
        """A page of the streaks that expire within a time, soonest first, and the token of the next one."""
        query = ["at_risk", streak, str(within), zone, str(read_time)]
        page = read_page(page_size, page_token, keyset=[datetime, str], query=query)
        if (await self._catalogue.latest()).get(streak) is None:
            raise convert.unknown_streak(streak)
        now = read_time or self._clock.now()
        until = now + within
        after = (page.after[0], page.after[1]) if page.after else (EARLIEST, "")
        due = await self._reads.at_risk(streak, now, until, after, zone, page.size + 1)
        shown = due[: page.size]
        if not shown:
            return [], ""
        definition, states = await self.batch_get_user_streaks(streak, [user for user, _ in shown], now)
        current_of = dict(states)
        found = [
            AtRisk(user_id, definition, current)
            for user_id, _ in shown
            if (current := current_of[user_id]) and expires_by(current, until)
        ]
        return found, page.next_token(shown[-1][1], shown[-1][0]) if len(due) > page.size else ""

    async def list_streak_ends(
        self, streak: str, begin: datetime, end: datetime, page_size: int, page_token: str
    ) -> tuple[Ends, str]:
        """A page of the users whose streak is lost after `begin` and up to `end` unless they act, and the next one's
        token. Raises `NotFound`.
        """
        query = ["streak_ends", streak, str(begin), str(end)]
        page = read_page(
            page_size, page_token, keyset=[datetime, str], query=query, most=convert_reads.MAX_ENDS
        )
        definition = (await self._catalogue.latest()).get(streak)
        if definition is None:
            raise convert.unknown_streak(streak)
        after = (page.after[0], page.after[1]) if page.after else (begin, _LAST_USER)
        ends: Ends = {}
        for left in range(page.size, 0, -_ENDS_AT_ONCE):
            wanted = min(left, _ENDS_AT_ONCE)
            found = await self._reads.ending(streak, after, end, wanted + 1)
            for user_id, end_time, zone in await self._ends(definition, found[:wanted], begin):
                if end_time <= end:
                    ends.setdefault((end_time, zone), []).append(user_id)
            if len(found) <= wanted:
                return ends, ""
            after = found[wanted - 1].close_time, found[wanted - 1].user_id
        return ends, page.next_token(*after)

    async def _ends(
        self, definition: StreakDefinition, found: Sequence[Ending], now: datetime
    ) -> list[tuple[str, datetime, str]]:
        """User, end and zone of those that end. What was folded under another definition is folded anew."""
        current: list[Ending] = []
        others: list[Ending] = []
        for each in found:
            is_current = each.fingerprint == definition.fingerprint and each.closed_time <= now
            (current if is_current else others).append(each)
        ends = ends_of(definition, [each.state for each in current], now)
        told = [(each.user_id, end, each.state.zone) for each, end in zip(current, ends, strict=True) if end]
        if others:
            users = [each.user_id for each in others]
            _, states = await self.batch_get_user_streaks(definition.key, users, now)
            for user_id, state in states:
                if state and (end := end_of(state)):
                    told.append((user_id, end, state.time_zone))
        return told

    async def statistics(self, streak: str, first: date, last: date) -> Statistics:
        """What is recorded of all users. Raises `NotFound`."""
        if (await self._catalogue.latest()).get(streak) is None:
            raise convert.unknown_streak(streak)
        return Statistics(
            await self._reads.lengths(streak, LENGTH_BOUNDS),
            await self._reads.losses(streak, first, last, LENGTH_BOUNDS),
            await self._reads.saved(streak, first, last),
        )

    async def _required(self, user_id: str, streak: str) -> _Recent:
        """A user's streak as of now. Raises `NotFound`."""
        loaded = await self._store.load([user_id], [streak])
        definition = (await self._catalogue.at(loaded.configuration_version)).get(streak)
        if definition is None:
            raise convert.unknown_streak(streak)
        key = user_id, streak
        known = loaded.streaks.get(key)
        recent = known and await self._recent(key, definition, known, loaded.zones, self._clock.now())
        if not recent:
            raise NotFound(
                f"the user has no state of the streak {streak!r}",
                reason="USER_STREAK_NOT_FOUND",
                metadata={"streak": streak},
                domain=convert.DOMAIN,
            )
        return recent

    async def _recent(
        self,
        key: Key,
        definition: StreakDefinition,
        streak: UserStreak,
        zones: Mapping[str, UserZone],
        now: datetime,
    ) -> _Recent | None:
        """The streak as of `now`, never before what is closed already; None where no fact is left."""
        if streak.state is None:
            return None
        now = max(now, streak.closed_time or now)
        if not is_outdated(definition, streak):
            rows, current = close(definition, streak.state, now)
            return _Recent(current, rows, settled_until(definition, streak.state))
        history = (await self._histories.histories({key: EVERYTHING}))[key]
        user = key[0]
        changes = (await self._zones.changes({user: EARLIEST}))[user] or (whole_life(zones[user]),)
        folded = fold(definition, Facts(history.events, changes, streak.by_hand), now)
        return _Recent(folded.current, folded.rows, None) if folded else None
