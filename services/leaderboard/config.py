"""What the leaderboard service can be told (environment variables `LAUREL_*`), and its fixed limits."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import Field

from shared.config import RedisUrl
from shared.config import Settings as ServiceSettings

NAME: Final = "leaderboard"
MIGRATIONS: Final = Path(__file__).parent / "migrations"

MAX_AMOUNT: Final = 2**62
"""Magnitude of a balance, of a change of points, and of a metric's value in micro-units."""

MAX_BREAKDOWN_ATTRIBUTES: Final = 4
MAX_SEGMENT_LIMIT: Final = 100_000
"""Segments of a run."""

MAX_EVERY: Final = 366
"""Units between the starts of two runs."""

MAX_RADIUS: Final = 100
DEFAULT_RADIUS: Final = 5
"""Members on each side of a user."""

MAX_PROFILE_ATTRIBUTES: Final = 8
"""User attributes that reads show beside each member."""

MAX_CHOSEN_USERS: Final = 500
"""Users whose places are asked for at once."""

MAX_RANGES: Final = 100
DEFAULT_RANGES: Final = 10
"""Ranges of a histogram."""

MAX_WATCHED: Final = 100
DEFAULT_WATCHED: Final = 10
"""Members in a message of a stream."""

LEAST_INTERVAL: Final = timedelta(milliseconds=100)
DEFAULT_INTERVAL: Final = timedelta(seconds=1)
GREATEST_INTERVAL: Final = timedelta(hours=1)
"""Between two messages of a stream."""

RUNS_PER_PASS: Final = 100
"""Runs that maintenance takes note of at a time."""

ENDING_BATCH: Final = 500
"""Members of an archived list that are looked at for prizes at a time."""

ENDING_BATCHES_PER_PASS: Final = 20

MAX_PRIZES: Final = 100
MAX_PRIZE_SYSTEMS: Final = 10
MAX_PRIZE_RANK: Final = 1_000_000
"""Of a board: its prizes, the points systems of one, and the last rank of one."""

SEATS_AT_ONCE: Final = 500
"""Users of a league that are put into cohorts at a time."""

DEFAULT_COHORT_SIZE: Final = 30
MAX_COHORT_SIZE: Final = 1_000
MAX_DIVISIONS: Final = 20
"""Of a league."""
MAX_ZONE_BANDS: Final = 9
"""Of three hours each."""

MAX_DAILY_DEPTH: Final = 10_000
"""Members of each segment of whom the rank at the end of a date is kept."""

MAX_TRACKED_DEPTH: Final = 1_000
"""Members of each segment of whom it is found out that they were overtaken."""

MAX_EVENT_INTERVAL_SECONDS: Final = 86_400
"""Between two looks."""

MAX_BEST_COUNT: Final = 10_000
"""Members of a group whose scores count."""

CARRY_BATCH: Final = 1_000
"""Users that are carried into a run at a time."""

ARCHIVE_TIMEOUT_SECONDS: Final = 600.0
"""How long one statement may take that archives a run."""

CLEANING_INTERVAL: Final = timedelta(minutes=10)
"""Between two looks for segments that everybody has left."""

MAX_DIFFERENCES: Final = 100
"""Segments that are told to differ."""

VERIFY_LOOKS: Final = 3
"""So often is a segment compared that differs: what is being written is not yet in both."""

VERIFY_BATCH: Final = 5_000
"""Members that are compared at a time."""

REBUILD_PAGE: Final = 10_000
"""Scores that a rebuild reads at a time."""

REBUILD_BATCH: Final = 2_000
"""Of them so many go to the sorted sets in one command, during which the server answers nobody else. Also segments that
a rebuild begins or finishes at a time.
"""


class Settings(ServiceSettings):
    """Beyond what every service can be told."""

    redis_url: RedisUrl
    """The Valkey or Redis that holds the sorted sets, as redis://HOST:PORT/DB, rediss:// or unix://; never shown."""

    redis_cluster: bool = False
    """Whether that server is one of a cluster; then the sorted sets are spread over its masters."""

    redis_timeout_seconds: float = Field(default=2.0, gt=0, le=60)
    """How long a command to the sorted sets may take, in seconds."""

    finalize_grace_seconds: int = Field(default=3_600, ge=0, le=604_800)
    """How long after its last date has ended everywhere a run is archived, in seconds."""

    rank_history_retention_days: int | None = Field(default=None, ge=1, le=36_500)
    """For how many days at least the history of ranks is kept; it goes by the month. Unset: for ever."""

    archive_retention_days: int | None = Field(default=None, ge=1, le=36_500)
    """For how many days at least the members of archived runs are kept; each board's newest stays. Unset: for ever."""

    rank_look_seconds: float = Field(default=5.0, ge=0.1, le=3_600)
    """How often it is looked who was overtaken on boards with tracked_depth, in seconds."""

    projection_check_seconds: float = Field(default=5.0, gt=0, le=3_600)
    """How often it is looked whether the sorted sets are complete, in seconds."""

    max_leaderboard_watchers: int = Field(default=256, ge=1, le=10_000)
    """How many streams of leaderboards may be open in this replica; further ones are answered RESOURCE_EXHAUSTED."""
