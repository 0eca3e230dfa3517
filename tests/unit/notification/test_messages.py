"""When a user is written to, and when not (RULES 8.6)."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from msgspec.structs import replace

from services.notification.domain import messages
from services.notification.domain.contacts import Channel, Contact, MessageType, QuietHours, Refusal
from services.notification.domain.messages import Definition, Item, Plan, Send, Skip, User, Wait
from services.notification.rendering import DEFAULTS, Template, TemplateFailure, written
from shared.calendar import zone
from shared.filters import AttributeFilter, Equals

MONDAY = datetime(2025, 6, 2, 18, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FIRST, SECOND = Item("1", "first", "First steps", ""), Item("2", "second", "Second steps", "")
ADA = User("ada", "Ada", "Europe/Berlin", {"plan": "pro"})
MAIL = Contact("ada", email="ada@example.com")
ACHIEVEMENTS = Definition(
    MessageType.ACHIEVEMENT, True, (Channel.PUSH, Channel.EMAIL), (), time(10), MONDAY - 90 * DAY
)
REACTIVATION = replace(ACHIEVEMENTS, type=MessageType.REACTIVATION)


def earned(*items: Item, every: timedelta = HOUR / 2) -> Plan:
    """These were completed one after the other, from Monday 20:00 in Berlin on."""
    plan = None
    for number, item in enumerate(items):
        now = MONDAY + number * every
        plan = messages.completed(plan, "ada", item, now, now)
    assert plan is not None
    return plan


def away() -> Plan:
    return messages.seen(None, "ada", MONDAY)


def decided(
    plan: Plan,
    now: datetime,
    definition: Definition | None = None,
    contact: Contact | None = MAIL,
    last_sent: date | None = None,
    user: User = ADA,
) -> messages.Decision:
    default = ACHIEVEMENTS if plan.type is MessageType.ACHIEVEMENT else REACTIVATION
    return messages.decide(plan, definition or default, user, contact, last_sent, now)


def test_what_is_completed_in_one_evening_comes_in_one_message() -> None:
    plan = earned(FIRST, SECOND)
    assert decided(plan, MONDAY + HOUR) == Wait(MONDAY + 1.5 * HOUR)
    assert decided(plan, MONDAY + 1.5 * HOUR) == Send(date(2025, 6, 2), (Channel.EMAIL,))
    assert [item["name"] for item in messages.variables(plan, ADA)["achievements"]] == [  # type: ignore[attr-defined]
        "First steps",
        "Second steps",
    ]


def test_an_evening_that_does_not_end_is_told_of_after_four_hours() -> None:
    items = [Item(str(number), "key", "name", "") for number in range(12)]
    assert decided(earned(*items), MONDAY + 4 * HOUR) == Send(date(2025, 6, 3), (Channel.EMAIL,))


def test_what_happened_a_day_ago_is_told_to_nobody() -> None:
    assert messages.completed(None, "ada", FIRST, MONDAY - DAY, MONDAY) is None
    assert messages.completed(None, "ada", FIRST, MONDAY - DAY + HOUR, MONDAY) is not None


def test_an_achievement_that_is_told_again_counts_once() -> None:
    plan = earned(FIRST)
    assert messages.completed(plan, "ada", FIRST, MONDAY, MONDAY + HOUR) == plan


def test_what_is_taken_back_is_not_told() -> None:
    assert messages.revoked(earned(FIRST), "1") is None
    kept = messages.revoked(earned(FIRST, SECOND), "1")
    assert kept is not None
    assert kept.items == (SECOND,)


def test_there_is_one_message_of_a_type_on_a_day_of_the_user() -> None:
    late = decided(earned(SECOND), MONDAY + HOUR, last_sent=date(2025, 6, 2))
    assert isinstance(late, Wait)
    assert date(2025, 6, 3) == late.until.date()
    assert isinstance(decided(earned(SECOND), MONDAY + HOUR, last_sent=date(2025, 6, 1)), Send)


def test_a_message_waits_for_the_end_of_quiet_hours_in_the_users_zone() -> None:
    quiet = replace(MAIL, quiet_hours=QuietHours(time(21), time(8)))
    assert decided(earned(FIRST), MONDAY + HOUR, contact=quiet) == Wait(datetime(2025, 6, 3, 6, tzinfo=UTC))
    morning = datetime(2025, 6, 3, 6, tzinfo=UTC)
    assert decided(earned(FIRST), morning, contact=quiet) == Send(date(2025, 6, 3), (Channel.EMAIL,))


@pytest.mark.parametrize(
    ("refusal", "decision"),
    [
        (Refusal(None, None), Skip()),
        (Refusal(MessageType.ACHIEVEMENT, None), Skip()),
        (Refusal(MessageType.RECAP, None), Send(date(2025, 6, 2), (Channel.EMAIL,))),
        (Refusal(MessageType.ACHIEVEMENT, Channel.EMAIL), Send(date(2025, 6, 2), ())),
    ],
)
def test_what_the_user_refuses_does_not_go_out(refusal: Refusal, decision: messages.Decision) -> None:
    assert decided(earned(FIRST), MONDAY + HOUR, contact=replace(MAIL, refusals=(refusal,))) == decision


def test_a_user_who_cannot_be_reached_is_told_of_to_webhooks_alone() -> None:
    assert decided(earned(FIRST), MONDAY + HOUR, contact=None) == Send(date(2025, 6, 2), ())


def test_only_users_whom_the_filters_admit_are_written_to() -> None:
    admitted = replace(ACHIEVEMENTS, filters=(AttributeFilter("plan", Equals("pro")),))
    others = replace(ACHIEVEMENTS, filters=(AttributeFilter("plan", Equals("free")),))
    assert isinstance(decided(earned(FIRST), MONDAY + HOUR, admitted), Send)
    assert decided(earned(FIRST), MONDAY + HOUR, others) == Skip()


def test_what_was_due_a_day_ago_or_before_it_was_switched_on_is_passed_over() -> None:
    plan = earned(FIRST)
    assert isinstance(decided(plan, MONDAY + DAY), Send)
    assert decided(plan, MONDAY + HOUR + DAY) == Skip()
    assert decided(plan, MONDAY + HOUR, replace(ACHIEVEMENTS, since=MONDAY + HOUR)) == Skip()
    assert decided(plan, MONDAY + HOUR, replace(ACHIEVEMENTS, switched_on=False)) == Skip()


def test_a_user_who_is_away_is_written_to_after_3_7_14_and_30_days_at_the_local_time() -> None:
    plan: Plan | None = away()
    dates = []
    while plan is not None:
        due = messages.due_time(plan, REACTIVATION, ADA)
        local = due.astimezone(zone("Europe/Berlin"))
        assert time(10) <= local.time() < time(10, 15)
        assert messages.look_time(plan, REACTIVATION, MONDAY) <= due
        assert decided(plan, due) == Send(local.date(), (Channel.EMAIL,))
        dates.append(local.date())
        plan = messages.after(plan, plan, MONDAY)
    assert dates == [date(2025, 6, 5), date(2025, 6, 9), date(2025, 6, 16), date(2025, 7, 2)]


@pytest.mark.parametrize("time_zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"])
def test_a_plan_is_looked_at_before_it_is_due_in_any_zone(time_zone: str) -> None:
    user = replace(ADA, time_zone=time_zone)
    for hour in range(24):
        plan = messages.seen(None, "ada", MONDAY + hour * HOUR)
        due = messages.due_time(plan, REACTIVATION, user)
        assert messages.look_time(plan, REACTIVATION, MONDAY) <= due


def test_who_comes_back_is_away_from_then_on() -> None:
    gone = replace(away(), step=2)
    back = messages.seen(gone, "ada", MONDAY + 20 * DAY)
    assert (back.last_time, back.step) == (MONDAY + 20 * DAY, 0)
    assert messages.seen(gone, "ada", MONDAY - DAY) == gone
    assert messages.after(back, gone, MONDAY) == back


def test_what_was_completed_while_a_message_went_out_comes_in_the_next() -> None:
    left = messages.after(earned(FIRST, SECOND), earned(FIRST), MONDAY)
    assert left is not None
    assert left.items == (SECOND,)
    assert messages.after(earned(FIRST), earned(FIRST), MONDAY) is None


def test_users_of_one_zone_are_spread_over_a_quarter_of_an_hour() -> None:
    users = [replace(ADA, user_id=f"user-{number}") for number in range(1_000)]
    minutes = [messages.at_local_time(date(2025, 6, 2), REACTIVATION, user).minute for user in users]
    assert set(minutes) == set(range(15))
    assert all(minutes.count(minute) < 120 for minute in range(15))


@pytest.mark.parametrize(
    ("wanted", "got"),
    [("de", "de"), ("de-AT", "de"), ("pt-BR", "pt-BR"), ("PT-br", "pt-BR"), ("fr", "en"), ("", "en")],
)
def test_a_user_gets_the_language_that_is_nearest(wanted: str, got: str) -> None:
    languages = ["en", "de", "pt-BR"]
    assert languages[messages.chosen_language(wanted, languages)] == got


@pytest.mark.parametrize("language", ["en", "de"])
def test_what_comes_with_laurel_names_what_it_is_about(language: str) -> None:
    earned_text = written(
        DEFAULTS[MessageType.ACHIEVEMENT], language, messages.variables(earned(FIRST, SECOND), ADA)
    )
    assert "2" in earned_text.subject
    assert "* First steps\n* Second steps\n" in earned_text.text
    away_text = written(DEFAULTS[MessageType.REACTIVATION], language, messages.variables(away(), ADA))
    assert "3" in away_text.subject
    assert "Ada" in away_text.text


def test_a_variable_cannot_break_out_of_html_or_of_the_subject() -> None:
    template = Template("en", "Hi {{ user.name }}", "{{ user.name }}", "<b>{{ user.name }}</b>")
    text = written([template], "", {"user": {"name": "<i>A</i>\r\nBcc: eve@example.com"}})
    assert text.subject == "Hi <i>A</i> Bcc: eve@example.com"
    assert text.html == "<b>&lt;i&gt;A&lt;/i&gt;\r\nBcc: eve@example.com</b>"


@pytest.mark.parametrize(
    "source",
    [
        "{{ user.__class__.__mro__ }}{{ ''.__class__.__subclasses__() }}",
        "{% for",
        "{{ range(10**9) }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_that_reaches_too_far_is_not_rendered(source: str) -> None:
    with pytest.raises(TemplateFailure):
        written([Template("en", "x", source)], "", {"user": {}})
