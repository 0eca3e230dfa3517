"""What a user has not been shown, and pages that go on behind the last one shown (RULES 4.7)."""

from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from tests.fixtures import participants
from tests.service.achievement.conftest import Service
from tests.service.achievement.messages import API, apply, by_metric, call, correction, entry, event, revert
from tests.service.achievement.steps import define, shown


def seen(name: str, *keys: str) -> participant_pb.Command:
    message = entry(name, minutes=30)
    message.achievements_seen.achievements.extend(keys)
    if not keys:
        message.achievements_seen.SetInParent()
    return participants.command(message)


async def unseen(service: Service) -> set[str]:
    listed = await shown(service, unseen_only=True)
    assert all(each.unseen for each in listed)
    return {each.achievement for each in listed}


async def test_a_completion_is_unseen_until_it_is_said_that_it_was_shown(service: Service) -> None:
    for key in ("a", "b", "c"):
        await define(service, key, api=API)
    await service.participant.ApplyEntries(apply(call("1", "a"), call("2", "b"), call("3", "c")))
    assert await unseen(service) == {"a", "b", "c"}
    await service.participant.ApplyEntries(apply(seen("s", "a", "nothing")))
    assert await unseen(service) == {"b", "c"}
    await service.participant.ApplyEntries(apply(seen("all")))
    assert await unseen(service) == set()
    assert {each.achievement for each in await shown(service, completed_only=True)} == {"a", "b", "c"}


async def test_what_is_completed_again_is_unseen_again(service: Service) -> None:
    await define(service, "again", repeatable=True, metric=by_metric(5))
    first, second = event("1", 5, version=1, total=5), event("2", 5, version=2, total=10)
    await service.participant.ApplyEntries(apply(first, seen("s")))
    assert await unseen(service) == set()
    await service.participant.ApplyEntries(apply(second))
    assert await unseen(service) == {"again"}
    await service.participant.ApplyEntries(apply(seen("t")))
    await service.participant.RevertEntries(revert("1"))
    await service.participant.ApplyEntries(apply(correction("c", version=3, total=5, of="1")))
    assert await unseen(service) == {"again"}  # the first time belongs to another event now


async def test_only_what_came_before_is_marked(service: Service) -> None:
    await define(service, "a", api=API)
    await service.participant.ApplyEntries(apply(seen("s"), call("1", "a")))
    assert await unseen(service) == {"a"}


async def test_a_page_goes_on_behind_the_last_one_shown(service: Service) -> None:
    for key in ("a", "b", "c", "d"):
        await define(service, key, api=API)
    await service.participant.ApplyEntries(apply(call("1", "a", minutes=1), call("2", "b", minutes=2)))
    request = pb.ListUserAchievementsRequest(user_id="alice", page_size=2)
    first = await service.stub.ListUserAchievements(request)
    assert [each.achievement for each in first.achievements] == ["b", "a"]
    await service.participant.ApplyEntries(apply(call("3", "d", minutes=3)))
    request.page_token = first.next_page_token
    second = await service.stub.ListUserAchievements(request)
    assert ([each.achievement for each in second.achievements], second.next_page_token) == (["c"], "")
