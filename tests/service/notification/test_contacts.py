"""Contacts over a real channel and a real database (RULES 8.7)."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from laurel.notification.v1 import contact_pb2
from laurel.notification.v1 import notification_service_pb2 as pb

from services.notification.domain.contacts import Channel, MessageType
from services.notification.domain.links import link_token
from tests.service.notification.conftest import Service, refused

PHONE = contact_pb2.Device(provider=contact_pb2.PUSH_PROVIDER_APNS, token="phone")
TABLET = contact_pb2.Device(provider=contact_pb2.PUSH_PROVIDER_FCM, token="tablet")
NO_RECAP = contact_pb2.MessageRefusal(
    type=contact_pb2.MESSAGE_TYPE_RECAP, channel=contact_pb2.MESSAGE_CHANNEL_EMAIL
)


async def update(
    service: Service, user_id: str, *paths: str, request_id: str = "", **fields: Any
) -> contact_pb2.Contact:
    request = pb.UpdateContactRequest(
        request_id=request_id or str(uuid4()), contact=contact_pb2.Contact(user_id=user_id, **fields)
    )
    request.update_mask.paths.extend(paths)
    return (await service.stub.UpdateContact(request)).contact


async def get(service: Service, user_id: str) -> contact_pb2.Contact:
    return (await service.stub.GetContact(pb.GetContactRequest(user_id=user_id))).contact


async def add(service: Service, user_id: str, device: contact_pb2.Device) -> None:
    await service.stub.AddDevice(pb.AddDeviceRequest(request_id=str(uuid4()), user_id=user_id, device=device))


async def delete(service: Service, user_id: str) -> None:
    await service.stub.DeleteContact(pb.DeleteContactRequest(request_id=str(uuid4()), user_id=user_id))


async def signed(service: Service, user_id: str) -> str:
    """The token of a link against recaps by e-mail."""
    secret = await service.database.fetchval("SELECT secret FROM link_secret")
    return link_token(user_id, MessageType.RECAP, Channel.EMAIL, secret.encode())


async def test_a_contact_is_made_by_its_first_update_and_changed_field_by_field(service: Service) -> None:
    await update(service, "ada", email="ada@example.com", language="de")
    quiet = contact_pb2.QuietHours(start="22:00", end="08:00")
    changed = await update(service, "ada", quiet_hours=quiet, refusals=[NO_RECAP])
    assert changed == await get(service, "ada")
    assert (changed.email, changed.language, changed.quiet_hours) == ("ada@example.com", "de", quiet)
    assert list(changed.refusals) == [NO_RECAP]
    cleared = await update(service, "ada", "email", "quiet_hours")
    assert (cleared.email, cleared.language, cleared.HasField("quiet_hours")) == ("", "de", False)


async def test_a_repeated_update_changes_nothing(service: Service) -> None:
    await update(service, "ada", request_id="first", email="ada@example.com")
    await update(service, "ada", email="countess@example.com")
    repeated = await update(service, "ada", request_id="first", email="ada@example.com")
    assert repeated.email == "countess@example.com"
    other = pb.UpdateContactRequest(request_id="first", contact=contact_pb2.Contact(user_id="ada"))
    assert (await refused(service.stub.UpdateContact(other))).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"email": "ada"}, "contact.email"),
        ({"email": "ada@example.com\r\nBcc: eve@example.com"}, "contact.email"),
        ({"email": "Ada <ada@example.com>"}, "contact.email"),
        ({"email": "a" * 64 + "@" + "b" * 190 + ".example"}, "contact.email"),
        ({"language": "German"}, "contact.language"),
        ({"quiet_hours": contact_pb2.QuietHours(start="22:00", end="24:00")}, "contact.quiet_hours.end"),
        ({"quiet_hours": contact_pb2.QuietHours(start="22:00", end="22:00")}, "contact.quiet_hours.end"),
        ({"refusals": [NO_RECAP] * 16}, "contact.refusals"),
        ({"refusals": [contact_pb2.MessageRefusal(type=99)]}, "contact.refusals[0].type"),  # type: ignore[arg-type]
    ],
)
async def test_what_is_wrong_with_a_contact_is_said(
    service: Service, fields: dict[str, Any], violation: str
) -> None:
    request = pb.UpdateContactRequest(
        request_id=str(uuid4()), contact=contact_pb2.Contact(user_id="ada", **fields)
    )
    error = await refused(service.stub.UpdateContact(request))
    assert [found.field for found in error.violations] == [violation]
    missing = await refused(service.stub.GetContact(pb.GetContactRequest(user_id="ada")))
    assert missing.reason == "CONTACT_NOT_FOUND"


async def test_a_user_has_many_devices_and_a_device_one_user(service: Service) -> None:
    await add(service, "ada", PHONE)
    await add(service, "ada", TABLET)
    await add(service, "ada", PHONE)
    assert {device.token for device in (await get(service, "ada")).devices} == {"phone", "tablet"}
    await add(service, "bob", PHONE)
    assert [device.token for device in (await get(service, "ada")).devices] == ["tablet"]
    await service.stub.RemoveDevice(
        pb.RemoveDeviceRequest(request_id=str(uuid4()), user_id="ada", device=PHONE)
    )
    assert [device.token for device in (await get(service, "bob")).devices] == ["phone"]


async def test_a_user_has_at_most_twenty_devices_also_when_they_come_together(service: Service) -> None:
    devices = [
        contact_pb2.Device(provider=contact_pb2.PUSH_PROVIDER_EXPO, token=f"device {number}")
        for number in range(25)
    ]
    answers = await asyncio.gather(
        *(add(service, "ada", device) for device in devices), return_exceptions=True
    )
    assert sum(isinstance(answer, Exception) for answer in answers) == 5
    assert len((await get(service, "ada")).devices) == 20
    one_more = pb.AddDeviceRequest(request_id=str(uuid4()), user_id="ada", device=PHONE)
    assert (await refused(service.stub.AddDevice(one_more))).reason == "TOO_MANY_DEVICES"


async def test_a_device_of_no_provider_is_refused(service: Service) -> None:
    request = pb.AddDeviceRequest(request_id=str(uuid4()), user_id="ada", device=contact_pb2.Device())
    error = await refused(service.stub.AddDevice(request))
    assert {found.field for found in error.violations} == {"device.provider", "device.token"}


async def test_nothing_is_left_of_a_contact_that_is_deleted(service: Service) -> None:
    await update(service, "ada", email="ada@example.com", language="de")
    await add(service, "ada", PHONE)
    await delete(service, "ada")
    missing = await refused(service.stub.GetContact(pb.GetContactRequest(user_id="ada")))
    assert missing.reason == "CONTACT_NOT_FOUND"
    again = pb.DeleteContactRequest(request_id=str(uuid4()), user_id="ada")
    assert (await refused(service.stub.DeleteContact(again))).reason == "CONTACT_NOT_FOUND"
    tables = await service.database.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    for (table,) in tables:
        rows = await service.database.fetch(
            f'SELECT convert_to(t::text, $1) AS row FROM "{table}" AS t', "UTF8"
        )
        assert not any(b"ada@" in row or b"phone" in row or b"616461" in row for (row,) in rows), table


async def test_a_link_unsubscribes_and_says_so_again(service: Service) -> None:
    await update(service, "ada", email="ada@example.com")
    request = pb.UnsubscribeRequest(token=await signed(service, "ada"))
    assert (await service.stub.Unsubscribe(request)).refusal == NO_RECAP
    assert (await service.stub.Unsubscribe(request)).refusal == NO_RECAP
    assert list((await get(service, "ada")).refusals) == [NO_RECAP]


async def test_a_link_of_somebody_who_is_gone_makes_no_contact(service: Service) -> None:
    request = pb.UnsubscribeRequest(token=await signed(service, "ada"))
    await service.stub.Unsubscribe(request)
    missing = await refused(service.stub.GetContact(pb.GetContactRequest(user_id="ada")))
    assert missing.reason == "CONTACT_NOT_FOUND"


async def test_a_link_that_nobody_signed_is_refused(service: Service) -> None:
    error = await refused(service.stub.Unsubscribe(pb.UnsubscribeRequest(token="no link")))
    assert [found.field for found in error.violations] == ["token"]
