"""Nothing is recorded for who is only a pseudonym (RULES 2.7): ledgers stay under it, and would be mixed up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1 import user_pb2

from services.orchestrator import convert
from services.orchestrator.domain import TimeWindow
from services.orchestrator.operation import Asked
from services.orchestrator.operations import OPERATIONS
from services.orchestrator.operations.user_erasure import pseudonym_of
from shared.errors import InvalidArgument, Violations
from shared.tenants import stored

ENTRY = "01a222e9-7f12-8b82-a008-b622a4ffe608"
PSEUDONYMS = [
    pseudonym_of(ENTRY),
    f"{pseudonym_of(ENTRY)}-1",
    f"merged-{ENTRY}",
    stored("acme", pseudonym_of(ENTRY)),
]
OTHERS = ["erased", "erased-", "erased-ada", f"x{pseudonym_of(ENTRY)}", "merged-2026", ENTRY]
TEXT = "is the pseudonym of a user who was deleted or merged"
ASKED = Asked(datetime(2026, 3, 1, tzinfo=UTC), TimeWindow(timedelta(days=7), timedelta(minutes=5)))


def wrong(user_id: str) -> list[tuple[str, str]]:
    violations = Violations()
    convert.user_patch(user_pb2.User(user_id=user_id), violations)
    return [(each.field, each.description) for each in violations]


@pytest.mark.parametrize("user_id", PSEUDONYMS)
def test_no_event_is_for_a_pseudonym(user_id: str) -> None:
    assert wrong(user_id) == [("user.user_id", TEXT)]


@pytest.mark.parametrize("user_id", OTHERS)
def test_an_id_that_looks_like_one_is_a_users(user_id: str) -> None:
    assert wrong(user_id) == []


@pytest.mark.parametrize("field", list(pb.OperationRequest.DESCRIPTOR.fields), ids=lambda field: field.name)
def test_no_operation_but_a_deletion_is_for_a_pseudonym(field: Any) -> None:
    request = getattr(pb.OperationRequest(), field.name)
    paths = [each.name for each in request.DESCRIPTOR.fields if each.name.endswith("user_id")]
    for path in paths:
        setattr(request, path, PSEUDONYMS[0])
    if not paths:
        request.user.user_id = PSEUDONYMS[0]
    incoming = OPERATIONS[field.name].incoming
    assert incoming is not None
    with pytest.raises(InvalidArgument) as raised:
        incoming(request, ASKED)
    named = {each.field for each in raised.value.violations if each.description == TEXT}
    assert named == (set() if field.name == "user_erasure" else set(paths) or {"user.user_id"})
