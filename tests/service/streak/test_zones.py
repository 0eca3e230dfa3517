"""All streaks of a user are on one day: that of the user's zone, whichever metric said so (RULES 1.5, 3.7)."""

from datetime import date, datetime, timedelta
from itertools import permutations

import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2

from services.streak import convert, store
from services.streak.definitions import KINDS, catalogue_of
from services.streak.handlers import Handlers
from services.streak.store_zones import FOLLOWING
from shared.calendar import EARLIEST
from shared.entries import Entry
from shared.participant import Work
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import create_pool
from shared.rpc.convert import to_datetime
from tests.fixtures import participants
from tests.fixtures.statements import all_told
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, correction, event, revert, update
from tests.service.streak.steps import applied, define, derived_state, feed, maintain, recorded, shown

KIRITIMATI = "Pacific/Kiritimati"  # fourteen hours ahead
PAGO_PAGO = "Pacific/Pago_Pago"  # eleven hours behind
ONE_FREEZE = streak_pb2.FreezeSettings(initial_count=1)


async def zones(service: Service) -> list[tuple[str, str, datetime | None]]:
    rows = await service.database.fetch("SELECT user_id, time_zone, move_time FROM users ORDER BY user_id")
    return [tuple(row) for row in rows]


async def told(service: Service) -> list[tuple[datetime, str]]:
    """Where alice was, and since when."""
    rows = await service.database.fetch(
        "SELECT occur_time, time_zone FROM zone_changes WHERE user_id = 'alice' ORDER BY occur_time, entry_id"
    )
    return [tuple(row) for row in rows]


async def test_an_event_of_a_metric_that_no_streak_counts_moves_the_day_of_all_streaks(
    service: Service,
) -> None:
    await define(service)
    await define(service, "weekly", frequency=streak_pb2.FREQUENCY_WEEKLY)
    await applied(service, event(1, at(3)))
    (outcome,) = await applied(service, event(2, at(4, 9), metric="lines", zone=KIRITIMATI, version=2))
    # Nothing is lost or won, so there is nothing to tell.
    assert list(outcome.effects.streaks) == []
    daily, weekly = await shown(service, at(4, 9))
    assert to_datetime(daily.expire_time) == at(4, 10)
    assert to_datetime(weekly.expire_time) == at(16, 10)
    assert await maintain(service, at(4, 9, 59)) == 0
    assert await maintain(service, at(4, 10)) == 1
    (closed,) = await feed(service)
    assert (closed.time_zone, to_datetime(closed.occur_time)) == (KIRITIMATI, at(4, 10))
    assert closed.streak_closing.effect.change.length == 0


async def test_a_move_that_ends_a_streak_or_brings_it_back_says_so(service: Service) -> None:
    await define(service)
    await define(service, "other", metrics=[streak_pb2.MetricThreshold(metric="reviews", threshold=1)])
    await applied(service, event(1, at(3)), event(2, at(3), metric="reviews"))
    (east,) = await applied(service, event(3, at(4, 11), metric="lines", zone=KIRITIMATI, version=2))
    assert [(effect.state.streak, effect.change.length) for effect in east.effects.streaks] == [
        ("daily", 0),
        ("other", 0),
    ]
    (west,) = await applied(service, event(4, at(4, 12), metric="lines", zone=PAGO_PAGO, version=3))
    assert [(effect.state.streak, effect.change.length) for effect in west.effects.streaks] == [
        ("daily", 1),
        ("other", 1),
    ]
    assert await recorded(service) == [(date(2025, 3, 3), "QUALIFIED")] * 2


