"""What is done to a user's streak by call: idempotent, refused with reasons, undone as if it had never been."""

import pytest
from laurel.ledger.v1.entry_pb2 import StreakFreezeGrant, StreakPause, StreakReset, StreakRestore
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.streak.v1 import streak_pb2
from laurel.streak.v1 import streak_service_pb2 as pb

from shared.rpc.convert import to_timestamp
from tests.service.streak.conftest import Service
from tests.service.streak.messages import at, by_hand, day, event, local, revert, update
from tests.service.streak.steps import (
    applied,
    define,
    derived_state,
    effect,
    feed,
    maintain,
    recorded,
    shown,
    statuses,
)

TWO_FREEZES = streak_pb2.FreezeSettings(max_count=2)


def freezes(name: object, on: int, count: int = 1, hour: int = 12) -> participant_pb.Command:
    return by_hand(name, at(on, hour), StreakFreezeGrant(streak="daily", count=count))


def pause(name: object, on: int, first: int, last: int, *, by_user: bool = False) -> participant_pb.Command:
    dates = StreakPause(streak="daily", start_date=local(first), end_date=local(last), by_user=by_user)
    return by_hand(name, at(on), dates)


async def refusal(service: Service, command: participant_pb.Command) -> tuple[str, str, dict[str, str]]:
    (outcome,) = await applied(service, command)
    return outcome.error.code, outcome.error.reason, dict(outcome.error.metadata)


async def test_freezes_that_are_given_save_the_day_after(service: Service) -> None:
    await define(service, freezes=TWO_FREEZES)
    await applied(service, event(1, at(3)))
    given = await effect(service, freezes("gift", 4, 5))
    assert (given.given_freeze_count, given.state.freeze_count) == (2, 2)
    assert not given.HasField("change")
    await maintain(service, at(6, 1))
    assert await recorded(service) == [
        (day(local(3)), "QUALIFIED"),
        *((day(local(n)), "FROZEN") for n in (4, 5)),
    ]
    assert (await shown(service, at(6, 1)))[0].freeze_count == 0


async def test_the_same_call_again_is_answered_and_not_done_again(service: Service) -> None:
    await define(service, freezes=TWO_FREEZES)
    await applied(service, event(1, at(3)))
    first = await applied(service, freezes("gift", 4))
    assert await applied(service, freezes("gift", 4)) == first
    assert (await shown(service, at(4, 13)))[0].freeze_count == 1


async def test_what_is_done_before_the_first_event_holds_with_it(service: Service) -> None:
    await define(service, freezes=TWO_FREEZES)
    await applied(service, freezes("gift", 3), pause("trip", 3, 5, 6))
    assert await shown(service, at(3, 13)) == []
    first = await effect(service, event(1, at(4)))
    assert first.state.freeze_count == 1
    assert [day(each.start_date).day for each in first.state.pauses] == [5]


async def test_a_pause_of_the_past_takes_back_a_loss_and_others_hear_of_it(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)), event(2, at(4)), event(3, at(7)))
    paused = await effect(service, pause("sick", 7, 5, 6))
    assert (paused.change.length_before, paused.change.length) == (1, 3)
    assert statuses(paused) == [(5, "PAUSED"), (6, "PAUSED"), (7, "QUALIFIED")]
    await maintain(service, at(20))
    assert [change.streak_closing.effect.change.length for change in await feed(service)] == [0]


async def test_users_pause_from_today_on_for_as_many_days_as_the_streak_allows(service: Service) -> None:
    await define(service, pause_days_per_year=3)
    await applied(service, event(1, at(3)))
    assert await refusal(service, pause("late", 4, 3, 5, by_user=True)) == (
        "FAILED_PRECONDITION",
        "PAUSE_NOT_ALLOWED",
        {"streak": "daily", "today": "2025-03-04"},
    )
    (allowed,) = await applied(service, pause("trip", 4, 4, 5, by_user=True))
    assert not allowed.HasField("error")
    assert await refusal(service, pause("more", 5, 6, 7, by_user=True)) == (
        "FAILED_PRECONDITION",
        "PAUSE_NOT_ALLOWED",
        {"streak": "daily", "year": "2025", "days": "4", "pause_days_per_year": "3"},
    )
    assert (await service.participant.RevertEntries(revert("trip"))).outcomes[0].reverted
    (free_again,) = await applied(service, pause("other", 5, 6, 7, by_user=True))
    assert not free_again.HasField("error")


async def test_a_restore_gives_the_last_loss_back_and_leaves_what_was_built_since(service: Service) -> None:
    await define(service)
    await applied(service, *(event(n, at(n)) for n in (3, 4, 5, 8)))
    restored = await effect(service, by_hand("back", at(9), StreakRestore(streak="daily")))
    assert (restored.change.length_before, restored.change.length) == (1, 4)
    assert statuses(restored) == [(6, "RESTORED"), (7, "RESTORED"), (8, "QUALIFIED")]
    assert (await effect(service, event(9, at(9, 15)))).state.length == 5


