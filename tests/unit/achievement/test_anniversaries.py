"""Anniversaries: years since the date on which a user signed up, in the user's zone (RULES 4)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.achievement.domain import (
    Achievement,
    AnniversaryTrigger,
    Catalogue,
    Change,
    ChangeKind,
    Command,
    CompositeTrigger,
    Evidence,
    Past,
    UserState,
    WantedUser,
    advanced,
    backfill,
    decide_in_time,
    list_progress,
)
from shared.calendar import local_midnight
from shared.entries import AchievementCall, EntryKind, UserSnapshot
from tests.unit.achievement.builders import PRO, api_achievement, composite, entry, entry_id

SIGNED_UP = date(2020, 2, 29)
NOON = datetime(2021, 1, 1, 12, tzinfo=UTC)


def after(years: int, key: str = "", **fields: object) -> Achievement:
    return replace(Achievement(key or f"years-{years}", "", AnniversaryTrigger(years)), **fields)


def told(
    moment: datetime,
    version: int = 1,
    *,
    signed_up: date | None = SIGNED_UP,
    zone: str = "UTC",
    kind: EntryKind = EntryKind.USER_UPDATE,
    plan: str = "",
) -> Command:
    attributes = {"plan": plan} if plan else {}
    if signed_up is not None:
        attributes["sign_up_date"] = signed_up.isoformat()
    user = UserSnapshot("alice", zone, attributes, NOON, version, "")
    plain = entry((moment, version), kind)
    return Command(replace(plain, user=user, now=moment, occur_time=moment))


def called(moment: datetime, key: str = "founder", version: int = 1) -> Command:
    plain = told(moment, version, kind=EntryKind.ACHIEVEMENT_CALL)
    return Command(replace(plain.entry, content=AchievementCall(key)), achievement=key)


class Alice:
    """A user of whom now and then something is heard."""

    def __init__(self, *achievements: Achievement) -> None:
        self.catalogue = Catalogue(achievements)
        self.state = UserState("alice")
        self.changes: list[Change] = []
        self.facts: dict[object, object] = {}

    def hears(self, command: Command) -> "Alice":
        found = decide_in_time(self.catalogue, self.state, command, self._past())
        self.state = found.state
        for came in (*found.before, *found.after):
            self.facts[came.fact.entry_id] = came.fact
        self.facts[found.decision.fact.entry_id] = found.decision.fact
        for changes in (*(one.changes for one in found.before), found.decision.changes):
            self.changes += changes
        self.changes += [change for one in found.after for change in one.changes]
        return self

    def passes(self, moment: datetime) -> "Alice":
        self.state, came = advanced(self.catalogue, self.state, moment, self._past())
        for one in came:
            self.facts[one.fact.entry_id] = one.fact
            self.changes += one.changes
        return self

    def _past(self) -> Past:
        return Past(self.facts)  # type: ignore[arg-type]

    @property
    def held(self) -> Mapping[str, datetime]:
        return {key: live.reach.occur_time for key, live in self.state.completions.items()}

    @property
    def backdated(self) -> set[str]:
        return {key for key, live in self.state.completions.items() if live.backdated}


def at(year: int, month: int, day: int, hour: int = 12) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def test_it_comes_at_the_local_midnight_of_the_date_in_the_users_zone() -> None:
    alice = Alice(after(1)).hears(told(NOON, signed_up=date(2020, 5, 4), zone="Asia/Tokyo"))
    assert alice.state.sign_up is not None
    assert alice.state.sign_up.next_time == datetime(2021, 5, 3, 15, tzinfo=UTC)
    assert not alice.passes(datetime(2021, 5, 3, 14, 59, tzinfo=UTC)).held
    alice.passes(at(2021, 5, 20))
    assert alice.held == {"years-1": datetime(2021, 5, 3, 15, tzinfo=UTC)}
    assert not alice.backdated
    assert alice.state.completions["years-1"].reach.local_date == date(2021, 5, 4)


def test_of_29_february_it_is_the_28th_where_there_is_none() -> None:
    alice = Alice(after(1), after(4)).hears(told(NOON)).passes(at(2024, 3, 1))
    assert alice.held == {"years-1": at(2021, 2, 28, 0), "years-4": at(2024, 2, 29, 0)}


def test_a_repeatable_one_comes_every_so_many_years() -> None:
    alice = Alice(after(2, "every-two", repeatable=True)).hears(told(NOON)).passes(at(2026, 3, 1))
    assert alice.held == {
        "every-two": at(2022, 2, 28, 0),
        "every-two 2": at(2024, 2, 29, 0),
        "every-two 3": at(2026, 2, 28, 0),
    }


def test_what_a_pass_comes_to_years_late_is_no_less_than_what_one_in_time_gives() -> None:
    definition = after(1, "yearly", repeatable=True)
    late = Alice(definition).hears(told(NOON)).passes(at(2026, 3, 1))
    in_time = Alice(definition).hears(told(NOON))
    for year in range(2021, 2027):
        in_time.passes(at(year, 3, 1))
    assert late.changes == in_time.changes
    assert not late.backdated


def test_an_event_gives_what_is_due_before_it() -> None:
    alice = Alice(after(1), api_achievement(), composite("both", "years-1", "founder")).hears(told(NOON))
    alice.hears(called(at(2021, 3, 5)))
    assert alice.held == {
        "years-1": at(2021, 2, 28, 0),
        "founder": at(2021, 3, 5),
        "both": at(2021, 3, 5),
    }
    positions = {key: live.cause.position for key, live in alice.state.completions.items()}
    assert positions == {"years-1": 2, "founder": 3, "both": 3}


def test_what_lies_before_the_date_was_said_is_backdated_and_what_is_of_today_is_not() -> None:
    alice = Alice(after(1), after(2), after(3)).hears(told(at(2023, 2, 28, 9)))
    assert set(alice.held) == {"years-1", "years-2", "years-3"}
    assert alice.backdated == {"years-1", "years-2"}
    assert alice.held["years-1"] == at(2021, 2, 28, 0)


def test_who_has_moved_alone_has_missed_nothing() -> None:
    alice = Alice(after(1)).hears(told(NOON, signed_up=date(2020, 5, 4), zone="America/New_York"))
    moved = told(at(2021, 5, 3, 23), 2, signed_up=date(2020, 5, 4), zone="Asia/Tokyo")
    alice.hears(moved)
    assert alice.held == {"years-1": datetime(2021, 5, 3, 15, tzinfo=UTC)}
    assert not alice.backdated


def test_a_later_date_takes_nothing_and_undoing_what_said_an_earlier_one_does() -> None:
    achievements = after(1), composite("proud", "years-1")
    alice = Alice(*achievements).hears(told(NOON)).passes(at(2021, 3, 1))
    alice.hears(told(at(2021, 3, 2), 2, signed_up=date(2021, 1, 1)))
    assert set(alice.held) == {"years-1", "proud"}
    other = Alice(*achievements).hears(told(NOON)).passes(at(2021, 3, 1))
    undone = told(at(2021, 3, 2), 2, signed_up=None, kind=EntryKind.CORRECTION)
    other.hears(Command(replace(undone.entry, corrected_entry_id=entry_id("origin"))))
    assert not other.held
    assert [change.kind for change in other.changes][2:] == [ChangeKind.REVOKED] * 2


def test_undoing_something_else_takes_nothing() -> None:
    alice = Alice(after(1)).hears(told(NOON)).passes(at(2021, 3, 1))
    alice.hears(told(at(2021, 3, 2), 2, signed_up=date(2021, 1, 1)))
    undone = told(at(2021, 3, 3), 3, signed_up=date(2021, 1, 1), kind=EntryKind.CORRECTION)
    alice.hears(Command(replace(undone.entry, corrected_entry_id=entry_id("origin"))))
    assert set(alice.held) == {"years-1"}


def test_one_that_was_undone_comes_again_as_another_one() -> None:
    alice = Alice(after(1)).hears(told(NOON)).passes(at(2021, 3, 1))
    undone = told(at(2021, 3, 2), 2, signed_up=None, kind=EntryKind.CORRECTION)
    alice.hears(Command(replace(undone.entry, corrected_entry_id=entry_id("origin"))))
    alice.hears(told(at(2021, 3, 3), 3))
    first, _, again = alice.changes
    assert alice.held == {"years-1": at(2021, 2, 28, 0)}
    assert first.completion.completion_id != again.completion.completion_id
    assert first.completion.entry_id != again.completion.entry_id


def test_filters_go_by_what_the_last_entry_said() -> None:
    definition = after(1, user_filters=(PRO,))
    alice = Alice(definition).hears(told(NOON, plan="pro")).hears(told(at(2021, 2, 1), 2, plan="free"))
    assert not alice.passes(at(2021, 6, 1)).held
    alice.hears(told(at(2021, 7, 1), 3, plan="pro"))
    assert alice.held == {"years-1": at(2021, 2, 28, 0)}
    assert alice.backdated == {"years-1"}


def test_a_composite_that_only_some_earn_goes_by_them_too() -> None:
    above = replace(composite("proud", "years-1"), user_filters=(PRO,))
    alice = Alice(after(1), above).hears(told(NOON, plan="pro")).passes(at(2021, 6, 1))
    assert set(alice.held) == {"years-1", "proud"}
    bob = Alice(after(1), above).hears(told(NOON, plan="free")).passes(at(2021, 6, 1))
    assert set(bob.held) == {"years-1"}


def test_a_window_gives_it_when_it_opens_to_who_has_been_there_long_enough() -> None:
    window = after(1, earn_from=at(2022, 6, 1), earn_until=at(2022, 7, 1))
    alice = Alice(window).hears(told(NOON)).passes(at(2023, 1, 1))
    assert alice.held == {"years-1": at(2022, 6, 1)}
    bob = Alice(window).hears(told(NOON, signed_up=date(2021, 8, 1))).passes(at(2023, 1, 1))
    assert not bob.held


def test_what_comes_by_time_is_no_part_of_what_a_composite_asks_of_its_user() -> None:
    one, two, ten = after(1), after(2), api_achievement("ten")
    years = composite("years", "years-1", "years-2")
    mixed = composite("mixed", "years", "years-1", "ten", "founder", enough=3)
    catalogue = Catalogue([one, two, ten, api_achievement(), years, mixed])
    by_time = {each.key for each in catalogue.all() if catalogue.comes_by_time(each)}
    assert by_time == {"years-1", "years-2", "years"}
    assert isinstance(mixed.trigger, CompositeTrigger)
    assert catalogue.effort(mixed.trigger) == (["ten", "founder"], 1)


def test_an_older_word_of_the_user_does_not_replace_a_newer_one() -> None:
    alice = Alice(after(1)).hears(told(NOON, 5)).hears(told(NOON, 4, signed_up=None))
    assert alice.state.sign_up is not None
    assert alice.state.sign_up.day == SIGNED_UP


def test_who_never_said_it_earns_nothing_and_costs_nothing() -> None:
    alice = Alice(after(1)).hears(told(NOON, signed_up=None))
    assert alice.state.sign_up is None
    assert not alice.passes(at(2199, 1, 1)).held


def test_progress_is_in_years_and_is_not_whole_before_the_day() -> None:
    alice = Alice(after(1), after(2)).hears(told(at(2021, 2, 27)))
    shown = list_progress(alice.catalogue, alice.state, at(2021, 2, 27, 23))
    assert [(each.current, each.target) for each in shown] == [(0.99, 1), (0.99, 2)]
    assert [each.percent for each in shown] == [99.0, 49.5]


def test_a_backfill_asks_what_holds_of_the_user_and_backdates_what_was_before() -> None:
    definition = after(1, repeatable=True)
    catalogue = Catalogue([definition])
    state = UserState("alice", awaited=frozenset({definition.key}))
    when = at(2022, 1, 1), at(2022, 4, 1)

    def search(evidence: Evidence) -> Sequence[tuple[datetime, bool]]:
        found = backfill(catalogue, definition, state, Past(), evidence, entry_id("backfill"), *when)
        assert found.state.sign_up is None or found.state.sign_up.next_time == at(2023, 2, 28, 0)
        return [(each.completion.reach.occur_time, each.completion.backdated) for each in found.changes]

    with pytest.raises(WantedUser):
        search(Evidence())
    known = told(NOON).entry.user
    assert search(Evidence(users={"alice": known})) == [
        (at(2021, 2, 28, 0), True),
        (at(2022, 2, 28, 0), False),
    ]
    assert search(Evidence(users={"alice": None})) == []


ZONES = ("UTC", "Asia/Tokyo", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago")
DATES = st.dates(date(2015, 1, 1), date(2022, 12, 31)) | st.just(SIGNED_UP) | st.none()
SAYINGS = st.lists(
    st.tuples(
        st.integers(0, 24 * 365 * 8),
        st.sampled_from(ZONES),
        DATES,
        st.sampled_from(["", "pro"]),
        st.booleans(),
    ),
    max_size=6,
)
PASSES = st.lists(st.integers(0, 24 * 365 * 8), max_size=8)


@given(sayings=SAYINGS, passes=PASSES)
def test_entries_and_passes_give_the_same_to_the_row(
    sayings: list[tuple[int, str, date | None, str, bool]], passes: list[int]
) -> None:
    achievements = (
        after(1, "yearly", repeatable=True),
        after(3, user_filters=(PRO,)),
        after(2, earn_from=at(2023, 5, 5), earn_until=at(2025, 5, 5)),
        api_achievement(),
        composite("both", "yearly", "founder"),
        replace(composite("pros", "yearly", "years-3", enough=1), user_filters=(PRO,)),
    )
    lazily, eagerly = Alice(*achievements), Alice(*achievements)
    end = timedelta(hours=24 * 365 * 8 + 1)
    moments = sorted((hours, index) for index, (hours, *_) in enumerate(sayings))
    due = sorted(passes)
    for version, (hours, index) in enumerate(moments, 1):
        _, zone, day, plan, calls = sayings[index]
        while due and due[0] <= hours:
            eagerly.passes(NOON + timedelta(hours=due.pop(0)))
        moment = NOON + timedelta(hours=hours)
        command = told(moment, version, signed_up=day, zone=zone, plan=plan)
        if calls:
            called_for = replace(
                command.entry, kind=EntryKind.ACHIEVEMENT_CALL, content=AchievementCall("founder")
            )
            command = Command(called_for, achievement="founder")
        lazily.hears(command)
        eagerly.hears(command)
    for hours in due:
        eagerly.passes(NOON + timedelta(hours=hours))
    assert lazily.passes(NOON + end).state == eagerly.passes(NOON + end).state
    assert lazily.changes == eagerly.changes
    held = eagerly.state
    for key, live in held.completions.items():
        if held.sign_up and held.sign_up.day and key.startswith("yearly") and len(moments) == 1:
            number = int(key.removeprefix("yearly") or 1)
            year = held.sign_up.day.year + number
            leaps = (held.sign_up.day.month, held.sign_up.day.day) == (2, 29) and year % 4
            day = date(year, 2, 28) if leaps else held.sign_up.day.replace(year=year)
            assert live.reach.occur_time == local_midnight(day, held.sign_up.zone)
