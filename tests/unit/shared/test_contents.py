"""What operations say, read from messages by the fields and limits of their structs (docs/adr/0016)."""

from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID

import pytest
from google.protobuf.message import Message
from laurel.common.v1.date_pb2 import LocalDate
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.streak.v1 import streak_pb2

from shared.entries import (
    AchievementsSeen,
    BoardPrize,
    Checked,
    Content,
    PointsCapture,
    PointsGift,
    PointsGrant,
    PointsHold,
    StreakOverride,
    StreakPause,
    StreakRestore,
)
from shared.errors import Violations
from shared.limits import Key, Within
from shared.rpc import contents
from shared.rpc.convert import to_timestamp

ENTRY_ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST, LAST = LocalDate(year=2026, month=3, day=1), LocalDate(year=2026, month=3, day=9)


def wrong(struct: type[Checked], message: Message, path: str = "") -> list[tuple[str, str]]:
    violations = Violations()
    contents.read(struct, message, path, violations)
    return [(each.field, each.description) for each in violations]


def read(struct: type[Checked], message: Message) -> Checked | None:
    violations = Violations()
    found = contents.read(struct, message, "", violations)
    assert not list(violations)
    return found


def test_every_type_of_field_is_read() -> None:
    hold = entry_pb2.PointsHold(points_system="xp", amount=5, expire_time=to_timestamp(NOON))
    assert read(PointsHold, hold) == PointsHold("xp", 5, NOON)
    capture = entry_pb2.PointsCapture(hold_entry_id=ENTRY_ID)
    assert read(PointsCapture, capture) == PointsCapture(UUID(ENTRY_ID), 0)
    pause = entry_pb2.StreakPause(streak="daily", start_date=FIRST, end_date=LAST, by_user=True)
    assert read(StreakPause, pause) == StreakPause("daily", date(2026, 3, 1), date(2026, 3, 9), by_user=True)
    gifts = [entry_pb2.PointsGift(points_system="xp", amount=-3)]
    prize = entry_pb2.BoardPrize(leaderboard="weekly", gifts=gifts, achievement="champion")
    assert read(BoardPrize, prize) == BoardPrize((PointsGift("xp", -3),), "champion")


def test_what_need_not_be_there_is_none() -> None:
    assert read(StreakRestore, entry_pb2.StreakRestore(streak="daily")) == StreakRestore("daily", None)
    lost = entry_pb2.StreakRestore(streak="daily", loss_date=FIRST)
    assert read(StreakRestore, lost) == StreakRestore("daily", date(2026, 3, 1))
    beyond = entry_pb2.StreakRestore(streak="daily", loss_date=LocalDate(year=1, month=1, day=1))
    assert wrong(StreakRestore, beyond) == [("loss_date", "must be a date from 1900 to 2199")]


def test_a_message_that_is_not_there_reads_as_an_empty_one() -> None:
    assert wrong(PointsGrant, entry_pb2.PointsGrant(), "points_grant") == [
        ("points_grant.gift.points_system", "must match ^[a-z][a-z0-9_-]{0,63}$"),
        ("points_grant.gift.amount", "must have a magnitude of 1 to 1,000,000,000"),
    ]


def test_all_that_is_wrong_is_found_at_once_and_named_by_its_path() -> None:
    assert wrong(PointsHold, entry_pb2.PointsHold(amount=-1), "points_hold") == [
        ("points_hold.points_system", "must match ^[a-z][a-z0-9_-]{0,63}$"),
        ("points_hold.amount", "must be 1 to 1,000,000,000"),
        ("points_hold.expire_time", "is required"),
    ]
    pause = entry_pb2.StreakPause(streak="Not a key", start_date=LAST, end_date=FIRST)
    assert wrong(StreakPause, pause) == [
        ("streak", "must match ^[a-z][a-z0-9_-]{0,63}$"),
        ("end_date", "must not lie before start_date, nor 3,660 days after it"),
    ]
    assert wrong(PointsCapture, entry_pb2.PointsCapture(hold_entry_id="x", amount=-1)) == [
        ("hold_entry_id", "must be a UUID in lower case with hyphens"),
        ("amount", "must be 0 to 1,000,000,000"),
    ]


