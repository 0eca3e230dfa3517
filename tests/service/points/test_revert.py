"""RevertEvents over a real channel to a real database (RULES 7.3, 7.4)."""

import asyncio
from typing import Any

import pytest
from laurel.points.v1 import points_pb2 as types

from tests.service.points.conftest import Service
from tests.service.points.messages import (
    BADGE,
    BRONZE,
    SPEND,
    TEN_PER_THREE,
    WEEK,
    WELCOME,
    closing,
    correction,
    entry_id,
    event,
    revert,
)
from tests.service.points.steps import (
    amounts,
    balance,
    check_ledger,
    days,
    define,
    derived_state,
    points,
    send,
)

DAY = 24 * 60
"""Minutes."""

COST = types.PointsTrigger(key="cost", amount=-3, metric=types.MetricPointsTrigger(metric="commits", every=2))


async def test_an_undone_entry_leaves_everything_as_if_it_had_never_been(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WELCOME, COST], levels=[BRONZE], min_balance=-1_000)
    await send(service, event("e1", 2), event("e2", -1.5), event("e3", 4, minutes=1))
    before = await derived_state(service)
    await send(service, event("x", 17.5, minutes=3))
    response = await service.participant.RevertEntries(revert("x"))
    assert response.outcomes[0].reverted
    assert await derived_state(service) == before
    await check_ledger(service)


@pytest.mark.parametrize("value", [17.5, -4.0, 0.5])
async def test_later_entries_keep_their_effect(service: Service, value: float) -> None:
    await define(service, "xp", [TEN_PER_THREE, WELCOME, COST], min_balance=-1_000)
    values = (2, -1.5, 4, 5)
    rest = [event(f"e{n}", value, minutes=2 * n) for n, value in enumerate(values)]
    await send(service, *[_of(command, "bob") for command in rest])
    await send(service, rest[0], event("x", value, minutes=1), *rest[1:])
    await service.participant.RevertEntries(revert("x"))
    state = await derived_state(service)
    assert _without_times(state, "alice") == _without_times(state, "bob")
    await check_ledger(service)


async def test_the_outcome_of_a_reversal_lists_the_rows_that_reverse(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE], levels=[BRONZE])
    (given,) = await send(service, event("e1", 3))
    (outcome,) = (await service.participant.RevertEntries(revert("e1"))).outcomes
    (change,) = outcome.effects.points
    assert (change.version, change.added, change.balance, change.lifetime) == (2, -10, 0, 0)
    assert (change.level_before, change.level, change.HasField("reach_time")) == ("bronze", "", False)
    (row,) = change.awards
    assert row.reversed_award_id == given.effects.points[0].awards[0].award_id
    assert (row.amount, row.base_amount, row.entry_id) == (-10, -10, str(entry_id("e1")))


