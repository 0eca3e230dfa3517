"""Recording a group: events see one another, and each stands alone (DESIGN 2)."""

from datetime import UTC, datetime
from uuid import UUID

from msgspec.structs import replace

from services.orchestrator.domain import MICROS, Aggregation, Metric
from services.orchestrator.recording import Incoming, Loaded, MetricEvent, Outcome, Recorded, record
from services.orchestrator.said import UserPatch
from shared.errors import LaurelError

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
METRICS = {
    "lessons": Metric("lessons", Aggregation.SUM),
    "countries": Metric("countries", Aggregation.UNIQUE, "country"),
}
NOTHING = Loaded({}, {})


def event(
    number: int, user: str = "ada", metric: str = "lessons", value: int = 1, **attributes: str
) -> Incoming:
    return Incoming(
        entry_id=UUID(int=number),
        operation="metric_event",
        patch=UserPatch(user),
        occur_time=NOON,
        now=NOON,
        digest=b"",
        request=b"",
        event=MetricEvent(metric, value * MICROS, attributes),
    )


def totals(outcome: Outcome) -> list[tuple[int, int]]:
    """Before and after of each recorded event, in units."""
    return [
        (entry.before.total_micros // MICROS, entry.after.total_micros // MICROS)
        for entry in outcome.entries
        if isinstance(entry, Recorded) and entry.before is not None and entry.after is not None
    ]


def test_events_of_one_user_in_one_group_count_on_from_one_another() -> None:
    outcome = record([event(1, value=2), event(2, value=3), event(3, "bob")], NOTHING, METRICS, "UTC")
    assert totals(outcome) == [(0, 2), (2, 5), (0, 1)]


def test_a_refused_event_leaves_its_neighbours_as_they_are() -> None:
    group = [event(1), event(2, metric="unheard-of"), event(3)]
    outcome = record(group, NOTHING, METRICS, "UTC")
    refusal = outcome.entries[1]
    assert isinstance(refusal, LaurelError)
    assert (refusal.reason, refusal.metadata["metric"]) == ("METRIC_NOT_FOUND", "unheard-of")
    assert totals(outcome) == [(0, 1), (1, 2)]


def test_a_user_whose_only_event_is_refused_does_not_come_to_be() -> None:
    outcome = record([event(1, metric="unheard-of")], NOTHING, METRICS, "UTC")
    assert outcome.users == {}


def test_a_value_that_is_new_twice_in_one_group_is_counted_once() -> None:
    group = [event(1, metric="countries", country="IT"), event(2, metric="countries", country="IT")]
    outcome = record(group, NOTHING, METRICS, "UTC")
    assert totals(outcome) == [(0, 1), (1, 1)]
    assert outcome.new_firsts == {("ada", "countries", "IT"): (NOON, UUID(int=1))}


def test_a_unique_metric_wants_the_attribute_that_it_counts() -> None:
    (refusal,) = record([event(1, metric="countries")], NOTHING, METRICS, "UTC").entries
    assert isinstance(refusal, LaurelError)
    assert [violation.field for violation in refusal.violations] == ["attributes"]


def test_an_entry_that_says_nothing_about_the_user_happens_in_its_own_zone() -> None:
    closing = replace(event(1), operation="streak_closing", event=None, time_zone="Asia/Tokyo")
    (entry,) = record([closing], NOTHING, METRICS, "UTC").entries
    assert isinstance(entry, Recorded)
    assert (entry.time_zone, entry.user.zone("UTC")) == ("Asia/Tokyo", "UTC")
