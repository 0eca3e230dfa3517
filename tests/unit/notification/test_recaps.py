"""What a week or a month has brought a user, and when the user hears it (RULES 8.6)."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.notification.domain import messages, recaps
from services.notification.domain.contacts import Channel, Contact, MessageType
from services.notification.domain.messages import Definition, Plan, Send, Skip, User
from services.notification.domain.recaps import Amount, Earned, Rank, Recap, RecapPeriod
from services.notification.domain.reminders import Streak
from services.notification.rendering import DEFAULTS, written
from shared.calendar import local_date, zone

DAY = timedelta(days=1)
WEDNESDAY = datetime(2025, 6, 4, 18, tzinfo=UTC)
NEXT_MONDAY = datetime(2025, 6, 9, 8, 15, tzinfo=UTC)
"""10:15 in Berlin."""
ADA = User("ada", "Ada", "Europe/Berlin", {})
MAIL = Contact("ada", email="ada@example.com")
WEEKLY = Definition(MessageType.RECAP, True, (Channel.EMAIL,), (), time(10), WEDNESDAY - 90 * DAY)
MONTHLY = replace(WEEKLY, every=RecapPeriod.MONTHLY)
STEPS = Amount("steps", "Steps", 12, 8)
WEEK = Recap(date(2025, 6, 2), date(2025, 6, 8), metrics=(STEPS,), totals={"steps": 112.0})


def planned() -> Plan:
    return messages.recorded(None, "ada", "steps", 100.0, WEDNESDAY)


def test_a_week_is_told_of_on_the_monday_behind_it_at_the_local_time() -> None:
    due = messages.due_time(planned(), WEEKLY, ADA)
    assert due <= NEXT_MONDAY < due + timedelta(minutes=15)
    assert messages.decide(planned(), WEEKLY, ADA, MAIL, None, NEXT_MONDAY) == Send(
        date(2025, 6, 9), (Channel.EMAIL,)
    )
    assert messages.recap_dates(planned(), WEEKLY, ADA) == (date(2025, 6, 2), date(2025, 6, 8))


def test_a_month_is_told_of_on_the_first_day_behind_it() -> None:
    due = messages.due_time(planned(), MONTHLY, ADA)
    assert local_date(due, ADA.time_zone) == date(2025, 7, 1)
    assert messages.recap_dates(planned(), MONTHLY, ADA) == (date(2025, 6, 1), date(2025, 6, 30))


@given(
    st.sampled_from(["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin"]),
    st.integers(0, 800 * 24).map(lambda hours: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hours)),
    st.sampled_from(RecapPeriod),
)
def test_a_recap_is_looked_at_before_it_is_due_and_due_behind_its_period(
    time_zone: str, now: datetime, every: RecapPeriod
) -> None:
    user, definition = replace(ADA, time_zone=time_zone), replace(WEEKLY, every=every)
    plan = messages.recorded(None, "ada", "steps", 0.0, now)
    due = messages.due_time(plan, definition, user)
    first, last = messages.recap_dates(plan, definition, user)
    assert messages.look_time(plan, definition, now) <= due
    assert first <= now.astimezone(zone(time_zone)).date() <= last
    assert local_date(due, time_zone) == last + DAY
    assert recaps.period_of(last + DAY, every)[0] == last + DAY


def test_a_metric_counts_from_what_it_was_before_its_first_event_of_the_period() -> None:
    plan = messages.recorded(planned(), "ada", "steps", 105.0, WEDNESDAY + DAY)
    assert plan == planned()
    plan = messages.recorded(plan, "ada", "books", 3.0, WEDNESDAY + DAY)
    names = {"steps": "Steps"}
    found = recaps.metric_amounts(plan.totals, {"steps": 112.0, "books": 4.0, "calls": 9.0}, None, names)
    assert found == (Amount("steps", "Steps", 12.0, None), Amount("books", "books", 1.0, None))
    again = recaps.metric_amounts({"steps": 100.0}, {"steps": 112.0}, {"books": 1.0}, names)
    assert again == (Amount("steps", "Steps", 12.0, 0.0),)


def test_the_next_recap_counts_from_where_the_last_one_ended_and_knows_what_it_said() -> None:
    done = replace(planned(), recap=WEEK)
    current = messages.recorded(planned(), "ada", "books", 0.0, NEXT_MONDAY)
    following = messages.after(current, done, NEXT_MONDAY)
    assert following is not None
    assert (following.totals, following.before) == ({"steps": 112.0}, {"steps": 12})
    assert messages.recap_dates(following, WEEKLY, ADA) == (date(2025, 6, 9), date(2025, 6, 15))


def test_a_period_in_which_nothing_was_done_has_no_recap_and_plans_none() -> None:
    idle = replace(planned(), recap=replace(WEEK, metrics=(), ranks=(Rank("steps", "Steps", 3, 3),)))
    assert messages.confirmed(idle, Send(date(2025, 6, 9), ())) == Skip()
    assert messages.after(planned(), idle, NEXT_MONDAY) is None
    send = Send(date(2025, 6, 9), ())
    assert messages.confirmed(replace(planned(), recap=WEEK), send) == send


@pytest.mark.parametrize(("language", "subject"), [("en", "to"), ("de", "bis")])
def test_what_comes_with_laurel_says_what_was_done_and_what_it_was_before(
    language: str, subject: str
) -> None:
    streak = Streak("run", "Running", 12, is_safe=True, freeze_count=0, expire_time=None)
    recap = replace(
        WEEK,
        points=(Amount("xp", "XP", 1.5, 0),),
        achievements=(Earned("first", "First steps", ""),),
        streaks=(streak,),
        ranks=(Rank("steps", "Most steps", 3, 5), Rank("new", "New", 1, None)),
    )
    known = messages.variables(replace(planned(), recap=recap), ADA)
    text = written(DEFAULTS[MessageType.RECAP], language, known)
    assert f"2025-06-02 {subject} 2025-06-08" in text.subject
    lines = [line for line in text.text.splitlines() if line.startswith("* ")]
    assert [line.partition(" (")[0] for line in lines][:2] == ["* Steps: 12", "* XP: +1.5"]
    assert len(lines) == 6
    assert "\n\n\n" not in text.text
