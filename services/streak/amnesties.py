"""Amnesties: what was closed without one is judged anew, and what one would save is counted (RULES 3.12).

What closes later, or is touched by an event, is judged by the definition as it is then, which knows its amnesties. Here
is the rest: streaks lost and freezes spent before it was declared, and what had been excused before it was withdrawn.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2
from msgspec.structs import replace

from services.streak import convert
from services.streak.config import MAX_PREVIEWED
from services.streak.convert import Effect
from services.streak.domain import Amnesty, Changed, Evaluation, Judged, Previewed, StreakDefinition
from services.streak.handlers import MoreStore, StoredCatalogue
from services.streak.open_streaks import OpenStreaks
from services.streak.store import Store
from services.streak.store_amnesties import AmnestyStore, Pending, Place
from shared.ids import derived_id_at
from shared.postgres.feed import Feed
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import to_timestamp

_DAY: Final = timedelta(days=1)


class Amnesties:
    """Amnesties on their way."""

    def __init__(self, pool: Pool, catalogue: StoredCatalogue) -> None:
        self._store = Store(pool)
        self._more = MoreStore(pool)
        self._amnesties = AmnestyStore(pool)
        self._feed = Feed(pool)
        self._catalogue = catalogue

    async def is_pending(self) -> bool:
        """Whether closed periods are to be judged anew."""
        return await self._amnesties.is_pending()

    async def judge_some(self, connection: Connection, now: datetime, most: int) -> int:
        """Judge some closed periods anew, so many at most; how many users' streaks these were."""
        pending = await self._amnesties.pending(connection)
        if pending is None:
            return 0
        catalogue = await self._catalogue.latest(connection)
        for definition in catalogue.all():
            if definition.key < pending.come_to.streak or not pending.is_for(definition.key):
                continue
            first, last = _dates(definition, pending.amnesty)
            begin = Place(definition.key, first - _DAY, "")
            after = max(begin, pending.come_to)
            places = await self._amnesties.at_stake(connection, after, last, most)
            if places:
                judged = await self._judge(connection, definition, places, pending, now)
                await self._amnesties.come_to(connection, pending, places[-1], judged, now)
                return judged.judged_count
        end = replace(pending.come_to, user_id="")
        await self._amnesties.come_to(connection, pending, end, Judged(finished=True), now)
        return 0

    async def progress(self, keys: Sequence[str]) -> dict[str, Judged]:
        """What has come of amnesties so far, by key."""
        return dict(await self._amnesties.progress(keys))

    async def preview(self, window: Amnesty, streaks: Sequence[str], now: datetime) -> list[Previewed]:
        """What an amnesty for these streaks, or all, would save by what is recorded. Raises `NotFound`."""
        catalogue = await self._catalogue.latest()
        for key in streaks:
            if catalogue.get(key) is None:
                raise convert.unknown_streak(key)
        wanted = [each for each in catalogue.all() if not streaks or each.key in streaks]
        return [await self._preview(definition, window, now) for definition in wanted]

    async def _judge(
        self,
        connection: Connection,
        definition: StreakDefinition,
        places: Sequence[Place],
        pending: Pending,
        now: datetime,
    ) -> Judged:
        users = sorted({place.user_id for place in places})
        await self._store.lock_users(connection, users)
        loaded = await self._store.load(users, [definition.key], connection)
        open_streaks, judged = await self._more.decided(
            connection, loaded, lambda open_streaks: _judged(open_streaks, definition, users, now)
        )
        await self._store.save((), open_streaks.writes(), loaded, connection)
        found = [_found(user_id, definition, each, pending) for user_id, each in judged.items()]
        await self._feed.append(
            connection, [change.SerializeToString(deterministic=True) for change in found if change]
        )
        return Judged(len(judged), sum(map(_is_saved, judged.values())), _refunded(judged.values()))

    async def _preview(self, definition: StreakDefinition, window: Amnesty, now: datetime) -> Previewed:
        dates = _dates(definition, window)
        count, users = await self._amnesties.affected(definition.key, dates, window, MAX_PREVIEWED)
        if not users:
            return Previewed(definition.key, 0, 0, 0, 0)
        declared = Changed(amnestied=window.start_time)
        with_it = replace(
            definition,
            amnesties=(*definition.amnesties, window),
            fingerprint=definition.fingerprint ^ 1,
            past={
                **{known: changed.and_also(declared) for known, changed in definition.past.items()},
                definition.fingerprint: declared,
            },
        )
        loaded = await self._store.load(users, [definition.key])
        _, judged = await self._more.decided(
            None, loaded, lambda open_streaks: _judged(open_streaks, with_it, list(users), now)
        )
        saved = sum(map(_is_saved, judged.values()))
        return Previewed(definition.key, count, len(users), saved, _refunded(judged.values()))


def _judged(
    open_streaks: OpenStreaks, definition: StreakDefinition, users: Sequence[str], now: datetime
) -> dict[str, Evaluation]:
    """What becomes of the streaks that were folded before the definition knew its amnesties."""
    found = {}
    for user_id in users:
        evaluation = (
            open_streaks.evaluate(user_id, definition, now)
            if open_streaks.is_outdated(user_id, definition)
            else None
        )
        if evaluation:
            found[user_id] = evaluation
    return found


def _dates(definition: StreakDefinition, window: Amnesty) -> tuple[date, date]:
    """The first and the last date on which a period that the window overlaps may begin, in any zone."""
    first = definition.period_of((window.start_time - _DAY).date())
    return definition.first_date(first), (window.end_time + _DAY).date()


def _is_saved(evaluation: Evaluation) -> bool:
    change = evaluation.change
    return change is not None and change.length > change.length_before


def _refunded(judged: Iterable[Evaluation]) -> int:
    return sum(each.rows.refunded_freezes for each in judged)


def _found(
    user_id: str, definition: StreakDefinition, evaluation: Evaluation, pending: Pending
) -> participant_service_pb2.Change | None:
    """What others are told: it happened when the amnesty was declared or withdrawn."""
    closing = convert.closing(user_id, Effect(definition, evaluation))
    if evaluation.current is None or closing is None:
        return None
    name = f"amnesty {pending.number}"
    return participant_service_pb2.Change(
        entry_id=str(derived_id_at(pending.change_time, "streak", user_id, definition.key, name)),
        user_id=user_id,
        time_zone=evaluation.current.time_zone,
        occur_time=to_timestamp(pending.change_time),
        origin=entry_pb2.ENTRY_ORIGIN_MAINTENANCE,
        streak_closing=closing,
    )
