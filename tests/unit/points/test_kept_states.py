"""What is kept of a user between batches is what would be loaded, however many events there were."""

from datetime import UTC, datetime, timedelta

from services.points.domain.counting import Mark, Timeline, count
from services.points.domain.definitions import TriggerKey
from services.points.domain.facts import Instant
from services.points.domain.fold import Points
from services.points.domain.state import UserState
from services.points.rows import as_loaded
from shared.ids import derived_id

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
KEY = TriggerKey("xp", "tens")


def test_events_that_were_counted_one_by_one_are_not_kept() -> None:
    timeline = Timeline()
    for number in range(3):
        moment = NOON + timedelta(minutes=number)
        mark = Mark(Instant(derived_id(f"{number}"), moment, moment.date()), 4, 10, 1)
        timeline, _ = count(timeline, mark, number + 1)
    assert len(timeline.marks) == 3
    kept = as_loaded(UserState("ada", version=6), UserState("ada", points=Points(timelines={KEY: timeline})))
    assert kept.version == 7
    assert kept.points.timelines[KEY].marks == ()
    assert kept.points.timelines[KEY].accumulated_micros == 12
