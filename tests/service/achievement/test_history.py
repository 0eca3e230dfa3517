"""The history of completions over a real channel (RULES 4.1)."""

from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.achievement.v1 import achievement_service_pb2 as pb

from shared.errors import from_rpc_error
from shared.rpc.convert import to_timestamp
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import API, NOON, apply, call, entry_id, revert
from tests.service.achievement.steps import define

COMPLETED = types.ACHIEVEMENT_CHANGE_KIND_COMPLETED
REVOKED = types.ACHIEVEMENT_CHANGE_KIND_REVOKED


async def listed(service: Service, **fields: Any) -> list[tuple[str, str, int]]:
    response = await service.stub.ListCompletions(pb.ListCompletionsRequest(**fields))
    return [(each.user_id, each.achievement, each.kind) for each in response.completions]


@pytest.fixture
async def lived(service: Service) -> Service:
    """Alice completed `a` one minute before `b`, Bob `a` after that; then Alice's `a` was undone, at noon."""
    await define(service, "a", api=API)
    await define(service, "b", api=API)
    calls = [
        call("a1", "a", minutes=1),
        call("b1", "b", minutes=2),
        call("a2", "a", minutes=3, user="bob"),
    ]
    await service.participant.ApplyEntries(apply(*calls))
    await service.participant.RevertEntries(revert("a1"))
    return service


async def test_the_history_is_that_of_a_user_of_an_achievement_or_of_both(lived: Service) -> None:
    alice = [("alice", "b", COMPLETED), ("alice", "a", COMPLETED), ("alice", "a", REVOKED)]
    assert await listed(lived, user_id="alice") == alice
    assert await listed(lived, achievement="a") == [("bob", "a", COMPLETED), *alice[1:]]
    assert await listed(lived, user_id="alice", achievement="a") == alice[1:]
    assert await listed(lived, user_id="nobody") == []


async def test_it_can_be_narrowed_down_to_kinds_and_times(lived: Service) -> None:
    assert await listed(lived, user_id="alice", kind=REVOKED) == [("alice", "a", REVOKED)]
    second = to_timestamp(NOON + timedelta(minutes=2))
    assert await listed(lived, user_id="alice", since=second) == [("alice", "b", COMPLETED)]
    assert ("alice", "b", COMPLETED) not in await listed(lived, user_id="alice", until=second)


async def test_pages_show_everything_once(lived: Service) -> None:
    whole = await listed(lived, achievement="a")
    shown: list[types.CompletionRecord] = []
    token = ""
    while True:
        request = pb.ListCompletionsRequest(achievement="a", page_size=1, page_token=token)
        response = await lived.stub.ListCompletions(request)
        shown += response.completions
        token = response.next_page_token
        if not token:
            break
    assert [(each.user_id, each.achievement, each.kind) for each in shown] == whole


async def test_a_record_names_its_entry_and_what_brought_it_about(lived: Service) -> None:
    response = await lived.stub.ListCompletions(pb.ListCompletionsRequest(user_id="alice", achievement="a"))
    completion, revocation = response.completions
    assert completion.completion_id == revocation.completion_id
    assert completion.entry_id == completion.cause_entry_id == str(entry_id("a1"))
    assert (revocation.entry_id, revocation.number) == (str(entry_id("a1")), 1)
    assert revocation.time == to_timestamp(NOON)


async def test_somebody_or_something_has_to_be_named(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await listed(service, kind=9)
    fields = [violation.field for violation in from_rpc_error(failure.value).violations]
    assert fields == ["achievement", "kind"]
