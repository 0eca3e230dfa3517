"""Every limit and time-out of the orchestrator, with its unit."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from shared import config
from shared.calendar import UnknownZone, zone

NAME: Final = "orchestrator"
MIGRATIONS: Final = Path(__file__).parent / "migrations"

MOST_AHEAD: Final = timedelta(days=1)
"""However it is set, no event lies further in the future than this."""


def _zone(name: str) -> str:
    try:
        zone(name)
    except UnknownZone as error:
        raise ValueError(str(error)) from None
    return name


class Settings(config.Settings):
    """What the orchestrator can be told, beyond what every service can."""

    streak_target: str = "127.0.0.1:7401"
    """Where the streak service is: HOST:PORT, or several IP:PORT with commas."""

    achievement_target: str = "127.0.0.1:7402"
    """Where the achievement service is, in the same way."""

    points_target: str = "127.0.0.1:7403"
    """Where the points service is, in the same way."""

    leaderboard_target: str = "127.0.0.1:7404"
    """Where the leaderboard service is, in the same way."""

    notification_target: str = "127.0.0.1:7405"
    """Where the notification service is, in the same way: it is asked when a user is exported or deleted. Empty where
    it does not run.
    """

    default_time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """The IANA zone of users who have none (RULES 1.5)."""

    control_group_ratio: float = Field(default=0.0, ge=0, le=1)
    """Which part of new users is put in the control group, from 0 to 1 (RULES 2.6). Whoever is in it stays; imports put
    nobody in it.
    """

    max_event_age_seconds: float = Field(default=7 * 86_400.0, gt=0, le=366 * 86_400.0)
    """How old an event may be, in seconds (RULES 1.3), and less than the replay window; an older one is refused.
    Imports know no age.
    """

    max_event_ahead_seconds: float = Field(default=300.0, ge=0, le=MOST_AHEAD.total_seconds())
    """How far in the future an event may lie, in seconds (RULES 1.3); one beyond is refused."""

    max_queued_events: int = Field(default=4_096, ge=1, le=1_000_000)
    """How many events may wait at the intake; further ones are answered RESOURCE_EXHAUSTED at once."""

    max_group_size: int = Field(default=256, ge=1, le=1_000)
    """How many events travel together at most."""

    max_groups_in_flight: int = Field(default=3, ge=1, le=64)
    """How many groups may be under way at once in this replica."""

    min_overlapping_group_size: int = Field(default=32, ge=1, le=1_000)
    """How many events have to wait for a group to leave while others are under way; more where those are larger."""

    ample_group_size: int = Field(default=96, ge=1, le=1_000)
    """How many waiting events are enough for a group to leave, however large those under way are."""

    max_stream_in_flight: int = Field(default=256, ge=1, le=10_000)
    """How many events of one stream may be under way; reading stops meanwhile."""

    participant_timeout_seconds: float = Field(default=5.0, gt=0, le=600)
    """How long one call of a participant may take, in seconds, before its outcome counts as unknown."""

    participant_attempts: int = Field(default=4, ge=1, le=100)
    """How often a call is made before the events are left to recovery."""

    retry_pause_seconds: float = Field(default=0.05, gt=0, le=60)
    """The pause before the second attempt of a call, in seconds; it doubles, with jitter."""

    longest_retry_pause_seconds: float = Field(default=5.0, gt=0, le=600)
    """The longest pause between two attempts, by a group or by recovery, in seconds."""

    breaker_failures: int = Field(default=5, ge=1, le=1_000)
    """After so many failed calls in a row a participant counts as away: calls fail at once."""

    breaker_seconds: float = Field(default=1.0, gt=0, le=60)
    """How long a participant that is away is left alone before one call tries it again, in seconds."""

    park_after_attempts: int = Field(default=200, ge=1, le=1_000_000)
    """After so many failed recoveries a saga is parked for an operator."""

    lease_seconds: float = Field(default=10.0, ge=1, le=600)
    """How long a replica counts as alive after its last sign of life, in seconds; then others take over its sagas."""

    recovery_interval_seconds: float = Field(default=1.0, gt=0, le=60)
    """How often unfinished sagas are looked for, in seconds."""

    settle_poll_seconds: float = Field(default=0.02, gt=0, le=5)
    """The pause between two looks for the answer to an event that another replica runs, in seconds; it doubles, up
    to 16 times as much.
    """

    import_hold_seconds: int = Field(default=300, ge=10, le=3_600)
    """How long an import keeps wall-clock maintenance off after its last sign of life, in seconds."""

    domain_event_retention_days: int = Field(default=30, ge=1, le=36_500)
    """For how many days domain events can be followed, from when they were told; then they are deleted."""

    max_domain_event_watchers: int = Field(default=64, ge=1, le=10_000)
    """How many streams of domain events may be open in this replica; further ones are answered RESOURCE_EXHAUSTED."""

    max_user_watchers: int = Field(default=500, ge=1, le=100_000)
    """How many streams of single users may be open in this replica; further ones are answered RESOURCE_EXHAUSTED. They
    count for LAUREL_MAX_CONCURRENT_RPCS too.
    """

    max_filtered_users: int = Field(default=200_000, ge=1, le=10_000_000)
    """How many users a read with filters of attributes looks at, of a tenant or of all; where there are more it is
    refused.
    """

    domain_event_poll_seconds: float = Field(default=0.5, gt=0.02, le=60)
    """The longest pause between two looks for new domain events by a stream to which nothing comes, in seconds."""

    @field_validator("max_event_age_seconds")
    @classmethod
    def _within_the_replay_window(cls, seconds: float, info: ValidationInfo) -> float:
        days = info.data.get("replay_window_days")
        if days is not None and seconds >= days * 86_400:
            raise ValueError("must be less than LAUREL_REPLAY_WINDOW_DAYS: what may come may come twice")
        return seconds

    @property
    def domain_event_retention(self) -> timedelta:
        """How long domain events are kept."""
        return timedelta(days=self.domain_event_retention_days)
