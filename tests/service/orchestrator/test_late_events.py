"""Late and void events at the ledger, against a real PostgreSQL: RULES 2.2, 2.3, 2.5, 7.3."""

import random
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1 import user_pb2

from services.orchestrator.contributions import AROUND
from services.orchestrator.domain import MICROS, Aggregation, Fact
from services.orchestrator.operation import Asked
from services.orchestrator.operations import correction, recorded_entry, user_update
from services.orchestrator.recording import Incoming, Recorded
from services.orchestrator.store.reads import ReadStore
from shared.postgres.pool import Pool
from tests.fixtures.statements import all_told
from tests.service.orchestrator.steps import (
    HISTORY,
    METRICS,
    NOON,
    event,
    ledger_store,
    store,
    take_out,
    total,
)
from tests.unit.orchestrator.test_contributions import check_arrivals, obvious

DAY = 24


def carried(recorded: Recorded) -> tuple[dict[str, str], dict[str, str] | None]:
    """The attributes in an entry as participants are told of it: as of the entry, and of now if they differ."""
    user = recorded_entry(recorded, "UTC").user
    return dict(user.attributes), dict(user.newest_attributes) if user.has_newest_attributes else None


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_three_events_carry_what_had_been_said_by_their_times_in_all_orders(
    pool: Pool, order: tuple[int, ...], *, together: bool
) -> None:
    events = [
        event("a", hours=-3 * DAY, said={"plan": "free"}),
        event("b", hours=-2 * DAY, said={}),
        event("c", hours=-1 * DAY, said={"plan": "pro"}),
    ]
    told = {}
    arriving = [events[place] for place in order]
    for group in [arriving] if together else [[incoming] for incoming in arriving]:
        for recorded in await store(pool, *group):
            key = next(n for n, incoming in enumerate(events) if incoming is recorded.incoming)
            told[key] = carried(recorded)
    assert told[0][0] == {"plan": "free"}
    assert told[1][0] == ({"plan": "free"} if order.index(0) < order.index(1) else {})
    assert told[2] == ({"plan": "pro"}, None)
    for number in (0, 1):
        if order.index(2) < order.index(number):
            assert told[number][1] == {"plan": "pro"}
    stored = await ReadStore(pool).user("ada")
    assert stored is not None
    assert stored.said.plain_attributes() == {"plan": "pro"}


async def test_what_interrupts_something_said_before_is_found_in_the_ledger(pool: Pool) -> None:
    await store(pool, *(event(f"pro{n}", hours=n, said={"plan": "pro"}) for n in (-9, -5, -1)))
    (free,) = await store(pool, event("free", hours=-6, said={"plan": "free"}))
    assert carried(free) == ({"plan": "free"}, {"plan": "pro"})
    (between,) = await store(pool, event("between", hours=-5.5, said={}))
    assert carried(between) == ({"plan": "free"}, {"plan": "pro"})
    (after,) = await store(pool, event("after", hours=-2, said={}))
    assert carried(after) == ({"plan": "pro"}, None)
    await take_out(pool, free)
    (between,) = await store(pool, event("again", hours=-5.4, said={}))
    assert carried(between) == ({"plan": "pro"}, None)


async def test_a_user_from_before_times_were_kept_is_read_from_the_ledger(pool: Pool) -> None:
    """Migration `said` knows of each attribute only when it was last said."""
    await store(pool, event("a", hours=-9, said={"plan": "free"}))
    await store(pool, event("b", hours=-2, said={"plan": "pro"}))
    await pool.execute(
        """UPDATE users SET said = '{"attributes": {"plan": [["pro", $1, $1]]}, "since": $1}'""".replace(
            "$1", str(int((NOON.timestamp() - 7200) * MICROS))
        )
    )
    (late,) = await store(pool, event("c", hours=-5, said={}))
    assert carried(late) == ({"plan": "free"}, {"plan": "pro"})


