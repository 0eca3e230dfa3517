"""Errors and their form on the wire (DESIGN 6)."""

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from shared import errors
from shared.errors import (
    FieldViolation,
    InvalidArgument,
    LaurelError,
    Unavailable,
    Unknown,
    Violations,
    from_rpc_error,
    from_status,
    to_status,
)

KINDS = LaurelError.__subclasses__()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_wire_with_its_type_and_every_detail(kind: type[LaurelError]) -> None:
    sent = kind(
        "no",
        reason="BECAUSE",
        metadata={"key": "xp"},
        violations=(FieldViolation("user.time_zone", "is no zone", "UNKNOWN_ZONE"),),
        retry_after_seconds=1.5,
    )
    received = from_status(to_status(sent, "points.laurel"))
    assert type(received) is kind
    assert received.domain == "points.laurel"
    for name in ("message", "reason", "metadata", "violations", "retry_after_seconds"):
        assert getattr(received, name) == getattr(sent, name)


def test_every_code_but_ok_has_a_type() -> None:
    assert {kind.code for kind in KINDS} == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_an_error_from_another_service_keeps_its_domain() -> None:
    sent = errors.NotFound("no", reason="X", domain="streak.laurel")
    assert from_status(to_status(sent, "orchestrator.laurel")).domain == "streak.laurel"


def test_an_error_of_the_transport_is_typed_by_its_code() -> None:
    received = from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, details="connection refused"))
    assert type(received) is Unavailable
    assert received.reason == "UNAVAILABLE"
    assert received.message == "connection refused"


@pytest.mark.parametrize("details", [b"\xff\xff", status_pb2.Status(code=5).SerializeToString()])
def test_details_that_make_no_sense_leave_the_plain_status(details: bytes) -> None:
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", details))
    received = from_rpc_error(
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, trailing_metadata=metadata, details="away")
    )
    assert type(received) is Unavailable


def test_a_code_that_nobody_knows_is_unknown() -> None:
    assert type(from_status(status_pb2.Status(code=99))) is Unknown


@given(
    st.integers(1, 1_000),
    st.text(max_size=2_000),
    st.dictionaries(st.text(max_size=9), st.text(), max_size=5),
)
def test_an_error_is_cut_to_a_size_that_arrives(count: int, text: str, metadata: dict[str, str]) -> None:
    violations = tuple(FieldViolation(f"events[{index}].{text}", text) for index in range(count))
    status = to_status(
        InvalidArgument(text, reason="X", metadata=metadata, violations=violations), "x.laurel"
    )
    assert status.ByteSize() < 10_000
    assert from_status(status).reason == "X"


def test_a_list_of_violations_that_was_cut_says_how_many_more_there_are() -> None:
    violations = tuple(FieldViolation(f"events[{index}].value", "must not be zero") for index in range(1_000))
    received = from_status(to_status(InvalidArgument("x", reason="X", violations=violations), "x.laurel"))
    shown = len(received.violations) - 1
    assert received.violations[:shown] == violations[:shown]
    assert received.violations[-1].description == f"and {1_000 - shown} more"


def test_nothing_is_raised_while_nothing_is_wrong() -> None:
    Violations().raise_if_any()


def test_every_violation_is_reported_at_once() -> None:
    violations = Violations()
    violations.add("metric", "must not be empty")
    event = violations.within("events[3]")
    event.within("user").add("time_zone", "is no zone", "UNKNOWN_ZONE")
    with pytest.raises(InvalidArgument) as raised:
        violations.raise_if_any()
    assert raised.value.reason == "INVALID_FIELDS"
    assert raised.value.message == "metric: must not be empty (and 1 more)"
    assert [violation.field for violation in raised.value.violations] == [
        "metric",
        "events[3].user.time_zone",
    ]


def test_a_reason_that_all_violations_share_is_the_reason_of_the_error() -> None:
    violations = Violations()
    violations.add("occur_time", "is too old", "EVENT_TOO_OLD")
    with pytest.raises(InvalidArgument) as raised:
        violations.raise_if_any()
    assert raised.value.reason == "EVENT_TOO_OLD"
    with pytest.raises(InvalidArgument) as raised:
        violations.raise_if_any("ANOTHER")
    assert raised.value.reason == "ANOTHER"


def test_the_wire_form_holds_one_error_info_first() -> None:
    info = error_details_pb2.ErrorInfo()
    assert to_status(Unavailable("no", reason="R"), "x.laurel").details[0].Unpack(info)
    assert (info.reason, info.domain) == ("R", "x.laurel")
