"""What touches the past costs what has happened since, and gives what an arrival in order would have given."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2

from services.streak import convert
from services.streak.definitions import KINDS, catalogue_of
from services.streak.handlers import Handlers
from services.streak.store import LOAD, LOCK_USERS, SAVE, Store
from services.streak.store_history import HISTORY_FACTS, HISTORY_LEDGER, HISTORY_PAST, HISTORY_PERIODS
from services.streak.store_zones import FOLLOWING, ZONE_CHANGES
from shared.entries import Reversal
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import Pool, create_pool
from tests.fixtures import participants
from tests.fixtures.statements import all_told
from tests.service.streak.conftest import Service
from tests.service.streak.messages import correction, entry_id, event, revert, revisable
from tests.service.streak.steps import applied, define, derived_state, maintain

DAYS = 200
FREEZES = streak_pb2.FreezeSettings(initial_count=1, earn_count=1, earn_every_days=9, max_count=2)
ZONES = ("UTC", "Europe/Berlin", "UTC", "America/New_York", "UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago")
MOVED = (LOAD, LOCK_USERS, LOAD, LOAD)
"""Of a user who has been elsewhere since, it has to be seen by which entries."""
TAIL = (HISTORY_FACTS, HISTORY_PERIODS, HISTORY_LEDGER)


def on(day: int, hour: int = 12) -> datetime:
    """An instant in 2024 or 2025, by days since the beginning."""
    return datetime(2024, 9, 1, hour, tzinfo=UTC) + timedelta(days=day)


def is_active(day: int) -> bool:
    """Some days are missed: one at a time, and three in a row once a month."""
    return day % 11 != 0 and day % 30 not in (14, 15, 16)


def life() -> dict[str, participant_pb.Command]:
    """Two events on every active day, here and there in other zones, by name."""
    return {
        f"{day}/{hour}": event(f"{day}/{hour}", on(day, hour), zone=ZONES[day % 7 if day % 5 == 0 else 0])
        for day in range(DAYS)
        if is_active(day)
        for hour in (9, 18)
    }


@dataclass
class Watched:
    """The use cases on a pool whose statements are noted."""

    handlers: Handlers
    pool: Pool
    statements: list[tuple[str, Sequence[Any]]] = field(default_factory=list)

    @property
    def asked(self) -> list[str]:
        return [query for query, _ in self.statements if query not in ("BEGIN;", "COMMIT;")]

    async def apply(self, *commands: participant_pb.Command) -> None:
        self.statements.clear()
        await self.handlers.apply_entries(participants.work(convert.command, *commands))
        await all_told()

    async def revert(self, name: str, now: datetime) -> None:
        self.statements.clear()
        await self.handlers.revert_entries([Reversal(entry_id(name), "alice", now)])
        await all_told()

    async def rows_read(self, *queries: str) -> int:
        """How many rows these of the statements gave."""
        asked = [statement for statement in self.statements if statement[0] in queries]
        return sum([len(await self.pool.fetch(query, *arguments)) for query, arguments in asked])


@pytest.fixture
async def watched(service: Service) -> AsyncIterator[Watched]:
    """A user with a long life."""
    await define(service, freezes=FREEZES)
    await applied(service, *life().values())
    async with watching(service) as watched:
        await watched.apply(event("somebody else", on(0), user="bob"))
        watched.statements.clear()
        yield watched


@asynccontextmanager
async def watching(service: Service) -> AsyncIterator[Watched]:
    """The use cases on what a service has stored."""
    pool = await create_pool(service.dsn, application_name="late", size=1, statement_timeout_ms=5_000)
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    watched = Watched(Handlers(pool, Store(pool), catalogue), pool)
    async with pool.acquire() as connection:
        connection.add_query_logger(
            lambda record: watched.statements.append((record.query, record.args or ()))
        )
    yield watched
    await pool.close()


async def test_an_older_event_of_the_open_day_reads_the_days_since_the_last_settled_one(
    watched: Watched,
) -> None:
    await watched.apply(event("older", on(DAYS - 1, 17), now=on(DAYS - 1, 19)))
    assert watched.asked == [LOAD, *TAIL, SAVE]
    assert 3 <= await watched.rows_read(*TAIL) <= 10


async def test_an_event_that_is_days_late_reads_the_days_since(watched: Watched) -> None:
    await watched.apply(event("late", on(DAYS - 6, 13), now=on(DAYS - 1, 19)))
    assert watched.asked == [LOAD, HISTORY_PAST, *TAIL, SAVE]
    assert await watched.rows_read(HISTORY_PAST) == 1
    assert 10 <= await watched.rows_read(*TAIL) <= 30


async def test_the_earliest_of_several_late_events_decides_how_far_back_a_batch_reads(
    watched: Watched,
) -> None:
    days = (DAYS - 2, DAYS - 8, DAYS - 4)
    await watched.apply(*(event(("late", day), on(day, 13), now=on(DAYS - 1, 19)) for day in days))
    # How far back that is says from when on it has to be known where the user was.
    assert watched.asked == [LOAD, HISTORY_PAST, *TAIL, ZONE_CHANGES, SAVE]
    assert 14 <= await watched.rows_read(*TAIL) <= 40


@pytest.mark.parametrize("day", [1, 62, 107, DAYS - 22])
async def test_the_void_of_an_old_event_without_which_the_day_qualifies_reads_the_days_around_it(
    watched: Watched, service: Service, twin: Service, day: int
) -> None:
    await watched.revert(f"{day}/9", now=on(DAYS + 2, 13))
    assert HISTORY_PERIODS not in watched.asked
    assert 0 < await watched.rows_read(HISTORY_FACTS) <= 65
    await define(twin, freezes=FREEZES)
    await applied(twin, *(command for name, command in life().items() if name != f"{day}/9"))
    await applied(twin, event("somebody else", on(0), user="bob"))
    for replica in (service, twin):
        await maintain(replica, on(DAYS + 2, 13))
    assert await derived_state(service) == await derived_state(twin)


@pytest.mark.parametrize("day", [62, 107, DAYS - 22])
async def test_the_void_of_an_old_event_that_its_day_needs_reads_the_rows_of_later_days_and_not_their_events(
    watched: Watched, service: Service, twin: Service, day: int
) -> None:
    gone = {f"{day}/9", f"{day}/18"}
    for name in sorted(gone):
        await watched.revert(name, now=on(DAYS + 2, 13))
    assert HISTORY_PERIODS in watched.asked
    assert 0 < await watched.rows_read(HISTORY_FACTS) <= 130
    await define(twin, freezes=FREEZES)
    await applied(twin, *(command for name, command in life().items() if name not in gone))
    await applied(twin, event("somebody else", on(0), user="bob"))
    for replica in (service, twin):
        await maintain(replica, on(DAYS + 2, 13))
    assert await derived_state(service) == await derived_state(twin)


def visits(first: str, next_visit: str, *, alone: bool) -> dict[str, participant_pb.Command]:
    """The same life by pages: the first of a day is one that was never seen, the second one of before. The page of the
    event `first` is seen again with `next_visit`, `alone` on its day.
    """
    found = {}
    for number, (name, command) in enumerate(life().items()):
        if alone and name == next_visit.replace("/18", "/9"):
            continue
        page = entry_pb2.MetricFact()
        page.CopyFrom(revisable("commits", 1 if name.endswith("/9") else 0, number + 1))
        command.entry.metric_event.CopyFrom(page)
        if name == first:
            command.entry.entry_id = str(entry_id("gone"))
        found[name] = command
    return found


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("first", "next_visit"), [("62/9", "64/18"), ("62/9", "172/18"), ("107/9", "184/18")]
)
async def test_a_revision_of_an_old_event_reads_what_is_around_it(
    service: Service, twin: Service, first: str, next_visit: str, *, alone: bool
) -> None:
    for replica in (service, twin):
        await define(replica, freezes=FREEZES)
    known = visits(first, next_visit, alone=alone)
    await applied(service, *known.values())
    await service.participant.RevertEntries(revert("gone", now=on(DAYS + 2, 13)))
    async with watching(service) as watched:
        await watched.apply(event("somebody else", on(0), user="bob"))
        passed_on = revisable("commits", 0, 10_000, {next_visit: 1}, value=0)
        passed_on.arrivals_before.append(entry_pb2.MetricArrival(entry_id=str(entry_id("gone"))))
        await watched.apply(correction("c", on(DAYS + 2, 13), metric=passed_on))
        # Around the event that is gone it is asked what came when.
        assert 0 < await watched.rows_read(HISTORY_FACTS) <= 130
        assert (HISTORY_PERIODS in watched.asked) == alone

    known.pop(first)
    known[next_visit].entry.metric_event.CopyFrom(revisable("commits", 1, 10_000))
    await applied(twin, *known.values())
    await applied(twin, event("somebody else", on(0), user="bob"))
    for replica in (service, twin):
        await maintain(replica, on(DAYS + 2, 13))
    assert await derived_state(service) == await derived_state(twin)


async def test_an_event_before_the_first_one_reads_everything(watched: Watched) -> None:
    await watched.apply(event("first", on(0, 1), now=on(DAYS - 1, 19)))
    assert watched.asked == [*MOVED, *TAIL, ZONE_CHANGES, FOLLOWING, ZONE_CHANGES, SAVE]
    assert await watched.rows_read(HISTORY_FACTS) == len(life()) + 1


@pytest.mark.parametrize("late", [1, 3, 8, 40, 150])
async def test_late_and_undone_events_of_a_long_life_leave_what_an_arrival_in_order_would_have_given(
    service: Service, twin: Service, late: int
) -> None:
    for replica in (service, twin):
        await define(replica, freezes=FREEZES)
    day = next(day for day in range(DAYS - late, 0, -1) if is_active(day))
    missed = next(day for day in range(DAYS - late, 0, -1) if not is_active(day))
    both, filled = {f"{day}/9", f"{day}/18"}, event("filled", on(missed, 13), now=on(DAYS))
    await applied(service, *life().values())
    await maintain(service, on(DAYS))
    await applied(service, filled)
    await service.participant.RevertEntries(revert(*sorted(both), now=on(DAYS)))

    remaining = [command for name, command in life().items() if name not in both]
    remaining.append(filled)
    await applied(twin, *sorted(remaining, key=lambda one: one.entry.occur_time.ToDatetime()))
    await maintain(twin, on(DAYS))
    assert await derived_state(service) == await derived_state(twin)


async def test_events_of_the_last_week_in_any_order_and_batch_end_as_if_they_came_in_order(
    service: Service, twin: Service
) -> None:
    everything = sorted(life().values(), key=lambda one: one.entry.occur_time.ToDatetime())
    for replica in (service, twin):
        await define(replica, freezes=FREEZES)
        await define(replica, "weekly", frequency=streak_pb2.FREQUENCY_WEEKLY)
        await applied(replica, *everything[:-16])
    recent = everything[-16:]
    for command in recent:
        command.entry.now.CopyFrom(recent[-1].entry.now)
    shuffled = [recent[number * 7 % 16] for number in range(16)]
    for start in range(0, 16, 3):
        await applied(service, *shuffled[start : start + 3])
    await applied(twin, *recent)
    assert await derived_state(service) == await derived_state(twin)
