"""RULES 2.7: the merge of a user into another, as the orchestrator drives it."""

import asyncio
from uuid import UUID

from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2

from services.orchestrator.moving import moved_id
from services.orchestrator.saga import Step
from shared import faults
from shared.ids import derived_id_beside
from tests.fixtures.clients import persist
from tests.service.orchestrator.conftest import Orchestrator, refused


async def merge(
    orchestrator: Orchestrator, user: str = "anon", into: str = "ada", key: str = "once"
) -> pb.MergeUsersResponse:
    request = pb.MergeUsersRequest(user_id=user, into_user_id=into, request_id=key, reason="signed in")
    return await orchestrator.stub.MergeUsers(request, timeout=20)


async def merged(orchestrator: Orchestrator, user: str = "anon", into: str = "ada") -> pb.MergeUsersResponse:
    """The reply to a merge that is asked for until there is one."""

    async def call() -> pb.MergeUsersResponse:
        return await merge(orchestrator, user, into)

    reply = await persist(call)
    assert isinstance(reply, pb.MergeUsersResponse)
    return reply


async def total(orchestrator: Orchestrator, user: str) -> tuple[str, float]:
    known = await orchestrator.stub.GetUser(pb.GetUserRequest(user_id=user))
    return known.user.user_id, sum(metric.total for metric in known.metrics)


async def delete(orchestrator: Orchestrator, user: str) -> pb.DeleteUserResponse:
    return await orchestrator.stub.DeleteUser(pb.DeleteUserRequest(user_id=user, request_id="d"), timeout=20)


