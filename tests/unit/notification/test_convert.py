"""What of a domain event is told, as JSON."""

import json
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from laurel.achievement.v1 import achievement_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.orchestrator.v1 import domain_event_pb2
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from services.notification import convert
from services.notification.domain.events import Event, Wish
from services.notification.following import events_of
from shared.tenants import tenant_of

ID = "01a200d1-bcf8-8afb-a19f-e66d9c208e45"


def message(type_: str, **data: object) -> domain_event_pb2.DomainEvent:
    found = domain_event_pb2.DomainEvent(id=ID, type=type_, user_id="ada", entry_id=ID, user_sequence=7)
    found.time.FromDatetime(datetime(2026, 3, 1, 12, tzinfo=UTC))
    found.user_attributes["plan"] = "pro"
    for name, value in data.items():
        getattr(found, name).CopyFrom(value)
    return found


def event_of(told: domain_event_pb2.DomainEvent) -> Event:
    return convert.with_data(convert.heading_of(told), told)


def test_the_payload_has_an_envelope_and_then_the_data_of_the_reply() -> None:
    change = achievement_pb2.AchievementChange(achievement="first", name="First", user_id="ada")
    event = event_of(message("achievement.completed", achievement=change))
    payload = json.loads(convert.body_of(event))
    assert list(payload) == [
        "id",
        "type",
        "timestamp",
        "userId",
        "userSequence",
        "entryId",
        "control",
        "data",
    ]
    assert payload["timestamp"] == "2026-03-01T12:00:00Z"
    assert payload["userSequence"] == 7
    assert payload["data"]["achievement"] == "first"
    assert payload["data"]["tier"] == 0, "what is zero is said"
    assert event.attributes == {"plan": "pro"}


@pytest.mark.parametrize(
    ("event", "subject"),
    [
        (
            message("metric.recorded", metric=domain_event_pb2.RecordedMetric(metric="steps")),
            "steps",
        ),
        (
            message(
                "streak.lost",
                streak=streak_pb2.StreakEffect(change=streak_pb2.StreakChange(streak="daily")),
            ),
            "daily",
        ),
        (message("user.updated"), ""),
    ],
)
def test_the_subject_is_the_thing_of_the_user_that_an_event_is_about(
    event: domain_event_pb2.DomainEvent, subject: str
) -> None:
    assert event_of(event).subject == subject


def test_standings_on_two_boards_or_in_two_segments_are_about_different_things() -> None:
    def subject(**fields: object) -> str:
        standing = leaderboard_pb2.Standing(**fields)  # type: ignore[arg-type]
        return event_of(message("leaderboard.changed", leaderboard=standing)).subject

    one = subject(leaderboard="xp", segment={"region": "eu"}, rank=1)
    assert one == subject(leaderboard="xp", segment={"region": "eu"}, rank=2)
    assert len({one, subject(leaderboard="xp"), subject(leaderboard="coins", segment={"region": "eu"})}) == 3


EVENTS = st.builds(
    lambda entry, user, type_, metric: domain_event_pb2.DomainEvent(
        id=ID,
        type=type_,
        user_id=user,
        entry_id=f"{ID[:-1]}{entry}",
        time=Timestamp(seconds=1_700_000_000 + entry),
        user_attributes={"plan": f"{entry}-{user}"},
        tenant=tenant_of(user),
        metric=None if metric is None else domain_event_pb2.RecordedMetric(metric=metric),
    ),
    st.integers(0, 2),
    st.sampled_from(["ada", "bob", "", "acme\x1fada"]),
    st.sampled_from(["metric.recorded", "points.changed"]),
    st.sampled_from(["steps", "acme\x1fsteps", None]),
)


@given(
    st.lists(EVENTS, max_size=6), st.sampled_from([{"*"}, {"metric.recorded"}]), st.sampled_from(["", "acme"])
)
async def test_the_events_of_a_page_are_what_they_are_alone_and_only_those_that_somebody_wants(
    page: list[domain_event_pb2.DomainEvent], types: set[str], tenant: str
) -> None:
    wish = Wish(frozenset(types), tenant=tenant)
    alone = [event for message in page if wish.met_by(event := event_of(message))]
    assert await events_of(page, [Wish(frozenset()), wish]) == alone
    assert await events_of(page, []) == []


def test_a_tenants_users_are_told_as_the_tenant_knows_them() -> None:
    change = achievement_pb2.AchievementChange(achievement="first", user_id="acme\x1fada")
    told = message("achievement.completed", achievement=change)
    told.user_id, told.tenant = "acme\x1fada", "acme"
    event = event_of(told)
    assert (event.user_id, event.envelope["userId"], event.envelope["tenant"]) == (
        "acme\x1fada",
        "ada",
        "acme",
    )
    assert event.data["userId"] == "ada"
    assert told.achievement.user_id == "acme\x1fada", "the message itself stays as it is"


async def test_two_tenants_events_with_the_same_data_are_each_told_as_its_tenant_knows_them() -> None:
    change = points_pb2.PointsChange(points_system="xp", level="acme\x1fone")
    one, other = message("points.changed", points=change), message("points.changed", points=change)
    other.user_id, other.tenant = "acme\x1fada", "acme"
    events = await events_of([one, other], [Wish(frozenset({"*"}))])
    assert [event.data["level"] for event in events] == ["acme\x1fone", "one"]


def test_what_is_held_is_read_back_as_it_was() -> None:
    event = event_of(message("user.updated"))
    assert convert.held_from_text(convert.held_to_text(event)) == event
    assert convert.held_from_text(convert.held_to_text(None)) is None
