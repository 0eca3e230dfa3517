"""The rules against an obvious recomputation, over random histories."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.points.domain import (
    POINTS_LIMIT,
    AchievementCause,
    Command,
    MetricCause,
    PointsSystem,
    StreakCause,
    Trigger,
    TriggerKey,
    UserCreatedCause,
)
from shared.entries import EntryKind
from tests.unit.points.account import UNIT, Account

TRIGGERS = (
    Trigger("whole", 10, MetricCause("commits", 3 * UNIT)),
    Trigger("small", 1, MetricCause("commits", 700_000)),
    Trigger("cost", -3, MetricCause("commits", 2 * UNIT)),
    Trigger("week", 50, StreakCause("daily", 3)),
    Trigger("once", 20, StreakCause("daily", 2, once=True)),
    Trigger("badge", 100, AchievementCause(None)),
    Trigger("welcome", 25, UserCreatedCause()),
)
UNLIMITED = PointsSystem("xp", TRIGGERS, min_balance=-POINTS_LIMIT)

Event = tuple[str, int | str | tuple[int, int]]


@dataclass(frozen=True)
class History:
    """Events one after the other, and which of them are undone afterwards, in that order."""

    events: Sequence[Event]
    undone: Sequence[int] = ()


def events(least: int = -6 * UNIT) -> st.SearchStrategy[Event]:
    runs = st.tuples(st.integers(0, 12), st.integers(0, 12))
    return st.one_of(
        st.tuples(st.just("metric"), st.integers(least, 9 * UNIT).filter(bool)),
        st.tuples(st.just("streak"), runs),
        st.tuples(st.just("complete"), st.sampled_from("abcd")),
        st.tuples(st.just("revoke"), st.sampled_from("abcd")),
    )


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Only metric events are undone whole: what streaks and achievements gave comes back in corrections."""
    drawn = draw(st.lists(st.tuples(events(), st.booleans()), max_size=25))
    undone = [index for index, (event, undo) in enumerate(drawn) if undo and event[0] == "metric"]
    return History([event for event, _ in drawn], draw(st.permutations(undone)))


def command_of(account: Account, event: Event) -> Command:
    match event:
        case ("metric", int(value)):
            return account.metric_event(value)
        case ("streak", (int(before), int(after))):
            return account.streak_event((before, after))
        case ("complete", str(key)):
            return account.achievement_event((key, True))
        case ("revoke", str(key)):
            return account.achievement_event((key, False), kind=EntryKind.CORRECTION)
        case _:
            raise AssertionError(event)


def left(history: History) -> list[Event]:
    """The events that are not undone."""
    return [event for index, event in enumerate(history.events) if index not in history.undone]


def play(history: History, system: PointsSystem = UNLIMITED) -> Account:
    """Apply all, then undo those that are to be undone."""
    account = Account([system])
    commands = [command_of(account, event) for event in history.events]
    for command in commands:
        account.applied(command)
    for index in history.undone:
        account.undo(commands[index].entry.entry_id)
    return account


def expected_times(events: Sequence[Event]) -> dict[str, int]:
    """How often each trigger is due, counted the slow and obvious way."""
    total = high = 0
    deltas = {"week": 0, "once": 0}
    completions = dict.fromkeys("abcd", 0)
    for kind, what in events:
        if kind == "metric" and isinstance(what, int):
            total += what
            high = max(high, total)
        elif kind == "streak" and isinstance(what, tuple):
            deltas["week"] += what[1] // 3 - what[0] // 3
            deltas["once"] += (what[1] >= 2) - (what[0] >= 2)
        elif isinstance(what, str):
            completions[what] += 1 if kind == "complete" else -1
    return {
        "whole": high // (3 * UNIT),
        "small": high // 700_000,
        "cost": high // (2 * UNIT),
        "week": max(0, deltas["week"]),
        "once": max(0, deltas["once"]),
        "badge": sum(count >= 1 for count in completions.values()),
        "welcome": any(kind != "revoke" for kind, _ in events),
    }


