"""RULES 2.6: of a user in the control group metrics count, and everything else is withheld, on the server."""

from typing import Any

import pytest
from laurel.orchestrator.v1 import domain_event_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from tests.service.orchestrator.conftest import Orchestrator, refused


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"control_group_ratio": 1.0}


async def test_metrics_count_no_service_hears_and_the_reply_says_so(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    reply = await orchestrator.ingest(key="b", value=3)
    assert (reply.total_before, reply.total_after) == (2, 5)
    assert reply.effects.control
    assert orchestrator.cast.calls("ApplyEntries") == []
    user = (await orchestrator.stub.GetUser(pb.GetUserRequest(user_id="ada"))).user
    assert user.control


async def test_an_undoing_is_heard_of_by_nobody_either(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    reply = await orchestrator.ingest(key="b", value=3)
    void = pb.VoidEntryRequest(entry_id=reply.entry_id, reason="r", request_id="v")
    assert (await orchestrator.stub.VoidEntry(void)).total_after == 2
    assert orchestrator.cast.heard == []


async def test_what_is_given_by_hand_is_withheld_too(orchestrator: Orchestrator) -> None:
    grant = pb.GrantPointsRequest(user_id="ada", points_system="xp", amount=5, request_id="g")
    reply = await orchestrator.stub.GrantPoints(grant)
    assert reply.effects.control
    assert orchestrator.cast.heard == []


async def test_domain_events_are_marked(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a")
    told: list[domain_event_pb2.DomainEvent] = []
    async for page in orchestrator.stub.WatchDomainEvents(pb.WatchDomainEventsRequest(), timeout=20):
        told += page.events
        if told:
            break
    assert [(event.type, event.control) for event in told] == [
        ("metric.recorded", True),
        ("user.created", True),
    ]
    assert told[1].user.control


async def test_who_was_there_before_stays_out(orchestrator: Orchestrator) -> None:
    await orchestrator.pool.execute(
        "INSERT INTO users (user_id, guard, version, entry_count, create_time, said)"
        " VALUES ('ada', 1, 1, 1, now(), '{}')"
    )
    reply = await orchestrator.ingest(key="a")
    assert not reply.effects.control
    assert len(orchestrator.cast.calls("ApplyEntries")) == 4


async def test_points_are_not_passed_on_to_whom_they_are_withheld_from(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest("ada", key="a")
    await orchestrator.pool.execute(
        "INSERT INTO users (user_id, guard, version, entry_count, create_time, said)"
        " VALUES ('bob', 1, 1, 1, now(), '{}')"
    )
    transfer = pb.TransferPointsRequest(
        user_id="bob", to_user_id="ada", points_system="xp", amount=5, request_id="t"
    )
    error = await refused(orchestrator.stub.TransferPoints(transfer, timeout=20))
    assert (error.reason, error.metadata) == ("USER_IN_CONTROL_GROUP", {"user_id": "ada"})
    assert orchestrator.cast.heard == []
