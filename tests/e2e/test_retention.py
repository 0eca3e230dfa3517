"""After the replay window: what a caller is told then, and that undoing is as exact as ever."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import grpc.aio
import pytest
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import audit_pb2, event_pb2, orchestrator_service_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from deploy.local.config import StackConfig
from deploy.local.stack import Stack
from services.orchestrator.store.retention import retention
from shared.errors import LaurelError, from_rpc_error
from shared.ids import sha256
from shared.postgres.months import month_of
from shared.postgres.partitions import Keeping, Partitions
from shared.postgres.pool import Pool, create_pool
from shared.postgres.request_log import condensed_after
from tests.e2e.test_twins import WORLD, known_of, some_events, void
from tests.fixtures import clock, world
from tests.fixtures.invariants import PARTICIPANTS, violations
from tests.fixtures.set_clock import SetClock
from tests.fixtures.system import System, connect, event, event_request
from tests.fixtures.waiting import until

pb = orchestrator_service_pb2

WINDOW: Final = timedelta(days=32)
HISTORIES: Final = 8
TABLES: Final[Mapping[str, Mapping[str, Keeping]]] = {
    **{service: {"request_log": condensed_after(WINDOW)} for service in PARTICIPANTS},
    "orchestrator": retention(WINDOW),
}
KEPT: Final = {
    "orchestrator": "SELECT EXISTS (SELECT FROM entries WHERE entry <> '')",
    **dict.fromkeys(
        PARTICIPANTS, "SELECT EXISTS (SELECT FROM request_log WHERE state IN (1, 4) AND outcome <> '')"
    ),
}
"""Whether something is left that only replays read."""
PARK_A_FINISHED_SAGA: Final = "UPDATE sagas SET state = 7, parked_state = 1, reply = NULL WHERE entry_id = $1"


@pytest.fixture(scope="module")
def own_stack(quick_directory: Path) -> Iterator[Callable[[str], Stack]]:
    """Stacks of these tests' own: what the others had answered has to stay."""
    stacks: dict[str, Stack] = {}

    def running(name: str) -> Stack:
        if name not in stacks:
            config = StackConfig(
                home=quick_directory / name,
                port_base=0,
                fsync=False,
                settings={"LAUREL_PARK_AFTER_ATTEMPTS": "2"},
            )
            stacks[name] = Stack(config).__enter__()
            stacks[name].up()
        return stacks[name]

    yield running
    for stack in stacks.values():
        stack.__exit__(None, None, None)


@pytest.fixture(scope="module")
async def twins(own_stack: Callable[[str], Stack]) -> AsyncIterator[System]:
    """A system in which every kind of total, streak, achievement and board is derived from history."""
    connected = connect(own_stack("retention-twins"))
    await connected.orchestrator.ApplyConfiguration(WORLD)
    yield connected
    await connected.close()


@pytest.fixture(scope="module")
async def checked(own_stack: Callable[[str], Stack]) -> AsyncIterator[System]:
    """A system whose invariants can be recomputed."""
    connected = connect(own_stack("retention-checked"))
    await connected.orchestrator.ApplyConfiguration(world.CONFIGURATION)
    yield connected
    await connected.close()


async def the_window_passes(system: System, *services: str) -> None:
    """Maintenance as it will be once everything until now is older than the window; once for each service."""
    now = clock.now()
    # Events may lie some days back: in last month, which the services had no reason to make.
    last_month = month_of(now).begin - timedelta(days=1)
    then = month_of(now).end + WINDOW
    for service in services:
        dsn = system.stack.service_dsn(service)
        pool = await create_pool(dsn, application_name="test", size=4, statement_timeout_ms=10_000)
        await Partitions(pool, SetClock(last_month), dict.fromkeys(TABLES[service])).keep()
        await until(
            partial(_condensed, pool, service, then), seconds=30, what=f"{service} condenses its months"
        )
        await pool.close()


async def _condensed(pool: Pool, service: str, then: datetime) -> bool:
    await Partitions(pool, SetClock(then), TABLES[service]).keep()
    return not await pool.fetchval(KEPT[service])


async def refusal(call: Awaitable[Any]) -> LaurelError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc_error(refused.value)


@dataclass(frozen=True)
class Past:
    """What was ingested before the window passed."""

    done: str
    undone: str
    told: entry_pb2.Entry
    """The done event, as participants were told of it."""
    histories: Sequence[Sequence[event_pb2.IngestEventRequest]]
    """Events of some users; the first half was ingested."""


