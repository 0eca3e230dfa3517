"""Least intervals, and what is made of the events in between (RULES 8.4)."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.notification.domain import pacing
from services.notification.domain.events import EVERY_TYPE, SWITCHED_OFF, Event, Wish
from services.notification.domain.pacing import Pace
from shared.filters import AttributeFilter, Equals

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
INTERVAL = timedelta(seconds=10)


def points(number: int, type_: str = "points.changed", user: str = "ada", **attributes: str) -> Event:
    """The balance goes from `number` to one more."""
    return Event(
        event_id=UUID(int=number),
        type=type_,
        time=NOON,
        user_id=user,
        subject="xp",
        attributes=attributes,
        envelope={"id": str(UUID(int=number))},
        data={"pointsSystem": "xp", "balanceBefore": f"{number}", "balance": f"{number + 1}"},
    )


def span(event: Event) -> tuple[int, int]:
    return int(event.data["balanceBefore"]), int(event.data["balance"])


def test_the_first_event_goes_at_once_and_the_next_ones_become_one() -> None:
    pace, going = pacing.come(None, points(0), INTERVAL, NOON)
    assert going == points(0)
    for number in (1, 2, 3):
        pace, going = pacing.come(pace, points(number), INTERVAL, NOON + timedelta(seconds=number))
        assert going is None
    assert pace.release_time(INTERVAL) == NOON + INTERVAL
    pace, event = pacing.release(pace, NOON + INTERVAL)
    assert span(event) == (1, 4)
    assert event.event_id == UUID(int=3)
    assert event.envelope["coalesced"] == {"count": 3, "firstId": str(UUID(int=1))}
    assert pace == Pace(NOON + INTERVAL)


def test_one_that_was_held_alone_goes_as_it_came() -> None:
    pace, _ = pacing.come(None, points(0), INTERVAL, NOON)
    pace, _ = pacing.come(pace, points(1), INTERVAL, NOON)
    assert pacing.release(pace, NOON + INTERVAL)[1] == points(1)


def test_a_streak_tells_the_length_before_the_first_and_after_the_last() -> None:
    def streak(before: int) -> Event:
        change = {"streak": "daily", "lengthBefore": before, "length": before + 1, "longest": 9}
        return Event(UUID(int=before), "streak.extended", NOON, "ada", "daily", {}, {}, {"change": change})

    pace, _ = pacing.come(None, streak(0), INTERVAL, NOON)
    for before in (1, 2):
        pace, _ = pacing.come(pace, streak(before), INTERVAL, NOON)
    change = pacing.release(pace, NOON + INTERVAL)[1].data["change"]
    assert change == {"streak": "daily", "lengthBefore": 1, "length": 3, "longest": 9}


@given(st.lists(st.floats(0, 30), max_size=30))
def test_nothing_is_left_out_and_no_two_go_within_the_interval(pauses: list[float]) -> None:
    """Against a plain walk through time: what goes out joins up without a gap, each after the interval."""
    pace: Pace | None = None
    now = NOON
    gone: list[tuple[datetime, Event]] = []
    for number, pause in enumerate(pauses):
        then = now + timedelta(seconds=pause)
        if pace is not None and pace.first is not None and pace.release_time(INTERVAL) <= then:
            at = pace.release_time(INTERVAL)
            pace, event = pacing.release(pace, at)
            gone.append((at, event))
        now = then
        pace, going = pacing.come(pace, points(number), INTERVAL, now)
        if going is not None:
            gone.append((now, going))
    if pace is not None and pace.first is not None:
        at = max(now, pace.release_time(INTERVAL))
        gone.append((at, pacing.release(pace, at)[1]))
    spans = [span(event) for _, event in gone]
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert not spans or spans[-1][1] == len(pauses)
    times = [at for at, _ in gone]
    assert all(after - before >= INTERVAL for before, after in pairwise(times))


def test_a_wish_is_for_types_users_and_attributes_as_of_the_entry() -> None:
    wish = Wish(frozenset({"points.changed"}), (AttributeFilter("plan", Equals("pro")),), frozenset({"ada"}))
    assert wish.met_by(points(0, plan="pro"))
    assert not wish.met_by(points(0, plan="free"))
    assert not wish.met_by(points(0))
    assert not wish.met_by(points(0, user="bob", plan="pro"))
    assert not wish.met_by(points(0, type_="points.level_changed", plan="pro"))


def test_a_star_means_all_types_and_what_is_about_no_user_is_chosen_by_its_type() -> None:
    told = Event(UUID(int=1), SWITCHED_OFF, NOON, "", "", {}, {}, {})
    filters = (AttributeFilter("plan", Equals("pro")),)
    assert Wish(frozenset({EVERY_TYPE}), filters).met_by(told)
    assert Wish(frozenset({SWITCHED_OFF}), filters, frozenset({"ada"})).met_by(told)
    assert not Wish(frozenset({"streak.lost"})).met_by(told)


def test_a_wish_for_a_tenant_is_for_its_events_and_names_its_users_as_it_does() -> None:
    def told(tenant: str, user: str) -> Event:
        about = f"{tenant}\x1f{user}" if tenant and user else user
        return Event(UUID(int=1), "points.changed", NOON, about, "", {}, {"tenant": tenant}, {})

    wish = Wish(frozenset({EVERY_TYPE}), (), frozenset({"ada"}), "acme")
    assert wish.met_by(told("acme", "ada"))
    assert wish.met_by(told("acme", ""))
    assert not wish.met_by(told("acme", "bob"))
    assert not wish.met_by(told("evil", "ada"))
    assert not wish.met_by(told("", "ada"))
    assert Wish(frozenset({EVERY_TYPE})).met_by(told("evil", "ada"))
