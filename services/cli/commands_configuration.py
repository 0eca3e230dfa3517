"""apply, validate, export, get, delete: what is configured."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import click
import grpc
from laurel.common.v1 import configuration_pb2
from laurel.notification.v1 import notification_service_pb2, webhook_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.cli import render
from services.cli.configuration import (
    Configuration,
    ConfigurationMistakes,
    check_configuration,
    configuration_text,
    read_configuration,
)
from services.cli.connect import Connections
from services.cli.errors import CommandError, laurel_error
from services.cli.kinds import TOLD
from services.cli.options import because, json_option, why_option
from services.cli.yaml_messages import Mistake
from shared.definitions import KINDS, Name, list_of, message_of, words

Command = TypeVar("Command", bound=Callable[..., Any])

_EVERYTHING: Final = 1_000_000
"""More definitions than there can be."""


class Kind(click.ParamType[str]):
    """A kind of definition, in the singular or plural, with any of `_`, `-` and a space between its words."""

    name = "KIND"

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:  # noqa: ARG002
        """What there is to choose from."""
        return f"There are {', '.join(KINDS)}."

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        wanted = str(value).lower().replace("-", "_").replace(" ", "_")
        found = next((kind for kind in KINDS if wanted in (kind, list_of(kind))), None)
        if found is None:
            self.fail(f"no kind is called {value!r}; there are {', '.join(KINDS)}", param, context)
        return found


def _file_option(command: Command) -> Command:
    """-f: the configuration file, or the standard input."""
    return click.option(
        "-f",
        "--file",
        required=True,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        help="The configuration file (YAML); - reads the standard input.",
    )(command)


@click.command(short_help="Apply a configuration file, or none of it.")
@_file_option
@click.option("--dry-run", is_flag=True, help="Check everything and show the difference; change nothing.")
@click.option("--prune", is_flag=True, help="Delete every definition that the file does not have.")
@why_option
@json_option
@click.pass_obj
def apply(
    connections: Connections, file: str, dry_run: bool, prune: bool, reason: str, as_json: bool
) -> None:
    """Apply a configuration file to all services: everything, or nothing where anything is wrong."""
    response = apply_file(connections, *contents(file), dry_run=dry_run, prune=prune, reason=reason)
    if as_json:
        render.print_json(response)
        return
    show_changes(response.changes, dry_run=dry_run)
    for created in response.secrets:
        render.line(f"secret of {created.key}: {created.secret}")
    if response.secrets:
        render.line("Secrets are shown once. Keep them where the receivers are.", style="dim")


def apply_file(
    connections: Connections,
    text: bytes,
    name: str,
    *,
    dry_run: bool = False,
    prune: bool = False,
    reason: str = "",
) -> notification_service_pb2.ApplyConfigurationResponse:
    """Apply the text of a file. Raises `CommandError` with every mistake and its place, and `grpc.RpcError`.

    What is told outside is checked first and written last: where it is wrong nothing is applied.
    """
    configuration = read(text, name, "nothing was applied")
    configuration.request.validate_only = dry_run
    configuration.request.prune = prune
    telling = configuration.telling
    tells = bool(configuration.sections & TOLD.keys())
    telling.prune_webhook_endpoints = prune and "webhook_endpoints" in configuration.sections
    telling.prune_event_streams = prune and "event_streams" in configuration.sections
    telling.validate_only = True
    options: Any = {"timeout": connections.timeout_seconds, "metadata": because(reason)}
    result = notification_service_pb2.ApplyConfigurationResponse()
    try:
        if tells:
            result = connections.notification.ApplyConfiguration(telling, **options)
        changes = connections.orchestrator.ApplyConfiguration(configuration.request, **options).changes
        if tells and not dry_run:
            telling.validate_only = False
            telling.request_id = str(uuid.uuid4())
            result = connections.notification.ApplyConfiguration(telling, **options)
        return notification_service_pb2.ApplyConfigurationResponse(
            changes=[*changes, *result.changes], secrets=result.secrets
        )
    except grpc.RpcError as error:
        refused = laurel_error(error)
        if not refused.violations:
            raise
        mistakes = configuration.locate(refused.violations)
        raise CommandError(*_mistake_lines(name, mistakes, "nothing was applied")) from error


@click.command(short_help="Check a configuration file without a system.")
@_file_option
@click.option("--partial", is_flag=True, help="The file may mention definitions that it does not have.")
def validate(file: str, partial: bool) -> None:
    """Check a configuration file without a running system: every field, and every mention of a definition.

    What only the system knows is left to `apply --dry-run`: what may not change, and what is in use.
    """
    content, name = contents(file)
    configuration = read(content, name, "the file is not valid")
    mistakes = check_configuration(configuration, partial=partial)
    if mistakes:
        raise CommandError(*_mistake_lines(name, mistakes, "the file is not valid"))
    counts = [(kind, len(getattr(configuration.request, list_of(kind)))) for kind in KINDS]
    counts += [(section[:-1], len(getattr(configuration.telling, section))) for section in TOLD]
    text = ", ".join(f"{count} {words(kind)}{'' if count == 1 else 's'}" for kind, count in counts if count)
    render.line(f"Valid: {text or 'nothing is defined'}.")


@click.command(short_help="Write the whole configuration as a file.")
@click.pass_obj
def export(connections: Connections) -> None:
    """Write the whole configuration to the standard output, as a file that `apply` takes back unchanged."""
    found = connections.all_pages(
        connections.orchestrator.ListDefinitions, pb.ListDefinitionsRequest(), "definitions", _EVERYTHING
    )
    click.echo(configuration_text(found.definitions, _telling(connections)), nl=False)


def _telling(connections: Connections) -> notification_service_pb2.ApplyConfigurationRequest:
    """What is told outside, without what is output."""
    told, of = connections.notification, notification_service_pb2
    endpoints = connections.all_pages(
        told.ListWebhookEndpoints, of.ListWebhookEndpointsRequest(), "endpoints", _EVERYTHING
    ).endpoints
    streams = connections.all_pages(
        told.ListEventStreams, of.ListEventStreamsRequest(), "streams", _EVERYTHING
    ).streams
    messages = connections.all_pages(
        told.ListMessageDefinitions, of.ListMessageDefinitionsRequest(), "messages", _EVERYTHING
    ).messages
    for endpoint in endpoints:
        # What the service has switched off by itself is not what somebody wants.
        endpoint.switched_off = endpoint.switch_off_reason == webhook_pb2.SWITCH_OFF_REASON_OPERATOR
        for field in ("switch_off_reason", "switch_off_time", "secrets", "health"):
            endpoint.ClearField(field)
    for stream in streams:
        stream.ClearField("health")
    return of.ApplyConfigurationRequest(webhook_endpoints=endpoints, event_streams=streams, messages=messages)


@click.command(short_help="Show a definition, or list all of a kind.")
@click.argument("kind", type=Kind())
@click.argument("key", required=False)
@json_option
@click.pass_obj
def get(connections: Connections, kind: str, key: str | None, as_json: bool) -> None:
    """Show a definition as it stands in a file, or list all of a KIND."""
    if key is not None:
        request = pb.GetDefinitionRequest(kind=kind, key=key)
        response = connections.orchestrator.GetDefinition(request, timeout=connections.timeout_seconds)
        if as_json:
            render.print_json(response)
        else:
            click.echo(configuration_text([response.definition]), nl=False)
        return
    listed = connections.all_pages(
        connections.orchestrator.ListDefinitions,
        pb.ListDefinitionsRequest(kind=kind),
        "definitions",
        _EVERYTHING,
    )
    if as_json:
        render.print_json(listed)
    else:
        _show_list([message_of(definition) for definition in listed.definitions])


def _show_list(messages: Iterable[Any]) -> None:
    rows: render.Rows = [
        [message.key, message.name, render.instant(message.update_time)] for message in messages
    ]
    render.table(["key", "name", "changed"], rows, empty="none")


@click.command(short_help="Delete a definition that nothing holds.")
@click.argument("kind", type=Kind())
@click.argument("key")
@click.option("--dry-run", is_flag=True, help="Check only; delete nothing.")
@why_option
@click.pass_obj
def delete(connections: Connections, kind: str, key: str, dry_run: bool, reason: str) -> None:
    """Delete a definition that nobody holds anything of and that no other mentions."""
    request = pb.DeleteDefinitionRequest(
        kind=kind, key=key, request_id=str(uuid.uuid4()), validate_only=dry_run
    )
    connections.orchestrator.DeleteDefinition(
        request, timeout=connections.timeout_seconds, metadata=because(reason)
    )
    name = Name(kind, key)
    render.line(f"The {name} can be deleted; this was a dry run." if dry_run else f"Deleted the {name}.")


def show_changes(changes: Sequence[configuration_pb2.ConfigurationChange], *, dry_run: bool) -> None:
    """The difference that a configuration makes, then how much of each kind there is."""
    names = [_action(change) for change in changes]
    for name, change in zip(names, changes, strict=True):
        if name == "keep":
            continue
        render.line(f"{name} {words(change.kind)} {change.key}", style=_STYLES[name])
        for field in change.fields:
            _show_field(field)
    counted = Counter(names)
    text = ", ".join(f"{counted[name]} {name}" for name in ("create", "update", "delete", "keep"))
    removed = sum(field.removed for change in changes for field in change.fields) + counted["delete"]
    warning = f" {removed} removed." if removed else ""
    render.line(f"{text}.{warning} {'Nothing was applied: this was a dry run.' if dry_run else 'Applied.'}")


_STYLES: Final = {"create": "green", "update": "", "delete": "red"}


def _action(change: configuration_pb2.ConfigurationChange) -> str:
    name = configuration_pb2.ConfigurationAction.Name(change.action)
    return render.enum_name(name, "CONFIGURATION_ACTION_")


def _show_field(field: configuration_pb2.FieldChange) -> None:
    """`-` stands before what goes away, `+` before what comes, `~` before what is something else."""
    if field.removed:
        sign, style = "-", "red"
    elif not field.old_value:
        sign, style = "+", "green"
    else:
        sign, style = "~", ""
    values = " -> ".join(value for value in (field.old_value, field.new_value) if value)
    removed = "  (removed)" if field.removed else ""
    render.line(f"  {sign} {field.path}: {values}{removed}", style=style)


def contents(file: str) -> tuple[bytes, str]:
    """What stands in a file, and what it is called."""
    with click.open_file(file, "rb") as opened:
        return opened.read(), "<stdin>" if file == "-" else file


def read(text: bytes, name: str, verdict: str) -> Configuration:
    """The configuration in a file's text. Raises `CommandError` with everything that is wrong."""
    try:
        return read_configuration(text)
    except ConfigurationMistakes as error:
        raise CommandError(*_mistake_lines(name, error.mistakes, verdict)) from error


def _mistake_lines(name: str, mistakes: Sequence[Mistake], verdict: str) -> list[str]:
    """`laurel.yaml:12:5  streaks[0].frequency  unknown value 'dayly'; did you mean daily?`"""
    lines = [
        "  ".join(
            part for part in (f"{name}:{each.place.line}:{each.place.column}", each.path, each.what) if part
        )
        for each in mistakes
    ]
    noun = "mistake" if len(mistakes) == 1 else "mistakes"
    return [*map(render.printable, lines), f"{len(mistakes)} {noun}; {verdict}."]