async def test_everything_counts_for_the_other_and_the_id_leads_there(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    await orchestrator.ingest("anon", key="a", value=5)
    reply = await merge(orchestrator)
    assert (reply.into_user_id, reply.moved_count, reply.refused_count) == ("ada", 1, 0)
    assert await total(orchestrator, "anon") == await total(orchestrator, "ada") == ("ada", 7)
    listed = await orchestrator.stub.ListUsers(pb.ListUsersRequest())
    assert [user.user_id for user in listed.users] == ["ada"]
    later = await orchestrator.ingest("anon", key="b", value=1)
    assert (later.total_before, later.total_after) == (7, 8)
    assert (await orchestrator.ingest("ada", key="b", value=1)).entry_id == later.entry_id


async def test_what_was_answered_before_a_merge_keeps_its_answer(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    first = await orchestrator.ingest("anon", key="a", value=5)
    await merge(orchestrator)
    again = await orchestrator.ingest("anon", key="a", value=5)
    assert again.idempotent_replayed
    again.idempotent_replayed = False
    assert again == first
    assert (await refused(orchestrator.ingest("anon", key="a", value=6))).reason == "IDEMPOTENCY_KEY_REUSED"
    assert await total(orchestrator, "ada") == ("ada", 7)


async def test_the_same_merge_again_gets_the_same_reply(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a")
    await orchestrator.ingest("anon", key="a")
    first, again = await merge(orchestrator), await merge(orchestrator)
    assert again.idempotent_replayed
    again.idempotent_replayed = False
    assert again == first
    assert (await refused(merge(orchestrator, key="twice"))).reason == "USER_MERGED"
    assert await total(orchestrator, "ada") == ("ada", 2)


async def test_merges_can_follow_one_another_and_never_go_round(orchestrator: Orchestrator) -> None:
    for user in ("ada", "anon", "older"):
        await orchestrator.ingest(user, key="a")
    await merge(orchestrator, "older", "anon")
    await merge(orchestrator, "anon", "ada")
    assert await total(orchestrator, "older") == ("ada", 3)
    refusal = await refused(merge(orchestrator, "ada", "older"))
    assert [violation.field for violation in refusal.violations] == ["into_user_id"]
    await orchestrator.ingest("older", key="b")
    assert await total(orchestrator, "ada") == ("ada", 4)


async def test_of_two_that_would_go_up_in_one_another_only_one_does(orchestrator: Orchestrator) -> None:
    for user in ("ada", "anon"):
        await orchestrator.ingest(user, key="a")
    answers = await asyncio.gather(
        merge(orchestrator, "ada", "anon"), merge(orchestrator, "anon", "ada"), return_exceptions=True
    )
    assert sum(isinstance(answer, pb.MergeUsersResponse) for answer in answers) == 1
    assert (await total(orchestrator, "ada"))[1] == 2
    assert await total(orchestrator, "ada") == await total(orchestrator, "anon")


async def test_nobody_is_merged_into_who_is_not_known(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest("anon", key="a")
    assert (await refused(merge(orchestrator, into="nobody"))).reason == "USER_NOT_FOUND"
    assert (await refused(merge(orchestrator, "nobody", "anon"))).reason == "USER_NOT_FOUND"
    assert await total(orchestrator, "anon") == ("anon", 1)


async def test_an_entry_of_before_is_voided_where_it_counts_now(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    one = await orchestrator.ingest("anon", key="a", value=5)
    gone = await orchestrator.ingest("anon", key="b", value=9)
    await orchestrator.stub.VoidEntry(
        pb.VoidEntryRequest(entry_id=gone.entry_id, reason="r", request_id="1"), timeout=20
    )
    assert (await merge(orchestrator)).moved_count == 1
    voided = await orchestrator.stub.VoidEntry(
        pb.VoidEntryRequest(entry_id=one.entry_id, reason="r", request_id="2"), timeout=20
    )
    assert voided.entry_id == str(moved_id(UUID(one.entry_id)))
    assert await total(orchestrator, "ada") == ("ada", 2)


async def test_a_prize_that_is_found_after_a_merge_is_the_other_s(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a")
    one = await orchestrator.ingest("anon", key="a")
    await merge(orchestrator)
    prize = participant_service_pb2.Change(
        entry_id=str(derived_id_beside(UUID(one.entry_id), "prize")), user_id="anon", time_zone="UTC"
    )
    prize.occur_time.GetCurrentTime()
    prize.board_prize.SetInParent()
    closing = participant_service_pb2.Change(
        entry_id=str(derived_id_beside(UUID(one.entry_id), "closing")), user_id="anon", time_zone="UTC"
    )
    closing.occur_time.GetCurrentTime()
    closing.streak_closing.SetInParent()
    orchestrator.leaderboard.feed += [prize, closing]
    orchestrator.leaderboard.parts.append(participant_service_pb2.RunMaintenanceResponse(done_count=1))
    await orchestrator.stub.RunMaintenance(pb.RunMaintenanceRequest(now=prize.occur_time), timeout=20)
    rows = await orchestrator.pool.fetch(
        "SELECT user_id, kind FROM entries WHERE kind IN ('board_prize', 'streak_closing')"
    )
    assert [(row["user_id"], row["kind"]) for row in rows] == [("ada", "board_prize")]


async def test_a_merge_goes_on_when_a_service_is_there_again(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    await orchestrator.ingest("anon", key="a", value=5)
    orchestrator.points.away = 12
    await refused(merge(orchestrator))
    assert (await merged(orchestrator)).moved_count == 1
    assert await total(orchestrator, "anon") == ("ada", 7)
    assert set(orchestrator.cast.calls("EraseTraces")) == set(Step)


async def test_who_was_merged_is_deleted_with_the_other(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    await orchestrator.ingest("anon", key="a", value=5)
    await merge(orchestrator)
    assert (await refused(delete(orchestrator, "anon"))).reason == "USER_MERGED"
    await delete(orchestrator, "ada")
    rows = await orchestrator.pool.fetch("SELECT DISTINCT user_id FROM entries")
    assert not {"ada", "anon"} & {row["user_id"] for row in rows}
    assert await orchestrator.pool.fetch("SELECT FROM users") == []
    back = await orchestrator.ingest("anon", key="a", value=3)
    assert (back.total_after, back.idempotent_replayed) == (3, False)


async def test_a_merge_that_is_under_way_ends_before_the_other_is_deleted(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a", value=2)
    await orchestrator.ingest("anon", key="a", value=5)
    faults.arm("orchestrator.merge.move.after=error")
    try:
        await refused(merge(orchestrator))
        assert (await refused(delete(orchestrator, "ada"))).reason in ("ENTRY_PENDING", "USER_BUSY")
    finally:
        faults.arm("")

    async def deleted() -> pb.DeleteUserResponse:
        return await delete(orchestrator, "ada")

    assert isinstance(await persist(deleted), pb.DeleteUserResponse)
    assert await orchestrator.pool.fetch("SELECT FROM users") == []
    assert await orchestrator.pool.fetch("SELECT FROM sagas WHERE state <> 3 AND state <> 6") == []


async def test_a_merge_is_told_and_audited(orchestrator: Orchestrator) -> None:
    await orchestrator.ingest(key="a")
    await orchestrator.ingest("anon", key="a")
    reply = await merge(orchestrator)
    async for page in orchestrator.stub.WatchDomainEvents(
        pb.WatchDomainEventsRequest(types=["user.merged"]), timeout=20
    ):
        if page.events:
            break
    [event] = page.events
    assert (event.user_id, event.merge.into_user_id, event.merge.moved_count) == ("anon", "ada", 1)
    assert event.entry_id == reply.entry_id
    [row] = await orchestrator.pool.fetch("SELECT * FROM admin_operations WHERE method = 'merge_users'")
    assert (row["subject"], row["reason"]) == (f"entry/{reply.entry_id}", "signed in")
