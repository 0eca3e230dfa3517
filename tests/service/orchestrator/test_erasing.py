"""RULES 2.7: the deletion of a user, as the orchestrator drives it."""

import asyncio

from laurel.orchestrator.v1 import domain_event_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.saga import Step
from tests.fixtures.clients import persist
from tests.service.orchestrator.conftest import Orchestrator, refused


def deletion(user: str = "ada", key: str = "once") -> pb.DeleteUserRequest:
    return pb.DeleteUserRequest(user_id=user, request_id=key, reason="asked for it")


async def delete(orchestrator: Orchestrator, *, key: str = "once") -> pb.DeleteUserResponse:
    return await orchestrator.stub.DeleteUser(deletion(key=key), timeout=20)


async def deleted(orchestrator: Orchestrator) -> pb.DeleteUserResponse:
    """The reply to a deletion that is asked for until there is one."""

    async def call() -> pb.DeleteUserResponse:
        return await delete(orchestrator)

    reply = await persist(call)
    assert isinstance(reply, pb.DeleteUserResponse)
    return reply


async def being_deleted(orchestrator: Orchestrator) -> "asyncio.Task[pb.DeleteUserResponse]":
    """A deletion that waits for the last participant."""
    orchestrator.leaderboard.hold()
    deleting = asyncio.create_task(delete(orchestrator))
    await orchestrator.leaderboard.waiting.wait()
    return deleting


async def test_the_ledger_keeps_what_happened_and_not_of_whom(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    await orchestrator.ingest("bob", key="a", value=5)
    reply = await delete(orchestrator)
    rows = await orchestrator.pool.fetch("SELECT user_id, value_micros, live FROM entries WHERE metric <> ''")
    assert {(row["user_id"], row["value_micros"], row["live"]) for row in rows} == {
        (reply.pseudonym, 2_000_000, True),
        ("bob", 5_000_000, True),
    }
    totals = await orchestrator.pool.fetch("SELECT user_id, total_micros FROM totals")
    assert {(row["user_id"], row["total_micros"]) for row in totals} == {
        (reply.pseudonym, 2_000_000),
        ("bob", 5_000_000),
    }
    assert "ada" not in reply.pseudonym


async def test_the_same_request_again_gets_the_same_reply(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a")
    first, again = await delete(orchestrator), await delete(orchestrator)
    assert again.idempotent_replayed
    assert (again.entry_id, again.pseudonym) == (first.entry_id, first.pseudonym)


async def test_who_was_deleted_comes_back_as_somebody_new(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    await delete(orchestrator)
    back = await orchestrator.ingest(key="a", value=3)
    assert (back.total_before, back.total_after, back.idempotent_replayed) == (0, 3, False)
    reply = await delete(orchestrator, key="twice")
    assert not reply.idempotent_replayed


async def test_nothing_is_recorded_for_who_is_being_deleted(orchestrator: Orchestrator) -> None:
    first = await orchestrator.ingest(key="a")
    deleting = await being_deleted(orchestrator)

    refusal = await refused(orchestrator.ingest(key="b"))
    assert refusal.reason == "USER_ERASING"
    assert (await refused(delete(orchestrator, key="twice"))).reason == "USER_ERASING"
    void = pb.VoidEntryRequest(entry_id=first.entry_id, reason="r", request_id="v")
    undoing = asyncio.create_task(refused(orchestrator.stub.VoidEntry(void, timeout=20)))

    orchestrator.leaderboard.open.set()
    await deleting
    assert (await undoing).reason == "ENTRY_EXPIRED"
    assert orchestrator.cast.calls("RevertEntries") == []
    row = await orchestrator.pool.fetchrow("SELECT count(*) AS count FROM entries WHERE user_id = 'ada'")
    assert row is not None
    assert row["count"] == 0


async def test_a_deletion_waits_for_what_is_not_finished(orchestrator: Orchestrator) -> None:
    orchestrator.points.away = 12
    await refused(orchestrator.ingest(key="a"))
    await deleted(orchestrator)
    methods = [method for _, method, _ in orchestrator.cast.heard]
    assert methods.index("EraseTraces") > len(methods) - 1 - methods[::-1].index("ApplyEntries")
    assert orchestrator.cast.calls("ApplyEntries")[-1] is Step.LEADERBOARD


async def test_a_deletion_goes_on_when_a_service_is_there_again(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a")
    orchestrator.points.away = 12
    pending = await refused(delete(orchestrator))
    assert pending.reason in ("ENTRY_PENDING", "DEPENDENCY_UNAVAILABLE")
    reply = await deleted(orchestrator)
    assert reply.pseudonym
    assert set(orchestrator.cast.calls("EraseTraces")) == set(Step)


async def test_what_is_told_of_a_deletion_names_the_user_and_nothing_else(orchestrator: Orchestrator) -> None:
    request = pb.UpdateUserRequest(request_id="u")
    request.user.user_id, request.user.name = "ada", "Ada Lovelace"
    request.user.attributes["mail"] = "ada@example.com"
    await orchestrator.stub.UpdateUser(request)
    await delete(orchestrator)
    told: list[domain_event_pb2.DomainEvent] = []
    async for page in orchestrator.stub.WatchDomainEvents(pb.WatchDomainEventsRequest(), timeout=20):
        told += page.events
        if told:
            break
    (event,) = told
    assert (event.type, event.user_id, event.user.user_id) == ("user.erased", "ada", "ada")
    assert not event.user.name
    assert not event.user.attributes
    assert not event.user_attributes
