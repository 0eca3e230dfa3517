"""The fold against the obvious, slow one, over random histories: what is appended and what is refolded are the same."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.points.domain.decisions import Applied
from services.points.domain.definitions import (
    ONE,
    AchievementCause,
    Boost,
    DateWindow,
    Level,
    LevelBasis,
    MetricCause,
    PointsSystem,
    Rounding,
    Stacking,
    StreakCause,
    TimeWindow,
    Trigger,
    UserCreatedCause,
)
from services.points.domain.facts import AchievementChange, Command, StreakChange
from shared.entries import EntryKind
from shared.filters import AttributeFilter, Equals
from shared.ids import derived_id
from tests.unit.points.slow import SlowFact, arrival, newest, slow_fold
from tests.unit.points.user import START, UNIT, User, instant, period

PRO = (AttributeFilter("plan", Equals("pro")),)
TRIGGERS = (
    Trigger("whole", 10, MetricCause("commits", 3 * UNIT)),
    Trigger("small", 2, MetricCause("commits", UNIT), user_filters=PRO),
    Trigger("welcome", 5, UserCreatedCause()),
    Trigger("greeting", 3, UserCreatedCause(), user_filters=PRO),
    Trigger("cost", -4, MetricCause("fun", 2 * UNIT)),
    Trigger("price", -6, MetricCause("fun", 3 * UNIT), block=True),
    Trigger("week", 9, StreakCause("daily", 1)),
    Trigger("badge", 7, AchievementCause(None)),
    Trigger("fine", -5, AchievementCause("d")),
)
LEVELS = (Level("bronze", 5), Level("silver", 25))
TIERS = (Level("bronze", 5, 1_500_000), Level("silver", 25, 3 * ONE), Level("gold", 60, ONE // 2))
BOOSTS = (
    Boost("early", 2 * ONE, TimeWindow(START, START + timedelta(minutes=15))),
    Boost(
        "pro",
        1_250_000,
        DateWindow(START.date(), None),
        triggers=frozenset({"small", "week", "badge"}),
        user_filters=PRO,
        rounding=Rounding.CEIL,
    ),
    Boost("late", 700_000, TimeWindow(START + timedelta(minutes=10), None), rounding=Rounding.NEAREST),
)


@dataclass
class Both:
    """An user, and the same by the slow fold."""

    user: User
    slow: list[SlowFact] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    completions: dict[str, tuple[int, UUID]] = field(default_factory=dict)
    """Live: of which fact, and its id."""
    periods: dict[int, int] = field(default_factory=dict)
    """The rewarded periods, and their facts."""
    minutes: int = 1
    """In a step of time."""

    @property
    def system(self) -> PointsSystem:
        return self.user.systems[0]

    def check(self) -> None:
        awards = slow_fold(self.slow)
        live = {
            (at, name.key.trigger, name.entry_id, name.completion_id or name.period): (
                one.due.times,
                one.due.base_amount,
                one.product.amount,
                one.amount,
            )
            for (at, name), one in self.user.past.live_awards().items()
            if one.due.times or one.amount or one.due.base_amount
        }
        assert live == {
            name: (expected.times, expected.base, expected.multiplied, expected.amount)
            for name, expected in awards.items()
            if expected.times
        }
        account = self.user.points()
        assert account.balance == sum(expected.amount for expected in awards.values())
        assert account.lifetime == sum(max(0, expected.amount) for expected in awards.values())
        assert account.reach_time == newest(awards)
        level = self.system.level_at(account.balance, account.lifetime)
        if self.user.ledger:
            assert account.level == (level.key if level else "")
        for award in self.user.ledger:
            owner = next(fact for fact in self.slow if fact.owner.entry_id == award.entry_id).owner
            assert (award.occur_time, award.local_date) == (owner.occur_time, owner.local_date)
        rows = {award.award_id: award for award in self.user.ledger}
        assert len(rows) == len(self.user.ledger) == self.user.state.award_count
        for award in self.user.ledger:
            if award.reversed_award_id is not None:
                named = rows[award.reversed_award_id]
                assert (named.identity, named.position) == (award.identity, award.position)

    def keep(self, command: Command, event: dict[str, Any], given: list[Any]) -> bool:
        """Apply to both; a refused event is none of either."""
        fact = arrival(self.user.state.entry_count + 1, instant(command.entry), self.system, event)
        fact.given = given
        fact.attributes = dict(self.user.attributes)
        decided = self.user.apply(command)
        if not isinstance(decided, Applied):
            awards = slow_fold([*self.slow, fact])
            balance = sum(award.amount for name, award in awards.items() if name[0] != fact.position)
            total = sum(
                award.amount if award.multiplied > 0 else award.multiplied
                for name, award in awards.items()
                if name[0] == fact.position
            )
            assert balance + total < self.system.min_balance
            return False
        self.slow.append(fact)
        fact.spent = {
            name: award.amount
            for name, award in slow_fold(self.slow).items()
            if name[0] == fact.position and award.amount < 0
        }
        self.commands.append(command)
        return True

    def trigger(self, key: str) -> Trigger:
        return next(trigger for trigger in self.system.triggers if trigger.key == key)

    def play(self, op: tuple[str, Any]) -> None:
        match op:
            case ("event", (metric, value, at, plan)):
                self.user.attributes = {"plan": plan} if plan else {}
                time = None if at is None else at * self.minutes
                command = self.user.metric_event(value * UNIT // 2, metric=metric, at=time)
                self.keep(command, {"metric": metric, "value": value * UNIT // 2, "plan": plan}, [])
            case ("limits", (minimum, maximum)):
                system = replace(self.system, min_balance=minimum, max_balance=maximum)
                self.user.systems = [system]
            case ("days", (cap, limit, minutes)):
                self.user.systems = [day_limited(self.system, cap, limit, minutes)]
            case ("boosts", stacking):
                self.user.systems = [replace(self.system, boosts=BOOSTS, stacking=stacking)]
            case ("every", every):
                triggers = tuple(
                    replace(trigger, cause=MetricCause("commits", every * UNIT), amount=every)
                    if trigger.key == "whole"
                    else trigger
                    for trigger in self.system.triggers
                )
                self.user.systems = [replace(self.system, triggers=triggers)]
            case ("void", index):
                live = [expected for expected in self.slow if not expected.out]
                if live:
                    fact = live[index % len(live)]
                    fact.out = True
                    self.user.undo(fact.owner.entry_id)
            case ("revise", (index, own, other)) if self.slow:
                self._revise(self.slow[index % len(self.slow)], own * UNIT // 2, other * UNIT // 2)
            case ("complete", key) if key not in self.completions:
                self._complete(key)
            case ("revoke", key) if key in self.completions:
                self._revoke(key)
            case ("redate", (key, index)) if key in self.completions and self.slow:
                self._redate(key, self.slow[index % len(self.slow)])
            case ("extend", day) if day not in self.periods:
                self._extend(day)
            case ("break", day) if day in self.periods:
                self._break(day)

    def _revise(self, fact: SlowFact, own: int, other: int) -> None:
        self.user.attributes = {}
        version = self.user.count + 1
        command = self.user.revisable_event(own / UNIT, version, (fact.owner.entry_id, other / UNIT))
        before = fact.contribution
        if not fact.out:
            fact.contribution = other
        if not self.keep(command, {"metric": "commits", "value": own}, []):
            fact.contribution = before

    def _rewards(self, key: str) -> list[Trigger]:
        return [self.trigger(one) for one in (("badge", "fine") if key == "d" else ("badge",))]

    def _complete(self, key: str) -> None:
        command = self.user.achievement_event()
        completion = derived_id("completion", str(self.user.count))
        owner = instant(command.entry)
        change = AchievementChange(key, completion, True, owner)
        given = [(trigger, owner, completion) for trigger in self._rewards(key)]
        event = {"plan": self.user.attributes.get("plan")}
        if self.keep(replace(command, achievement_changes=(change,)), event, given):
            self.completions[key] = (self.slow[-1].position, completion)

    def _revoke(self, key: str) -> None:
        position, completion = self.completions.pop(key)
        command = self.user.achievement_event(kind=EntryKind.CORRECTION)
        change = AchievementChange(key, completion, False, instant(command.entry))
        self.slow[position - 1].given = [one for one in self.slow[position - 1].given if one[2] != completion]
        self.keep(replace(command, achievement_changes=(change,)), {"follows": True}, [])

    def _redate(self, key: str, fact: SlowFact) -> None:
        """A correction: the same achievement, completed with another entry."""
        position, completion = self.completions.pop(key)
        command = self.user.achievement_event(kind=EntryKind.CORRECTION)
        another = derived_id("completion", str(self.user.count))
        changes = (
            AchievementChange(key, completion, False, instant(command.entry)),
            AchievementChange(key, another, True, fact.owner),
        )
        self.slow[position - 1].given = [one for one in self.slow[position - 1].given if one[2] != completion]
        given = [(trigger, fact.owner, another) for trigger in self._rewards(key)]
        if not fact.out:
            fact.given = fact.given + given
            self.completions[key] = (fact.position, another)
            given = []
        else:
            self.completions[key] = (len(self.slow) + 1, another)
        self.keep(replace(command, achievement_changes=changes), {"follows": True}, given)

    def _extend(self, day: int) -> None:
        command = self.user.streak_event()
        change = period(day, None, 1, instant(command.entry))
        given = [(self.trigger("week"), instant(command.entry), change.start_date)]
        event = {"plan": self.user.attributes.get("plan")}
        if self.keep(replace(command, streak_changes=(StreakChange("daily", (change,)),)), event, given):
            self.periods[day] = self.slow[-1].position

    def _break(self, day: int) -> None:
        fact = self.slow[self.periods.pop(day) - 1]
        change = period(day, 1, None)
        fact.given = [one for one in fact.given if one[2] != change.start_date]
        self.keep(self.user.streak_event(change, kind=EntryKind.CORRECTION), {"follows": True}, [])


def day_limited(system: PointsSystem, cap: int | None, limit: int | None, minutes: int) -> PointsSystem:
    triggers = tuple(
        replace(trigger, daily_limit=limit)
        if trigger.key == "small"
        else replace(trigger, cooldown=timedelta(minutes=minutes))
        if trigger.key in ("whole", "badge")
        else trigger
        for trigger in system.triggers
    )
    return replace(system, triggers=triggers, daily_cap=cap)


def day_limits() -> st.SearchStrategy[tuple[int | None, int | None, int]]:
    return st.tuples(
        st.one_of(st.none(), st.integers(0, 40)),
        st.one_of(st.none(), st.integers(0, 20)),
        st.sampled_from([0, 60, 600, 3000]),
    )


def ops() -> st.SearchStrategy[tuple[str, Any]]:
    values = st.integers(-3, 9).filter(bool)
    times = st.one_of(st.none(), st.integers(0, 40))
    plans = st.sampled_from(["", "pro", "free"])
    event = st.tuples(st.just("event"), st.tuples(st.sampled_from(["commits", "fun"]), values, times, plans))
    positive = st.tuples(
        st.just("event"), st.tuples(st.just("commits"), st.integers(1, 9), times, st.just("pro"))
    )
    return st.one_of(
        event,
        positive,
        st.tuples(st.just("void"), st.integers(0, 30)),
        st.tuples(st.just("complete"), st.sampled_from("abd")),
        st.tuples(st.just("revoke"), st.sampled_from("abd")),
        st.tuples(st.just("redate"), st.tuples(st.sampled_from("abd"), st.integers(0, 30))),
        st.tuples(st.just("extend"), st.integers(0, 5)),
        st.tuples(st.just("break"), st.integers(0, 5)),
    )


def rare() -> st.SearchStrategy[tuple[str, Any]]:
    return st.one_of(
        ops(),
        st.tuples(st.just("limits"), st.tuples(st.integers(-10, 3), st.integers(10, 40))),
        st.tuples(st.just("every"), st.integers(1, 4)),
        st.tuples(st.just("revise"), st.tuples(st.integers(0, 30), st.integers(-3, 9), st.integers(-3, 9))),
    )


def played(history: list[tuple[str, Any]], minimum: int, maximum: int) -> Both:
    system = PointsSystem("xp", TRIGGERS, LEVELS, min_balance=minimum, max_balance=maximum)
    both = Both(User([system]))
    for op in history:
        both.play(op)
        both.check()
    return both


@given(st.lists(rare(), max_size=20), st.integers(-10, 3), st.one_of(st.integers(15, 60), st.just(10**9)))
@settings(deadline=None)
def test_any_history_gives_what_the_slow_fold_of_its_live_facts_gives(
    history: list[tuple[str, Any]], minimum: int, maximum: int
) -> None:
    played(history, minimum, maximum)


@given(
    st.lists(
        st.one_of(rare(), st.tuples(st.just("boosts"), st.sampled_from(Stacking))), min_size=4, max_size=20
    ),
    st.sampled_from(Stacking),
    st.one_of(st.integers(15, 120), st.just(10**9)),
    st.sampled_from([LEVELS, TIERS]),
    st.sampled_from(LevelBasis),
)
@settings(deadline=None)
def test_so_does_one_in_which_boosts_and_tiers_multiply(
    history: list[tuple[str, Any]],
    stacking: Stacking,
    maximum: int,
    levels: tuple[Level, ...],
    basis: LevelBasis,
) -> None:
    system = PointsSystem(
        "xp", TRIGGERS, levels, basis, max_balance=maximum, boosts=BOOSTS, stacking=stacking
    )
    both = Both(User([system]))
    for op in history:
        both.play(op)
        both.check()


@given(
    st.lists(st.one_of(rare(), rare(), st.tuples(st.just("days"), day_limits())), min_size=4, max_size=25),
    day_limits(),
    st.one_of(st.integers(15, 120), st.just(10**9)),
    st.sampled_from([LEVELS, TIERS]),
)
@settings(deadline=None)
def test_so_does_one_with_limits_of_a_day_and_cooldowns(
    history: list[tuple[str, Any]],
    limits: tuple[int | None, int | None, int],
    maximum: int,
    levels: tuple[Level, ...],
) -> None:
    system = PointsSystem("xp", TRIGGERS, levels, max_balance=maximum)
    both = Both(User([day_limited(system, *limits)]), minutes=200)
    for op in history:
        both.play(op)
        both.check()


def whole_ops() -> st.SearchStrategy[tuple[str, Any]]:
    """Nearly always whole multiples of what `small` is for, in any order of times."""
    times = st.one_of(st.none(), st.integers(0, 40))
    units = st.integers(1, 3).map(lambda value: 2 * value)
    value = st.one_of(units, units, units, units, st.integers(1, 5))
    return st.one_of(
        st.tuples(st.just("event"), st.tuples(st.just("commits"), value, times, st.just("pro"))),
        st.tuples(st.just("event"), st.tuples(st.just("fun"), units, times, st.just(""))),
        st.tuples(st.just("void"), st.integers(0, 30)),
        st.tuples(st.just("revise"), st.tuples(st.integers(0, 30), units, st.one_of(units, value))),
    )


@given(st.lists(whole_ops(), max_size=25), st.one_of(st.integers(15, 60), st.just(10**9)))
@settings(deadline=None)
def test_so_does_one_of_whole_multiples_where_late_events_need_no_others(
    history: list[tuple[str, Any]], maximum: int
) -> None:
    triggers = (
        Trigger("whole", 10, MetricCause("commits", UNIT)),
        Trigger("cost", -4, MetricCause("fun", UNIT)),
        Trigger("welcome", 5, UserCreatedCause()),
    )
    both = Both(User([PointsSystem("xp", triggers, LEVELS, max_balance=maximum)]))
    for op in history:
        both.play(op)
        both.check()


@given(st.data())
@settings(deadline=None)
def test_facts_are_taken_out_in_any_order_with_one_result(data: st.DataObject) -> None:
    history = data.draw(st.lists(ops().filter(lambda op: op[0] != "void"), min_size=4, max_size=20))
    voided = data.draw(st.lists(st.integers(0, 19), unique=True, max_size=6))
    results = []
    for order in (voided, data.draw(st.permutations(voided))):
        both = played(history, -5, 45)
        for index in order:
            if index < len(both.slow):
                both.slow[index].out = True
                both.user.undo(both.slow[index].owner.entry_id)
        both.check()
        results.append((both.user.points().balance, both.user.by_entry()))
    assert results[0] == results[1]
