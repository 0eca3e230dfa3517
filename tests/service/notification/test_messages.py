"""Messages over a real channel and a real database, to a real SMTP server (RULES 8.6, 8.7)."""

from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
from laurel.notification.v1 import contact_pb2, message_pb2
from laurel.notification.v1 import notification_service_pb2 as pb

from tests.fixtures.mailbox import Mailbox, receiving_mail
from tests.fixtures.receiver import Receiver
from tests.fixtures.waiting import until
from tests.service.notification.conftest import Feed, Service, refused
from tests.service.notification.test_contacts import get, update

ACHIEVEMENT = contact_pb2.MESSAGE_TYPE_ACHIEVEMENT
REACTIVATION = contact_pb2.MESSAGE_TYPE_REACTIVATION
EMAIL = contact_pb2.MESSAGE_CHANNEL_EMAIL

_AGE = """
    UPDATE planned_messages
       SET look_time = now(),
           plan = jsonb_set(jsonb_set(plan::jsonb, '{first_time}', to_jsonb($1::text)),
                            '{last_time}', to_jsonb($1::text))::text
"""


@pytest.fixture
def settings(mail_settings: dict[str, Any]) -> dict[str, Any]:
    return mail_settings


async def define(service: Service, type_: int, **fields: Any) -> message_pb2.MessageDefinition:
    request = pb.UpdateMessageDefinitionRequest(
        request_id=str(uuid4()),
        message=message_pb2.MessageDefinition(type=type_, **fields),  # type: ignore[arg-type]
    )
    return (await service.stub.UpdateMessageDefinition(request)).message


async def switch_on(service: Service, type_: int, **fields: Any) -> None:
    """From what is told next on, and so that what a test makes older than it is counts too."""
    await define(service, type_, switched_on=True, **{"channels": [EMAIL], **fields})

    async def follows() -> bool:
        return await service.database.fetchval("SELECT cursor FROM message_following") is not None

    await until(follows, seconds=30, what="the feed is followed for messages")
    await service.database.execute("UPDATE message_definitions SET since = now() - interval '90 days'")


async def switch_off(service: Service, type_: int) -> None:
    request = pb.UpdateMessageDefinitionRequest(
        request_id=str(uuid4()),
        message=message_pb2.MessageDefinition(type=type_),  # type: ignore[arg-type]
    )
    request.update_mask.paths.append("switched_on")
    await service.stub.UpdateMessageDefinition(request)


async def planned(service: Service, count: int) -> None:
    async def are() -> bool:
        return bool(await service.database.fetchval("SELECT count(*) FROM planned_messages") == count)

    await until(are, seconds=30, what=f"{count} messages are planned")


async def age(service: Service, interval: str = "2 hours") -> None:
    """What is planned happened so long ago."""
    text = await service.database.fetchval(
        "SELECT to_char((now() - $1::text::interval) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
        interval,
    )
    await service.database.execute(_AGE, text)


async def sent(service: Service, user_id: str) -> list[message_pb2.SentMessage]:
    return list((await service.stub.ListSentMessages(pb.ListSentMessagesRequest(user_id=user_id))).messages)


async def ended(service: Service, user_id: str, state: int) -> message_pb2.SentMessage:
    async def has() -> bool:
        return any(message.state == state for message in await sent(service, user_id))

    await until(has, seconds=30, what=f"a message to {user_id} is {state}")
    return (await sent(service, user_id))[0]