def test_an_override_is_refused_for_everything_that_is_wrong_with_it() -> None:
    # An unknown value of an enum arrives as its number.
    monday, ninth = streak_pb2.WEEKDAY_MONDAY, streak_pb2.Weekday.ValueType(9)
    override = streak_pb2.StreakOverride(
        mode=streak_pb2.MetricMode.ValueType(7), days_off=[monday, ninth, monday]
    )
    for metric, threshold in (("lines", 2), ("lines", -1), ("X", 1e13)):
        override.metrics.add(metric=metric, threshold=threshold)
    assert wrong(StreakOverride, override, "override") == [
        ("override.mode", "is not one of its values"),
        ("override.metrics[1].threshold", "must be above zero"),
        ("override.metrics[2].metric", "must match ^[a-z][a-z0-9_-]{0,63}$"),
        ("override.metrics[2].threshold", "must have a magnitude of at most 1e12"),
        ("override.days_off[1]", "must be a day of the week, each once"),
        ("override.metrics[1].metric", "is given twice"),
        ("override.days_off[2]", "must be a day of the week, each once"),
        ("override.has_days_off", "must be set where days_off are given"),
    ]
    week = streak_pb2.StreakOverride(has_days_off=True, days_off=streak_pb2.Weekday.values()[1:])
    assert wrong(StreakOverride, week) == [
        ("days_off", "must be at most 6: on one day something is expected")
    ]


def test_of_too_many_items_only_so_many_are_looked_at() -> None:
    seen = entry_pb2.AchievementsSeen(achievements=["Not a key"] * 1_003)
    found = wrong(AchievementsSeen, seen)
    assert found[0] == ("achievements", "must have at most 1,000 keys")
    assert len(found) == 1_001


def test_a_request_is_checked_by_what_it_has_in_common_with_the_entry() -> None:
    violations = Violations()
    contents.check(PointsHold, pb.HoldPointsRequest(amount=-1), violations)
    assert [each.field for each in violations] == ["points_system", "amount"]
    violations = Violations()
    pause = pb.PauseStreakRequest(streak="daily", start_date=LAST, end_date=FIRST)
    contents.check(StreakPause, pause, violations)
    assert [each.field for each in violations] == ["end_date"]


def test_what_a_request_says_is_copied_where_the_entry_has_it_too() -> None:
    request = pb.PauseStreakRequest(user_id="ada", streak="daily", start_date=FIRST, end_date=LAST)
    message = entry_pb2.StreakPause()
    contents.copy_common(request, message)
    assert message == entry_pb2.StreakPause(streak="daily", start_date=FIRST, end_date=LAST)
    restored = entry_pb2.StreakRestore()
    contents.copy_common(pb.RestoreStreakRequest(streak="daily"), restored)
    assert not restored.HasField("loss_date")
    seen = entry_pb2.AchievementsSeen()
    contents.copy_common(pb.MarkSeenRequest(achievements=["a", "b"]), seen)
    assert list(seen.achievements) == ["a", "b"]


class _Unnamed(Content, frozen=True):
    nonsense: Key


class _Unlimited(Content, frozen=True):
    streak: str


class _NoList(Content, frozen=True):
    streak: tuple[Key, ...]


class _OtherType(Content, frozen=True):
    streak: Annotated[datetime, Within(0, 1)]


@pytest.mark.parametrize(
    ("struct", "why"),
    [
        (_Unnamed, r"_Unnamed.nonsense: laurel.ledger.v1.StreakReset has no such field"),
        (_Unlimited, r"_Unlimited.streak has no limit"),
        (_NoList, r"_NoList.streak and laurel.ledger.v1.StreakReset.streak: one of them is a list"),
        (_OtherType, r"_OtherType.streak: .*datetime.* is not read from laurel.ledger.v1.StreakReset.streak"),
    ],
)
def test_a_struct_that_does_not_fit_its_message_is_told_so(struct: type[Content], why: str) -> None:
    with pytest.raises(TypeError, match=why):
        contents.read(struct, entry_pb2.StreakReset(streak="daily"), "", Violations())