async def test_an_entry_tells_whether_it_names_its_zone(pool: Pool) -> None:
    entries = [
        recorded_entry(recorded, "UTC")
        for recorded in await store(
            pool,
            event("a", hours=-3),
            event("b", zone="Asia/Tokyo", hours=-2),
            event("c", hours=-1),
            changed(user_pb2.User(user_id="ada"), "time_zone"),
            changed(user_pb2.User(user_id="ada", name="Ada"), "name"),
        )
    ]
    assert [(entry.time_zone, entry.takes_time_zone) for entry in entries] == [
        ("UTC", True),
        ("Asia/Tokyo", False),
        ("Asia/Tokyo", True),
        ("UTC", False),
        ("UTC", True),
    ]


def changed(user: user_pb2.User, *paths: str) -> Incoming:
    """UpdateUser."""
    request = pb.UpdateUserRequest(user=user, request_id=paths[0])
    request.update_mask.paths.extend(paths)
    return user_update.incoming(request, Asked(NOON, HISTORY))


async def test_the_void_of_the_newest_event_gives_back_the_zone_and_the_correction_says_so(
    pool: Pool,
) -> None:
    _, second = await store(
        pool, event("a", zone="Asia/Tokyo", hours=-2), event("b", zone="Europe/Rome", hours=-1)
    )
    left = await take_out(pool, second)
    assert left.user.zone("UTC") == "Asia/Tokyo"
    told = correction.correction_of(recorded_entry(second, "UTC"), left, NOON, "UTC", voided=True)
    assert (told.user.time_zone, told.user.version) == ("Asia/Tokyo", left.user.version)
    assert dict(told.user.attributes) == {"seen": "a"}


def contributed(entries: list[entry_pb2.Entry]) -> dict[str, int]:
    """What events contribute after all that was told, in whatever order: of one event the newest holds."""
    held: dict[str, tuple[int, int]] = {}
    for entry in entries:
        fact = entry.metric_event if entry.HasField("metric_event") else entry.correction.metric
        assert fact.revisable
        said = [(revision.entry_id, revision.contribution_micros) for revision in fact.revisions]
        if entry.HasField("metric_event"):
            said.append((entry.entry_id, fact.contribution_micros))
        for entry_id, micros in said:
            held[entry_id] = max(held.get(entry_id, (0, 0)), (fact.total_version, micros))
    return {entry_id: micros for entry_id, (_, micros) in held.items()}


def as_fact(recorded: Recorded) -> Fact:
    """An event as its total sees it."""
    incoming = recorded.incoming
    assert incoming.event is not None
    assert recorded.after is not None
    return Fact(
        incoming.entry_id,
        incoming.event.value_micros,
        incoming.occur_time,
        recorded.after.version,
        recorded.unique_value,
    )


@pytest.mark.parametrize("span", [40, 60 * DAY, 900 * DAY])
@pytest.mark.parametrize("metric", ["countries", "record", "weight"])
async def test_contributions_told_and_revised_equal_those_in_the_order_of_times(
    pool: Pool, metric: str, span: int
) -> None:
    """Also where what decides lies far away, and whether it came late or in time."""
    rng = random.Random(10)
    arriving: list[Incoming] = [
        event(
            f"k{n}",
            metric=metric,
            value=rng.choice([-3, 1, 2, 5, 8]),
            hours=(hours := -rng.randrange(span)),
            received=min(0, hours + rng.choice([0, 3, DAY, DAY + 1, span])),
            country=rng.choice(["IT", "JP", "PE", "IS"]),
        )
        for n in range(40)
    ]
    told: list[entry_pb2.Entry] = []
    live: list[Recorded] = []
    while arriving:
        group, arriving = arriving[:3], arriving[3:]
        recorded = await store(pool, *group)
        live += recorded
        told += [recorded_entry(entry, "UTC") for entry in recorded]
        if rng.random() < 0.5:
            gone = live.pop(rng.randrange(len(live)))
            left = await take_out(pool, gone)
            told.append(correction.correction_of(recorded_entry(gone, "UTC"), left, NOON, "UTC", voided=True))
            assert left.contributed
            if timedelta(hours=span) < AROUND:
                others = [as_fact(entry) for entry in live]
                check_arrivals(METRICS[metric].aggregation, others, as_fact(gone), left.contributed.arrivals)
        facts = [as_fact(entry) for entry in live]
        wanted, sum_of_all, peak = obvious(METRICS[metric].aggregation, facts)
        rng.shuffle(told)
        known = contributed(told)
        assert {str(entry_id): micros for entry_id, micros in wanted.items()} == {
            str(fact.entry_id): known[str(fact.entry_id)] for fact in facts
        }
        stored = await total(pool, metric)
        assert (stored.total_micros, stored.peak_micros) == (sum_of_all, peak)


