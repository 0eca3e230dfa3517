"""An achievement that an admin takes away, and what comes back when that is voided, over a real channel."""

from laurel.achievement.v1 import achievement_pb2 as types
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from tests.fixtures import participants
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import apply, by_metric, correction, entry, entry_id, event, revert
from tests.service.achievement.steps import completed, define, held, revoked, shown


def revocation(name: str, key: str, *, minutes: int = 9) -> participant_pb.Command:
    message = entry(name, minutes=minutes)
    message.achievement_revocation.achievement = key
    return participants.command(message)


async def one(service: Service, command: participant_pb.Command) -> participant_pb.Outcome:
    return (await service.participant.ApplyEntries(apply(command))).outcomes[0]


async def lived(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    await define(service, "again", metric=by_metric(4), repeatable=True)
    await define(service, "top", composite=types.CompositeTrigger(achievements=["ten"]))
    await one(service, event("e1", 6, version=1, total=6))
    await one(service, event("e2", 6, version=2, total=12))


async def test_it_goes_stays_away_and_comes_back_when_that_is_voided(service: Service) -> None:
    await lived(service)
    assert revoked(await one(service, revocation("r", "ten"))) == ["ten", "top"]
    assert completed(await one(service, event("e3", 1, version=3, total=13))) == []
    [left] = [each for each in await shown(service) if each.achievement == "ten"]
    assert (left.completed, left.revoked, left.percent) == (False, True, 100)
    response = await service.participant.RevertEntries(revert("r"))
    changes = response.outcomes[0].effects.achievements
    assert [(each.achievement, each.entry_id) for each in changes] == [
        ("ten", str(entry_id("e2"))),
        ("top", str(entry_id("e2"))),
    ]
    assert await held(service) == {"ten", "again", "top"}
    assert await service.database.fetchval("SELECT count(*) FROM withheld_completions") == 0
    assert await service.database.fetchval("SELECT withheld FROM users") is None


async def test_what_belonged_to_an_event_that_is_gone_does_not_come_back(service: Service) -> None:
    await lived(service)
    await one(service, revocation("r", "again"))
    await service.participant.RevertEntries(revert("e2"))
    await one(service, correction("c", version=3, total=6, peak=6, of="e2"))
    response = await service.participant.RevertEntries(revert("r"))
    changes = response.outcomes[0].effects.achievements
    assert [(each.achievement, each.number) for each in changes] == [("again", 1)]


async def test_what_is_not_held_is_refused(service: Service) -> None:
    await define(service, "ten", metric=by_metric(10))
    assert (await one(service, revocation("r", "ten"))).error.reason == "ACHIEVEMENT_NOT_HELD"
    assert (await one(service, revocation("s", "nine"))).error.reason == "ACHIEVEMENT_NOT_FOUND"
