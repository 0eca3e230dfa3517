"""How values become text and tables that read well with and without colour, on a terminal and in a file."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self, TypeAlias

import click
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_WITHOUT_TERMINAL: Final = 10_000
"""No limit: a file has no edge, and whoever reads it by line wants lines whole."""
SHORT: Final = 20
"""A text of so many characters stays on one line: an instant has 20."""
NONE: Final = "-"

Cell: TypeAlias = "str | int | float | None"
Rows: TypeAlias = "list[list[Cell]]"


def console(*, stderr: bool = False) -> Console:
    """A console on the present output. Without a terminal it has no colour, and no end of a line but by COLUMNS."""
    stream = sys.stderr if stderr else sys.stdout
    asked = os.environ.get("COLUMNS", "")
    width = None if stream.isatty() or asked.isdecimal() else WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def printable(value: str) -> str:
    """The text without control characters: what a user is called must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in value)


def heading(text: str) -> None:
    """A line that names what follows."""
    console().print(Text(printable(text), style="bold"))


def line(text: str, style: str = "") -> None:
    """One line of plain text; it is never wrapped."""
    console().print(Text(printable(text), style=style), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column with its texts. `least` is the width in which no word of it breaks, `full` that without wrapping."""

    name: str
    cells: list[str]
    to_the_right: bool
    optional: bool
    full: int
    least: int

    @classmethod
    def of(cls, name: str, cells: list[str]) -> Self:
        flags = name[: len(name) - len(name.lstrip("?>"))]
        title = name.removeprefix(flags)
        texts = [title, *cells]
        least = max(max(map(cell_len, _unbreakable(text)), default=0) for text in texts)
        return cls(title, cells, ">" in flags, "?" in flags, max(map(cell_len, texts)), least)


def _unbreakable(text: str) -> list[str]:
    return [text] if cell_len(text) <= SHORT else text.split()


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, empty: str = "nothing") -> None:
    """A table in which no word is ever broken.

    A column whose name begins with `>` holds numbers and is aligned to the right; one with `?` may be left out. Where
    the line is too short, long texts go over several lines; then columns are left out, the last first, and named
    below; and if that is not enough, each row becomes a list.
    """
    if not rows:
        line(f"  {empty}", style="dim")
        return
    every = [_Column.of(name, [cell_text(row[index]) for row in rows]) for index, name in enumerate(columns)]
    present = console()
    shown = every
    while _width(shown, [each.least for each in shown]) > present.width:
        if not any(each.optional for each in shown):
            _lists(every, len(rows))
            return
        dropped = max(index for index, each in enumerate(shown) if each.optional)
        shown = shown[:dropped] + shown[dropped + 1 :]
    result = Table(box=box.SIMPLE_HEAD, pad_edge=True, header_style="bold")
    widths = _fitting(shown, present.width)
    for each, width in zip(shown, widths, strict=True):
        title = _wrapped(each.name, width)
        result.add_column(title, justify="right" if each.to_the_right else "left", width=width, no_wrap=True)
    for index in range(len(rows)):
        cells = (_wrapped(each.cells[index], width) for each, width in zip(shown, widths, strict=True))
        result.add_row(*map(Text, cells))
    present.print(result)
    if len(shown) < len(every):
        names = ", ".join(each.name for each in every if each not in shown)
        line(f"  left out, for want of width: {names}", style="dim")


def _width(columns: Sequence[_Column], widths: Sequence[int]) -> int:
    """Of a table with these contents: rich puts a blank on both sides of each, one between, and one at each end."""
    return sum(widths) + 3 * len(columns) + 1


def _fitting(columns: Sequence[_Column], width: int) -> list[int]:
    """The width of each column, together no more than the line holds; the widest that can wrap gives way."""
    widths = [each.full for each in columns]
    while _width(columns, widths) > width:
        _, widest = max((widths[i], i) for i, each in enumerate(columns) if widths[i] > each.least)
        widths[widest] -= 1
    return widths


def _wrapped(text: str, width: int) -> str:
    """The text on as many lines as it needs; rich would count a blank at the end of one, and cut words for it."""
    if cell_len(text) <= width:
        return text
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _lists(columns: Sequence[_Column], count: int) -> None:
    for index in range(count):
        if index:
            line("")
        facts([(each.name, each.cells[index]) for each in columns if each.cells[index].strip()])


def facts(pairs: Sequence[tuple[str, Cell]]) -> None:
    """Names and values, one a line; those without a value are left out."""
    shown = [(name, cell_text(value)) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        console().print(
            Text(f"  {name:<{width}}  ", style="dim").append(text, style="not dim"), soft_wrap=True
        )


def cell_text(cell: Cell) -> str:
    """A value as it stands in a table."""
    if cell is None or cell == "":
        return NONE
    if isinstance(cell, str):
        return printable(cell)
    return number(cell)


def number(value: float) -> str:
    """With thousands separators and no needless zeros; at most 6 fractional digits, as values have."""
    if isinstance(value, int) or value.is_integer():
        return f"{int(value):,}"
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def signed(value: float) -> str:
    """A change, with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def instant(time: Timestamp) -> str:
    """UTC, to the second. Years beyond those of datetime cannot occur in a valid timestamp."""
    if not (time.seconds or time.nanos):
        return NONE
    return time.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def timestamp(time: datetime) -> Timestamp:
    """The instant as a message."""
    result = Timestamp()
    result.FromDatetime(time.astimezone(UTC))
    return result


def day(value: date_pb2.LocalDate) -> str:
    """A calendar date."""
    return f"{value.year:04}-{value.month:02}-{value.day:02}" if value.year else NONE


def enum_name(name: str, prefix: str) -> str:
    """`FREQUENCY_DAILY` as `daily`."""
    return name.removeprefix(prefix).lower().replace("_", " ")


def segment(values: Mapping[str, str]) -> str:
    """`region=europe`; the whole board has no values."""
    return ", ".join(f"{key}={values[key]}" for key in sorted(values)) or "everyone"


def run(value: leaderboard_pb2.Run) -> str:
    """The dates of a run."""
    if not value.HasField("end_date"):
        return f"since {day(value.start_date)}" if value.HasField("start_date") else "all time"
    span = f"{day(value.start_date)} to {day(value.end_date)}"
    return f"{span}, final" if value.finalized else span


def rank(value: int) -> str:
    """A rank; 0 stands for not ranked."""
    return number(value) if value else "unranked"


def print_json(response: Message | Mapping[str, Message]) -> None:
    """One JSON document on standard output: a response, or several under their names."""
    content: Any
    if isinstance(response, Message):
        content = _as_json(response)
    else:
        content = {name: _as_json(each) for name, each in response.items()}
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))


def json_line(message: Message) -> str:
    """The message's JSON on one line."""
    return json.dumps(_as_json(message), ensure_ascii=False)


def _as_json(message: Message) -> Any:
    # Fields at zero are printed too: a script need not know which are left out. Not those of replies of old.
    document = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    for field in message.DESCRIPTOR.fields:
        if field.GetOptions().deprecated and not document.get(field.json_name):
            document.pop(field.json_name, None)
    return document
