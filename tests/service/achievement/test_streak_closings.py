"""A streak that closed at midnight, as it reaches achievements: progress falls, what is earned stays (RULES 4.5)."""

import pytest
from laurel.participant.v1 import participant_service_pb2 as saga_pb

from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import apply, by_streak, closing, event, streak
from tests.service.achievement.steps import define, derived_state, held, shown

SEVEN_DAYS = event("seventh", 1, version=7, total=7, streaks=[streak(7, 7, reached={7: "seventh"})])
BREAK = closing("break", streak(8, 0, longest=7))
BACK = event("back", 1, version=9, total=8, streaks=[streak(9, 1, longest=7)])


async def send(service: Service, *commands: saga_pb.Command) -> list[saga_pb.Outcome]:
    outcomes = list((await service.participant.ApplyEntries(apply(*commands))).outcomes)
    assert not any(outcome.HasField("error") for outcome in outcomes)
    return outcomes


async def progress(service: Service, key: str) -> tuple[float, float]:
    """How far the user has come, and in percent."""
    (found,) = [one for one in await shown(service) if one.achievement == key]
    return found.current, found.percent


async def ladder(service: Service) -> None:
    await define(service, "week", streak=by_streak(7))
    await define(service, "ten-days", streak=by_streak(10))


async def test_a_break_takes_the_progress_of_a_streak_back_to_its_present_length(service: Service) -> None:
    await ladder(service)
    await send(service, SEVEN_DAYS)
    assert await progress(service, "ten-days") == (7, 70.0)
    (outcome,) = await send(service, BREAK)
    assert not outcome.effects.achievements
    assert await progress(service, "ten-days") == (0, 0.0)
    await send(service, BACK)
    assert await progress(service, "ten-days") == (1, 10.0)


async def test_what_is_completed_stays_complete_when_its_streak_breaks(service: Service) -> None:
    await ladder(service)
    await send(service, SEVEN_DAYS, BREAK)
    assert await held(service) == {"week"}
    (_, percent) = await progress(service, "week")
    assert percent == 100.0


async def test_a_closing_counts_no_more_once_a_newer_event_is_known(service: Service) -> None:
    await ladder(service)
    await send(service, SEVEN_DAYS)
    await send(service, BACK)
    (late,) = await send(service, BREAK)
    assert not late.effects.achievements
    assert await progress(service, "ten-days") == (1, 10.0)
    assert await held(service) == {"week"}


@pytest.mark.parametrize(
    "order",
    [
        (SEVEN_DAYS, BREAK, BACK),
        (SEVEN_DAYS, BACK, BREAK),
        (BREAK, SEVEN_DAYS, BACK),
        (BACK, SEVEN_DAYS, BREAK),
        (BREAK, BACK, SEVEN_DAYS),
        (BACK, BREAK, SEVEN_DAYS),
    ],
    ids=lambda order: "-".join(str(one.entry.WhichOneof("operation")) for one in order),
)
@pytest.mark.parametrize("in_one_batch", [False, True])
async def test_in_whatever_order_they_arrive_the_end_is_the_same(
    service: Service, order: tuple[saga_pb.Command, ...], in_one_batch: bool
) -> None:
    await ladder(service)
    for batch in [order] if in_one_batch else [(command,) for command in order]:
        await send(service, *batch)
    assert await progress(service, "ten-days") == (1, 10.0)
    assert await held(service) == {"week"}
    streaks = [row for row in (await derived_state(service))["sources"] if row[1] == "daily"]
    assert [row[3:] for row in streaks] == [(1, 7)]


async def test_a_closing_sent_again_after_a_newer_event_changes_nothing(service: Service) -> None:
    await ladder(service)
    first = await send(service, BREAK)
    await send(service, BACK)
    assert await send(service, BREAK) == first
    assert await progress(service, "ten-days") == (1, 10.0)