async def test_a_loss_that_has_not_been_recorded_yet_is_restored_too(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)))
    restored = await effect(service, by_hand("back", at(6), StreakRestore(streak="daily")))
    assert restored.state.length == 1
    assert statuses(restored) == [(4, "RESTORED"), (5, "RESTORED")]


@pytest.mark.parametrize("loss", [None, local(3)])
async def test_nothing_is_restored_where_nothing_was_lost(service: Service, loss: object) -> None:
    await define(service)
    call = by_hand("back", at(4), StreakRestore(streak="daily", loss_date=loss))  # type: ignore[arg-type]
    assert (await refusal(service, call))[1] == "NOTHING_TO_RESTORE"
    await applied(service, event(1, at(3)))
    again = by_hand("again", at(4), StreakRestore(streak="daily", loss_date=loss))  # type: ignore[arg-type]
    assert (await refusal(service, again))[1] == "NOTHING_TO_RESTORE"


async def test_a_reset_ends_the_run_and_what_comes_after_it_begins_another(service: Service) -> None:
    await define(service)
    await applied(service, event(3, at(3)), event(4, at(4)))
    reset = await effect(service, by_hand("reset", at(4, 15), StreakReset(streak="daily")))
    assert (reset.state.length, reset.state.longest, reset.change.length) == (0, 1, 0)
    assert statuses(reset) == [(4, "RESET")]
    late = await effect(service, event("late", at(4, 9), now=at(4, 16)))
    assert (late.extended, late.state.length) == (False, 0)
    assert (await effect(service, event("again", at(4, 17)))).state.length == 1


async def test_unknown_streaks_and_streaks_without_freezes_are_refused(service: Service) -> None:
    await define(service)
    assert (await refusal(service, freezes("gift", 3)))[1] == "STREAK_WITHOUT_FREEZES"
    other = by_hand("other", at(3), StreakReset(streak="nothing"))
    assert (await refusal(service, other))[:2] == ("NOT_FOUND", "STREAK_NOT_FOUND")
    assert await applied(service, other) == await applied(service, other)


@pytest.mark.parametrize("doomed", ["gift", "sick", "reset", "back"])
async def test_what_is_undone_has_never_been(service: Service, twin: Service, doomed: str) -> None:
    calls = {
        "gift": freezes("gift", 4),
        "sick": pause("sick", 12, 8, 9),
        "reset": by_hand("reset", at(13, 9), StreakReset(streak="daily")),
        "back": by_hand(
            "back", at(14), StreakRestore(streak="daily", loss_date=local(6) if doomed != "gift" else None)
        ),
    }
    events = [event(n, at(n)) for n in (3, 4, 7, 10, 11, 13)]
    for replica in (service, twin):
        await define(replica, freezes=TWO_FREEZES)
        await applied(replica, *events)
    # What a restore gives back is decided when it comes: here the same is lost with and without the other.
    await applied(service, *calls.values())
    assert (await service.participant.RevertEntries(revert(doomed, now=at(15)))).outcomes[0].reverted
    await applied(twin, *(call for name, call in calls.items() if name != doomed))
    for replica in (service, twin):
        await applied(replica, event("more", at(16)))
        await maintain(replica, at(25))
    assert await derived_state(service) == await derived_state(twin)


async def test_statistics_tell_what_pauses_and_restores_saved(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)), pause("trip", 3, 4, 5), event(2, at(6)))
    await applied(service, by_hand("back", at(8), StreakRestore(streak="daily")), event(3, at(8, 13)))
    await maintain(service, at(12))
    request = pb.GetStreakStatisticsRequest(streak="daily", start_date=local(1), end_date=local(31))
    found = await service.stub.GetStreakStatistics(request)
    assert (found.lost_count, found.paused_count, found.restored_count, found.frozen_count) == (1, 2, 1, 0)
    assert found.saved_share == 0.75


async def test_a_streak_is_at_risk_behind_its_pause(service: Service) -> None:
    await define(service)
    await applied(service, event(1, at(3)), pause("trip", 3, 4, 5))

    async def at_risk(on: int) -> int:
        request = pb.ListStreaksAtRiskRequest(
            streak="daily", within_hours=14, read_time=to_timestamp(at(on, 12))
        )
        return len((await service.stub.ListStreaksAtRisk(request)).streaks)

    assert await at_risk(4) == 0
    await maintain(service, at(6, 1))
    assert await at_risk(6) == 1


async def test_a_user_who_moves_keeps_what_was_done_by_hand(service: Service) -> None:
    await define(service, freezes=TWO_FREEZES)
    await applied(service, event(1, at(3)), freezes("gift", 3, hour=13), pause("trip", 3, 5, 6))
    await applied(service, update("move", at(4, 9), "Asia/Tokyo", version=2))
    await maintain(service, at(8, 1))
    assert [status for _, status in await recorded(service)] == [
        "QUALIFIED",
        "FROZEN",
        "PAUSED",
        "PAUSED",
        "BROKEN",
    ]