@pytest.fixture(scope="module")
async def past(twins: System) -> Past:
    """Everything that these tests need to be long ago."""
    now, ingest, histories = clock.now(), twins.orchestrator.IngestEvent, []
    done, undone = [(await ingest(event("late", key))).entry_id for key in ("a", "b")]
    await void(twins, undone)
    for seed in range(HISTORIES):
        rng = random.Random(seed)
        events = some_events(rng, f"history-{seed}", now)
        rng.shuffle(events)
        histories.append(events)
        for request in events[: len(events) // 2]:
            await ingest(request)
    told = await twins.entry(done)
    await the_window_passes(twins, *TABLES)
    return Past(done, undone, told, histories)


async def test_after_the_window_a_key_is_still_known_and_only_its_answer_is_not(
    twins: System, past: Past
) -> None:
    ingest, orchestrator = twins.orchestrator.IngestEvent, twins.orchestrator
    known = await known_of(twins, "late", clock.now())
    for key in ("a", "b"):
        error = await refusal(ingest(event("late", key)))
        assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "REPLY_EXPIRED")
        error = await refusal(ingest(event("late", key, value=2)))
        assert (error.code.name, error.reason) == ("ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED")
    for entry_id, state in (
        (past.done, audit_pb2.ENTRY_STATE_DONE),
        (past.undone, audit_pb2.ENTRY_STATE_UNDONE),
    ):
        voiding = pb.VoidEntryRequest(entry_id=entry_id, reason="too late", request_id=f"late-{entry_id}")
        error = await refusal(orchestrator.VoidEntry(voiding))
        assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "ENTRY_EXPIRED")
        error = await refusal(orchestrator.RetrySaga(pb.RetrySagaRequest(entry_id=entry_id, request_id="r")))
        assert error.reason == "SAGA_NOT_PARKED"
        audit = (await orchestrator.GetEntry(pb.GetEntryRequest(entry_id=entry_id))).entry
        assert (audit.state, event_request(audit).metric, audit.HasField("response")) == (
            state,
            "steps",
            False,
        )
    listed = await orchestrator.ListUserEntries(pb.ListUserEntriesRequest(user_id="late"))
    assert {past.done, past.undone} < {audit.entry_id for audit in listed.entries}
    again = participant_pb.ApplyEntriesRequest(
        commands=[participant_pb.Command(entry=past.told, digest=sha256(past.told.SerializeToString()))]
    )
    (outcome,) = (await twins.participants["points"].ApplyEntries(again)).outcomes
    assert outcome.error.reason == "OUTCOME_EXPIRED"
    assert await known_of(twins, "late", clock.now()) == known


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_undoing_gives_on_condensed_history_what_it_gives_on_any_other(
    twins: System, past: Past, seed: int
) -> None:
    rng, now = random.Random(100 + seed), clock.now()
    mine = past.histories[seed]
    theirs = []
    for request in mine:
        theirs.append(event_pb2.IngestEventRequest())
        theirs[-1].CopyFrom(request)
        theirs[-1].user.user_id += "-twin"
    half = len(mine) // 2
    for request in theirs[:half]:
        await twins.orchestrator.IngestEvent(request)
    undone = rng.sample(range(half, len(mine)), rng.randrange(1, len(mine) - half + 1))
    for events in (mine, theirs):
        later = {
            i: (await twins.orchestrator.IngestEvent(events[i])).entry_id for i in range(half, len(events))
        }
        for index in undone:
            await void(twins, later[index])
    user, twin = mine[0].user.user_id, theirs[0].user.user_id
    assert await known_of(twins, user, now) == await known_of(twins, twin, now)


@pytest.mark.calendar
async def test_invariants_hold_over_condensed_history_with_a_saga_that_was_parked_meanwhile(
    checked: System,
) -> None:
    rng, orchestrator = random.Random(7), checked.orchestrator
    parked = (await _live(checked, rng, "before"))[0]
    connection = await asyncpg.connect(checked.stack.service_dsn("orchestrator"))
    await connection.execute(PARK_A_FINISHED_SAGA, UUID(parked))
    await connection.close()
    await the_window_passes(checked, *PARTICIPANTS)

    # What participants had answered is not kept, and that is no refusal: an operator has to give it up.
    await orchestrator.RetrySaga(pb.RetrySagaRequest(entry_id=parked, request_id="again"))
    await until(partial(_is, checked, parked, "PARKED"), seconds=30, what="the saga is parked again")
    audit = (await orchestrator.GetEntry(pb.GetEntryRequest(entry_id=parked))).entry
    assert "not kept any more" in audit.last_error
    await orchestrator.AbandonSaga(pb.AbandonSagaRequest(entry_id=parked, reason="too old", request_id="no"))
    await until(partial(_is, checked, parked, "REJECTED"), seconds=30, what="the saga is undone")

    await the_window_passes(checked, "orchestrator")
    await _live(checked, rng, "after")
    assert await violations(checked) == []


async def _live(system: System, rng: random.Random, name: str) -> list[str]:
    """Events of some users in the last days, some of them voided or refused; those that count."""
    now, ids = clock.now(), []
    for number in range(40):
        at = (now - timedelta(days=rng.randrange(5), seconds=number)).timestamp()
        user, key = f"user-{number % 5}", f"{name}-{number}"
        if number % 8 == 7:  # more than there is: refused, and undone everywhere
            error = await refusal(
                system.orchestrator.IngestEvent(event(user, key, at=at, metric="purchases", value=50))
            )
            assert error.reason == "INSUFFICIENT_POINTS"
        else:
            ids.append((await system.orchestrator.IngestEvent(event(user, key, at=at))).entry_id)
    undone = rng.sample(ids, 8)
    for entry_id in undone:
        await void(system, entry_id)
    return [entry_id for entry_id in ids if entry_id not in undone]


async def _is(system: System, entry_id: str, state: str) -> bool:
    audit = (await system.orchestrator.GetEntry(pb.GetEntryRequest(entry_id=entry_id))).entry
    return audit.state == audit_pb2.EntryState.Value(f"ENTRY_STATE_{state}")
