"""Backfills: users who had qualified for an achievement before it could be earned are given it (RULES 4.6).

A write of definitions that activates an achievement, or changes what an active one asks for, leaves a row in its own
transaction. From then on an event leaves what its user had met before to the backfill, until that has come by. Users
are looked at by id, in batches: what a batch gives, how far it has come, and what others are told of it are one
transaction. So every crash leaves a batch whole or undone, and what an event and the backfill could both give is given
once: both write under the version of the user.

Where plain pasts are given at once, parts of a batch are, side by side, each in a transaction of its own
(docs/adr/0031). They are durable before the cursor moves: after a crash in between, those users hold it, and are no
candidates any more.

What other services know is asked outside of the transaction, and then the batch begins anew: nobody waits for a lock
because of another service.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from time import monotonic
from typing import Final
from uuid import UUID

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import definition_service_pb2, participant_service_pb2
from msgspec import Struct
from msgspec.structs import replace

from services.achievement import convert
from services.achievement.anniversaries import came_entry
from services.achievement.config import Settings
from services.achievement.definitions import ACHIEVEMENT, achievement_of
from services.achievement.domain import (
    Achievement,
    ApiTrigger,
    Backfilled,
    Catalogue,
    Status,
    UserState,
    cause_of,
    given_at_once,
)
from services.achievement.records import Backfill, BackfillState, Qualified
from services.achievement.searching import Elsewhere, Gathered, Searcher
from services.achievement.store import Store
from services.achievement.store_backfill import BackfillStore
from services.achievement.witness import Witness
from shared import faults
from shared.clock import Clock
from shared.errors import FailedPrecondition, LaurelError, NotFound
from shared.ids import derived_id, derived_id_at
from shared.pace import Pace, Traffic
from shared.pages import read_page
from shared.passes import Pass
from shared.postgres import definitions as stored
from shared.postgres.errors import log_failure
from shared.postgres.feed import Feed
from shared.postgres.maintenance import may_go_by_clock
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import to_timestamp

AFTER_GIVING: Final = faults.declare(
    "achievement.backfill.after_giving", "plain pasts of a batch are given, the cursor has not moved"
)
BEFORE_COMMIT: Final = faults.declare(
    "achievement.backfill.before_commit", "a batch of users is looked at and written, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "achievement.backfill.after_commit", "a batch of users of a backfill is durable, more may be left"
)

# How many times as long as finding who qualifies giving it to all of them takes, as measured.
_GIVING_AT_ONCE: Final = 3.0
_GIVING_BY_FOLD: Final = 1.7

_LOGGER: Final = logging.getLogger(__name__)
_STORED: Final = "SELECT key, body FROM definitions WHERE kind = $1"

StoredCatalogue = stored.Catalogue[Catalogue]


class Searched(Struct, frozen=True):
    """What a preview has found."""

    achievement: Achievement
    found: Mapping[str, Qualified]
    """By user."""
    looked_at: int
    user_count: int
    holder_count: int
    seconds: float
    """That the backfill of all users would take."""


class Backfills:
    """The use cases, and the work in the background."""

    def __init__(
        self,
        pool: Pool,
        catalogue: StoredCatalogue,
        witness: Witness,
        settings: Settings,
        clock: Clock,
        traffic: Traffic,
    ) -> None:
        self._pool = pool
        self._store = Store(pool)
        self._backfills = BackfillStore(pool)
        self._searcher = Searcher(pool, witness)
        self._feed = Feed(pool)
        self._catalogue = catalogue
        self._settings = settings
        self._clock = clock
        self._pace = Pace(traffic, most=settings.backfill_batch_size, share=settings.backfill_share)

    # Beginning

    async def before_write(
        self, connection: Connection, request: definition_service_pb2.WriteDefinitionsRequest, now: datetime
    ) -> None:
        """Leaves a row for each achievement that the write activates, or of which it changes what it asks for."""
        puts = [put.achievement for put in request.puts if put.HasField("achievement")]
        gone = [name.key for name in request.deletes if name.kind == ACHIEVEMENT.name]
        if not puts and not gone:
            return
        rows = await connection.fetch(_STORED, ACHIEVEMENT.name)
        before = {
            row["key"]: achievement_of(ACHIEVEMENT.message_type.FromString(row["body"])) for row in rows
        }
        after = before | {put.key: achievement_of(put) for put in puts}
        catalogue = Catalogue(each for key, each in after.items() if key not in gone)
        for put in puts:
            await self._before_put(connection, before.get(put.key), catalogue, after[put.key], request, now)
        for key in gone:
            await self._backfills.forget(connection, key)

    async def _before_put(
        self,
        connection: Connection,
        before: Achievement | None,
        catalogue: Catalogue,
        after: Achievement,
        request: definition_service_pb2.WriteDefinitionsRequest,
        now: datetime,
    ) -> None:
        if after.status is not Status.ACTIVE:
            await self._backfills.end(connection, after.key, BackfillState.CANCELLED, now)
        elif not isinstance(after.trigger, ApiTrigger) and (before is None or before.asks != after.asks):
            backfill_id = derived_id("backfill", request.write_id, after.key)
            await self._backfills.begin(connection, after, catalogue.level(after.key), backfill_id, now)

    # Working

    async def run(self, now: datetime, _history: bool) -> Pass:
        """A batch at an instant, as part of a pass of maintenance. One look-up when none is under way."""
        return await self._batch(now, self._pace.most) if await self._backfills.any_running() else Pass()

    async def work(self) -> None:
        """Batches by the clock, for ever."""
        while True:
            await asyncio.sleep(self._settings.backfill_interval_seconds)
            try:
                while await self._backfills.any_running() and await self.go_on():
                    pass
            except Exception as error:
                # Whatever it is, events go on; the backfill says what holds it up.
                log_failure(_LOGGER, "a backfill cannot go on now", error)
                await self._note(error)

    async def go_on(self) -> bool:
        """A batch by the clock, and the rest that events get after it; whether there is more to do now."""
        now = self._clock.now()
        async with self._pace.batch() as batch:
            async with self._pool.acquire() as connection:
                may_go = await may_go_by_clock(connection, now)
            part = await self._batch(now, batch.size) if may_go else Pass()
            # Many may have been looked at for few who are given something.
            batch.done = min(part.done, batch.size)
        return part.more

    async def _note(self, error: Exception) -> None:
        with suppress(Exception):
            await self._backfills.note_held_up(f"{type(error).__name__}: {error}", self._clock.now())

    async def _batch(self, now: datetime, size: int) -> Pass:
        """Looks at users of one backfill until so many may be given something: how many, and whether there are more."""
        gathered = Gathered()
        while True:
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    running = await self._backfills.next(connection)
                    if running is None:
                        return Pass()
                    looked_at = await self._part(connection, running, gathered, now, size)
                    await BEFORE_COMMIT.reach()
                await AFTER_COMMIT.reach()
                return Pass(looked_at, await self._backfills.any_running())
            except Elsewhere as wanted:
                assert running is not None
                achievement = (await self._catalogue.latest()).get(running.achievement)
                if achievement is None:
                    continue
                try:
                    await self._searcher.ask(achievement, wanted, gathered)
                except LaurelError as error:
                    await self._backfills.note_error(running.achievement, str(error), now)
                    _LOGGER.warning("a backfill waits for others", extra={"cause": str(error)})
                    return Pass()

    async def _part(
        self, connection: Connection, running: Backfill, gathered: Gathered, now: datetime, size: int
    ) -> int:
        version = await self._store.configuration_version(connection)
        catalogue = await self._catalogue.at(version, connection)
        achievement = catalogue.get(running.achievement)
        if achievement is None or achievement.status is not Status.ACTIVE:
            await self._backfills.end(connection, running.achievement, BackfillState.CANCELLED, now)
            return 0
        looked = await self._backfills.look(connection, achievement, running.cursor, size)
        candidates = looked.candidates
        found: dict[str, Backfilled] = {}
        if candidates and given_at_once(catalogue, achievement):
            given = await self._give_at_once(connection, achievement, candidates, running)
            candidates = [user_id for user_id in candidates if user_id not in given]
            await AFTER_GIVING.reach()
        if candidates:
            await self._backfills.lock(connection, candidates)
            before, found = await self._searcher.search(
                connection,
                connection,
                catalogue,
                achievement,
                candidates,
                gathered,
                running.backfill_id,
                running.create_time,
                now,
            )
            await self._save(connection, running, before, found, now)
            await self._feed.append(connection, self._told(running, catalogue, found, now))
        counts = [len(each.changes) for each in found.values() if each.changes]
        if looked.count:
            await self._backfills.move(connection, running, looked.cursor, looked.count, counts, now)
        if looked.is_last:
            await self._backfills.end(connection, running.achievement, BackfillState.DONE, now)
        return looked.count

    async def _give_at_once(
        self, connection: Connection, achievement: Achievement, candidates: Sequence[str], running: Backfill
    ) -> frozenset[str]:
        """Gives it to those whose past is plain; to whom.

        Where there are connections for it, some of them beside others, in transactions of their own: the batch's has
        locked nobody, so nobody waits for it while it waits for these. Not what is earned again: an event that comes
        before the cursor has moved leaves its own time to the backfill, which has seen the user.
        """
        sessions = min(self._settings.backfill_sessions, self._settings.postgres_pool_size - 2)
        if sessions < 2 or achievement.repeatable:
            return frozenset(await self._give_some(connection, achievement, candidates, running))
        size = -(-len(candidates) // sessions)
        parts = [candidates[first : first + size] for first in range(0, len(candidates), size)]
        ended = await asyncio.gather(
            *(self._give_apart(achievement, part, running) for part in parts), return_exceptions=True
        )
        given: set[str] = set()
        for each in ended:
            if isinstance(each, BaseException):
                raise each
            given.update(each)
        return frozenset(given)

    async def _give_apart(
        self, achievement: Achievement, candidates: Sequence[str], running: Backfill
    ) -> Collection[str]:
        async with self._pool.acquire() as connection, connection.transaction():
            return await self._give_some(connection, achievement, candidates, running)

    async def _give_some(
        self, connection: Connection, achievement: Achievement, candidates: Sequence[str], running: Backfill
    ) -> Collection[str]:
        await self._backfills.lock(connection, candidates)
        cause = cause_of(running.backfill_id)
        given = await self._backfills.give_at_once(connection, achievement, candidates, running, cause)
        await self._backfills.count(connection, achievement.key, list(given.values()))
        return given.keys()

    async def _save(
        self,
        connection: Connection,
        running: Backfill,
        before: Mapping[str, UserState],
        found: Mapping[str, Backfilled],
        now: datetime,
    ) -> None:
        """Also who is given nothing moves on: an event that was being decided about looks again."""
        await self._store.save_backfilled(
            connection,
            [(before[user_id], each.state) for user_id, each in found.items()],
            {user_id: each.changes for user_id, each in found.items()},
            [fact for each in found.values() for fact in each.judged],
            [came_entry(user_id, one) for user_id, each in found.items() for one in each.came],
            running.backfill_id,
            now,
        )

    def _told(
        self, running: Backfill, catalogue: Catalogue, found: Mapping[str, Backfilled], now: datetime
    ) -> list[bytes]:
        """What others have to hear: what points hang on, and what happened while the achievement could be earned."""
        told = []
        for user_id, each in found.items():
            effects = convert.effects(user_id, each.changes, catalogue).achievements
            backdated = [change for change in effects if change.backdated and not change.unrewarded]
            fresh = [change for change in effects if not change.backdated]
            for origin, time, changes in (
                (entry_pb2.ENTRY_ORIGIN_BACKFILL, running.create_time, backdated),
                (entry_pb2.ENTRY_ORIGIN_MAINTENANCE, now, fresh),
            ):
                if not changes:
                    continue
                name = entry_pb2.EntryOrigin.Name(origin)
                change = participant_service_pb2.Change(
                    entry_id=str(derived_id_at(time, "backfill", str(running.backfill_id), user_id, name)),
                    user_id=user_id,
                    time_zone="UTC",
                    occur_time=to_timestamp(time),
                    origin=origin,
                )
                change.achievement_backfill.achievement = running.achievement
                change.achievement_backfill.backfill_id = str(running.backfill_id)
                change.achievement_backfill.changes.extend(changes)
                told.append(change.SerializeToString(deterministic=True))
        return told

    # Calls

    async def get(self, achievement: str) -> Backfill:
        """The last one. Raises `NotFound`."""
        found = await self._backfills.get(achievement)
        if found is None:
            raise NotFound(
                "the achievement has had no backfill",
                reason="BACKFILL_NOT_FOUND",
                metadata={"achievement": achievement},
            )
        return found

    async def page(
        self, *, running_only: bool, page_size: int, page_token: str
    ) -> tuple[list[Backfill], str]:
        """A page by achievement, and the token of the next one."""
        page = read_page(page_size, page_token, keyset=[str], query=["backfills", str(running_only)])
        after = page.after[0] if page.after else ""
        found = await self._backfills.page(after, running_only=running_only, limit=page.size + 1)
        shown = found[: page.size]
        return shown, page.next_token(shown[-1].achievement) if len(found) > page.size else ""

    async def end(self, achievement: str, now: datetime) -> Backfill:
        """Ends it, if it runs. Raises `NotFound`."""
        async with self._pool.acquire() as connection, connection.transaction():
            ended = await self._backfills.end(connection, achievement, BackfillState.CANCELLED, now)
        return ended or await self.get(achievement)

    async def preview(self, key: str, proposed: Achievement | None) -> Searched:
        """Who would be given an achievement, stored or proposed. Raises `NotFound`, `FailedPrecondition`."""
        catalogue = await self._catalogue.latest()
        achievement = proposed or catalogue.get(key)
        if achievement is None:
            raise ACHIEVEMENT.unknown(key)
        if isinstance(achievement.trigger, ApiTrigger):
            raise FailedPrecondition(
                "only calls earn it", reason="NOTHING_TO_PREVIEW", metadata={"achievement": achievement.key}
            )
        achievement = replace(achievement, status=Status.ACTIVE)
        others = (each for each in catalogue.all() if each.key != achievement.key)
        return await self._previewed(Catalogue([*others, achievement]), achievement)

    async def _previewed(self, catalogue: Catalogue, achievement: Achievement) -> Searched:
        began = monotonic()
        user_count = await self._backfills.count_users()
        users = await self._backfills.some(user_count, self._settings.preview_users)
        found: dict[str, Qualified] = {}
        looked_at, size, seconds = 0, self._settings.backfill_batch_size, 0.0
        while looked_at < len(users) and monotonic() - began < self._settings.preview_seconds:
            batch = users[looked_at : looked_at + size]
            qualified, taking = await self._look(catalogue, achievement, batch)
            found |= qualified
            seconds += taking
            looked_at += len(batch)
        seconds = seconds / max(looked_at, 1) * user_count / self._pace.share
        holders = await self._backfills.holder_count(achievement.key)
        return Searched(achievement, found, looked_at, user_count, holders, seconds)

    async def _look(
        self, catalogue: Catalogue, achievement: Achievement, users: Sequence[str]
    ) -> tuple[dict[str, Qualified], float]:
        """By the way that the backfill would take, and the seconds that it would."""
        now, began = self._clock.now(), monotonic()
        candidates = await self._backfills.candidates(self._pool, achievement, users)
        chosen = monotonic()
        plain: dict[str, Qualified] = {}
        if candidates and given_at_once(catalogue, achievement):
            plain = await self._backfills.find_at_once(achievement, candidates, now)
            candidates = [user_id for user_id in candidates if user_id not in plain]
        read = monotonic()
        folded = await self._folded(catalogue, achievement, candidates, now)
        at_once, by_fold = read - chosen, monotonic() - read
        return plain | folded, chosen - began + _GIVING_AT_ONCE * at_once + _GIVING_BY_FOLD * by_fold

    async def _folded(
        self, catalogue: Catalogue, achievement: Achievement, candidates: Sequence[str], now: datetime
    ) -> dict[str, Qualified]:
        gathered = Gathered()
        while candidates:
            try:
                _, found = await self._searcher.search(
                    self._pool,
                    None,
                    catalogue,
                    achievement,
                    candidates,
                    gathered,
                    UUID(int=0),
                    now,
                    now,
                )
            except Elsewhere as wanted:
                await self._searcher.ask(achievement, wanted, gathered)
                continue
            mine = {
                user_id: [
                    change for change in each.changes if change.completion.achievement == achievement.key
                ]
                for user_id, each in found.items()
            }
            return {
                user_id: Qualified(changes[0].completion.reach.occur_time, len(changes))
                for user_id, changes in mine.items()
                if changes
            }
        return {}
