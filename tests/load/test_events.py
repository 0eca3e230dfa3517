"""What the generator puts together from bytes is what the contract reads."""

from itertools import islice

import pytest
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2

from deploy.bench.events import METRICS, Mix, batch, requests, sequence_of, streamed, varint
from deploy.bench.report import table


def parsed(mix: Mix, count: int) -> list[event_pb2.IngestEventRequest]:
    return [event_pb2.IngestEventRequest.FromString(body) for body in islice(requests(mix), count)]


def test_events_are_of_many_users_several_metrics_and_zones_under_keys_of_their_own() -> None:
    events = parsed(Mix(users=500, key_prefix="run-"), 2_000)
    assert len({event.user.user_id for event in events}) > 450
    assert {event.metric for event in events} == set(METRICS)
    assert len({event.user.time_zone for event in events}) == 6
    assert len({event.idempotency_key for event in events}) == 2_000
    assert all(event.idempotency_key.startswith("run-") for event in events)


def test_a_share_of_the_events_is_sent_again_as_it_was() -> None:
    bodies = list(islice(requests(Mix(users=100, replayed_share=0.1)), 20_000))
    assert 1 - len(set(bodies)) / len(bodies) == pytest.approx(0.1, abs=0.02)


def test_every_user_has_each_metric_once_where_that_is_asked() -> None:
    events = parsed(Mix(users=20, first_user=5, every_user_once=True), 1_000)
    assert len(events) == 40
    assert len({(event.user.user_id, event.metric) for event in events}) == 40


def test_a_batch_is_its_events_in_order() -> None:
    bodies = list(islice(requests(Mix(users=10)), 100))
    request = orchestrator_service_pb2.IngestEventsRequest.FromString(batch(bodies))
    assert list(request.events) == [event_pb2.IngestEventRequest.FromString(body) for body in bodies]


@pytest.mark.parametrize("sequence", [1, 127, 128, 300, 2**40])
def test_a_streamed_event_carries_its_sequence_there_and_back(sequence: int) -> None:
    (body,) = islice(requests(Mix(users=1)), 1)
    request = orchestrator_service_pb2.StreamEventsRequest.FromString(streamed(sequence, body))
    assert request.sequence == sequence
    assert request.event == event_pb2.IngestEventRequest.FromString(body)
    response = orchestrator_service_pb2.StreamEventsResponse(sequence=sequence)
    response.result.event.entry_id = "some"
    assert sequence_of(response.SerializeToString()) == sequence


def test_numbers_are_written_as_in_the_wire_format() -> None:
    assert [varint(value) for value in (0, 1, 127, 128, 300)] == [
        b"\x00",
        b"\x01",
        b"\x7f",
        b"\x80\x01",
        b"\xac\x02",
    ]


def test_columns_of_a_table_are_as_wide_as_their_widest_cell() -> None:
    assert table(("what", "n"), [("a", "1,000"), ("longer", "2")]).splitlines() == [
        "| what   |     n |",
        "| ------ | ----: |",
        "| a      | 1,000 |",
        "| longer |     2 |",
    ]
