"""Which streaks a user is reminded of, and when (RULES 8.6)."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.notification.domain import messages, reminders
from services.notification.domain.contacts import Channel, Contact, MessageType, QuietHours
from services.notification.domain.messages import Definition, Plan, Send, Skip, User, Wait
from services.notification.domain.reminders import Streak
from services.notification.domain.timing import last_before
from services.notification.rendering import DEFAULTS, written
from shared.calendar import local_midnight, zone

HOUR = timedelta(hours=1)
MIDNIGHT = datetime(2025, 6, 2, 22, tzinfo=UTC)
"""Of Monday to Tuesday in Berlin."""
EVENING = datetime(2025, 6, 2, 17, 15, tzinfo=UTC)
"""19:15 in Berlin: whoever is reminded at 19:00 has been."""
ADA = User("ada", "Ada", "Europe/Berlin", {})
MAIL = Contact("ada", email="ada@example.com")
REMINDERS = Definition(
    MessageType.STREAK_REMINDER, True, (Channel.EMAIL,), (), time(19), EVENING - timedelta(days=90)
)
RUNNING = Streak("run", "Running", 12, is_safe=False, freeze_count=0, expire_time=MIDNIGHT)


def planned(expire_time: datetime = MIDNIGHT) -> Plan:
    return messages.endangered(None, "ada", expire_time, EVENING - HOUR)


def decided(now: datetime, contact: Contact = MAIL, last_sent: date | None = None) -> messages.Decision:
    return messages.decide(planned(), REMINDERS, ADA, contact, last_sent, now)


def due(*streaks: Streak, now: datetime = EVENING) -> list[str]:
    found = reminders.due(streaks, REMINDERS.send_time, "ada", ADA.time_zone, now)
    return [streak.key for streak in found]


def test_a_user_is_reminded_in_the_evening_before_the_streak_ends() -> None:
    assert decided(EVENING) == Send(date(2025, 6, 2), (Channel.EMAIL,))
    early = decided(EVENING - HOUR)
    assert isinstance(early, Wait)
    assert time(19) <= early.until.astimezone(zone("Europe/Berlin")).time() < time(19, 15)


@pytest.mark.parametrize(
    ("streak", "is_at_risk"),
    [
        (RUNNING, True),
        (replace(RUNNING, is_safe=True), False),
        (replace(RUNNING, freeze_count=1), False),
        (replace(RUNNING, length=0), False),
        (replace(RUNNING, expire_time=None), False),
        (replace(RUNNING, expire_time=MIDNIGHT + 24 * HOUR), False),
    ],
)
def test_a_streak_is_named_that_is_lost_tonight_unless_something_is_done(
    streak: Streak, is_at_risk: bool
) -> None:
    assert due(streak) == (["run"] if is_at_risk else [])


def test_one_reminder_names_all_streaks_that_end_tonight_the_longest_first() -> None:
    reading = replace(RUNNING, key="read", length=30)
    assert due(RUNNING, reading) == ["read", "run"]


def test_nothing_goes_out_where_the_streak_was_saved_meanwhile() -> None:
    send = Send(date(2025, 6, 2), (Channel.EMAIL,))
    assert messages.confirmed(planned(), send) == Skip()
    assert messages.confirmed(replace(planned(), streaks=(RUNNING,)), send) == send


def test_a_reminder_that_quiet_hours_or_an_outage_hold_back_to_the_end_is_passed_over() -> None:
    def quiet(end: time) -> Contact:
        return replace(MAIL, quiet_hours=QuietHours(time(18), end))

    assert decided(EVENING, quiet(time(21))) == Wait(datetime(2025, 6, 2, 19, tzinfo=UTC))
    assert decided(EVENING, quiet(time(8))) == Skip()
    assert decided(MIDNIGHT) == Skip()


def test_there_is_one_reminder_a_day() -> None:
    assert decided(EVENING, last_sent=date(2025, 6, 2)) == Skip()
    assert isinstance(decided(EVENING, last_sent=date(2025, 6, 1)), Send)


def test_of_several_streaks_the_first_end_is_planned() -> None:
    plan = planned()
    assert messages.endangered(plan, "ada", MIDNIGHT + HOUR, EVENING) == plan
    assert messages.endangered(plan, "ada", MIDNIGHT - HOUR, EVENING).expire_time == MIDNIGHT - HOUR
    over = messages.endangered(plan, "ada", MIDNIGHT + 24 * HOUR, MIDNIGHT + HOUR)
    assert over.expire_time == MIDNIGHT + 24 * HOUR
    assert messages.after(over, plan, MIDNIGHT) == over
    assert messages.after(plan, plan, MIDNIGHT) is None


ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Pacific/Kiritimati",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
    ]
)
DATES = st.dates(date(2024, 1, 1), date(2026, 12, 31))
TIMES = st.builds(time, st.integers(0, 23), st.integers(0, 59))


@given(ZONES, DATES, TIMES, st.text(min_size=1, max_size=5))
def test_a_reminder_is_due_at_its_time_of_the_last_day_and_before_the_end(
    time_zone: str, day: date, at: time, user_id: str
) -> None:
    end = local_midnight(day, time_zone)
    found = last_before(end, at, user_id, time_zone)
    assert end - 26 * HOUR < found < end
    wall = datetime.combine(day - timedelta(days=1), at, tzinfo=zone(time_zone))
    assert timedelta() <= found - wall.astimezone(UTC) < HOUR / 4


@given(ZONES, DATES, TIMES, st.integers(0, 23))
def test_whoever_is_reminded_is_found_before_whenever_looking_begins(
    time_zone: str, day: date, at: time, hours_before: int
) -> None:
    end = local_midnight(day, time_zone)
    is_due = last_before(end, at, "ada", time_zone)
    # Looking begins at some instant, and goes on every quarter of an hour.
    now = until = is_due - hours_before * HOUR
    found = False
    while now <= is_due:
        while window := reminders.next_window(until, at, now):
            begin, until = window
            found = found or begin <= end <= until
        now += HOUR / 4
    assert found


@pytest.mark.parametrize(
    ("language", "subject"),
    [("en", "Running: 12 in a row, until 00:00"), ("de", "Running: 12 in Folge, bis 00:00 Uhr")],
)
def test_what_comes_with_laurel_says_which_streak_and_until_when(language: str, subject: str) -> None:
    plan = replace(planned(), streaks=(RUNNING,))
    text = written(DEFAULTS[MessageType.STREAK_REMINDER], language, messages.variables(plan, ADA))
    assert text.subject == subject
    assert "* Running: 12 in" in text.text
