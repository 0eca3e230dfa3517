"""What the points service can be told (environment variables `LAUREL_*`), and its limits."""

from pathlib import Path
from typing import Final

from shared.config import Settings as ServiceSettings

NAME: Final = "points"
MIGRATIONS: Final = Path(__file__).parent / "migrations"

MAX_PERIODS: Final = 100_000
"""Period changes of one streak change."""
MAX_ARRIVALS: Final = 1_000
"""Of events, by which a correction tells what was granted when."""

MAX_TRIGGERS: Final = 200
MAX_LEVELS: Final = 200
MAX_BOOSTS: Final = 200
"""Of a system, with those that are over."""
MAX_COOLDOWN_SECONDS: Final = 31 * 86_400
MAX_HOURS: Final = 8_760
MAX_DAYS: Final = 3_660
"""Between two instants of a trigger that goes by time."""
MAX_EXPIRY_DAYS: Final = 36_500
"""For how long points can be left."""
MAX_MULTIPLIER: Final = 100
"""Multipliers are below it."""
MAX_TRIGGER_AMOUNT: Final = 1_000_000_000
"""Points each time, in either direction."""
MAX_STREAK_LENGTH: Final = 1_000_000
"""Periods."""
LEVEL_COUNT_TIMEOUT_SECONDS: Final = 600
"""For the users of one system, once a date."""
MAX_BADGE_URL_CHARS: Final = 2_000


class Settings(ServiceSettings):
    """Nothing beyond what every service can be told."""
