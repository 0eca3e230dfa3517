"""contacts: how users can be reached, and what they want to hear."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

import click
from laurel.notification.v1 import contact_pb2
from laurel.notification.v1 import notification_service_pb2 as pb

from services.cli import render
from services.cli.connect import Connections
from services.cli.options import json_option

TYPES: Final = {
    name.removeprefix("MESSAGE_TYPE_").lower(): number
    for name, number in contact_pb2.MessageType.items()
    if number
}
CHANNELS: Final = {
    name.removeprefix("MESSAGE_CHANNEL_").lower(): number
    for name, number in contact_pb2.MessageChannel.items()
    if number
}
_PROVIDERS: Final = {
    name.removeprefix("PUSH_PROVIDER_").lower(): number
    for name, number in contact_pb2.PushProvider.items()
    if number
}
_ALL: Final = "all"


class Refused(click.ParamType[contact_pb2.MessageRefusal]):
    """TYPE or TYPE:CHANNEL."""

    name = "TYPE[:CHANNEL]"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> contact_pb2.MessageRefusal:
        if isinstance(value, contact_pb2.MessageRefusal):
            return value
        type_, _, channel = str(value).partition(":")
        for given, known in ((type_, TYPES), (channel or _ALL, CHANNELS)):
            if given != _ALL and given not in known:
                self.fail(f"{given!r} is not one of {', '.join((_ALL, *known))}", param, context)
        return contact_pb2.MessageRefusal(
            type=TYPES.get(type_, contact_pb2.MESSAGE_TYPE_UNSPECIFIED),
            channel=CHANNELS.get(channel, contact_pb2.MESSAGE_CHANNEL_UNSPECIFIED),
        )


@click.group(short_help="How users can be reached, and what they want to hear.")
def contacts() -> None:
    """How users can be reached, and what they want to hear: addresses, devices, preferences."""


@contacts.command("set")
@click.argument("user")
@click.option("--email", help="One address; '' takes it away.")
@click.option("--language", help="As de or pt-BR; '' takes it away.")
@click.option(
    "--quiet", metavar="HH:MM-HH:MM", help="No message in these hours of the user's day; '' takes it away."
)
@click.option(
    "--refuse",
    type=Refused(),
    multiple=True,
    help="No such messages: all, streak_reminder, recap:push, all:email, ...",
)
@click.option("--refuse-nothing", is_flag=True, help="All messages again.")
@click.pass_obj
def set_(
    connections: Connections,
    /,
    user: str,
    email: str | None,
    language: str | None,
    quiet: str | None,
    refuse: tuple[contact_pb2.MessageRefusal, ...],
    refuse_nothing: bool,
) -> None:
    """Say how a user can be reached: what is said replaces what was; the rest stays."""
    request = pb.UpdateContactRequest(request_id=str(uuid4()))
    request.contact.user_id = user
    paths = request.update_mask.paths
    if email is not None:
        request.contact.email = email
        paths.append("email")
    if language is not None:
        request.contact.language = language
        paths.append("language")
    if quiet is not None:
        if quiet:
            request.contact.quiet_hours.start, _, request.contact.quiet_hours.end = quiet.partition("-")
        paths.append("quiet_hours")
    if refuse and refuse_nothing:
        raise click.UsageError("say --refuse or --refuse-nothing")
    if refuse or refuse_nothing:
        request.contact.refusals.extend(refuse)
        paths.append("refusals")
    if not paths:
        raise click.UsageError("say what is to change")
    response = connections.notification.UpdateContact(request, timeout=connections.timeout_seconds)
    _show(response.contact)


@contacts.command()
@click.argument("user")
@json_option
@click.pass_obj
def show(connections: Connections, user: str, as_json: bool) -> None:
    """Show how a user can be reached."""
    request = pb.GetContactRequest(user_id=user)
    response = connections.notification.GetContact(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(response)
    else:
        _show(response.contact)


@contacts.command()
@click.argument("user")
@click.pass_obj
def delete(connections: Connections, user: str) -> None:
    """Forget how a user can be reached."""
    request = pb.DeleteContactRequest(request_id=str(uuid4()), user_id=user)
    connections.notification.DeleteContact(request, timeout=connections.timeout_seconds)
    render.line(f"deleted {user}")


@contacts.command("add-device")
@click.argument("user")
@click.argument("provider", type=click.Choice(list(_PROVIDERS)))
@click.argument("token")
@click.pass_obj
def add_device(connections: Connections, user: str, provider: str, token: str) -> None:
    """Add a device of a user, by its provider's token."""
    request = pb.AddDeviceRequest(request_id=str(uuid4()), user_id=user, device=_device(provider, token))
    connections.notification.AddDevice(request, timeout=connections.timeout_seconds)
    render.line(f"{user} has it")


@contacts.command("remove-device")
@click.argument("user")
@click.argument("provider", type=click.Choice(list(_PROVIDERS)))
@click.argument("token")
@click.pass_obj
def remove_device(connections: Connections, user: str, provider: str, token: str) -> None:
    """Remove a device of a user."""
    request = pb.RemoveDeviceRequest(request_id=str(uuid4()), user_id=user, device=_device(provider, token))
    connections.notification.RemoveDevice(request, timeout=connections.timeout_seconds)
    render.line(f"{user} does not have it")


@contacts.command()
@click.argument("token")
@click.pass_obj
def unsubscribe(connections: Connections, token: str) -> None:
    """Do what the link in an e-mail says."""
    response = connections.notification.Unsubscribe(
        pb.UnsubscribeRequest(token=token), timeout=connections.timeout_seconds
    )
    render.line(f"no more of {_refused(response.refusal)}")


def _device(provider: str, token: str) -> contact_pb2.Device:
    return contact_pb2.Device(provider=_PROVIDERS[provider], token=token)


def _show(contact: contact_pb2.Contact) -> None:
    quiet = contact.quiet_hours
    facts = {
        "e-mail": contact.email,
        "language": contact.language,
        "quiet hours": f"{quiet.start}-{quiet.end}" if contact.HasField("quiet_hours") else "",
        "refuses": ", ".join(map(_refused, contact.refusals)),
        "devices": ", ".join(
            f"{name_of(_PROVIDERS, device.provider)} {device.token}" for device in contact.devices
        ),
    }
    render.heading(contact.user_id)
    for name, text in facts.items():
        if text:
            render.line(f"  {name:<15}  {text}")


def _refused(refusal: contact_pb2.MessageRefusal) -> str:
    type_ = name_of(TYPES, refusal.type)
    return f"{type_}:{name_of(CHANNELS, refusal.channel)}" if refusal.channel else type_


def name_of(known: Mapping[str, int], number: int) -> str:
    """What a number of the contract is called here."""
    return next((name for name, value in known.items() if value == number), _ALL)
