"""Streaks that are defined late and count what users did before."""

import pytest
from laurel.ledger.v1 import entry_pb2
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from shared.errors import InvalidArgument
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, event, revert, streak
from tests.service.streak.steps import applied, define, derived_state, effect, feed, maintain, shown

USERS = ("ada", "bob", "cyd", "dan", "eve")


async def progress(service: Service) -> pb.StreakBackfill:
    return (await service.stub.GetStreak(pb.GetStreakRequest(key="daily"))).backfill


async def history(service: Service) -> None:
    for user in USERS:
        await applied(
            service, *(event((user, n), at(n), user=user, metric="commits") for n in (3, 4, 7, 8, 9))
        )
    await applied(service, event("other", at(3), user="zoe", metric="lines"))


async def test_a_backfill_gives_what_the_streak_had_been_from_the_first_event_on(
    service: Service, twin: Service
) -> None:
    freezes = streak_pb2.FreezeSettings(initial_count=1)
    await define(twin, freezes=freezes)
    for replica in (service, twin):
        await history(replica)
    await define(service, freezes=freezes, backfill=True)
    assert await shown(service, at(9, 13), "ada") == []
    assert not (await progress(service)).finished
    assert await maintain(service, at(9, 14)) == len(USERS)
    found = await progress(service)
    assert (found.looked_at_user_count, found.found_user_count, found.finished) == (6, 5, True)
    assert (await shown(service, at(9, 15), "ada"))[0].length == 3
    for replica in (service, twin):
        await maintain(replica, at(9, 15))
        await applied(replica, event("next", at(10), user="bob"))
        await maintain(replica, at(20))
    assert await derived_state(service) == await derived_state(twin)


async def test_others_follow_a_backfill_as_history(service: Service) -> None:
    await history(service)
    await define(service, backfill=True)
    await maintain(service, at(9, 14))
    changes = await feed(service)
    assert {change.user_id for change in changes} == set(USERS)
    assert {change.origin for change in changes} == {entry_pb2.ENTRY_ORIGIN_BACKFILL}
    assert {change.streak_closing.effect.change.length for change in changes} == {3}
    await maintain(service, at(9, 15))
    assert len(await feed(service)) == len(USERS)


async def test_what_comes_before_the_backfill_has_come_by_counts_once(
    service: Service, twin: Service
) -> None:
    await define(twin)
    for replica in (service, twin):
        await history(replica)
    await define(service, backfill=True)
    for replica in (service, twin):
        await applied(replica, event("new", at(10), user="ada"))
    assert (await shown(service, at(10, 13), "ada"))[0].length == 1
    await maintain(service, at(10, 14))
    assert (await effect(service, event("more", at(11), user="ada"))).state.length == 5
    assert (await service.participant.RevertEntries(revert("more", user="ada", now=at(12)))).outcomes
    assert (await service.participant.RevertEntries(revert(("ada", 8), user="ada", now=at(12)))).outcomes
    assert (await twin.participant.RevertEntries(revert(("ada", 8), user="ada", now=at(12)))).outcomes
    for replica in (service, twin):
        await maintain(replica, at(20))
    assert await derived_state(service) == await derived_state(twin)


async def test_without_it_only_what_comes_counts(service: Service) -> None:
    await history(service)
    await define(service)
    await maintain(service, at(9, 14))
    assert await shown(service, at(9, 15), "ada") == []
    assert not (await service.stub.GetStreak(pb.GetStreakRequest(key="daily"))).HasField("backfill")


async def test_a_backfill_is_for_everybody_and_is_decided_once(service: Service) -> None:
    wanted = streak(backfill=True)
    wanted.user_filters.add(attribute="plan").equals = "pro"
    with pytest.raises(InvalidArgument) as refused:
        await service.definitions.put(wanted)
    assert [violation.field for violation in refused.value.violations] == ["[0].backfill"]
    await define(service)
    with pytest.raises(InvalidArgument) as fixed:
        await service.definitions.put(streak(backfill=True))
    assert [violation.field for violation in fixed.value.violations] == ["[0].backfill"]
