"""Reads: complete, in pages, and closed up to the instant from which they look."""

from datetime import date, timedelta

import grpc.aio
import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from shared.errors import from_rpc_error
from shared.rpc.convert import to_datetime, to_timestamp
from tests.fixtures.paging import cut, pages
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, day, event, revert
from tests.service.streak.steps import applied, define, derived_state, feed, maintain, shown, status_name


def details(error: grpc.aio.AioRpcError) -> tuple[str, set[str]]:
    """The reason, and the fields that are wrong."""
    refusal = from_rpc_error(error)
    return refusal.reason, {violation.field for violation in refusal.violations}


EARNED = streak_pb2.FreezeSettings(initial_count=1, earn_count=1, earn_every_days=3, max_count=2)


async def periods(service: Service, page_size: int = 0) -> list[list[tuple[date, str]]]:
    """All pages of the user's periods."""
    pages, token = [], ""
    while True:
        response = await service.stub.ListPeriods(
            pb.ListPeriodsRequest(user_id="alice", streak="daily", page_size=page_size, page_token=token)
        )
        pages.append([(day(row.start_date), status_name(row.status)) for row in response.periods])
        token = response.next_page_token
        if not token:
            return pages


async def ledger(service: Service, page_size: int = 0) -> list[list[tuple[date, int, int]]]:
    """All pages of the user's freeze ledger."""
    pages: list[list[tuple[date, int, int]]] = []
    token = ""
    while True:
        response = await service.stub.ListFreezeLedger(
            pb.ListFreezeLedgerRequest(user_id="alice", streak="daily", page_size=page_size, page_token=token)
        )
        pages.append([(day(line.effective_date), line.amount, line.reason) for line in response.entries])
        token = response.next_page_token
        if not token:
            return pages


@pytest.mark.parametrize("maintained", [False, True])
async def test_periods_and_ledger_are_the_same_whether_stored_or_due(
    service: Service, maintained: bool
) -> None:
    await define(service, freezes=EARNED)
    await applied(service, *(event(d, at(d)) for d in (3, 4, 6, 7, 8)))
    if maintained:
        await maintain(service, at(25))
    marks = {9: "FROZEN", 10: "FROZEN", 11: "BROKEN", 5: "FROZEN"}
    expected = [(date(2025, 3, d), marks.get(d, "QUALIFIED")) for d in range(11, 2, -1)]
    assert await periods(service) == [expected]
    assert await periods(service, 4) == [expected[:4], expected[4:8], expected[8:]]
    lines = [
        (date(2025, 3, 3), 1, streak_pb2.FREEZE_REASON_INITIAL),
        (date(2025, 3, 5), -1, streak_pb2.FREEZE_REASON_CONSUMED),
        (date(2025, 3, 6), 1, streak_pb2.FREEZE_REASON_ACCUMULATION),
        (date(2025, 3, 9), 1, streak_pb2.FREEZE_REASON_ACCUMULATION),
        (date(2025, 3, 9), -1, streak_pb2.FREEZE_REASON_CONSUMED),
        (date(2025, 3, 10), -1, streak_pb2.FREEZE_REASON_CONSUMED),
        (date(2025, 3, 12), 1, streak_pb2.FREEZE_REASON_ACCUMULATION),
        (date(2025, 3, 15), 1, streak_pb2.FREEZE_REASON_ACCUMULATION),
    ]
    assert await ledger(service) == [lines]
    assert await ledger(service, 3) == [lines[:3], lines[3:6], lines[6:]]


async def test_a_freeze_that_was_given_back_stands_in_the_ledger_with_what_it_was_spent_on(
    service: Service, twin: Service
) -> None:
    """Whether or not anybody looked at midnight, and again when the late event is taken out."""
    for replica in (service, twin):
        await define(replica, freezes=streak_pb2.FreezeSettings(initial_count=1))
    await applied(service, event(3, at(3)))
    await maintain(service, at(5, 1))
    (consumed,) = await feed(service)
    assert consumed.streak_closing.effect.state.freeze_count == 0
    late = event(4, at(4), now=at(5, 2))
    (outcome,) = await applied(service, late)
    (effect,) = outcome.effects.streaks
    assert (effect.refunded_freeze_count, effect.state.freeze_count) == (1, 1)
    await applied(twin, event(3, at(3)), late)
    initial, spent, given_back = (
        (date(2025, 3, 3), 1, streak_pb2.FREEZE_REASON_INITIAL),
        (date(2025, 3, 4), -1, streak_pb2.FREEZE_REASON_CONSUMED),
        (date(2025, 3, 5), 1, streak_pb2.FREEZE_REASON_REFUNDED),
    )
    # Of all that has passed since, the fifth takes the freeze that was given back.
    again = (date(2025, 3, 5), -1, streak_pb2.FREEZE_REASON_CONSUMED)
    for replica in (service, twin):
        assert await ledger(replica) == [[initial, spent, again, given_back]]
    assert await derived_state(service) == await derived_state(twin)
    for replica in (service, twin):
        await applied(replica, *(event(d, at(d)) for d in (5, 6, 7, 8)))
    again = (date(2025, 3, 9), -1, streak_pb2.FREEZE_REASON_CONSUMED)
    assert await ledger(service, 1) == [[initial], [spent], [given_back], [again]]
    assert await derived_state(service) == await derived_state(twin)
    await service.participant.RevertEntries(revert(4, now=at(8, 13)))
    assert await ledger(service) == [[initial, spent]]


