"""What a service keeps of a user, said once for each table: to be exported, erased and looked for (RULES 2.7). Pure.

A service declares every one of its tables, and a test holds that against the catalogue, so that a new table cannot be
forgotten.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from msgspec import Struct


class Row(Protocol):
    """A row of a table, by columns."""

    def __getitem__(self, column: str, /) -> Any: ...


MessageOf = Callable[[Row], type[Message] | None]
"""What is serialized in a column of a row; None where that is not known."""

PSEUDONYM: Final = "$2"
"""In `Table.kept`: what takes the user's place."""

BY_USER: Final = "user_id = $1"
_OF_USERS: Final = ("user_id", "user_ids")
BY_ENTRY: Final = "user_id = $1 AND entry_id = ANY($3::uuid[])"


def never(_row: Row, _user_id: str = "") -> bool:
    """Of no row."""
    return False


def always(_row: Row, _user_id: str = "") -> bool:
    """Of every row."""
    return True


def holding(message: type[Message]) -> MessageOf:
    """A column that always holds the same."""
    return lambda _row: message


class Table(Struct, frozen=True):
    """A table with rows of users."""

    name: str
    where: str = BY_USER
    """Which rows are a user's: `$1`. It has to lead to an index, for a table may be large."""
    kept: Mapping[str, str] | None = None
    """Columns that are set when the user is erased, so that sums hold: to `PSEUDONYM` or a constant. None: rows go."""
    messages: Mapping[str, MessageOf] = {}
    """What columns of bytes hold."""
    hidden: frozenset[str] = frozenset()
    """Columns that nobody is shown: secrets and their hashes."""
    notice: Callable[[Row], bool] = never
    """Whether a row tells others of the deletion itself: `where` has to leave it out."""

    @property
    def by_entry(self) -> bool:
        """Its rows are found by the ids of the user's entries alone: no index leads to them by user."""
        return "$3" in self.where


class Scanned(Struct, frozen=True):
    """A table of which nothing but its messages tells whom a row is about. It is read through: it must be bounded, by a
    retention or by what people write.
    """

    name: str
    messages: Mapping[str, MessageOf]
    kept: Callable[[Row, str], bool] = never
    """Whether a row stays when a user is erased, with a pseudonym in the user's place; else it goes."""
    notice: Callable[[Row], bool] = never
    """Whether a row tells others of the deletion itself: it stays until its retention ends."""


class Traces(Struct, frozen=True):
    """Everything that a service keeps of users."""

    service: str
    tables: tuple[Table, ...]
    """In the order in which rows go."""
    scanned: tuple[Scanned, ...] = ()
    impersonal: frozenset[str] = frozenset()
    """The tables that have nothing of users. A search reads them all the same."""

    @property
    def all(self) -> list[Table | Scanned]:
        """The tables that have something of users."""
        return [*self.tables, *self.scanned]

    @property
    def declared(self) -> set[str]:
        """Every table that is spoken of."""
        return {table.name for table in self.all} | self.impersonal

    def messages(self, table: str) -> Mapping[str, MessageOf]:
        """What the columns of a table hold, as far as that is said."""
        return next((each.messages for each in self.all if each.name == table), {})


def parsed(body: bytes, kind: type[Message] | None) -> Message | None:
    """A stored message; None where it is none."""
    if kind is None:
        return None
    try:
        return kind.FromString(body)
    except DecodeError:
        return None


def names(value: Any, user_id: str, kind: type[Message] | None = None) -> bool:
    """Whether what is stored in a column names a user."""
    match value:
        case str():
            return _text_names(value, user_id)
        case bytes():
            message = parsed(value, kind)
            if message is not None:
                return any(_text_names(text, user_id) for text in strings_of(message))
            return _prefixed(user_id) in value
        case list() | tuple():
            return any(names(item, user_id, kind) for item in value)
        case _:
            return False


def strings_of(message: Message) -> Iterator[str]:
    """Every text in a message and in all that it contains, keys of maps too."""
    for field, value in message.ListFields():
        if _is_map(field):
            for key, item in value.items():
                yield str(key)
                if isinstance(item, Message):
                    yield from strings_of(item)
                else:
                    yield str(item)
            continue
        for item in value if field.is_repeated else (value,):
            if isinstance(item, Message):
                yield from strings_of(item)
            elif isinstance(item, str):
                yield item


def concerns(message: Message, user_id: str) -> bool:
    """Whether a message is about a user, in a field that holds one: a definition may have the same name."""
    for field, value in message.ListFields():
        if _is_map(field):
            continue
        for item in value if field.is_repeated else (value,):
            if isinstance(item, Message):
                if concerns(item, user_id):
                    return True
            elif _holds_user(message, field) and item in (user_id, json.dumps(user_id)):
                return True
    return False


def renamed(message: Message, user_id: str, pseudonym: str) -> bool:
    """Puts a pseudonym where a message is about a user, and takes away what it says of that user; whether it did."""
    did = False
    about = getattr(message, "user_id", None) == user_id
    for field, value in message.ListFields():
        if _is_map(field):
            if about:
                message.ClearField(field.name)
                did = True
        elif field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                did |= renamed(item, user_id, pseudonym)
        elif _holds_user(message, field):
            if field.is_repeated and user_id in value:
                value[:] = [pseudonym if item == user_id else item for item in value]
                did = True
            elif value == user_id:
                setattr(message, field.name, pseudonym)
                did = True
            elif value == json.dumps(user_id):  # a value that was changed by hand is kept as JSON
                setattr(message, field.name, json.dumps(pseudonym))
                did = True
        elif about and field.name == "name":
            message.ClearField(field.name)
    return did


def spellings(user_id: str) -> tuple[str, str]:
    """How a user's id may stand in a text: as it is, and in JSON without other characters than ASCII."""
    return user_id, json.dumps(user_id)[1:-1]


def _text_names(text: str, user_id: str) -> bool:
    if text == user_id:
        return True
    if text[:1] in ("{", "["):
        try:
            return _json_names(json.loads(text), user_id)
        except ValueError:
            pass
    # As a word: an id of digits alone stands in many numbers.
    return user_id in text and bool(re.search(rf"(?<![\w.-]){re.escape(user_id)}(?![\w-])", text))


def _json_names(value: Any, user_id: str) -> bool:
    match value:
        case str():
            return value == user_id
        case dict():
            return any(key == user_id or _json_names(item, user_id) for key, item in value.items())
        case list():
            return any(_json_names(item, user_id) for item in value)
        case _:
            return False


def _prefixed(user_id: str) -> bytes:
    """As a field of a message holds it: behind its length."""
    body = user_id.encode()
    size, prefix = len(body), bytearray()
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + body


def _is_map(field: FieldDescriptor) -> bool:
    return field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry


def _holds_user(message: Message, field: FieldDescriptor) -> bool:
    """By the names that contracts give such fields; of a change made by hand, by the path of what was changed."""
    if field.name in ("old_value", "new_value"):
        return str(getattr(message, "path", "")).endswith(_OF_USERS)
    return field.name.endswith(_OF_USERS)
