"""Messages put together from parts that are serialized already: what is stored as bytes leaves as bytes.

On the wire a message inside another one is its length and its bytes, and a message is the sequence of its fields. So
a part need not be parsed to be sent on, and two serialized messages of one type, one after the other, are their merge.
"""

from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_LENGTH_DELIMITED = 2
_OF_SOME_LENGTH = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING)


class Part:
    """A field of a message that holds a message, bytes or a text."""

    def __init__(self, message: type[Message], name: str) -> None:
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.type not in _OF_SOME_LENGTH:
            raise ValueError(f"{field.full_name} holds no message")
        self._tag = _varint(field.number << 3 | _LENGTH_DELIMITED)

    def holding(self, body: bytes) -> bytes:
        """The serialized message of which this field, or one item of it, is all that is set. A text is its UTF-8."""
        size = len(body)
        return b"".join((self._tag, _SHORT[size] if size < _LONG else _varint(size), body))


def _varint(number: int) -> bytes:
    if number < 1 << 14:
        return bytes((number,)) if number < 1 << 7 else bytes((number & 0x7F | 0x80, number >> 7))
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_LONG: Final = 2_048
_SHORT: Final = tuple(map(_varint, range(_LONG)))
"""Most lengths are short, and there are a dozen of them in an event."""