def granted_times(account: Account) -> dict[str, int]:
    times = {trigger.key: 0 for trigger in TRIGGERS}
    for award in account.ledger:
        times[award.key.trigger] += award.times
    return times


def check_ledger(account: Account) -> None:
    """What holds whatever happened: the ledger is the truth."""
    standing = account.standing()
    rows = {award.award_id: award for award in account.ledger}
    assert len(rows) == len(account.ledger) == account.state.award_count
    assert [award.sequence for award in account.ledger] == list(range(1, len(rows) + 1))
    assert standing.balance == sum(award.amount for award in account.ledger)
    live = {award_id: award.times for award_id, award in rows.items()}
    for award in account.ledger:
        if award.reversed_award_id is not None:
            live[award.reversed_award_id] += award.times
            live.pop(award.award_id)
    assert live == {one.award.award_id: one.live_times for one in account.state.live_awards}
    assert all(times >= 0 for times in live.values())
    assert standing.lifetime == sum(max(0, one.live_amount) for one in account.state.live_awards)


@given(histories())
def test_any_history_ends_as_if_counted_anew_over_the_entries_that_are_left(history: History) -> None:
    account = play(history)
    expected = expected_times(left(history))
    assert granted_times(account) == expected
    assert account.balance == sum(trigger.amount * expected[trigger.key] for trigger in TRIGGERS)
    check_ledger(account)


@given(histories())
def test_an_undone_event_leaves_the_counts_of_a_history_without_it(history: History) -> None:
    account = play(history)
    never = play(History(left(history)))
    for trigger in ("whole", "small", "cost"):
        key = TriggerKey("xp", trigger)
        then, now = never.state.triggers.get(key), account.state.triggers.get(key)
        assert now == then or (then is None and now is not None and now.accumulated_micros == 0)


@st.composite
def reordered(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """The same events twice, in two orders; without negative values, against which awards latch."""
    batch = draw(st.lists(events(least=1), max_size=20))
    return batch, draw(st.permutations(batch))


@given(reordered())
def test_the_order_of_the_same_entries_does_not_matter(orders: tuple[list[Event], list[Event]]) -> None:
    one, other = (play(History(order)) for order in orders)
    assert one.standing().balance == other.standing().balance
    assert granted_times(one) == granted_times(other)


@given(histories(), st.integers(-40, 0), st.integers(0, 60))
def test_limits_hold_and_the_ledger_adds_up_however_narrow_they_are(
    history: History, minimum: int, maximum: int
) -> None:
    account = play(history, PointsSystem("xp", TRIGGERS, min_balance=minimum, max_balance=maximum))
    check_ledger(account)
    assert account.balance <= maximum


@given(
    st.lists(
        st.tuples(
            st.sampled_from([10**18, -(10**18), 1, 999_999_999_999_999_999]), st.sampled_from(["up", "down"])
        ),
        max_size=12,
    ),
    st.sampled_from([10**9, -(10**9), 1]),
    st.lists(st.integers(0, 11), unique=True),
)
def test_nothing_leaves_the_limit_with_the_largest_values_that_can_be_sent(
    sent: list[tuple[int, str]], amount: int, undone: list[int]
) -> None:
    triggers = (Trigger("up", amount, MetricCause("up", 1)), Trigger("down", -amount, MetricCause("down", 1)))
    account = Account([PointsSystem("xp", triggers, min_balance=-POINTS_LIMIT)])
    commands = [account.metric_event(value, metric=metric) for value, metric in sent]
    for command in commands:
        account.applied(command)
    for index in undone:
        if index < len(commands):
            account.undo(commands[index].entry.entry_id)
    check_ledger(account)
    for award in account.ledger:
        assert abs(award.amount) <= POINTS_LIMIT
        assert abs(award.base_amount) <= POINTS_LIMIT
        assert abs(award.times) < 2**63
    assert abs(account.balance) <= POINTS_LIMIT
    assert account.standing().lifetime <= POINTS_LIMIT