async def test_a_change_of_the_user_moves_the_day_and_can_be_undone(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    await applied(service, update(2, at(4, 8), KIRITIMATI, version=2))
    (moved,) = await shown(service, at(4, 9))
    assert to_datetime(moved.expire_time) == at(4, 10)
    await service.participant.RevertEntries(revert(2, now=at(4, 9)))
    (back,) = await shown(service, at(4, 9))
    assert to_datetime(back.expire_time) == at(5, 0)
    assert await zones(service) == [("alice", "UTC", None)]


async def test_what_is_stored_counts_for_a_user_of_whom_no_entry_names_a_zone(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3), named=False), event(2, at(3, 13), metric="lines", named=False))
    assert await zones(service) == [("alice", "UTC", None)]
    # The default is another one by now.
    await applied(service, event(3, at(3, 14), zone=KIRITIMATI, named=False, version=2))
    assert await zones(service) == [("alice", KIRITIMATI, at(3, 14))]
    # What an undoing leaves has always been so.
    await applied(service, correction("c", at(3, 15), PAGO_PAGO, version=3))
    assert await zones(service) == [("alice", PAGO_PAGO, None)]
    await applied(service, event(4, at(3, 16), metric="lines", version=3))
    await applied(service, correction("d", at(3, 17), KIRITIMATI, version=4))
    # Whatever made that the stored zone has not come yet, and speaks for itself then.
    assert await zones(service) == [("alice", "UTC", at(3, 16))]
    assert await told(service) == [(EARLIEST, PAGO_PAGO), (at(3, 16), "UTC")]


async def test_an_event_that_names_no_zone_says_nothing_of_it(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)), event(2, at(3, 13), zone=KIRITIMATI, version=2))
    await applied(service, event(3, at(3, 14), zone=KIRITIMATI, named=False, version=2))
    await service.participant.RevertEntries(revert(2, now=at(3, 15)))
    assert await zones(service) == [("alice", "UTC", None)]
    # Of such an event from before that was kept it is not known.
    await service.database.execute("UPDATE request_log SET names_zone = NULL")
    await applied(service, event(4, at(3, 13), zone=PAGO_PAGO, version=3))
    assert await told(service) == [
        (EARLIEST, "UTC"),
        (at(3, 13), PAGO_PAGO),
        (at(3, 14), KIRITIMATI),
    ]


async def test_an_older_word_of_the_zone_changes_nothing(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3), named=False, version=5))
    await applied(service, correction("c", at(3, 14), KIRITIMATI, version=4))
    assert await zones(service) == [("alice", "UTC", None)]


async def test_a_correction_that_is_older_than_an_undoing_brings_back_no_zone(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3), named=False))
    await applied(service, event(2, at(3, 13), metric="lines", zone=KIRITIMATI, version=2))
    undoing = revert(2, now=at(3, 14))
    undoing.reversals[0].user_version = 4
    await service.participant.RevertEntries(undoing)
    # That of an undoing before this one, when the event in Kiritimati still counted.
    await applied(service, correction("earlier", at(3, 14), KIRITIMATI, version=3))
    assert await zones(service) == [("alice", "UTC", None)]
    await applied(service, correction("own", at(3, 14), PAGO_PAGO, version=4))
    assert await zones(service) == [("alice", PAGO_PAGO, None)]


async def test_a_correction_that_knows_of_an_event_before_it_comes_and_is_undone_leaves_nothing(
    service: Service, twin: Service
) -> None:
    """The history of a seed that failed: what a correction said of an event held when that was voided in turn."""
    for reader in (service, twin):
        await define(reader, freezes=ONE_FREEZE)
        await applied(reader, event(1, at(3), zone=PAGO_PAGO))
    await applied(service, event(2, at(4, 2), zone="Asia/Tokyo", version=2))
    await service.participant.RevertEntries(revert(2, now=at(4, 8)))
    await applied(service, correction("2", at(4, 8), KIRITIMATI, version=4))
    await applied(service, event(3, at(4, 7), metric="lines", zone=KIRITIMATI, version=3))
    await service.participant.RevertEntries(revert(3, now=at(4, 8)))
    await applied(service, correction("3", at(4, 8), PAGO_PAGO, version=5))
    for reader in (service, twin):
        await maintain(reader, at(4, 8))
    assert await derived_state(service) == await derived_state(twin)
    assert await zones(service) == await zones(twin) == [("alice", PAGO_PAGO, None)]


