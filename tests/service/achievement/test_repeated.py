"""Achievements that are earned again and again, and windows, over a real channel to a real database (RULES 4.7)."""

from datetime import timedelta

from laurel.participant.v1 import participant_service_pb2 as participant_pb

from shared.rpc.convert import to_timestamp
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import API, NOON, apply, by_metric, call, correction, event, revert
from tests.service.achievement.steps import completed, define, shown


def numbers(outcome: participant_pb.Outcome | participant_pb.RevertOutcome) -> list[int]:
    return [change.number for change in outcome.effects.achievements]


async def applied(service: Service, command: participant_pb.Command) -> participant_pb.Outcome:
    return (await service.participant.ApplyEntries(apply(command))).outcomes[0]


async def test_multiples_are_earned_one_after_the_other_and_go_from_the_last(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10), repeatable=True)
    assert numbers(await applied(service, event("e1", 25, version=1, total=25))) == [1, 2]
    assert numbers(await applied(service, event("e2", 80, version=2, total=105))) == [*range(3, 11)]
    (ten,) = await shown(service)
    assert (ten.completion_count, ten.target, ten.current) == (10, 110, 105)
    await service.participant.RevertEntries(revert("e2"))
    assert numbers(await applied(service, correction("k", of="e2", version=3, total=25))) == [*range(3, 11)]
    (ten,) = await shown(service)
    assert (ten.completion_count, ten.completed) == (2, True)


async def test_a_call_completes_it_once_more_and_a_voided_one_moves_the_later_up(service: Service) -> None:
    await define(service, "thanks", api=API, repeatable=True)
    calls = [call(f"c{number}", "thanks", minutes=number) for number in range(1, 4)]
    assert [numbers(await applied(service, each)) for each in calls] == [[1], [2], [3]]
    (undone,) = (await service.participant.RevertEntries(revert("c2"))).outcomes
    assert numbers(undone) == [2, 2, 3]
    (thanks,) = await shown(service)
    assert (thanks.completion_count, thanks.entry_id) == (2, calls[2].entry.entry_id)
    assert numbers(await applied(service, call("c4", "thanks", minutes=4))) == [3]


async def test_a_window_is_open_from_its_first_instant_to_before_its_last(service: Service) -> None:
    window = {
        "earn_from": to_timestamp(NOON + timedelta(minutes=2)),
        "earn_until": to_timestamp(NOON + timedelta(minutes=4)),
    }
    await define(service, "spring", metric=by_metric(1), **window)
    await define(service, "guest", api=API, **window)
    assert completed(await applied(service, event("e1", 1, version=1, total=1))) == []
    assert completed(await applied(service, event("e4", 1, version=4, total=2))) == []
    assert completed(await applied(service, event("e2", 1, version=2, total=3))) == ["spring"]
    refused = await applied(service, call("c4", "guest", minutes=4))
    assert refused.error.reason == "ACHIEVEMENT_NOT_OPEN"
    assert completed(await applied(service, call("c3", "guest", minutes=3))) == ["guest"]
