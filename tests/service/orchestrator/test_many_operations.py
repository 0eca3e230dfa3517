"""PerformOperations: many operations in one call, each as good as a call of its own (RULES 1.3)."""

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.operations import OPERATIONS
from services.orchestrator.servicer import MAX_OPERATIONS
from shared.rpc.error_messages import error_from_message
from tests.service.orchestrator.conftest import Orchestrator, refused


def renamed(user: str, name: str, request_id: str) -> pb.OperationRequest:
    request = pb.OperationRequest()
    request.user_update.user.user_id = user
    request.user_update.user.name = name
    request.user_update.request_id = request_id
    return request


async def perform(orchestrator: Orchestrator, *operations: pb.OperationRequest) -> list[pb.OperationResult]:
    request = pb.PerformOperationsRequest(operations=operations)
    metadata = (("laurel-actor", "ops"),)
    return list((await orchestrator.stub.PerformOperations(request, timeout=20, metadata=metadata)).results)


async def test_each_operation_has_its_reply_or_its_error_in_order(orchestrator: Orchestrator) -> None:
    completed = pb.OperationRequest()
    completed.achievement_call.user.user_id = "bob"
    completed.achievement_call.achievement = "founder"
    completed.achievement_call.request_id = "b"
    results = await perform(
        orchestrator, renamed("ada", "Ada", "a"), renamed("", "Nobody", "n"), completed, pb.OperationRequest()
    )
    kinds = [result.WhichOneof("result") for result in results]
    assert kinds == ["user_update", "error", "achievement_call", "error"]
    assert results[0].user_update.user.name == "Ada"
    wrong = [
        [violation.field for violation in error_from_message(results[at].error).violations] for at in (1, 3)
    ]
    assert wrong == [["user.user_id"], ["operation"]]


async def test_the_same_operations_again_are_answered_and_not_done_again(orchestrator: Orchestrator) -> None:
    asked = [renamed(f"user-{n}", f"No {n}", "once") for n in range(3)]
    first = await perform(orchestrator, *asked)
    again = await perform(orchestrator, *asked)
    assert [result.user_update.idempotent_replayed for result in again] == [True, True, True]
    entries = [[result.user_update.entry_id for result in results] for results in (first, again)]
    assert entries[0] == entries[1]


async def test_who_asked_for_many_is_kept_with_each(orchestrator: Orchestrator) -> None:
    [result] = await perform(orchestrator, renamed("ada", "Ada", "a"))
    audit = await orchestrator.stub.GetEntry(
        pb.GetEntryRequest(entry_id=result.user_update.entry_id), timeout=20
    )
    assert audit.entry.actor == "ops"


async def test_none_and_too_many_are_refused(orchestrator: Orchestrator) -> None:
    for count in (0, MAX_OPERATIONS + 1):
        request = pb.PerformOperationsRequest(operations=[renamed("ada", "Ada", "a")] * count)
        error = await refused(orchestrator.stub.PerformOperations(request, timeout=20))
        assert [violation.field for violation in error.violations] == ["operations"]


def test_every_operation_that_can_be_asked_for_can_be_one_of_many() -> None:
    numbers = {
        field.name: field.number for field in entry_pb2.Entry.DESCRIPTOR.oneofs_by_name["operation"].fields
    }
    asked = {name for name, operation in OPERATIONS.items() if operation.method and name != "metric_event"}
    requests = pb.OperationRequest.DESCRIPTOR.oneofs_by_name["operation"].fields
    results = [field for field in pb.OperationResult.DESCRIPTOR.fields if field.name != "error"]
    assert {field.name for field in requests} == {field.name for field in results} == asked
    for field in (*requests, *results):
        assert field.number == numbers[field.name]
    for field in requests:
        assert field.message_type is OPERATIONS[field.name].request_type.DESCRIPTOR
    for field in results:
        reply_type = OPERATIONS[field.name].reply_type
        assert reply_type is not None
        assert field.message_type is reply_type.DESCRIPTOR
