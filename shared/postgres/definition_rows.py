"""A definition message and its row: how the two become one another, and how two messages differ."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol, TypeVar, cast

import asyncpg
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from shared.rpc.convert import to_timestamp

M = TypeVar("M", bound=Message)

KEY: Final = "key"
OUTPUT_ONLY: Final = ("create_time", "update_time")


class Definition(Protocol):
    """The fields that every definition message has."""

    key: str
    name: str

    @property
    def create_time(self) -> Timestamp:
        """When it was created; output only."""
        ...

    @property
    def update_time(self) -> Timestamp:
        """When it was changed last; output only."""
        ...


def key_of(definition: Message) -> str:
    """The definition's key."""
    return cast(Definition, definition).key


def named(definition: M) -> M:
    """The same message; what has no display name is shown by its key."""
    fields = cast(Definition, definition)
    fields.name = fields.name or fields.key
    return definition


def body_of(definition: Message) -> bytes:
    """What is stored of a definition that has no output-only fields."""
    return definition.SerializeToString(deterministic=True)


def read_row(message_type: type[M], row: asyncpg.Record) -> M:
    """The definition in a row, with its output-only fields set."""
    return stamped(message_type.FromString(row["body"]), row["create_time"], row["update_time"])


def stamped(definition: M, create_time: datetime, update_time: datetime) -> M:
    """The same message with its output-only fields set."""
    fields = cast(Definition, definition)
    fields.create_time.CopyFrom(to_timestamp(create_time))
    fields.update_time.CopyFrom(to_timestamp(update_time))
    return definition


def changed_fields(before: Message, after: Message) -> Sequence[str]:
    """The names of the top-level fields that differ, in the order of the message's definition."""
    old = {field.name: value for field, value in before.ListFields()}
    new = {field.name: value for field, value in after.ListFields()}
    return [field.name for field in after.DESCRIPTOR.fields if old.get(field.name) != new.get(field.name)]
