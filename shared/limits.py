"""What a field may hold by itself. A limit stands once, beside the field's type: `Annotated[int, Within(1, 9)]`."""

import math
import re
from typing import Annotated, Final, Protocol, TypeVar

from msgspec import Struct

from shared.decimals import InvalidValue, to_micros

T_contra = TypeVar("T_contra", contravariant=True)

KEY_PATTERN: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
KEY_TEXT: Final = "must match ^[a-z][a-z0-9_-]{0,63}$"


class Limit(Protocol[T_contra]):
    """What a value has to keep to."""

    def wrong(self, value: T_contra, /) -> str:
        """What is wrong with the value; empty: nothing."""


class Within(Struct, frozen=True):
    """A whole number from one to another."""

    least: int
    most: int

    def wrong(self, value: int, /) -> str:
        """What is wrong with the value; empty: nothing."""
        return "" if self.least <= value <= self.most else f"must be {self.least:,} to {self.most:,}"


class Magnitude(Struct, frozen=True):
    """A whole number above or below zero, by so much at most."""

    most: int

    def wrong(self, value: int, /) -> str:
        """What is wrong with the value; empty: nothing."""
        return "" if 1 <= abs(value) <= self.most else f"must have a magnitude of 1 to {self.most:,}"


class AtMost(Struct, frozen=True):
    """So many items."""

    most: int
    text: str
    """What is said of more."""

    def wrong(self, value: tuple[object, ...], /) -> str:
        """What is wrong with the value; empty: nothing."""
        return "" if len(value) <= self.most else self.text


class IsKey(Struct, frozen=True):
    """The key of a metric, streak, achievement, points system or leaderboard (RULES 2.2)."""

    or_empty: bool = False

    def wrong(self, value: str, /) -> str:
        """What is wrong with the value; empty: nothing."""
        return "" if KEY_PATTERN.fullmatch(value) or (self.or_empty and not value) else KEY_TEXT


class IsThreshold(Struct, frozen=True):
    """What a period has to reach, in units; 0 reads as what holds where none is given."""

    def wrong(self, value: float, /) -> str:
        """What is wrong with the value; empty: nothing."""
        if value == 0:
            return ""
        if math.isfinite(value) and value < 0:
            return "must be above zero"
        try:
            to_micros(value)
        except InvalidValue as error:
            return str(error)
        return ""


class IsWeekday(Struct, frozen=True):
    """A day of the week."""

    def wrong(self, value: int, /) -> str:
        """What is wrong with the value; empty: nothing."""
        return "" if MONDAY <= value < MONDAY + 7 else WEEKDAYS_TEXT


MONDAY: Final = 1
"""As `laurel.streak.v1.Weekday` numbers days."""
WEEKDAYS_TEXT: Final = "must be a day of the week, each once"

Key = Annotated[str, IsKey()]
KeyOrEmpty = Annotated[str, IsKey(or_empty=True)]
