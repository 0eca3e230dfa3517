"""What a stream carries, and in which order it may be published (RULES 8.5)."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.notification.domain.events import Event
from services.notification.domain.streams import cloud_event, pause_seconds, waves

TIME = datetime(2025, 3, 1, 12, tzinfo=UTC)


def told(number: int, user: str) -> Event:
    event_id = UUID(int=number)
    envelope = {
        "id": str(event_id),
        "type": "streak.lost",
        "timestamp": "2025-03-01T12:00:00Z",
        "userId": user,
        "userSequence": 7,
        "entryId": "e",
        "control": False,
    }
    return Event(event_id, "streak.lost", TIME, user, "daily", {}, envelope, {"a": 1})


def test_an_event_is_a_cloud_event_keyed_by_its_user() -> None:
    assert cloud_event(told(1, "ada"), "/laurel") == {
        "specversion": "1.0",
        "id": "00000000-0000-0000-0000-000000000001",
        "source": "/laurel",
        "type": "streak.lost",
        "time": "2025-03-01T12:00:00Z",
        "datacontenttype": "application/json",
        "subject": "ada",
        "partitionkey": "ada",
        "usersequence": "7",
        "entryid": "e",
        "control": False,
        "data": {"a": 1},
    }


def test_an_event_of_a_tenants_user_names_both_and_is_keyed_by_both() -> None:
    own = told(1, "acme\x1fada")
    event = cloud_event(replace(own, envelope={**own.envelope, "tenant": "acme"}), "/laurel")
    assert (event["subject"], event["tenant"], event["partitionkey"]) == ("ada", "acme", "acme/ada")


def test_an_event_about_no_user_has_no_key() -> None:
    assert not {"subject", "partitionkey"} & cloud_event(told(1, ""), "/laurel").keys()


def test_names_of_attributes_are_what_the_standard_allows() -> None:
    assert all(
        name.isascii() and name.isalnum() and name.islower() for name in cloud_event(told(1, "a"), "/")
    )


@given(st.lists(st.sampled_from(["ada", "bob", "cyd"])))
def test_a_wave_has_one_event_of_a_user_and_waves_keep_each_users_order(users: list[str]) -> None:
    events = [told(number, user) for number, user in enumerate(users)]
    found = waves(events)
    assert all(max(Counter(event.user_id for event in wave).values()) == 1 for wave in found)
    for user in set(users):
        assert [event for wave in found for event in wave if event.user_id == user] == [
            event for event in events if event.user_id == user
        ]
    assert sum(map(len, found)) == len(events)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1.0), (4, 4.0), (7, 30.0), (10_000, 30.0)])
def test_a_broker_that_goes_on_failing_is_left_alone_for_longer(failures: int, seconds: float) -> None:
    assert pause_seconds(failures) == seconds
