"""What webhook endpoints and streams are told alike: which events, of whom, and whether they are on."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from laurel.common.v1 import filter_pb2

from services.cli import render
from services.cli.options import Pair, pairs

F = TypeVar("F", bound=Callable[..., Any])

where_option: Final = click.option(
    "--where",
    type=Pair(),
    multiple=True,
    help="Only of users with this attribute; several have to hold together.",
)

WISHES: Final = (
    click.option(
        "--type",
        "types",
        multiple=True,
        metavar="TYPE",
        help="A type of events, as streak.lost; * alone: all.",
    ),
    where_option,
    click.option("--tenant", help="Only events of this tenant."),
    click.option("--description", help="For people."),
)


def with_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Puts options on a command, in this order."""

    def put(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return put


def switch_options(on: str) -> Callable[[F], F]:
    """--off and --on, which says what the latter does."""
    return with_options(
        click.option(
            "--off", "switched_off", flag_value=True, type=bool, default=None, help="Switch it off."
        ),
        click.option("--on", "switched_off", flag_value=False, type=bool, help=f"Switch it on; {on}."),
    )


def fill(message: Any, chosen: dict[str, Any]) -> list[str]:
    """Write what was chosen of that into an endpoint or a stream; the paths of what was."""
    paths = []
    if chosen["types"]:
        message.types.extend(chosen["types"])
        paths.append("types")
    if chosen["where"]:
        message.filters.extend(filters_of(chosen["where"]))
        paths.append("filters")
    for name in ("tenant", "description", "switched_off"):
        if chosen.get(name) is not None:
            setattr(message, name, chosen[name])
            paths.append(name)
    return paths


def filters_of(where: tuple[tuple[str, str], ...]) -> list[filter_pb2.AttributeFilter]:
    """What --where says. Raises `click.UsageError` where it names an attribute twice."""
    return [
        filter_pb2.AttributeFilter(attribute=name, equals=value)
        for name, value in pairs(where, "--where").items()
    ]


def changing(request: Any, paths: list[str]) -> Any:
    """The request with what is to change. Raises `click.UsageError` where nothing is."""
    if not paths:
        raise click.UsageError("say what is to change")
    request.update_mask.paths.extend(paths)
    return request


def filters_text(message: Any) -> str:
    """The filters of an endpoint or a stream, for a person."""
    return ", ".join(
        f"{condition.attribute}={condition.equals}"
        if condition.WhichOneof("comparison") == "equals"
        else render.json_line(condition)
        for condition in message.filters
    )


def show(heading: str, facts: dict[str, str]) -> None:
    """What there is of the facts, a line each."""
    render.heading(heading)
    for name, text in facts.items():
        if text:
            render.line(f"  {name:<15}  {text}")
