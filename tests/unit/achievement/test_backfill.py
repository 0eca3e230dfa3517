"""A backfill gives what living history would have given, with the same owners (RULES 4.6)."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.achievement.domain import (
    Achievement,
    Attributes,
    Backfilled,
    Catalogue,
    Command,
    Completion,
    Evidence,
    Fact,
    Past,
    Reach,
    Span,
    Start,
    Status,
    Wanted,
    WantedAttributes,
    WantedFacts,
    WantedReaches,
    backfill,
)
from tests.unit.achievement.builders import (
    MERGED,
    NOON,
    UNIT,
    Player,
    achievement,
    completed,
    composite,
    correction,
    entry_id,
    event,
    for_pros,
    player,
    reach,
    streak_achievement,
    streak_event,
)

BACKFILL_ID = entry_id("backfill")
LATER = NOON + timedelta(days=400)
ACTIVE = [
    achievement("total", 20),
    replace(achievement("again", 7), repeatable=True),
    achievement("merged", 15, event_filters=[MERGED]),
    for_pros(achievement("pro", 12)),
    replace(achievement("windowed", 10), earn_from=NOON + timedelta(minutes=4)),
    composite("both", "total", "merged"),
    for_pros(composite("pro-both", "total", "pro", enough=1)),
]


def backfilled(
    alice: Player, activated: Achievement, commands: list[Command], reaches: dict[int, Reach] | None = None
) -> Backfilled:
    """What the backfill finds; it asks for what it wants to know, and the player remembers what came of it."""
    said = {
        each.entry.entry_id: Attributes(
            each.entry.metric.attributes if each.entry.metric else {}, each.entry.user.attributes
        )
        for each in commands
    }
    evidence = Evidence()
    spans: dict[Start, Span] = {}
    facts: dict[object, Fact | None] = {}
    while True:
        try:
            past = Past(facts, {}, spans)  # type: ignore[arg-type]
            found = backfill(
                alice.catalogue, activated, alice.state, past, evidence, BACKFILL_ID, LATER, LATER
            )
            break
        except Wanted as wanted:
            known = spans.get(wanted.start)
            spans[wanted.start] = alice._span(wanted.start, len(known.facts) if known else 0)
        except WantedFacts as wanted:
            facts |= {each: alice.facts.get(each) for each in wanted.entry_ids}
        except WantedAttributes as wanted:
            evidence = replace(
                evidence,
                attributes={**evidence.attributes, **{each: said[each] for each in wanted.entry_ids}},
            )
        except WantedReaches:
            evidence = replace(evidence, reaches=tuple((reaches or {}).items()), reaches_version=2**40)
    alice.state = found.state
    alice.facts |= {fact.entry_id: fact for fact in found.judged}
    return found


def backfill_all(late: Player, commands: list[Command], active: list[Achievement]) -> None:
    """In the order in which the service does it: those that ask for less first, composites last."""
    left = [each.key for each in active]
    for activated in active:
        late.state = replace(late.state, awaited=frozenset(left))
        backfilled(late, activated, commands)
        left.remove(activated.key)
    late.state = replace(late.state, awaited=frozenset())


def of(completion: Completion) -> tuple[object, ...]:
    return (completion.place, completion.reach, completion.cause, completion.target)


def owned(alice: Player) -> list[tuple[object, ...]]:
    return sorted((of(each) for each in alice.state.completions.values()), key=str)


HAPPENINGS = st.lists(
    st.tuples(st.integers(-9, 12).filter(bool), st.booleans(), st.booleans(), st.integers(0, 9)),
    min_size=1,
    max_size=14,
)


def told(history: list[tuple[int, bool, bool, int]]) -> list[Command]:
    total = peak = 0
    commands = []
    for version, (value, merged, pro, minutes) in enumerate(history, start=1):
        total += value
        peak = max(peak, total)
        commands.append(
            event(
                version,
                value,
                total=total,
                peak=peak,
                attributes={"state": "merged"} if merged else {},
                user={"plan": "pro"} if pro else {},
                minutes=minutes,
            )
        )
    return commands


@given(HAPPENINGS)
def test_it_gives_what_living_history_gives(history: list[tuple[int, bool, bool, int]]) -> None:
    commands = told(history)
    always, late = player(*ACTIVE), player(*(replace(each, status=Status.INACTIVE) for each in ACTIVE))
    always.apply(*commands)
    late.apply(*commands)
    late.catalogue = Catalogue(ACTIVE)
    backfill_all(late, commands, ACTIVE)
    assert owned(late) == owned(always)
    assert all(each.backdated for each in late.state.completions.values())
    for key, sums in always.state.accumulators.items():
        assert late.state.accumulators[key].sum_micros == sums.sum_micros
        assert late.state.accumulators[key].negative_count == sums.negative_count


@given(HAPPENINGS, st.data())
def test_what_is_undone_afterwards_goes_as_though_it_had_always_been_there(
    history: list[tuple[int, bool, bool, int]], data: st.DataObject
) -> None:
    commands = told(history)
    # Which event may own a composite for some users only is known of the events that owned what it hangs on.
    active = [each for each in ACTIVE if each.key != "pro-both"]
    always, late = player(*active), player()
    always.apply(*commands)
    late.apply(*commands)
    late.catalogue = Catalogue(active)
    backfill_all(late, commands, active)
    undone = data.draw(st.sampled_from(commands))
    assert undone.entry.metric
    left = sum(
        each.entry.metric.value_micros for each in commands if each.entry.metric and each is not undone
    )
    peak = max(always.state.sources.values(), key=lambda source: source.version).highest
    after = correction(len(commands) + 1, undone, total=left // UNIT, peak=peak // UNIT)
    always.void(undone, after)
    late.void(undone, after)
    assert owned(late) == owned(always)


def test_an_event_leaves_to_the_backfill_what_was_met_before_it() -> None:
    alice = player()
    alice.apply(event(1, 30, total=30))
    alice.catalogue = Catalogue([achievement(threshold=20)])
    alice.state = replace(alice.state, awaited=frozenset({"centurion"}))
    second = event(2, 1, total=31)
    assert completed(alice.apply(second)) == []
    [change] = backfilled(alice, achievement(threshold=20), []).changes
    assert (change.completion.entry_id, change.completion.backdated) == (entry_id(1), True)


def test_an_event_gives_at_once_what_is_met_with_it_while_a_backfill_runs() -> None:
    alice = player()
    alice.apply(event(1, 10, total=10))
    alice.catalogue = Catalogue([achievement(threshold=20)])
    alice.state = replace(alice.state, awaited=frozenset({"centurion"}))
    assert completed(alice.apply(event(2, 10, total=20))) == ["centurion"]
    assert not alice.state.completions["centurion"].backdated
    assert backfilled(alice, achievement(threshold=20), []).changes == ()


def test_with_event_filters_nobody_knows_the_sum_before_the_backfill_has_come_by() -> None:
    merged = achievement(threshold=20, event_filters=[MERGED])
    commands = [
        event(1, 15, total=15, attributes={"state": "merged"}),
        event(2, 20, total=35, attributes={"state": "merged"}),
    ]
    alice = player()
    alice.apply(commands[0])
    alice.catalogue = Catalogue([merged])
    alice.state = replace(alice.state, awaited=frozenset({"centurion"}))
    assert completed(alice.apply(commands[1])) == []
    [change] = backfilled(alice, merged, commands).changes
    assert change.completion.entry_id == entry_id(2)
    assert alice.state.accumulators["centurion"].sum_micros == 35 * UNIT


def test_what_happened_since_the_activation_is_not_backdated() -> None:
    alice = player()
    alice.apply(event(1, 30, total=30))
    alice.catalogue = Catalogue([achievement(threshold=20)])
    past = Past({}, {}, {Start("commits", 0, None): alice._span(Start("commits", 0, None), 0)})
    found = backfill(
        alice.catalogue,
        achievement(threshold=20),
        alice.state,
        past,
        Evidence(),
        BACKFILL_ID,
        NOON,
        NOON,
    )
    assert [change.completion.backdated for change in found.changes] == [False]


def test_by_a_streak_it_belongs_to_the_event_that_the_streak_service_names() -> None:
    alice = player()
    commands = [streak_event(number, length=number, longest=number) for number in (1, 2, 3)]
    alice.apply(*commands)
    three = streak_achievement(length=2)
    alice.catalogue = Catalogue([three])
    named = {2: reach(("streak", 2), days=2), 3: reach(("streak", 3), days=3)}
    [change] = backfilled(alice, three, commands, named).changes
    assert change.completion.reach == named[2]
    assert change.completion.cause.position == 2


def test_by_a_streak_it_belongs_to_the_first_who_could_earn_it() -> None:
    alice = player()
    commands = [
        streak_event(number, length=number, longest=number, user={"plan": "pro"} if number == 3 else {})
        for number in (1, 2, 3)
    ]
    alice.apply(*commands)
    two = for_pros(streak_achievement(length=2))
    alice.catalogue = Catalogue([two])
    named = {2: reach(("streak", 2), days=2), 3: reach(("streak", 3), days=3)}
    [change] = backfilled(alice, two, commands, named).changes
    assert change.completion.entry_id == entry_id(("streak", 3))


def test_composites_above_what_is_found_are_found_too() -> None:
    alice = player()
    alice.apply(event(1, 30, total=30))
    definitions = [achievement("low", 10), composite("top", "low")]
    alice.catalogue = Catalogue(definitions)
    found = backfilled(alice, definitions[0], [])
    assert [change.completion.achievement for change in found.changes] == ["low", "top"]
    assert all(change.completion.backdated for change in found.changes)


def test_what_stays_backdated_passes_on_as_backdated() -> None:
    alice = player()
    commands = [event(1, 30, total=30), event(2, 30, total=60)]
    alice.apply(*commands)
    alice.catalogue = Catalogue([achievement(threshold=20)])
    backfilled(alice, achievement(threshold=20), commands)
    alice.void(commands[0], correction(3, commands[0], total=30))
    live = alice.state.completions["centurion"]
    assert (live.entry_id, live.backdated) == (entry_id(2), True)