async def test_what_came_in_time_or_with_the_day_before_it_spent_no_freeze(service: Service) -> None:
    await define(service, freezes=streak_pb2.FreezeSettings(initial_count=1))
    now = at(6, 12)
    await applied(service, event(3, at(3)), event(4, at(4), now=at(4, 23)))
    await applied(service, event(5, at(5), now=now), event(6, at(6), now=now))
    rows = await service.database.fetch("SELECT reason FROM freeze_ledger ORDER BY effective_date, reason")
    assert [row["reason"] for row in rows] == [
        streak_pb2.FREEZE_REASON_INITIAL,
        streak_pb2.FREEZE_REASON_CONSUMED,
        streak_pb2.FREEZE_REASON_REFUNDED,
    ]
    # Nobody knew of the first day before the second was over.
    await applied(service, *(event(("b", d), at(d), user="bob", now=now) for d in (3, 4, 5)))
    rows = await service.database.fetch("SELECT reason FROM freeze_ledger WHERE user_id = 'bob'")
    assert [row["reason"] for row in rows] == [streak_pb2.FREEZE_REASON_INITIAL]


async def test_the_expiry_passes_over_days_off_and_knows_no_freezes(service: Service) -> None:
    weekend = [streak_pb2.WEEKDAY_SATURDAY, streak_pb2.WEEKDAY_SUNDAY]
    await define(service, days_off=weekend, freezes=EARNED)
    await applied(service, event(1, at(7)))  # a Friday
    (friday,) = await shown(service, at(7, 20))
    (sunday,) = await shown(service, at(9))
    (tuesday,) = await shown(service, at(11))
    assert to_datetime(friday.expire_time) == to_datetime(sunday.expire_time) == at(11, 0)
    assert (tuesday.length, to_datetime(tuesday.expire_time)) == (1, at(12, 0))


async def test_a_users_streaks_come_by_key(service: Service) -> None:
    for key in ("c", "a", "b"):
        await define(service, key)
    await applied(service, event(1, at(3)))
    assert [state.streak for state in await shown(service, at(3))] == ["a", "b", "c"]
    assert await shown(service, at(3), user="nobody") == []


async def test_the_longest_streaks_come_longest_first_then_by_user(service: Service) -> None:
    await define(service)
    lengths = {"dan": 3, "bob": 2, "ann": 2, "eve": 1, "cat": 3}
    for user, length in lengths.items():
        await applied(
            service, *(event((user, n), at(3) + timedelta(days=n), user=user) for n in range(length))
        )
    await applied(service, event("z", at(3), user="zed", value=0.5))
    found, token = [], ""
    while True:
        response = await service.stub.ListLongestStreaks(
            pb.ListLongestStreaksRequest(streak="daily", page_size=2, page_token=token)
        )
        found += [(streak.user_id, streak.longest, streak.length) for streak in response.streaks]
        token = response.next_page_token
        if not token:
            break
    assert found == [("cat", 3, 3), ("dan", 3, 3), ("ann", 2, 2), ("bob", 2, 2), ("eve", 1, 1)]


async def test_what_does_not_exist_is_not_found(service: Service) -> None:
    await define(service)
    for request, reason in (
        (pb.ListPeriodsRequest(user_id="alice", streak="none"), "STREAK_NOT_FOUND"),
        (pb.ListPeriodsRequest(user_id="alice", streak="daily"), "USER_STREAK_NOT_FOUND"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.ListPeriods(request)
        assert (caught.value.code(), details(caught.value)[0]) == (grpc.StatusCode.NOT_FOUND, reason)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.ListLongestStreaks(pb.ListLongestStreaksRequest(streak="none"))
    assert details(caught.value)[0] == "STREAK_NOT_FOUND"


async def test_wrong_reads_name_their_fields(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.ListPeriods(pb.ListPeriodsRequest(streak="Not a key"))
    assert details(caught.value)[1] == {"user_id", "streak"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.ListFreezeLedger(
            pb.ListFreezeLedgerRequest(user_id="alice", streak="daily", page_token="forged")
        )
    assert details(caught.value)[1] == {"page_token"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.participant.ListChanges(participant_pb.ListChangesRequest(page_size=1_001))
    assert details(caught.value)[1] == {"page_size"}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
async def test_a_users_streaks_come_in_pages(service: Service, size: int) -> None:
    keys = ["a", "b", "c", "d", "e", "f"]
    for key in reversed(keys):
        await define(service, key)
    await applied(service, event(1, at(3)), event(2, at(3), user="bob"))
    request = pb.ListUserStreaksRequest(user_id="alice", read_time=to_timestamp(at(3)), page_size=size)
    found = await pages(service.stub.ListUserStreaks, request, "streaks")
    assert [[listed.streak for listed in page] for page in found] == cut(keys, size)


async def test_a_token_of_one_users_streaks_is_none_of_anothers(service: Service) -> None:
    await define(service, "a")
    await define(service, "b")
    await applied(service, event(1, at(3)))
    first = await service.stub.ListUserStreaks(pb.ListUserStreaksRequest(user_id="alice", page_size=1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.ListUserStreaks(
            pb.ListUserStreaksRequest(user_id="bob", page_token=first.next_page_token)
        )
    assert details(caught.value)[1] == {"page_token"}
