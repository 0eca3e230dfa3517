"""Options and argument types that several commands share."""

from collections.abc import Callable
from datetime import date
from typing import Any, Final, TypeVar

import click
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1.date_pb2 import LocalDate

from shared.rpc.access import REASON_HEADER

Command = TypeVar("Command", bound=Callable[..., Any])


class Pair(click.ParamType[tuple[str, str]]):
    """KEY=VALUE. The value may hold further equals signs."""

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, content = str(value).partition("=")
        if not (equals and key):
            self.fail(f"{value!r} is not KEY=VALUE", param, context)
        return key, content


class Instant(click.ParamType[Timestamp]):
    """An RFC 3339 instant with its offset."""

    name = "RFC3339"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Timestamp:
        if isinstance(value, Timestamp):
            return value
        result = Timestamp()
        try:
            result.FromJsonString(str(value))
        except ValueError:
            self.fail(f"{value!r} is not an instant such as 2026-02-03T08:15:00+09:00", param, context)
        return result


class Day(click.ParamType[LocalDate]):
    """A calendar date."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> LocalDate:
        if isinstance(value, LocalDate):
            return value
        try:
            parsed = date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a date such as 2026-02-03", param, context)
        return LocalDate(year=parsed.year, month=parsed.month, day=parsed.day)


class Whole(click.ParamType[int]):
    """A whole number that a field of so many bits can hold; what else it may be, the service says."""

    name = "integer"

    def __init__(self, bits: int) -> None:
        self._bits = bits

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        number = click.INT.convert(value, param, context)
        if not -(1 << self._bits - 1) <= number < 1 << self._bits - 1:
            self.fail(f"{value} is too large a number", param, context)
        return number


KEY_HELP: Final = "Idempotency: the same key again answers the same and does nothing."

INT32: Final = Whole(32)
INT64: Final = Whole(64)


class ShowGroup(click.Group):
    """Commands about something; what is none of them is for one of them, and names what is to be shown."""

    otherwise = "show"

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if args and self.get_command(context, args[0]) is None and args[0] not in context.help_option_names:
            args = [self.otherwise, *args]
        return super().parse_args(context, args)


def json_option(command: Command) -> Command:
    """--json: print the response's JSON, one document."""
    return click.option("--json", "as_json", is_flag=True, help="Print the response's JSON.")(command)


def key_option(command: Command) -> Command:
    """--key: the request id, drawn where none is given."""
    return click.option("--key", help=KEY_HELP)(command)


def by_hand_options(command: Command) -> Command:
    """What goes with everything that is done by hand and that keeps why: --reason, --key, --json."""
    for option in (json_option, key_option, click.option("--reason", default="", help="Why, for the audit.")):
        command = option(command)
    return command


def why_option(command: Command) -> Command:
    """--reason of what has no field for it: it goes along as metadata, see `because`."""
    return click.option("--reason", default="", help="Why, for the audit; in ASCII.")(command)


def because(reason: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call that say why. Raises `click.UsageError` for what metadata cannot carry."""
    if not (reason.isascii() and reason.isprintable()):
        raise click.UsageError("--reason: only printable ASCII can be carried here")
    return ((REASON_HEADER, reason),) if reason else ()


def limit_option(default: int) -> Callable[[Command], Command]:
    """--limit: how many rows to show."""
    return click.option(
        "--limit",
        type=click.IntRange(1, 1_000_000),
        default=default,
        show_default=True,
        help="At most so many rows.",
    )


def pairs(values: tuple[tuple[str, str], ...], option: str) -> dict[str, str]:
    """The pairs of a repeated option; the same key twice is a mistake."""
    result = dict(values)
    if len(result) != len(values):
        raise click.UsageError(f"{option}: the same key is given twice")
    return result
