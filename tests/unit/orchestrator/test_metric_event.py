"""How an event gets its id and its key."""

from datetime import UTC, datetime, timedelta

from laurel.orchestrator.v1 import event_pb2

from services.orchestrator.domain import TimeWindow
from services.orchestrator.operation import Asked
from services.orchestrator.operations import metric_event
from services.orchestrator.recording import Incoming

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
WINDOW = TimeWindow(max_age=timedelta(days=7), max_ahead=timedelta(minutes=5))


def incoming(key: str = "", *, now: datetime = NOON, occur_time: datetime | None = None) -> Incoming:
    request = event_pb2.IngestEventRequest(metric="lessons", value=1, idempotency_key=key)
    request.user.user_id = "ada"
    if occur_time:
        request.occur_time.FromDatetime(occur_time)
    return metric_event.incoming(request, Asked(now, WINDOW))


def test_an_id_begins_with_the_time_of_the_event() -> None:
    late = incoming("a", occur_time=NOON - timedelta(days=3))
    assert late.entry_id.int >> 80 == (NOON - timedelta(days=3)).timestamp() * 1_000
    assert incoming("b").entry_id > incoming("a", occur_time=NOON - timedelta(milliseconds=1)).entry_id


def test_of_two_events_at_one_instant_the_keys_decide_which_is_first_and_not_the_arrival() -> None:
    instant = NOON - timedelta(hours=1)
    later = NOON + timedelta(seconds=9)
    assert incoming("a", occur_time=instant).entry_id == incoming("a", now=later, occur_time=instant).entry_id
    assert incoming("a", occur_time=instant).entry_id != incoming("b", occur_time=instant).entry_id


def test_the_key_is_the_same_whenever_it_comes_again() -> None:
    first, again = incoming("a"), incoming("a", now=NOON + timedelta(seconds=5))
    assert first.identity == again.identity
    assert first.entry_id != again.entry_id


def test_an_event_without_a_key_is_nobody_s_twin() -> None:
    first, second = incoming(), incoming()
    assert first.key_id is None
    assert first.identity == first.entry_id != second.entry_id
