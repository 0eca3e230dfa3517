"""Namespaces of users: what goes in front, and what comes off again (RULES 9.3)."""

import base64
import json
import re

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given
from hypothesis import strategies as st
from laurel.orchestrator.v1 import audit_pb2, event_pb2, orchestrator_service_pb2, user_pb2
from laurel.points.v1 import points_pb2, points_service_pb2
from laurel.streak.v1 import streak_service_pb2

from shared import tenants
from shared.errors import InvalidArgument, NotFound, PermissionDenied, Violations
from shared.pages import read_page
from shared.rpc.convert import check_request_id, check_user_id
from shared.rpc.tenants import error_for, given_out, reply_of, taken_in

NAMES = st.from_regex(tenants.TENANT, fullmatch=True)
IDS = st.text(min_size=1).filter(lambda text: tenants.SEPARATOR not in text)


@given(NAMES, NAMES, IDS, IDS)
def test_ids_of_two_tenants_never_meet_and_lie_in_a_range_of_their_own(
    one: str, other: str, first: str, second: str
) -> None:
    left, right = tenants.stored(one, first), tenants.stored(other, second)
    assert (left == right) == ((one, first) == (other, second))
    assert (tenants.tenant_of(left), tenants.shown(left)) == (one, first)
    lowest, highest = tenants.id_range(one)
    assert lowest < left < highest
    assert (lowest < right < highest) == (one == other)
    assert tenants.is_stored_form(left)
    assert not tenants.is_stored_form(tenants.stored(other, left))
    assert not lowest < first < highest


@given(NAMES, IDS)
def test_a_request_that_goes_in_and_comes_out_is_the_same(tenant: str, user: str) -> None:
    request = orchestrator_service_pb2.PerformOperationsRequest()
    request.operations.add().points_transfer.user_id = user
    request.operations[0].points_transfer.to_user_id = user + "2"
    request.operations[0].points_transfer.request_id = "r"
    request.operations.add().user_update.user.user_id = user
    before = type(request).FromString(request.SerializeToString())
    taken_in(request, tenant)
    stored = request.operations[0].points_transfer
    assert stored.user_id == f"{tenant}\x1f{user}"
    assert stored.request_id == f"{tenant}\x1fr"
    assert request.operations[1].user_update.user.user_id == f"{tenant}\x1f{user}"
    given_out(request, tenant)
    assert request == before


