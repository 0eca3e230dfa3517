"""A user's points in one system."""

from datetime import datetime
from typing import Final

from msgspec import Struct


class Account(Struct, frozen=True):
    """A user's points in one system."""

    balance: int = 0
    lifetime: int = 0
    """The sum of what live awards gave."""
    level: str = ""
    """Key of the level; empty for none."""
    version: int = 0
    """Grows by one with every change."""
    reach_time: datetime | None = None
    """When the newest live award occurred; None without one."""
    cut_position: int = 0
    """The newest fact of which a limit cut something, or would with a lower balance, or with which lots expired."""


EMPTY_ACCOUNT: Final = Account()
