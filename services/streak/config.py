"""What the streak service can be told (environment variables `LAUREL_*`), and its fixed limits."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import Field

from shared.config import Settings as ServiceSettings

NAME: Final = "streak"
MIGRATIONS: Final = Path(__file__).parent / "migrations"

MAX_FREEZES: Final = 1_000
"""Freezes granted at once, and freezes held."""

MAX_EARN_DAYS: Final = 3_660
"""Days between two grants of freezes."""


MAX_PAUSE_DAYS_PER_YEAR: Final = 366
"""Days of a calendar year for which a streak can let its users pause it."""

MAX_AMNESTY: Final = timedelta(days=31)
"""How long an amnesty can be."""

MAX_AMNESTY_STREAKS: Final = 100
"""Streaks that an amnesty can name."""

MAX_AMNESTIES: Final = 1_000
"""Amnesties that are declared and not withdrawn."""

MAX_PREVIEWED: Final = 1_000
"""Users of one streak for whom a preview tries what an amnesty does."""

MAX_BY_HAND: Final = 1_000
"""Freeze grants, pauses, resets and restores of one user's streak that are kept and not undone."""


class Settings(ServiceSettings):
    """What every service can be told, and how much maintenance does at once."""

    maintenance_batch_size: int = Field(default=500, ge=1, le=10_000)
    """How many user streaks one transaction of maintenance closes."""