def test_what_is_not_said_stays_so() -> None:
    request = orchestrator_service_pb2.ListDomainEventsRequest()
    taken_in(request, "acme")
    assert request == orchestrator_service_pb2.ListDomainEventsRequest()
    many = streak_service_pb2.BatchGetUserStreaksRequest(streak="daily", user_ids=["a", "", "b"])
    taken_in(many, "acme")
    assert list(many.user_ids) == ["acme\x1fa", "", "acme\x1fb"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (orchestrator_service_pb2.GetUserRequest(user_id="evil\x1fa"), "user_id"),
        (orchestrator_service_pb2.GetUserRequest(user_id="\x1fa"), "user_id"),
        (streak_service_pb2.BatchGetUserStreaksRequest(user_ids=["a", "evil\x1fa"]), "user_ids"),
        (event_pb2.IngestEventRequest(user=user_pb2.User(user_id="acme\x1fa")), "user.user_id"),
        (event_pb2.IngestEventRequest(idempotency_key="\x1f"), "idempotency_key"),
        (event_pb2.IngestEventRequest(attributes={"a": "\x1f"}), "attributes"),
        (
            orchestrator_service_pb2.IngestEventsRequest(
                events=[event_pb2.IngestEventRequest(metric="\x1f")]
            ),
            "events[0].metric",
        ),
    ],
)
def test_nobody_forges_a_tenant(request_: object, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        taken_in(request_, "acme")  # type: ignore[arg-type]
    assert [found.field for found in caught.value.violations] == [field]


def test_what_is_of_others_is_left_out_of_lists_and_refused_where_it_stands_alone() -> None:
    system = points_pb2.PointsSystem(key="xp")
    for user in ("", "acme\x1fa", "evil\x1fa", "a"):
        system.boosts.add(key="b", user_id=user)
    reply = points_service_pb2.GetPointsSystemResponse(points_system=system)
    given_out(reply, "acme")
    assert [boost.user_id for boost in reply.points_system.boosts] == ["", "a"]
    for user in ("evil\x1fa", "a", "xacme\x1fa"):
        with pytest.raises(PermissionDenied):
            given_out(
                orchestrator_service_pb2.GetUserResponse(user=user_pb2.StoredUser(user_id=user)), "acme"
            )
    audit = audit_pb2.EntryAudit(user_id="acme\x1fa", other_user_ids=["evil\x1fb", "acme\x1fb"])
    given_out(audit, "acme")
    assert (audit.user_id, list(audit.other_user_ids)) == ("a", ["b"])


def test_what_is_packed_and_what_was_stored_as_bytes_is_looked_through_too() -> None:
    packed = AnyMessage()
    packed.Pack(event_pb2.IngestEventRequest(user=user_pb2.User(user_id="acme\x1fa"), metric="m"))
    reply = orchestrator_service_pb2.GetEntryResponse(
        entry=audit_pb2.EntryAudit(user_id="acme\x1fa", request=packed)
    )
    method = "/laurel.orchestrator.v1.OrchestratorService/GetEntry"
    shown = reply_of(method, reply.SerializeToString(), "acme")
    inner = event_pb2.IngestEventRequest()
    assert shown.entry.request.Unpack(inner)
    assert (shown.entry.user_id, inner.user.user_id, inner.metric) == ("a", "a", "m")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("there is no user 'acme\\x1falice'", "there is no user 'alice'"),
        ("key acme\x1fr1 was used", "key r1 was used"),
        (json.dumps({"user_id": "acme\x1fa"}), '{"user_id": "a"}'),
        (json.dumps(json.dumps(["acme\x1fa"])), json.dumps('["a"]')),
        ("of evil\x1fbob, not acme\x1fa", "of (another's) not a"),
        ("of xacme\x1fbob", "of (another's)"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_texts_name_a_tenants_own_users_as_it_knows_them_and_no_others(text: str, shown: str) -> None:
    assert tenants.own_text("acme", text) == shown


def test_an_error_is_told_to_others_as_it_was() -> None:
    error = NotFound("no acme\x1fa", reason="X", metadata={"user_id": "acme\x1fa"})
    told = error_for(error, "acme")
    assert (told.message, told.metadata, type(told)) == ("no a", {"user_id": "a"}, NotFound)
    assert error.message == "no acme\x1fa"


@pytest.mark.parametrize("check", [check_user_id, check_request_id])
@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("alice", True),
        ("acme\x1falice", True),
        ("acme\x1f" + "x" * 255, True),
        ("acme\x1f" + "x" * 256, False),
        ("acme\x1f", False),
        ("\x1falice", False),
        ("Acme\x1falice", False),
        ("acme\x1fal\x1fice", False),
    ],
)
def test_a_stored_id_has_one_tenant_in_front_or_none(check: object, value: str, good: bool) -> None:
    violations = Violations()
    check(value, "user_id", violations)  # type: ignore[operator]
    try:
        violations.raise_if_any()
        assert good
    except InvalidArgument:
        assert not good


def _in_tenant(tenant: str, query: str, token: str = "", last: str = "") -> object:
    held = tenants.CURRENT_TENANT.set(tenant)
    try:
        page = read_page(10, token, keyset=[str], query=[query])
        return page.next_token(last) if last else page.after
    finally:
        tenants.CURRENT_TENANT.reset(held)


def test_a_page_token_says_nothing_of_its_tenant_and_leads_nobody_into_another() -> None:
    token = str(_in_tenant("acme", "users", last="acme\x1falice"))
    assert b"acme" not in base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert _in_tenant("acme", "users", token) == ("acme\x1falice",)
    assert _in_tenant("evil", "users", token) == ("evil\x1falice",)
    forged = str(_in_tenant("", "users", last="acme\x1falice"))
    with pytest.raises(InvalidArgument):
        _in_tenant("evil", "users", forged)


def test_the_text_that_says_what_a_tenant_is_called_says_what_is_checked() -> None:
    found = re.search(r"\^(.*)\$", tenants.TENANT_TEXT)
    assert found is not None
    assert found[1] == tenants.TENANT.pattern
