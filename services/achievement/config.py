"""What the achievement service can be told (environment variables `LAUREL_*`)."""

from typing import Final

from shared.config import Settings as ServiceSettings

MAX_DESCRIPTION_CHARS: Final = 2_000
MAX_BADGE_URL_CHARS: Final = 2_000
MAX_COMPOSITE_LEVELS: Final = 20
MAX_PREREQUISITES: Final = 100
MAX_TIER: Final = 1_000_000
MAX_STREAK_LENGTH: Final = 1_000_000
"""Periods."""


class Settings(ServiceSettings):
    """Nothing beyond what every service can be told."""
