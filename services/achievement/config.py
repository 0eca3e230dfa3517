"""What the achievement service can be told (environment variables `LAUREL_*`)."""

from typing import Final

from shared.config import Settings as ServiceSettings

MAX_COMMANDS: Final = 1_000
"""Commands of one ApplyEvents, and reversals of one RevertEvents."""

MAX_STREAK_CHANGES: Final = 1_000
"""Streak changes of one command."""

MAX_DESCRIPTION_CHARS: Final = 2_000
MAX_BADGE_URL_CHARS: Final = 2_000
MAX_TIER: Final = 1_000_000
MAX_STREAK_LENGTH: Final = 1_000_000
"""Periods."""


class Settings(ServiceSettings):
    """Nothing beyond what every service can be told."""
