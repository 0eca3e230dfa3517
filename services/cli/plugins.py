"""What other packages add to the command, found by their entry points: a client works without any of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, Protocol, cast

import click

from services.cli.errors import CommandError

COMMANDS: Final = "laurel.commands"
"""Each entry is a command of its name."""

LAUNCHER: Final = "laurel.launcher"
"""One entry: what starts stacks on this machine, and knows those that it started."""


@dataclass(frozen=True, slots=True)
class LocalStack:
    """A stack on this machine, with the addresses of those of its services that run, its key, and the certificate of
    its authority (None: nothing is encrypted), whose certificates are for localhost.
    """

    home: Path
    addresses: Mapping[str, str]
    api_key: str = field(default="", repr=False)
    authority: Path | None = None


class Launcher(Protocol):
    """Who knows the stacks of this machine."""

    def stack_here(self) -> LocalStack | None:
        """The stack of this directory, running or not; None where none was ever started."""

    def authority_behind(self, port: int) -> Path | None:
        """The certificate of the authority of the stack that listens on this port, as far as that is known."""

    def home_behind(self, port: int) -> Path | None:
        """The home of the stack that listens on this port; None where that is not known."""


def command_names() -> list[str]:
    """The commands that other packages add."""
    return sorted(entry_points(group=COMMANDS).names)


def load_command(name: str) -> click.Command | None:
    """A command of another package; None where none has this name. One that lacks a part says so when it runs."""
    for entry in entry_points(group=COMMANDS, name=name):
        try:
            return cast(click.Command, entry.load())
        except ModuleNotFoundError as error:
            return _missing(name, error)
    return None


def launcher() -> Launcher | None:
    """The launcher of this machine; None where it is not installed."""
    for entry in entry_points(group=LAUNCHER):
        try:
            return cast(Launcher, entry.load())
        except ModuleNotFoundError:
            return None
    return None


def _missing(name: str, error: ModuleNotFoundError) -> click.Command:
    text = f"the local launcher is not installed ({error.name} is missing): install laurel[local]"

    @click.command(name, help=f"Not here: {text}.", context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1)
    def command(arguments: tuple[str, ...]) -> None:  # noqa: ARG001 - whatever they are
        raise CommandError(text)

    return command