async def test_an_event_of_a_sum_and_its_void_say_nothing_of_contributions(pool: Pool) -> None:
    (recorded,) = await store(pool, event("a", value=-2))
    left = await take_out(pool, recorded)
    told: Any = recorded_entry(recorded, "UTC")
    corrected = correction.correction_of(told, left, NOON, "UTC", voided=True).correction.metric
    for fact in (told.metric_event, corrected):
        assert (fact.revisable, fact.contribution_micros, len(fact.revisions)) == (False, 0, 0)


async def test_a_sum_with_negative_values_is_summed_anew_as_it_would_be_folded(pool: Pool) -> None:
    rng = random.Random(3)
    live = await store(pool, *(event(f"k{n}", value=rng.choice([-4, -1, 2, 3])) for n in range(30)))
    other = await store(pool, event("z", metric="weight", value=99))
    while live:
        await take_out(pool, live.pop(rng.randrange(len(live))))
        stored = await total(pool)
        running, peak = 0, None
        for recorded in sorted(live, key=lambda one: one.after.version if one.after else 0):
            assert recorded.incoming.event is not None
            running += recorded.incoming.event.value_micros
            peak = running if peak is None else max(peak, running)
        assert (stored.total_micros, stored.peak_micros, stored.event_count) == (
            running,
            peak or 0,
            len(live),
        )
    assert other


async def test_the_void_of_an_event_that_says_nothing_new_reads_no_other_entry(pool: Pool) -> None:
    """So its cost does not grow with what the user has done."""
    same = {"plan": "pro", "region": "eu"}
    _, middle, newest, silent = await store(
        pool,
        *(event(f"k{n}", hours=n - 9, said=same, zone="Asia/Tokyo") for n in range(3)),
        event("silent", said={}),
    )
    sent: list[str] = []
    for gone in (silent, middle, newest):
        async with pool.acquire() as connection:
            connection.add_query_logger(lambda record: sent.append(record.query))
        left = await take_out(pool, gone)
        assert left.user.said.plain_attributes() == same
        assert left.user.zone("UTC") == "Asia/Tokyo"
    await all_told()
    readers = [query for query in sent if "FROM entries" in query]
    assert readers
    assert all("WHERE entry_id = $1" in query for query in readers)


async def test_the_first_of_a_value_is_the_first_in_time_also_after_a_void(pool: Pool) -> None:
    late, early = (
        event("l", metric="countries", country="IT"),
        event("e", metric="countries", country="IT", hours=-3),
    )
    await store(pool, late)
    (first,) = await store(pool, early)
    key = ("ada", "countries", "IT")
    ledger = ledger_store(pool)
    assert (await ledger.firsts([key]))[key] == (early.occur_time, early.entry_id)
    left = await take_out(pool, first)
    assert left.contributed
    assert left.contributed.revisions == ((late.entry_id, MICROS),)
    assert (await ledger.firsts([key]))[key] == (late.occur_time, late.entry_id)
    assert METRICS["countries"].aggregation is Aggregation.UNIQUE
