"""What a user sees of the achievements: those earned, and progress towards those that can be (RULES 4.5)."""

from msgspec import Struct

from services.achievement.domain.definitions import (
    Achievement,
    Catalogue,
    CompositeTrigger,
    Status,
    StreakTrigger,
)
from services.achievement.domain.standing import Accumulator, Completion, Standing

_FULL_PERCENT = 100.0


class Progress(Struct, frozen=True):
    """A user's standing with one achievement."""

    achievement: Achievement
    completion: Completion | None
    current: int
    """In the unit of the achievement's target."""

    @property
    def percent(self) -> float:
        """How much of the target is reached, 0 to 100."""
        if self.completion is not None:
            return _FULL_PERCENT
        return min(_FULL_PERCENT, max(0.0, _FULL_PERCENT * self.current / self.achievement.trigger.target))


def list_progress(catalogue: Catalogue, standing: Standing, *, completed_only: bool) -> list[Progress]:
    """Earned ones first, newest first; then the others by tier group, tier and key."""
    shown = [
        Progress(achievement, standing.completions.get(achievement.key), _current(achievement, standing))
        for achievement in catalogue.all()
        if _is_shown(
            achievement, earned=achievement.key in standing.completions, completed_only=completed_only
        )
    ]
    return sorted(shown, key=_order)


def _is_shown(achievement: Achievement, *, earned: bool, completed_only: bool) -> bool:
    match achievement.status:
        case Status.ACTIVE:
            return earned or not (achievement.hidden or completed_only)
        case Status.LOCKED:
            return earned
        case Status.INACTIVE | Status.ARCHIVED:
            return False


def _current(achievement: Achievement, standing: Standing) -> int:
    """The present total or length, which can have fallen below the highest; of a streak only until it is
    completed (RULES 4.5). Of a composite how many prerequisites are held.
    """
    live = standing.completions.get(achievement.key)
    if live is not None and isinstance(achievement.trigger, StreakTrigger):
        return live.target
    if achievement.event_filters:
        return standing.accumulators.get(achievement.key, Accumulator()).sum_micros
    if isinstance(achievement.trigger, CompositeTrigger):
        return sum(key in standing.completions for key in achievement.trigger.achievements)
    if achievement.trigger.source is None:
        return int(achievement.key in standing.completions)
    source = standing.sources.get(achievement.trigger.source)
    return source.current if source else 0


def _order(progress: Progress) -> tuple[float, str, int, str]:
    newest_first = -progress.completion.reach.occur_time.timestamp() if progress.completion else float("inf")
    achievement = progress.achievement
    return (newest_first, achievement.tier_group, achievement.tier, achievement.key)
