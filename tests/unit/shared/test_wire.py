"""Messages from parts that are serialized already, next to messages that protobuf serializes."""

from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from laurel.ledger.v1 import effects_pb2
from laurel.orchestrator.v1 import event_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as orchestrator_pb
from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.points.v1 import points_pb2

from shared.rpc.wire import Part

TEXTS = st.text(max_size=300)


@given(st.lists(TEXTS, max_size=5))
def test_parts_make_the_message_that_protobuf_makes(texts: list[str]) -> None:
    outcomes = [pb.Outcome(entry_id=text) for text in texts]
    part = Part(pb.ApplyEntriesResponse, "outcomes")
    body = b"".join(part.holding(outcome.SerializeToString()) for outcome in outcomes)
    assert body == pb.ApplyEntriesResponse(outcomes=outcomes).SerializeToString()


@given(st.binary(max_size=20_000))
@example(b"d" * 127)
@example(b"d" * 128)
@example(b"d" * 2_047)
@example(b"d" * 2_048)
@example(b"d" * 16_383)
@example(b"d" * 16_384)
def test_a_part_may_be_of_any_length(digest: bytes) -> None:
    assert (
        Part(pb.Command, "digest").holding(digest) == pb.Command(digest=digest).SerializeToString()
        or not digest
    )


@given(TEXTS, TEXTS)
def test_two_messages_after_one_another_are_their_merge(first: str, second: str) -> None:
    parts = [effects_pb2.Effects(points=[points_pb2.PointsChange(user_id=text)]) for text in (first, second)]
    merged = effects_pb2.Effects()
    for part in parts:
        merged.MergeFrom(part)
    assert b"".join(part.SerializeToString() for part in parts) == merged.SerializeToString()


def test_a_field_can_be_added_to_a_stored_reply() -> None:
    reply = event_pb2.IngestEventResponse(entry_id=str(uuid4()), total_after=2.5)
    added = event_pb2.IngestEventResponse(idempotent_replayed=True)
    both = event_pb2.IngestEventResponse.FromString(reply.SerializeToString() + added.SerializeToString())
    reply.idempotent_replayed = True
    assert both == reply


def test_a_field_without_a_message_is_no_part() -> None:
    with pytest.raises(ValueError, match="holds no message"):
        Part(orchestrator_pb.StreamEventsResponse, "sequence")
