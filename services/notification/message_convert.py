"""Definitions of messages and what was sent as messages, with all syntactic validation."""

from datetime import UTC, datetime, time
from typing import Any, Final
from uuid import UUID

from laurel.notification.v1 import contact_pb2, message_pb2
from laurel.orchestrator.v1 import domain_event_pb2, user_pb2
from laurel.streak.v1 import streak_pb2

from services.notification.config import MAX_TEMPLATE_CHARS, MAX_TEMPLATES
from services.notification.contact_convert import check_language
from services.notification.convert import set_time
from services.notification.domain.contacts import Channel, MessageType
from services.notification.domain.events import DUE, Event
from services.notification.domain.messages import Definition, Item, Plan, User, variables
from services.notification.domain.recaps import Amount, Earned, Rank, Recap, RecapPeriod
from services.notification.domain.reminders import Streak
from services.notification.rendering import Template, problem_of
from shared import tenants
from shared.errors import Violations
from shared.ids import derived_id
from shared.rpc.convert import check_text, date_to_proto, time_of_day, to_datetime, to_timestamp
from shared.rpc.filters import filters_from_proto

OUTPUT_ONLY: Final = ("create_time", "update_time")
_SEND_TIME: Final = time(10)
_REMIND_TIME: Final = time(19)
_MAX_SUBJECT_CHARS: Final = 500

DefinitionMessage = message_pb2.MessageDefinition


def check_definition(message: DefinitionMessage, path: str, violations: Violations) -> None:
    """Everything that can be wrong with a definition, templates included."""
    found = violations.within(path)
    if message.type not in set(map(int, MessageType)):
        found.add("type", "must be achievement, streak reminder, recap or reactivation")
        return
    if message.recap_period not in message_pb2.RecapPeriod.values():
        found.add("recap_period", "is not known here")
    if message.recap_period and MessageType(message.type) is not MessageType.RECAP:
        found.add("recap_period", "is of recaps alone")
    if len(set(message.channels)) != len(message.channels):
        found.add("channels", "must not name a channel twice")
    for index, channel in enumerate(message.channels):
        if not channel or channel not in contact_pb2.MessageChannel.values():
            found.add(f"channels[{index}]", "must be one that is known here")
    filters_from_proto(message.filters, "filters", found)
    if message.send_time:
        time_of_day(message.send_time, "send_time", found)
    if len(message.templates) > MAX_TEMPLATES:
        found.add("templates", f"must be at most {MAX_TEMPLATES}")
    languages = [template.language.lower() for template in message.templates]
    for index, template in enumerate(message.templates):
        _check_template(template, message.type, found.within(f"templates[{index}]"))
        if template.language.lower() in languages[:index]:
            found.add(f"templates[{index}].language", "must not come twice")


def _check_template(template: message_pb2.MessageTemplate, type_: int, violations: Violations) -> None:
    if not template.language:
        violations.add("language", "is required")
    check_language(template.language, "language", violations)
    for name, least, most in (
        ("subject", 1, _MAX_SUBJECT_CHARS),
        ("text", 1, MAX_TEMPLATE_CHARS),
        ("html", 0, MAX_TEMPLATE_CHARS),
        ("push", 0, MAX_TEMPLATE_CHARS),
    ):
        source = getattr(template, name)
        before = len(violations)
        check_text(source, name, violations, min_chars=least, max_chars=most)
        if len(violations) == before and (problem := problem_of(source, _sample(MessageType(type_)))):
            violations.add(name, problem)


def stored(message: DefinitionMessage) -> bytes:
    """A definition as it is kept: without what is output."""
    kept = DefinitionMessage()
    kept.CopyFrom(message)
    for name in OUTPUT_ONLY:
        kept.ClearField(name)
    return kept.SerializeToString(deterministic=True)


def shown(row: Any) -> DefinitionMessage:
    """A definition as it is read."""
    message = DefinitionMessage.FromString(row["body"])
    set_time(message, "create_time", row["create_time"])
    set_time(message, "update_time", row["update_time"])
    return message