async def test_achievements_of_an_evening_come_in_one_email_that_can_be_unsubscribed(
    service: Service, feed: Feed, mailbox: Mailbox
) -> None:
    await update(service, "ada", email="ada@example.com", language="de-AT")
    await switch_on(service, ACHIEVEMENT)
    await feed.tell("ada", achievement="first")
    await feed.tell("ada", achievement="second")
    await planned(service, 1)
    assert mailbox.emails == []
    await age(service)
    message = await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    assert (message.type, message.channel, message.detail) == (ACHIEVEMENT, EMAIL, "")
    (email,) = mailbox.emails
    assert (email["From"], email["To"]) == ("Laurel <hello@example.com>", "ada@example.com")
    assert email["Subject"] == "2 Erfolge: gut gemacht!"
    assert "* First\n* Second\n" in email.get_content().replace("\r\n", "\n")
    assert email["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    token = email["List-Unsubscribe"].removeprefix("<https://example.com/unsubscribe/").removesuffix(">")
    await service.stub.Unsubscribe(pb.UnsubscribeRequest(token=token))
    assert list((await get(service, "ada")).refusals) == [
        contact_pb2.MessageRefusal(type=ACHIEVEMENT, channel=EMAIL)
    ]
    await planned(service, 0)


async def test_own_templates_are_written_as_text_and_html(
    service: Service, feed: Feed, mailbox: Mailbox
) -> None:
    await update(service, "ada", email="ada@example.com")
    template = message_pb2.MessageTemplate(
        language="en",
        subject="{{ user.name }}!",
        text="{{ achievements[0].key }}",
        html="<b>{{ achievements[0].name }}</b>",
    )
    await switch_on(service, ACHIEVEMENT, templates=[template])
    await feed.tell("ada", achievement="<first>")
    await planned(service, 1)
    await age(service)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    (email,) = mailbox.emails
    assert email["Subject"] == "Ada!"
    assert [part.get_content().strip() for part in email.iter_parts()] == ["<first>", "<b>&lt;First&gt;</b>"]


async def test_a_message_goes_out_once_whatever_many_replicas_look(
    service: Service, feed: Feed, mailbox: Mailbox
) -> None:
    await service.start()
    users = [f"user-{number}" for number in range(60)]
    for user in users:
        await update(service, user, email=f"{user}@example.com")
    await switch_on(service, ACHIEVEMENT)
    await feed.tell(*users, achievement="first")
    await planned(service, 60)
    await age(service)
    await planned(service, 0)
    assert sorted(email["To"] for email in mailbox.emails) == sorted(f"{user}@example.com" for user in users)


async def test_a_message_over_which_a_process_died_is_not_sent_again(
    service: Service, feed: Feed, mailbox: Mailbox
) -> None:
    await update(service, "ada", email="ada@example.com")
    await switch_on(service, ACHIEVEMENT)
    await feed.tell("ada", achievement="first")
    await planned(service, 1)
    await service.database.execute(
        """
        INSERT INTO sent_messages (message_id, user_id, type, local_date, channel, state, detail, send_time)
        SELECT gen_random_uuid(), 'ada', $1, (now() AT TIME ZONE 'UTC')::date, 0, $2, '', now()
        """,
        ACHIEVEMENT,
        message_pb2.MESSAGE_STATE_SENDING,
    )
    await age(service)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_UNKNOWN)
    await planned(service, 0)
    assert mailbox.emails == []


async def test_what_has_certainly_not_gone_out_is_tried_again(
    service: Service, feed: Feed, mailbox: Mailbox, mail: AsyncExitStack
) -> None:
    await update(service, "ada", email="ada@example.com")
    await switch_on(service, ACHIEVEMENT)
    await feed.tell("ada", achievement="first")
    await planned(service, 1)
    mailbox.answer = "451 try again later"
    await age(service)
    waiting = await ended(service, "ada", message_pb2.MESSAGE_STATE_WAITING)
    assert waiting.detail == "the server answered 451"
    await mail.aclose()
    await age(service)

    async def is_away() -> bool:
        return "could not be talked to" in (await sent(service, "ada"))[0].detail

    await until(is_away, seconds=30, what="the server is found to be away")
    mailbox.answer = "250 OK"
    await mail.enter_async_context(receiving_mail(mailbox))
    await age(service)
    await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    assert len(mailbox.emails) == len(await sent(service, "ada")) == 1


async def test_an_address_that_the_server_refuses_is_not_tried_again(
    service: Service, feed: Feed, mailbox: Mailbox
) -> None:
    mailbox.answer = "550 there is no ada@example.com"
    await update(service, "ada", email="ada@example.com")
    await switch_on(service, ACHIEVEMENT)
    await feed.tell("ada", achievement="first")
    await planned(service, 1)
    await age(service)
    message = await ended(service, "ada", message_pb2.MESSAGE_STATE_REFUSED)
    assert message.detail == "the server answered 550"
    await planned(service, 0)