async def test_a_reversal_sent_again_is_answered_byte_for_byte_and_done_once(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", 3), event("e2", 3))
    first = await service.participant.RevertEntries(revert("e1"))
    again = await asyncio.gather(*[service.participant.RevertEntries(revert("e1")) for _ in range(5)])
    assert {response.SerializeToString(deterministic=True) for response in again} == {
        first.SerializeToString(deterministic=True)
    }
    assert await balance(service) == 10


async def test_a_late_original_is_refused_after_its_compensation(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    (outcome,) = (await service.participant.RevertEntries(revert("e1"))).outcomes
    assert not outcome.reverted
    (late,) = await send(service, event("e1", 3))
    assert (late.error.code, late.error.reason) == ("FAILED_PRECONDITION", "ENTRY_REVERTED")
    assert await balance(service) == 0


async def test_an_undone_entry_is_refused_when_it_comes_again(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", 3))
    await service.participant.RevertEntries(revert("e1"))
    (late,) = await send(service, event("e1", 3))
    assert late.error.reason == "ENTRY_REVERTED"


async def test_undoing_a_rejected_entry_finds_nothing(service: Service) -> None:
    await define(service, "xp", [SPEND])
    await send(service, event("e1", 1, metric="spending"))
    (outcome,) = (await service.participant.RevertEntries(revert("e1"))).outcomes
    assert not outcome.reverted
    (again,) = await send(service, event("e1", 1, metric="spending"))
    assert again.error.reason == "INSUFFICIENT_POINTS"


async def test_the_welcome_passes_to_the_next_entry_until_there_is_none_and_comes_back_with_a_new_one(
    service: Service,
) -> None:
    await define(service, "xp", [WELCOME])
    await send(service, event("e1", 1), event("e2", 1, minutes=DAY), correction("c1"))
    both = [(await service.participant.RevertEntries(revert(name))).outcomes[0] for name in ("e1", "e2")]
    assert [amounts(outcome) for outcome in both] == [[-25, 25], [-25]]
    assert [days(outcome) for outcome in both] == [[1, 2], [2]]
    assert [award.entry_id for award in both[0].effects.points[0].awards] == [
        str(entry_id("e1")),
        str(entry_id("e2")),
    ]
    assert {award.cause_entry_id for award in both[0].effects.points[0].awards} == {str(entry_id("e1"))}
    (next_one,) = await send(service, event("e3", 1))
    assert amounts(next_one) == [25]


async def test_a_streak_that_closes_is_no_entry_of_the_user_that_the_welcome_hangs_on(
    service: Service,
) -> None:
    await define(service, "xp", [WELCOME])
    await send(service, event("e1", 1), closing("midnight"))
    (undone,) = (await service.participant.RevertEntries(revert("e1"))).outcomes
    assert amounts(undone) == [-25]
    (late,) = await send(service, closing("another midnight"))
    assert (late.HasField("effects"), amounts(late), await balance(service)) == (True, [], 0)


async def test_a_void_is_a_revert_and_a_correction_and_nothing_is_undone_twice(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WEEK, BADGE, WELCOME])
    await send(service, event("e0", 1, periods=[(0, 6)]))
    before = await derived_state(service)
    await send(service, event("e1", 3, periods=[(0, 7)], completed=["first"]))
    (reverted,) = (await service.participant.RevertEntries(revert("e1"))).outcomes
    (corrected,) = await send(service, correction("c1", periods=[(7, 0)], revoked=["first"]))
    assert (amounts(reverted), amounts(corrected)) == ([-10], [-50, -100])
    assert await derived_state(service) == before
    await check_ledger(service)


async def test_what_others_did_for_an_entry_that_points_rejected_nets_to_zero(service: Service) -> None:
    await define(service, "xp", [WEEK, SPEND])
    await send(service, event("e1", 1, metric="spending", periods=[(0, 7)]))
    (outcome,) = await send(service, correction("c1", periods=[(0, 7), (7, 0)]))
    assert not outcome.effects.points


async def test_a_reversal_counts_for_the_date_of_the_award_that_it_reverses(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WEEK, BADGE])
    await send(service, event("e1", 2), event("e2", 1, minutes=DAY, periods=[(0, 7)], completed=["first"]))
    (reverted,) = (await service.participant.RevertEntries(revert("e1"))).outcomes
    (corrected,) = await send(service, correction("c1", periods=[(7, 0)], revoked=["first"], corrects="e1"))
    assert (amounts(reverted), amounts(corrected)) == ([-10], [-50, -100])
    assert {*days(reverted), *days(corrected)} == {2}


async def test_an_undone_entrys_own_awards_are_taken_back_before_later_ones(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, WEEK])
    await send(service, event("e1", 3, periods=[(0, 7)]), event("e2", 3, minutes=DAY, periods=[(0, 14)]))
    (reverted,) = (await service.participant.RevertEntries(revert("e1"))).outcomes
    (corrected,) = await send(service, correction("c1", periods=[(7, 0)], minutes=DAY, corrects="e1"))
    assert (amounts(reverted), amounts(corrected)) == ([-10], [-50])
    assert (days(reverted), days(corrected)) == ([1], [1])
    await check_ledger(service)


async def test_points_that_were_spent_stay_spent(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, SPEND])
    await send(service, event("e1", 6), event("e2", 1, metric="spending"))
    await service.participant.RevertEntries(revert("e1"))
    assert await balance(service) == -20


async def test_reverts_and_events_of_one_user_at_once_end_like_one_after_another(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE, COST], min_balance=-1_000)
    await send(service, *[event(f"old{n}", 1) for n in range(20)])
    await asyncio.gather(
        *[service.participant.RevertEntries(revert(f"old{n}")) for n in range(20)],
        *[send(service, event(f"new{n}", 1)) for n in range(20)],
    )
    assert await balance(service) == 60 - 30
    assert (await points(service))["xp"].lifetime == 60
    await check_ledger(service)


async def test_the_entrys_own_user_is_meant_whatever_the_reversal_says(service: Service) -> None:
    await define(service, "xp", [TEN_PER_THREE])
    await send(service, event("e1", 3))
    await service.participant.RevertEntries(revert("e1", user="somebody"))
    assert await balance(service) == 0


def _of(command: Any, user: str) -> Any:
    """The same command of another user."""
    copy = type(command)()
    copy.CopyFrom(command)
    copy.entry.user.user_id = user
    copy.entry.entry_id = str(entry_id(f"{user}-{command.entry.entry_id}"))
    return copy


def _without_times(state: dict[str, list[tuple[Any, ...]]], user: str) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: [row[1:5] if name == "balances" else row[1:4] for row in rows if row[0] == user]
        for name, rows in state.items()
    }


async def test_the_welcome_goes_with_the_last_event_though_its_streak_has_closed(service: Service) -> None:
    await define(service, "xp", [WELCOME])
    await send(service, event("e1", 1), closing("s1"))
    (undone,) = (await service.participant.RevertEntries(revert("e1"))).outcomes
    assert amounts(undone) == [-25]
    assert await balance(service) == 0