def definition_from_row(row: Any) -> Definition:
    """A definition as the planner knows it."""
    message = DefinitionMessage.FromString(row["body"])
    type_ = MessageType(message.type)
    default_time = _REMIND_TIME if type_ is MessageType.STREAK_REMINDER else _SEND_TIME
    return Definition(
        type=type_,
        switched_on=message.switched_on,
        channels=tuple(Channel(channel) for channel in message.channels),
        filters=filters_from_proto(message.filters, "filters", Violations()),
        send_time=time.fromisoformat(message.send_time) if message.send_time else default_time,
        since=row["since"],
        every=RecapPeriod(message.recap_period or RecapPeriod.WEEKLY),
    )


def templates_from_row(row: Any) -> list[Template]:
    """What a deployment writes itself; none: what comes with Laurel is taken."""
    message = DefinitionMessage.FromString(row["body"])
    return [
        Template(template.language, template.subject, template.text, template.html, template.push)
        for template in message.templates
    ]


def sent_to_proto(row: Any) -> message_pb2.SentMessage:
    """A message as it is shown."""
    message = message_pb2.SentMessage(
        message_id=str(row["message_id"]),
        user_id=row["user_id"],
        type=row["type"],
        channel=row["channel"],
        state=row["state"],
        detail=row["detail"],
        local_date=date_to_proto(row["local_date"]),
    )
    set_time(message, "send_time", row["send_time"])
    return message


def item_of(event: domain_event_pb2.DomainEvent) -> Item:
    """The achievement that an event tells of."""
    change = event.achievement
    return Item(change.completion_id, change.achievement, change.name, change.badge_url)


def user_of(stored_user: user_pb2.StoredUser) -> User:
    """The user, as the orchestrator has it."""
    return User(stored_user.user_id, stored_user.name, stored_user.time_zone, dict(stored_user.attributes))


def streak_of(state: streak_pb2.StreakState, name: str) -> Streak:
    """A streak of a user, as the streak service has it."""
    return Streak(
        key=state.streak,
        name=name,
        length=state.length,
        is_safe=state.period_qualified,
        freeze_count=state.freeze_count,
        expire_time=to_datetime(state.expire_time) if state.HasField("expire_time") else None,
    )


def due_event(message_id: UUID, plan: Plan, user: User, now: datetime) -> Event:
    """That a message is due, for webhooks: with what a template knows of it."""
    data = {name: value for name, value in variables(plan, user).items() if name != "user"}
    envelope = {
        "id": str(message_id),
        "type": DUE[plan.type],
        "timestamp": to_timestamp(now).ToJsonString(),
        "userId": tenants.shown(user.user_id),
        **({"tenant": tenant} if (tenant := tenants.tenant_of(user.user_id)) else {}),
    }
    return Event(message_id, DUE[plan.type], now, user.user_id, "", user.attributes, envelope, data)


def message_id_of(user_id: str, type_: MessageType, local_date: str) -> UUID:
    """The id of the one message of a type that there is on a date of the user."""
    return derived_id(DUE[type_], user_id, local_date)


def _sample(type_: MessageType) -> dict[str, object]:
    """What a template is tried with."""
    moment = datetime(2025, 6, 2, tzinfo=UTC)
    item = Item("", "first-steps", "First steps", "https://example.com/badge.png")
    streak = Streak("daily-run", "Daily run", 12, is_safe=False, freeze_count=0, expire_time=moment)
    grown = Amount("steps", "Steps", 12.5, 10.0)
    recap = Recap(
        moment.date(),
        moment.date(),
        metrics=(grown,),
        points=(grown,),
        achievements=(Earned("first-steps", "First steps", ""),),
        streaks=(streak,),
        ranks=(Rank("steps", "Steps", 3, 5),),
    )
    plan = Plan("ada", type_, moment, moment, (item,), streaks=(streak,), recap=recap)
    return variables(plan, User("ada", "Ada", "UTC", {}))