async def test_who_sends_by_themselves_are_told_that_a_message_is_due(
    service: Service, feed: Feed, receiver: Receiver
) -> None:
    secret = await service.create("crm", receiver.url, "message.achievement_due")
    await switch_on(service, ACHIEVEMENT, channels=[])
    await feed.tell("ada", achievement="first")
    await planned(service, 1)
    await age(service)
    message = await ended(service, "ada", message_pb2.MESSAGE_STATE_TOLD)

    async def is_told() -> bool:
        return bool(receiver.accepted)

    await until(is_told, seconds=30, what="the webhook is called")
    (told,) = receiver.accepted
    assert told.is_signed_by(secret)
    payload = told.json
    assert (payload["id"], payload["type"], payload["userId"]) == (
        message.message_id,
        "message.achievement_due",
        "ada",
    )
    assert payload["data"]["achievements"] == [{"key": "first", "name": "First", "badge_url": ""}]


async def test_who_is_merged_into_another_is_not_written_to_any_more(service: Service, feed: Feed) -> None:
    await switch_on(service, REACTIVATION, send_time="00:00")
    await feed.tell("device-4711", "ada")
    await planned(service, 2)
    await feed.tell_merge("device-4711", "ada")
    await planned(service, 1)
    assert await service.database.fetchval("SELECT user_id FROM planned_messages") == "ada"


async def test_who_is_away_is_written_to_until_coming_back(
    service: Service, feed: Feed, mailbox: Mailbox
) -> None:
    await update(service, "ada", email="ada@example.com")
    await switch_on(service, REACTIVATION, send_time="00:00")
    await feed.tell("ada")
    await planned(service, 1)
    await age(service, "3 days 30 minutes")
    await ended(service, "ada", message_pb2.MESSAGE_STATE_SENT)
    (email,) = mailbox.emails
    assert email["Subject"] == "We have not seen you for 3 days"

    async def step() -> int:
        planned = "SELECT coalesce((plan::jsonb ->> 'step')::integer, 0) FROM planned_messages"
        return int(await service.database.fetchval(planned))

    async def is_next() -> bool:
        return await step() == 1

    await until(is_next, seconds=30, what="seven days are planned")
    await feed.tell("ada")

    async def is_back() -> bool:
        return await step() == 0

    await until(is_back, seconds=30, what="the days are counted from now")


async def test_nothing_is_sent_of_what_was_planned_when_it_is_switched_off(
    service: Service, feed: Feed
) -> None:
    await switch_on(service, ACHIEVEMENT)
    await feed.tell("bob")
    await feed.tell("cleo", achievement="first")
    await planned(service, 1)
    assert await service.database.fetchval("SELECT user_id FROM planned_messages") == "cleo"
    await switch_off(service, ACHIEVEMENT)
    await age(service)
    await planned(service, 0)
    assert await sent(service, "cleo") == []


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"type": contact_pb2.MESSAGE_TYPE_UNSPECIFIED}, "message.type"),
        ({"send_time": "7 pm"}, "message.send_time"),
        ({"recap_period": message_pb2.RECAP_PERIOD_MONTHLY}, "message.recap_period"),
        ({"channels": [EMAIL, EMAIL]}, "message.channels"),
        ({"channels": [99]}, "message.channels[0]"),
        (
            {"templates": [message_pb2.MessageTemplate(language="en", subject="{{", text="x")]},
            "message.templates[0].subject",
        ),
        (
            {"templates": [message_pb2.MessageTemplate(subject="x", text="x")]},
            "message.templates[0].language",
        ),
    ],
)
async def test_what_is_wrong_with_a_definition_is_said(
    service: Service, fields: dict[str, Any], violation: str
) -> None:
    request = pb.UpdateMessageDefinitionRequest(
        request_id=str(uuid4()), message=message_pb2.MessageDefinition(**{"type": ACHIEVEMENT, **fields})
    )
    error = await refused(service.stub.UpdateMessageDefinition(request))
    assert [found.field for found in error.violations] == [violation]
    listed = await service.stub.ListMessageDefinitions(pb.ListMessageDefinitionsRequest())
    assert not listed.messages