async def test_all_that_nobody_counts_in_the_zone_of_before_writes_its_row_and_no_more(
    service: Service,
) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    versions = "SELECT xmin, version FROM users UNION ALL SELECT xmin, version FROM streak_states"
    pool = await create_pool(service.dsn, application_name="zones", size=1, statement_timeout_ms=5_000)
    handlers = Handlers(pool, store.Store(pool), Catalogue(pool, KINDS, catalogue_of))
    statements: list[str] = []
    await handlers.apply_entries(_work(event("warm", at(3), user="bob")))
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: statements.append(record.query))
    before = await service.database.fetch(versions)
    # Late, or with a newer version of the user that changes something else: it is all the same.
    others = [event(n, at(5 - n, 9), now=at(5), metric="lines", version=n) for n in (1, 2, 3)]
    for number, command in enumerate(others):
        command.entry.entry_id = str(participants.entry_id(("other", number)))
    await handlers.apply_entries(_work(*others))
    await all_told()
    assert statements == [store.LOAD, store.SAVE]
    assert await service.database.fetch(versions) == before
    # Whoever moves is locked, and has all streaks looked at.
    statements.clear()
    moving = event("in a new zone", at(5, 9), metric="lines", zone=KIRITIMATI, version=9)
    await handlers.apply_entries(_work(moving))
    asked = [store.LOAD, store.LOCK_USERS, store.LOAD, store.LOAD, FOLLOWING, store.SAVE, store.SAVE_MORE]
    await all_told()
    assert [statement for statement in statements if statement in asked] == asked
    await pool.close()


def _work(*commands: participant_pb.Command) -> list[Work[Entry]]:
    return participants.work(convert.command, *commands)


TRAVELS = (
    ("a", at(3, 9), "commits", "UTC"),
    ("b", at(3, 23), "lines", "Asia/Tokyo"),
    ("c", at(5, 2), "commits", "Asia/Tokyo"),
    ("d", at(5, 9), "lines", PAGO_PAGO),
    ("e", at(7, 1), "commits", "UTC"),
)


@pytest.mark.parametrize("order", list(permutations(range(5)))[::7])
async def test_the_zones_of_events_come_to_the_same_in_every_order(
    service: Service, twin: Service, order: tuple[int, ...]
) -> None:
    for replica in (service, twin):
        await define(replica, freezes=ONE_FREEZE)
        await define(replica, "weekly", frequency=streak_pb2.FREQUENCY_WEEKLY)
    for version, number in enumerate(order, 1):
        name, time, metric, zone = TRAVELS[number]
        stored = max(TRAVELS[known] for known in order[:version])[3]
        await applied(
            service, event(name, time, metric=metric, zone=zone, now=at(7, 2), stored=stored, version=version)
        )
    for version, (name, time, metric, zone) in enumerate(TRAVELS, 1):
        await applied(twin, event(name, time, metric=metric, zone=zone, now=at(7, 2), version=version))
    assert await derived_state(service) == await derived_state(twin)
    # And without the second and the fourth, as though they had never been.
    for replica in (service, twin):
        await replica.participant.RevertEntries(revert("b", "d", now=at(7, 3)))
    assert await derived_state(service) == await derived_state(twin)
    for replica in (service, twin):
        await maintain(replica, at(9))
    assert await derived_state(service) == await derived_state(twin)


async def test_undoing_the_event_with_which_a_user_moved_leaves_what_the_others_alone_give(
    service: Service, twin: Service
) -> None:
    for replica in (service, twin):
        await define(replica, freezes=ONE_FREEZE)
    await applied(service, event(1, at(3)), event(2, at(4, 8), metric="lines", zone=KIRITIMATI, version=2))
    await applied(service, event(3, at(4, 9), metric="lines", zone=KIRITIMATI, version=3))
    await service.participant.RevertEntries(revert(2, now=at(4, 9)))
    assert await zones(service) == [("alice", KIRITIMATI, at(4, 9))]
    await service.participant.RevertEntries(revert(3, now=at(4, 9)))
    assert await zones(service) == [("alice", "UTC", None)]
    await applied(twin, event(1, at(3)))
    for replica in (service, twin):
        await maintain(replica, at(4, 9) + timedelta(days=4))
    assert await derived_state(service) == await derived_state(twin)
