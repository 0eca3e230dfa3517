"""messages: what is written to users, and what was."""

from collections.abc import Iterable
from typing import Final
from uuid import uuid4

import click
import yaml
from google.protobuf import json_format
from laurel.notification.v1 import message_pb2
from laurel.notification.v1 import notification_service_pb2 as pb

from services.cli import render
from services.cli.commands_contacts import CHANNELS, TYPES, name_of
from services.cli.connect import EVERYTHING, Connections
from services.cli.options import json_option

_STATES: Final = {
    name.removeprefix("MESSAGE_STATE_").lower(): number for name, number in message_pb2.MessageState.items()
}
_PERIODS: Final = {
    "week": message_pb2.RECAP_PERIOD_WEEKLY,
    "month": message_pb2.RECAP_PERIOD_MONTHLY,
}


@click.group(short_help="Write to users by e-mail, or tell webhooks that somebody is to be written to.")
def messages() -> None:
    """Write to users: what they have earned, what ends tonight, what a week was, and that they have not been seen."""


@messages.command("set")
@click.argument("type_", metavar="TYPE", type=click.Choice(list(TYPES)))
@click.option(
    "--channel",
    "channels",
    multiple=True,
    type=click.Choice(list(CHANNELS)),
    help="In the order in which they are tried.",
)
@click.option("--no-channel", is_flag=True, help="Only tell webhooks, as message.TYPE_due.")
@click.option("--every", type=click.Choice(list(_PERIODS)), help="What a recap is of.")
@click.option("--at", "send_time", metavar="HH:MM", help="When in the user's day.")
@click.option(
    "--templates",
    type=click.File("r"),
    help="YAML: a list of templates with language, subject, text, html and push; an empty list: Laurel's own.",
)
@click.option("--on", "switched_on", flag_value=True, type=bool, default=None, help="Send them, from now on.")
@click.option("--off", "switched_on", flag_value=False, type=bool, help="Send none.")
@click.pass_obj
def set_(
    connections: Connections,
    /,
    type_: str,
    channels: tuple[str, ...],
    no_channel: bool,
    every: str | None,
    send_time: str | None,
    templates: click.File | None,
    switched_on: bool | None,
) -> None:
    """Say what messages of a type are like: what is said replaces what was; the rest stays."""
    request = pb.UpdateMessageDefinitionRequest(request_id=str(uuid4()))
    message, paths = request.message, request.update_mask.paths
    message.type = TYPES[type_]
    if channels and no_channel:
        raise click.UsageError("say --channel or --no-channel")
    if channels or no_channel:
        message.channels.extend(CHANNELS[channel] for channel in channels)
        paths.append("channels")
    if every is not None:
        message.recap_period = _PERIODS[every]
        paths.append("recap_period")
    if send_time is not None:
        message.send_time = send_time
        paths.append("send_time")
    if templates is not None:
        try:
            json_format.ParseDict({"templates": yaml.safe_load(templates) or []}, message)  # type: ignore[arg-type]
        except (yaml.YAMLError, json_format.ParseError) as error:
            raise click.UsageError(f"--templates: {error}") from error
        paths.append("templates")
    if switched_on is not None:
        message.switched_on = switched_on
        paths.append("switched_on")
    if not paths:
        raise click.UsageError("say what is to change")
    response = connections.notification.UpdateMessageDefinition(request, timeout=connections.timeout_seconds)
    _table([response.message])


@messages.command("list")
@json_option
@click.pass_obj
def list_(connections: Connections, as_json: bool) -> None:
    """List what is sent."""
    listed = connections.all_pages(
        connections.notification.ListMessageDefinitions,
        pb.ListMessageDefinitionsRequest(),
        "messages",
        EVERYTHING,
    )
    if as_json:
        render.print_json(listed)
    else:
        _table(listed.messages)


@messages.command()
@click.argument("user")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@click.pass_obj
def sent(connections: Connections, user: str, limit: int, as_json: bool) -> None:
    """List what was sent to a user, newest first."""
    listed = connections.all_pages(
        connections.notification.ListSentMessages,
        pb.ListSentMessagesRequest(user_id=user),
        "messages",
        limit,
    )
    if as_json:
        render.print_json(listed)
        return
    rows: render.Rows = [
        [
            render.instant(message.send_time),
            name_of(TYPES, message.type),
            name_of(CHANNELS, message.channel) if message.channel else "",
            name_of(_STATES, message.state),
            message.detail,
        ]
        for message in listed.messages
    ]
    render.table(["time", "message", "by", "state", "why"], rows, empty="nothing was sent")


def _table(shown: Iterable[message_pb2.MessageDefinition]) -> None:
    rows: render.Rows = [
        [
            name_of(TYPES, message.type),
            "on" if message.switched_on else "off",
            " ".join(name_of(CHANNELS, channel) for channel in message.channels) or "webhooks alone",
            message.send_time,
            " ".join(template.language for template in message.templates) or "as they come",
        ]
        for message in shown
    ]
    render.table(["message", "state", "by", "at", "templates"], rows, empty="no message is set up")
