"""Messages as JSON, next to what protobuf's own library makes of them."""

import math
from random import Random
from typing import Any

import pytest
from google.protobuf import duration_pb2, json_format, struct_pb2, wrappers_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import domain_event_pb2
from laurel.participant.v1 import participant_service_pb2

from shared.rpc.proto_json import json_of, time_text

EVENT = domain_event_pb2.DomainEvent
DATA = [field.name for field in EVENT.DESCRIPTOR.oneofs_by_name["data"].fields]

LONG = (0, 1, -(2**63), 2**63 - 1)
SCALARS: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.CPPTYPE_INT32: (0, 1, -(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: LONG,
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, 0.1, -1.5, 1e300, math.inf, -math.inf, math.nan),
    FieldDescriptor.CPPTYPE_FLOAT: (0.0, 0.1, -1.5),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 99),
    FieldDescriptor.CPPTYPE_STRING: ("", "a", "ä🏅", '"\\\n'),
}
FEW_SECONDS, MOST_SECONDS = -62_135_596_800, 253_402_300_799


def reference(message: Message) -> Any:
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def same(one: Any, other: Any) -> bool:
    """Also where a list is a tuple, or 1 is True, they are not."""
    return repr(sorted_deeply(one)) == repr(sorted_deeply(other))


def sorted_deeply(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sorted_deeply(value[key]) for key in sorted(value)}
    return [sorted_deeply(inner) for inner in value] if isinstance(value, list) else value


def filled(message: Any, random: Random, share: float, depth: int) -> Message:
    """Something in a share of the fields, odd values among it."""
    if isinstance(message, Timestamp):
        message.seconds = random.choice((0, 1, FEW_SECONDS, MOST_SECONDS, random.randint(0, 2**32)))
        message.nanos = random.choice((0, 1, 999_999_999, 120_000_000, 1_000))
        return message
    for field in message.DESCRIPTOR.fields:
        if random.random() > share or (field.message_type is not None and not depth):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            fill_map(getattr(message, field.name), field.message_type, random)
        elif field.is_repeated:
            for _ in range(random.randint(0, 2)):
                if field.message_type is None:
                    getattr(message, field.name).append(scalar(field, random))
                else:
                    filled(getattr(message, field.name).add(), random, share, depth - 1)
        elif field.message_type is None:
            setattr(message, field.name, scalar(field, random))
        else:
            getattr(message, field.name).SetInParent()
            filled(getattr(message, field.name), random, share, depth - 1)
    return message  # type: ignore[no-any-return]


def fill_map(values: Any, entry: Any, random: Random) -> None:
    value = entry.fields_by_name["value"]
    for key in ("", "a", "plan")[: random.randint(0, 3)]:
        if value.message_type is None:
            values[key] = scalar(value, random)
        else:
            filled(values[key], random, 0.5, 1)


def scalar(field: FieldDescriptor, random: Random) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.randbytes(random.randint(0, 5))
    return random.choice(SCALARS[field.cpp_type])


@given(st.sampled_from(DATA), st.integers(0, 2**32), st.sampled_from((0.0, 0.3, 0.7, 1.0)))
def test_the_data_of_an_event_of_any_kind_is_what_the_library_makes_of_it(
    name: str, seed: int, share: float
) -> None:
    data = filled(getattr(EVENT(), name), Random(seed), share, 6)
    assert same(json_of(data), reference(data))


@pytest.mark.parametrize("name", DATA)
def test_data_in_which_nothing_is_set_says_so(name: str) -> None:
    data = getattr(EVENT(), name)
    assert same(json_of(data), reference(data))


@given(st.integers(0, 2**32))
def test_what_no_event_has_is_what_the_library_makes_of_it_too(seed: int) -> None:
    for kind in (participant_service_pb2.Command, entry_pb2.Entry):
        message = filled(kind(), Random(seed), 0.5, 3)
        assert same(json_of(message), reference(message))


@given(st.integers(FEW_SECONDS, MOST_SECONDS), st.sampled_from((0, 1, 1_000, 10_000_000, 999_999_999)))
def test_an_instant_is_the_text_that_the_library_makes_of_it(seconds: int, nanos: int) -> None:
    instant = Timestamp(seconds=seconds, nanos=nanos)
    assert time_text(instant) == instant.ToJsonString()


@pytest.mark.parametrize(
    "message",
    [
        duration_pb2.Duration(seconds=1, nanos=500_000_000),
        wrappers_pb2.Int64Value(value=7),
        struct_pb2.Value(string_value="a"),
        Timestamp(seconds=1),
    ],
)
def test_what_has_a_json_of_its_own_keeps_it(message: Message) -> None:
    assert json_of(message) == reference(message)


def test_objects_share_no_lists() -> None:
    one, other = (json_of(EVENT().streak) for _ in range(2))
    one["periods"].append("x")
    assert other["periods"] == []
