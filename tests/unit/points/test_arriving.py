"""What a correction gives counts where it would have arrived: under the balance, the level and the limits of then."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from services.points.domain.definitions import (
    EXPIRED,
    AchievementCause,
    Expiry,
    Level,
    MetricCause,
    PointsSystem,
    StreakCause,
    Trigger,
    TriggerKey,
)
from services.points.domain.facts import AchievementChange, Arrival, Command, CompletionCause, StreakChange
from shared.entries import EntryKind
from shared.ids import derived_id
from tests.unit.points.user import START, UNIT, User, instant, period

TRIGGERS = (
    Trigger("steps", 10, MetricCause("commits", UNIT)),
    Trigger("badge", 15, AchievementCause(None)),
    Trigger("days", 20, StreakCause("daily", 2)),
)
SYSTEMS = {
    "a level that multiplies": PointsSystem(
        "xp", TRIGGERS, levels=(Level("much", 60, multiplier_micros=2 * UNIT),)
    ),
    "a maximum": PointsSystem("xp", TRIGGERS, max_balance=75),
    "a daily cap": PointsSystem("xp", TRIGGERS, daily_cap=75),
    "nothing": PointsSystem("xp", TRIGGERS),
}
DAY = 24 * 60
"""Minutes."""
COMPLETION = derived_id("completion", "badge")
LONGER = (period(1, None, 1), period(2, 1, 2))


@pytest.fixture(params=sorted(SYSTEMS))
def system(request: pytest.FixtureRequest) -> PointsSystem:
    return SYSTEMS[request.param]


class Played:
    """A user to whom an event came early, then one that is undone, much else, and another late one."""

    def __init__(self, system: PointsSystem, *, with_undone: bool, late: str = "commits") -> None:
        self.user = User([system])
        self.names: dict[UUID, str] = {}
        self.early = self.event("early", 1, 30)
        self.undone = self.event("undone", 1, 10, metric=late)
        self.much = self.event("much", 5, 40)
        self.late = self.event("late", 1, 20, metric=late)
        self.with_undone = with_undone

    def event(self, name: str, value: int, at: float, *, metric: str = "commits") -> Command:
        """Of so many minutes after the start."""
        command = self.user.metric_event(value * UNIT, at=at, metric=metric)
        self.names[command.entry.entry_id] = name
        return command

    def completed(self, command: Command, by: Command | None = None) -> Command:
        """With it comes a completion of the early event."""
        owner = instant((by or self.early).entry)
        return replace(command, achievement_changes=(AchievementChange("badge", COMPLETION, True, owner),))

    def lengthened(self, command: Command) -> Command:
        """With it the day before the early event qualifies."""
        first, second = LONGER
        changes = (
            replace(first, reach=instant(command.entry)),
            replace(second, qualified_before=True, reach=instant(self.early.entry)),
        )
        return replace(command, streak_changes=(StreakChange("daily", changes),))

    def applied(self, *commands: Command) -> None:
        """All but the undone event, where it never came."""
        for command in commands:
            if self.with_undone or command.entry.entry_id != self.undone.entry.entry_id:
                self.user.applied(command)

    def correction(self) -> Command:
        """After the event is undone."""
        undone_id = self.undone.entry.entry_id
        self.user.undo(undone_id)
        return Command(self.user.entry(EntryKind.CORRECTION, corrects=undone_id))

    @property
    def earned(self) -> dict[tuple[str, str], int]:
        """What each trigger has given, by the event that it belongs to."""
        found: Counter[tuple[str, str]] = Counter()
        for award in self.user.ledger:
            found[award.key.trigger, self.names[award.entry_id]] += award.amount
        assert self.user.points().balance == sum(found.values())
        return {key: amount for key, amount in found.items() if amount}


def test_a_completion_that_stays_is_rewarded_at_the_arrival_that_would_have_brought_it(
    system: PointsSystem,
) -> None:
    mine, twin = Played(system, with_undone=True), Played(system, with_undone=False)
    mine.applied(mine.early, mine.completed(mine.undone), mine.much, mine.late)
    moved = CompletionCause(COMPLETION, mine.late.entry.entry_id)
    mine.user.applied(replace(mine.correction(), completion_causes=(moved,)))
    twin.applied(twin.early, twin.much, twin.completed(twin.late))
    assert mine.earned == twin.earned
    assert mine.earned.keys() >= {("steps", "early"), ("steps", "much")}


def test_a_completion_that_another_event_owns_is_rewarded_at_the_arrival_that_would_have_brought_it(
    system: PointsSystem,
) -> None:
    mine, twin = Played(system, with_undone=True), Played(system, with_undone=False)
    mine.applied(mine.early, mine.completed(mine.undone, mine.undone), mine.much, mine.late)
    corrected = mine.completed(mine.correction())
    (change,) = corrected.achievement_changes
    other = replace(change, completion_id=derived_id("other"), cause_id=mine.late.entry.entry_id)
    gone = replace(change, completed=False, owner=instant(mine.undone.entry))
    mine.user.applied(replace(corrected, achievement_changes=(gone, other)))
    twin.applied(twin.early, twin.much, twin.completed(twin.late))
    assert mine.earned == twin.earned


def test_a_length_is_rewarded_at_the_arrival_that_would_have_brought_it(system: PointsSystem) -> None:
    mine, twin = Played(system, with_undone=True), Played(system, with_undone=False)
    mine.applied(mine.early, mine.lengthened(mine.undone), mine.much, mine.late)
    first = period(2, None, 1)
    arrivals = [
        (
            Arrival((replace(first, reach=instant(mine.early.entry)),), mine.early.entry.entry_id),
            Arrival(mine.lengthened(by).streak_changes[0].period_changes, by.entry.entry_id),
        )
        for by in (mine.undone, mine.late)
    ]
    stays = replace(period(1, 1, 1), reach=instant(mine.late.entry))
    told = StreakChange("daily", (stays,), 4, arrivals_before=arrivals[0], arrivals_after=arrivals[1])
    mine.user.applied(replace(mine.correction(), streak_changes=(told,)))
    twin.applied(twin.early, twin.much, twin.lengthened(twin.late))
    assert mine.earned == twin.earned


def test_who_was_told_of_no_arrival_gives_it_with_the_event_that_it_belongs_to(system: PointsSystem) -> None:
    """As a release before this one tells it."""
    mine, twin = Played(system, with_undone=True), Played(system, with_undone=False)
    mine.applied(mine.early, mine.completed(mine.undone, mine.undone), mine.much, mine.late)
    corrected = mine.completed(mine.correction())
    (change,) = corrected.achievement_changes
    gone = replace(change, completed=False, owner=instant(mine.undone.entry))
    other = replace(change, completion_id=derived_id("other"))
    mine.user.applied(replace(corrected, achievement_changes=(gone, other)))
    twin.applied(twin.completed(twin.early), twin.much, twin.late)
    assert mine.earned == twin.earned


def test_what_a_correction_gives_expires_with_the_midnight_of_where_the_user_is() -> None:
    alice = User([PointsSystem("xp", TRIGGERS[1:], expiry=Expiry(after_days=10))])
    early = alice.metric_event(UNIT)
    alice.applied(early)
    entry = alice.entry(EntryKind.CORRECTION)
    entry = replace(entry, user=replace(entry.user, time_zone="Asia/Tokyo"))
    completed = AchievementChange("badge", COMPLETION, True, instant(early.entry))
    alice.applied(Command(entry, achievement_changes=(completed,)))
    clock = alice.state.clocks[TriggerKey("xp", EXPIRED)]
    assert (clock.day, clock.zone) == (early.entry.occur_time.date() + timedelta(days=10), "Asia/Tokyo")


def test_what_is_over_by_the_next_arrival_expires_there_and_pays_for_nothing_that_came_after() -> None:
    cost = Trigger("cost", -7, MetricCause("fun", UNIT))
    system = PointsSystem(
        "xp", (*TRIGGERS, cost), min_balance=-100, expiry=Expiry(on_date=START.date() + timedelta(days=1))
    )
    balances = []
    for with_undone in (True, False):
        one = Played(system, with_undone=with_undone, late="others")
        fresh = one.event("fresh", 5, 2 * DAY)
        fun = one.event("fun", 1, 3 * DAY, metric="fun")
        for command in (one.early, one.undone, fresh, one.late, fun):
            if one.with_undone or command is not one.undone:
                brings = one.undone if one.with_undone else one.late
                entry = replace(command.entry, now=START + timedelta(days=5, minutes=one.user.count))
                one.user.count += 1
                command = replace(command, entry=entry)
                one.user.pass_time(entry.now)
                one.user.applied(
                    one.completed(command) if entry.entry_id == brings.entry.entry_id else command
                )
        if one.with_undone:
            moved = CompletionCause(COMPLETION, one.late.entry.entry_id)
            one.user.applied(replace(one.correction(), completion_causes=(moved,)))
        one.user.pass_time(START + timedelta(days=6))
        balances.append(one.user.balance)
    assert balances == [50 - 7, 50 - 7]
