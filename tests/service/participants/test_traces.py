"""The traces of a user in each participant: shown, searched for, erased (RULES 2.7)."""

import importlib
import json
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as pb

from shared.postgres.pool import Pool
from shared.postgres.traces import TraceStore
from tests.fixtures.participants import UNIT, apply, command, entry, entry_id, snapshot
from tests.service.participants.conftest import NOON, STATE, Subject


def event(name: str, user: str, value: int = 1) -> pb.Command:
    fact = entry_pb2.MetricFact(
        metric="commits",
        value_micros=value * UNIT,
        total_after_micros=value * UNIT,
        peak_micros=value * UNIT,
        total_version=1,
        attributes=STATE,
    )
    return command(entry(name, fact, user=snapshot(user, NOON, attributes={"team": "red"}), at=NOON))


def store_of(subject: Subject) -> TraceStore:
    service = subject.domain.partition(".")[0]
    traces = importlib.import_module(f"services.{service}.traces").TRACES
    return TraceStore(cast("Pool", subject.database), traces)


async def rows(subject: Subject, user: str, *ids: UUID) -> list[tuple[str, Any]]:
    store = store_of(subject)
    found = [row async for row in store.rows(user, [])]
    if ids:
        found += [row async for row in store.rows(user, list(ids))]
    return [(table, json.loads(text)) for table, text in found]


async def found(subject: Subject, user: str) -> dict[str, int]:
    return {each.table: each.rows async for each in store_of(subject).search(user) if each.rows}


async def erase(subject: Subject, user: str, ids: Sequence[UUID]) -> None:
    store = store_of(subject)
    for given in (list(ids), []):
        more = True
        while more:
            _, more = await store.erase(user, "erased-1", given)


async def test_every_row_that_a_search_finds_is_shown(subject: Subject) -> None:
    await subject.stub.ApplyEntries(apply(event("a", "alice", 2), event("b", "alice-2", 3)))
    shown = await rows(subject, "alice", entry_id("a"))
    assert {table for table, _ in shown} == set(await found(subject, "alice"))
    assert {row["user_id"] for _, row in shown if "user_id" in row} == {"alice"}
    assert "alice-2" not in json.dumps(shown)
    (logged,) = [row for table, row in shown if table == "request_log"]
    assert logged["outcome"]["entry_id"] == str(entry_id("a"))  # as a message, not as its bytes


async def test_of_who_is_erased_nothing_is_found_and_of_others_everything(subject: Subject) -> None:
    await subject.stub.ApplyEntries(apply(event("a", "alice", 2), event("b", "bob", 3)))
    before = await found(subject, "bob")

    await erase(subject, "alice", [entry_id("a")])

    assert await found(subject, "alice") == {}
    assert await found(subject, "bob") == before
    assert await subject.total("bob") == 3
    assert await subject.total("alice") == 0


async def test_an_erasure_that_comes_again_changes_nothing_and_who_was_erased_begins_anew(
    subject: Subject,
) -> None:
    await subject.stub.ApplyEntries(apply(event("a", "alice", 2)))
    await erase(subject, "alice", [entry_id("a")])
    kept = await found(subject, "erased-1")
    assert "request_log" in kept

    await erase(subject, "alice", [entry_id("a")])

    assert await found(subject, "erased-1") == kept
    await subject.stub.ApplyEntries(apply(event("c", "alice", 5)))
    assert await subject.total("alice") == 5
