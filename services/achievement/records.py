"""What is shown as it is stored, or found."""

from datetime import datetime
from enum import IntEnum
from uuid import UUID

from msgspec import Struct


class BackfillState(IntEnum):
    """As laurel.achievement.v1.BackfillState."""

    RUNNING = 1
    DONE = 2
    CANCELLED = 3


class Qualified(Struct, frozen=True):
    """What a user would be given."""

    complete_time: datetime
    """When it was earned first."""
    completion_count: int


class Backfill(Struct, frozen=True):
    """How far the search for an achievement has come."""

    achievement: str
    backfill_id: UUID
    state: int
    cursor: str
    create_time: datetime
    update_time: datetime
    finish_time: datetime | None
    user_count: int
    looked_at_count: int
    completed_user_count: int
    completion_count: int
    last_error: str
