"""Conversions between messages and plain values, with every violation."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from laurel.common.v1.error_pb2 import Error
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2

from shared.entries import Entry, EntryKind, MetricFact, Reversal, UserSnapshot
from shared.errors import (
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    Unavailable,
    Unknown,
    Violations,
)
from shared.rpc.convert import (
    MAX_ATTRIBUTE_NAME_CHARS,
    check_attributes,
    check_hold_seconds,
    check_key,
    check_request_id,
    check_text,
    check_user_id,
    check_zone,
    digest_of,
    instant_field,
    set_timestamp,
    to_datetime,
    to_timestamp,
    uuid_field,
)
from shared.rpc.entries import entry_from_proto, reversal_from_proto, user_from_proto
from shared.rpc.error_messages import error_from_message, error_message

ENTRY_ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
INSTANT = datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC)
INSTANTS = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - hypothesis takes naive bounds
    max_value=datetime(2199, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def metric_event() -> entry_pb2.Entry:
    return entry_pb2.Entry(
        entry_id=ENTRY_ID,
        user=entry_pb2.UserSnapshot(
            user_id="alice",
            time_zone="Asia/Tokyo",
            attributes={"plan": "pro"},
            create_time=to_timestamp(INSTANT),
            version=3,
            name="Alice",
        ),
        now=to_timestamp(INSTANT),
        occur_time=to_timestamp(INSTANT),
        time_zone="Europe/Berlin",
        metric_event=entry_pb2.MetricFact(
            metric="lessons",
            value_micros=2_000_000,
            total_before_micros=1,
            total_after_micros=2_000_001,
            peak_micros=2_000_001,
            total_version=7,
            attributes={"course": "go"},
        ),
    )


def violated(message: entry_pb2.Entry) -> list[str]:
    violations = Violations()
    entry = entry_from_proto(message, violations)
    assert (entry is None) == bool(len(violations))
    return [violation.field for violation in violations]


@given(INSTANTS)
def test_an_instant_survives_the_wire_exactly(instant: datetime) -> None:
    assert to_datetime(to_timestamp(instant)) == instant


@given(INSTANTS)
def test_an_instant_that_is_written_in_place_is_the_same(instant: datetime) -> None:
    entry = entry_pb2.Entry()
    set_timestamp(entry.now, instant)
    assert entry.HasField("now")
    assert entry.now == to_timestamp(instant)


def test_nanoseconds_are_cut_to_microseconds() -> None:
    assert to_datetime(Timestamp(seconds=-1, nanos=999_999_999)).microsecond == 999_999


@pytest.mark.parametrize(
    "timestamp",
    [
        Timestamp(seconds=2**62),
        Timestamp(seconds=-(2**62)),
        Timestamp(seconds=7_258_118_400),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
    ],
)
def test_an_instant_outside_the_calendar_is_a_violation(timestamp: Timestamp) -> None:
    violations = Violations()
    message = participant_service_pb2.Reversal(now=timestamp)
    assert instant_field(message, "now", "", violations) is None
    assert [violation.field for violation in violations] == ["now"]


def test_an_entry_is_read_whole() -> None:
    violations = Violations()
    assert entry_from_proto(metric_event(), violations) == Entry(
        entry_id=UUID(ENTRY_ID),
        kind=EntryKind.METRIC_EVENT,
        user=UserSnapshot("alice", "Asia/Tokyo", {"plan": "pro"}, INSTANT, 3, "Alice"),
        now=INSTANT,
        occur_time=INSTANT,
        time_zone="Europe/Berlin",
        metric=MetricFact("lessons", 2_000_000, 1, 2_000_001, 2_000_001, 7, {"course": "go"}),
        corrected_entry_id=None,
    )
    assert len(violations) == 0


def test_an_empty_entry_names_everything_that_it_lacks() -> None:
    assert violated(entry_pb2.Entry()) == [
        "entry_id",
        "operation",
        "user.user_id",
        "user.time_zone",
        "user.create_time",
        "now",
        "occur_time",
        "time_zone",
    ]


def test_an_entry_of_an_unknown_operation_is_a_violation() -> None:
    message = metric_event()
    message.ClearField("operation")
    assert violated(message) == ["operation"]


def test_a_metric_event_has_a_value() -> None:
    message = metric_event()
    message.metric_event.value_micros = 0
    assert violated(message) == ["metric_event.value_micros"]


def test_a_correction_names_what_was_undone_and_may_carry_a_metric_without_value() -> None:
    message = metric_event()
    message.correction.metric.metric = "lessons"
    assert violated(message) == ["correction.corrected_entry_id"]
    message.correction.corrected_entry_id = ENTRY_ID
    assert violated(message) == []
    message.correction.ClearField("metric")
    assert violated(message) == []


def test_an_achievement_call_names_the_achievement() -> None:
    message = metric_event()
    message.achievement_call.achievement = "not a key"
    assert violated(message) == ["achievement_call.achievement"]
    message.achievement_call.achievement = "badge"
    entry = entry_from_proto(message, Violations())
    assert entry is not None
    assert (entry.kind, entry.achievement) == (EntryKind.ACHIEVEMENT_CALL, "badge")


def test_text_that_cannot_be_stored_is_a_violation_wherever_it_is() -> None:
    message = metric_event()
    message.user.user_id = "a\x00"
    message.user.name = "n" * 256
    message.user.attributes["plan"] = "\x00"
    message.metric_event.metric = "\x00"
    message.metric_event.attributes["k" * 65] = "v"
    assert violated(message) == [
        "user.user_id",
        "user.attributes['plan']",
        "user.name",
        "metric_event.metric",
        f"metric_event.attributes['{'k' * 64}']",
    ]


@pytest.mark.parametrize("zone", ["", "+02:00", "UTC+2", "europe/berlin", "../etc/passwd", "Factory"])
def test_what_is_not_an_iana_zone_is_a_violation(zone: str) -> None:
    message = metric_event()
    message.time_zone = zone
    assert violated(message) == ["time_zone"]


def test_a_reversal_is_read_whole_or_names_what_it_lacks() -> None:
    violations = Violations()
    message = participant_service_pb2.Reversal(
        entry_id=ENTRY_ID, user_id="alice", now=to_timestamp(INSTANT), user_version=7
    )
    assert reversal_from_proto(message, "reversals[0]", violations) == Reversal(
        UUID(ENTRY_ID), "alice", INSTANT, 7
    )
    wrong = participant_service_pb2.Reversal(user_version=-1)
    assert reversal_from_proto(wrong, "reversals[1]", violations) is None
    assert [violation.field for violation in violations] == [
        "reversals[1].entry_id",
        "reversals[1].user_id",
        "reversals[1].now",
        "reversals[1].user_version",
    ]


@pytest.mark.parametrize("value", ["", "x", ENTRY_ID.upper(), "{" + ENTRY_ID + "}", ENTRY_ID + "\n"])
def test_an_id_has_one_spelling(value: str) -> None:
    violations = Violations()
    assert uuid_field(value, "entry_id", violations) is None
    assert len(violations) == 1


@pytest.mark.parametrize("value", ["", "A", "1a", "a b", "a" * 65, "a\n", "é"])
def test_a_malformed_key_is_a_violation(value: str) -> None:
    violations = Violations()
    check_key(value, "key", violations)
    assert len(violations) == 1


def test_a_request_id_has_1_to_255_characters() -> None:
    violations = Violations()
    check_request_id("r" * 255, "request_id", violations)
    assert len(violations) == 0
    check_request_id("", "request_id", violations)
    check_request_id("r" * 256, "request_id", violations)
    assert len(violations) == 2


def test_maintenance_is_held_for_an_hour_at_most() -> None:
    violations = Violations()
    check_hold_seconds(0, "hold_seconds", violations)
    check_hold_seconds(3_600, "hold_seconds", violations)
    assert len(violations) == 0
    check_hold_seconds(-1, "hold_seconds", violations)
    check_hold_seconds(3_601, "hold_seconds", violations)
    assert len(violations) == 2


def test_an_error_survives_being_a_value() -> None:
    error = FailedPrecondition("no", reason="INSUFFICIENT_POINTS", metadata={"system": "xp"})
    back = error_from_message(error_message(error, "points.laurel"))
    assert isinstance(back, FailedPrecondition)
    assert (back.message, back.reason, back.domain) == ("no", "INSUFFICIENT_POINTS", "points.laurel")
    assert back.metadata == {"system": "xp"}


def test_an_error_keeps_its_violations_and_the_name_of_its_author() -> None:
    violation = FieldViolation("entry.now", "is required")
    error = InvalidArgument("x", reason="INVALID_FIELDS", violations=(violation,), domain="streak.laurel")
    back = error_from_message(error_message(error, "points.laurel"))
    assert back.violations == (violation,)
    assert back.domain == "streak.laurel"
    assert back.retry_after_seconds is None


def test_an_error_says_as_a_value_too_how_long_to_wait() -> None:
    error = Unavailable("later", reason="OVERLOADED", retry_after_seconds=0.25)
    assert error_from_message(error_message(error)).retry_after_seconds == 0.25


def test_an_error_with_a_code_that_nobody_knows_reads_as_unknown() -> None:
    assert isinstance(error_from_message(Error(code="ODD")), Unknown)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_the_digest_does_not_depend_on_the_order_of_a_map(attributes: dict[str, str]) -> None:
    forward = entry_pb2.UserSnapshot(attributes=attributes)
    backward = entry_pb2.UserSnapshot(attributes=dict(reversed(attributes.items())))
    assert digest_of(forward) == digest_of(backward)


def test_the_digest_tells_different_content_apart() -> None:
    message = metric_event()
    before = digest_of(message)
    message.metric_event.value_micros += 1
    assert digest_of(message) != before
    assert len(before) == 32


@given(
    st.one_of(st.sampled_from(["", "alice", "acme\x1falice", "Acme\x1falice", "u" * 256, "\x00"]), st.text()),
    st.sampled_from(["UTC", "Asia/Tokyo", "", "Factory", "+02:00"]),
    st.one_of(st.sampled_from(["", "n" * 255, "n" * 256, "\x00"]), st.text()),
)
def test_a_user_is_refused_by_the_same_rules_read_whole_and_field_by_field(
    user_id: str, time_zone: str, name: str
) -> None:
    whole, by_field = Violations(), Violations()
    message = metric_event().user
    message.user_id, message.time_zone, message.name = user_id, time_zone, name
    user_from_proto(message, "user", whole)
    check_user_id(user_id, "user.user_id", by_field)
    check_zone(time_zone, "user.time_zone", by_field)
    check_text(name, "user.name", by_field, min_chars=0)
    assert list(whole) == list(by_field)


def test_what_is_wrong_in_a_command_is_named_by_its_place_in_the_request() -> None:
    violations = Violations()
    violations.within("entry").add("user.user_id", "must have 1 to 255 characters")
    violations.add("digest", "must have 32 bytes", "A_REASON")
    assert [violation.field for violation in violations.under("commands[2]")] == [
        "commands[2].entry.user.user_id",
        "commands[2].digest",
    ]


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(["", "plan", "n" * 64, "n" * 65, "a\x00"]), st.text(max_size=70)),
        st.one_of(st.sampled_from(["", "v" * 255, "v" * 256, "\x00"]), st.text(max_size=260)),
        max_size=4,
    )
)
def test_attributes_are_refused_by_the_same_rules_one_by_one_and_together(attributes: dict[str, str]) -> None:
    together, one_by_one = Violations(), Violations()
    check_attributes(attributes, "attributes", together)
    for name, value in attributes.items():
        where = f"attributes[{name[:MAX_ATTRIBUTE_NAME_CHARS]!r}]"
        check_text(name, where, one_by_one, max_chars=MAX_ATTRIBUTE_NAME_CHARS)
        check_text(value, where, one_by_one, min_chars=0)
    assert list(together) == list(one_by_one)
