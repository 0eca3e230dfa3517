"""What the achievement service can be told (environment variables `LAUREL_*`)."""

from pathlib import Path
from typing import Final

from pydantic import Field

from shared.config import Settings as ServiceSettings

NAME: Final = "achievement"
MIGRATIONS: Final = Path(__file__).parent / "migrations"

MAX_DESCRIPTION_CHARS: Final = 2_000
MAX_BADGE_URL_CHARS: Final = 2_000
MAX_COMPOSITE_LEVELS: Final = 20
MAX_PREREQUISITES: Final = 100
MAX_TIER: Final = 1_000_000
MAX_STREAK_LENGTH: Final = 1_000_000
"""Periods."""
MAX_YEARS: Final = 150
MAX_SAMPLE: Final = 100
"""Users that a preview shows."""
DEFAULT_SAMPLE: Final = 10
MAX_STATISTICS_DAYS: Final = 92


class Settings(ServiceSettings):
    """What the achievement service can be told, beyond what every service can."""

    backfill_interval_seconds: float = Field(default=1.0, gt=0, le=3_600)
    """How often it is looked whether an achievement was activated, in seconds; then users who had qualified before are
    looked for.
    """

    backfill_batch_size: int = Field(default=1_000, ge=1, le=10_000)
    """To how many users one transaction of a backfill gives something at most. It looks at twenty times as many where
    few qualify.
    """

    backfill_share: float = Field(default=0.5, gt=0, le=1)
    """How much of the time a backfill may work while events come, in batches of some milliseconds; for the rest it
    leaves the machine to them. While none come it takes all.
    """

    backfill_sessions: int = Field(default=2, ge=1, le=16)
    """How many database sessions of a backfill give an achievement side by side, besides the one that leads them; two
    fewer than the pool has at most. One: that one gives it. What can be earned again is given by that one always.
    """

    backfill_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    """How long the orchestrator may take to answer what a backfill asks, in seconds."""

    preview_users: int = Field(default=20_000, ge=1, le=1_000_000)
    """How many users a preview looks at, and statistics do; of more they take some at random, and estimate."""

    preview_seconds: float = Field(default=5.0, gt=0, le=600)
    """How long a preview may look, in seconds; then it estimates by what it has seen."""
