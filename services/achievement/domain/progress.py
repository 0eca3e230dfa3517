"""What a user sees of the achievements: those earned, and progress towards those that can be (RULES 4.5)."""

from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from services.achievement.domain.anniversaries import years_of
from services.achievement.domain.definitions import (
    MAX_COMPLETIONS,
    Achievement,
    AnniversaryTrigger,
    Catalogue,
    CompositeTrigger,
    Status,
    StreakTrigger,
)
from services.achievement.domain.state import Accumulator, Completion, UserState

_FULL_PERCENT = 100.0

Order = tuple[datetime, str, int, str]
"""When it was completed, tier group, tier, key."""
NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)
"""Stands for the time of what is not completed."""


class Progress(Struct, frozen=True):
    """A user's state with one achievement."""

    achievement: Achievement
    completion: Completion | None
    """The last one."""
    current: float
    """In the unit of the achievement's target."""
    count: int
    """How many times it is completed."""
    withheld: bool = False
    """An admin has taken it away."""
    unseen: bool = False
    """The user has not been shown it, or not each time that it is completed."""

    @property
    def order(self) -> Order:
        """Its place in the list."""
        time = self.completion.reach.occur_time if self.completion else NEVER
        return (time, self.achievement.tier_group, self.achievement.tier, self.achievement.key)

    @property
    def target(self) -> int:
        """What has to be reached: of a repeatable one, for the next time."""
        if not self.achievement.repeatable:
            return self.achievement.trigger.target
        return self.achievement.numbered(min(self.count + 1, MAX_COMPLETIONS)).trigger.target

    @property
    def percent(self) -> float:
        """How much of the target is reached, 0 to 100."""
        if self.count and not self.achievement.repeatable:
            return _FULL_PERCENT
        return min(_FULL_PERCENT, max(0.0, _FULL_PERCENT * self.current / self.target))


def list_progress(
    catalogue: Catalogue,
    state: UserState,
    now: datetime,
    *,
    completed_only: bool = False,
    unseen_only: bool = False,
    after: Order | None = None,
) -> list[Progress]:
    """Earned ones first, newest first; then the others by tier group, tier and key. Those behind a place."""
    shown = [
        _progress(achievement, state, now)
        for achievement in catalogue.all()
        if _is_shown(achievement, earned=achievement.key in state.completions, completed_only=completed_only)
    ]
    found = sorted(shown, key=lambda progress: _sorted_by(progress.order))
    return [
        progress
        for progress in found
        if (progress.unseen or not unseen_only)
        and (after is None or _sorted_by(progress.order) > _sorted_by(after))
    ]


def _progress(achievement: Achievement, state: UserState, now: datetime) -> Progress:
    count = state.count(achievement)
    last = state.completions.get(achievement.numbered(count).place) if count else None
    withheld = achievement.key in state.withheld
    unseen = bool(state.unseen) and any(
        achievement.numbered(number).place in state.unseen for number in range(1, count + 1)
    )
    return Progress(achievement, last, _current(achievement, state, now), count, withheld, unseen)


def _is_shown(achievement: Achievement, *, earned: bool, completed_only: bool) -> bool:
    match achievement.status:
        case Status.ACTIVE:
            return earned or not (achievement.hidden or completed_only)
        case Status.LOCKED:
            return earned
        case Status.INACTIVE | Status.ARCHIVED:
            return False


def _current(achievement: Achievement, state: UserState, now: datetime) -> float:
    """The present total or length, which can have fallen below the highest; of a streak only until it is
    completed (RULES 4.5). Of a composite how many prerequisites are held; of an anniversary, years.
    """
    live = state.completions.get(achievement.key)
    if live is not None and isinstance(achievement.trigger, StreakTrigger) and not achievement.repeatable:
        return live.target
    if achievement.event_filters:
        return state.accumulators.get(achievement.key, Accumulator()).sum_micros
    if isinstance(achievement.trigger, CompositeTrigger):
        return sum(key in state.completions for key in achievement.trigger.achievements)
    if isinstance(achievement.trigger, AnniversaryTrigger):
        return years_of(state.sign_up, now)
    if achievement.trigger.source is None:
        return state.count(achievement)
    source = state.sources.get(achievement.trigger.source)
    return source.current if source else 0


def _sorted_by(order: Order) -> tuple[timedelta, str, int, str]:
    """Newest first."""
    return (NEVER - order[0], *order[1:])
