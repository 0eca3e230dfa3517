"""Every domain event about streaks and achievements is told, by entries and by what maintenance finds (RULES 8.1).

Real services say what changed, and the orchestrator's own functions make of it what followers read.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

import pytest
from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.orchestrator.v1.domain_event_pb2 import DomainEvent
from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.streak.v1 import streak_pb2
from msgspec import Struct

from services.orchestrator.domain_events import Type, events_of, told_of
from services.orchestrator.operations import OPERATIONS, incoming_change, stored_entry
from shared.rpc.convert import to_timestamp
from tests.conftest import ServiceDatabase
from tests.fixtures import participants
from tests.fixtures.feeds import listed
from tests.service.achievement import conftest as achievement
from tests.service.achievement import messages as of_achievements
from tests.service.streak import conftest as streak
from tests.service.streak.messages import at, by_hand, event, local

WANTED: Final = {type_ for type_ in Type if type_.startswith(("streak.", "achievement."))}


class Declared(Struct, frozen=True):
    """An amnesty, and when it is declared."""

    amnesty: streak_pb2.Amnesty
    on: datetime


Step = pb.Command | pb.RevertEntriesRequest | Declared | datetime
"""An entry, an undoing, an amnesty, or a pass of maintenance at an instant."""


class Story(Struct, frozen=True):
    """What happens to a user of this name, and what is told of the last of it."""

    user: str
    steps: tuple[Step, ...]
    told: tuple[tuple[Type, object], ...]
    """Of a streak with the length before and after, or the number of freezes; of an achievement with its key."""
    freezes: streak_pb2.FreezeSettings = streak_pb2.FreezeSettings()


def came(user: str, *days: int, hour: int = 12) -> tuple[pb.Command, ...]:
    """Events of the metric that is the story's own."""
    return tuple(event((user, day, hour), at(day, hour), user=user, metric=user) for day in days)


def done(user: str, when: datetime, operation: participants.Operation) -> pb.Command:
    return by_hand((user, "by hand"), when, operation, user=user)


def outage(user: str) -> Declared:
    times = {"start_time": to_timestamp(at(4)), "end_time": to_timestamp(at(5))}
    return Declared(streak_pb2.Amnesty(key=user, streaks=[user], **times), at(6, 13))  # type: ignore[arg-type]


def freezes(*, initial: int = 0, earned_daily: int = 0) -> streak_pb2.FreezeSettings:
    return streak_pb2.FreezeSettings(
        initial_count=initial, max_count=2, earn_count=earned_daily, earn_every_days=1 if earned_daily else 0
    )


STREAKS: Final = (
    Story("begins", came("begins", 3), ((Type.STREAK_STARTED, (0, 1)),)),
    Story("goes-on", came("goes-on", 3, 4), ((Type.STREAK_EXTENDED, (1, 2)),)),
    Story(
        "comes-late",
        came("comes-late", 3, 4, 7),
        ((Type.STREAK_LOST, (2, 1)), (Type.STREAK_STARTED, (2, 1))),
    ),
    Story("stays-away", (*came("stays-away", 3, 4), at(6)), ((Type.STREAK_LOST, (2, 0)),)),
    Story(
        "comes-with-freezes",
        came("comes-with-freezes", 3, 6),
        ((Type.STREAK_FROZEN, (2, 0)), (Type.STREAK_EXTENDED, (1, 2))),
        freezes(initial=2),
    ),
    Story(
        "stays-away-with-freezes",
        (*came("stays-away-with-freezes", 3), at(5)),
        ((Type.STREAK_FROZEN, (2, 1)),),
        freezes(initial=2),
    ),
    Story(
        "earns-with-an-event",
        came("earns-with-an-event", 3, 4),
        ((Type.STREAK_FREEZE_EARNED, (0, 1)), (Type.STREAK_EXTENDED, (1, 2))),
        freezes(earned_daily=1),
    ),
    Story(
        "earns-at-midnight",
        (*came("earns-at-midnight", 3), at(5)),
        ((Type.STREAK_FREEZE_EARNED, (0, 2)), (Type.STREAK_FROZEN, (0, 2))),
        freezes(earned_daily=2),
    ),
    Story(
        "is-given",
        (
            *came("is-given", 3),
            done("is-given", at(4), entry_pb2.StreakFreezeGrant(streak="is-given", count=1)),
        ),
        ((Type.STREAK_FREEZE_EARNED, (0, 1)),),
        freezes(),
    ),
    Story(
        "gets-it-back",
        (
            *came("gets-it-back", 3, 4, 7),
            done("gets-it-back", at(8), entry_pb2.StreakRestore(streak="gets-it-back")),
        ),
        ((Type.STREAK_RESTORED, (1, 3)),),
    ),
    Story(
        "is-excused-by-a-pass",
        (*came("is-excused-by-a-pass", 3), at(6), outage("is-excused-by-a-pass"), at(6, 16)),
        ((Type.STREAK_RESTORED, (0, 1)),),
    ),
    Story(
        "is-excused-by-an-event",
        (
            *came("is-excused-by-an-event", 3),
            at(6),
            outage("is-excused-by-an-event"),
            *came("is-excused-by-an-event", 6, hour=15),
        ),
        ((Type.STREAK_RESTORED, (0, 2)), (Type.STREAK_EXTENDED, (0, 2))),
    ),
    Story(
        "begins-anew",
        (
            *came("begins-anew", 3, 4),
            done("begins-anew", at(4, 13), entry_pb2.StreakReset(streak="begins-anew")),
        ),
        ((Type.STREAK_RESET, (2, 0)),),
    ),
    Story(
        "rests",
        (
            *came("rests", 3),
            done(
                "rests",
                at(4),
                entry_pb2.StreakPause(streak="rests", start_date=local(5), end_date=local(6)),
            ),
        ),
        ((Type.STREAK_PAUSED, (1, 1)),),
    ),
)

SIGNED_UP: Final = "2024-05-04"
MIDNIGHT: Final = datetime(2025, 5, 4, tzinfo=UTC)


def ten(user: str) -> pb.Command:
    return of_achievements.event((user, "ten"), 10, version=1, total=10, user=user)


def founder(user: str) -> pb.Command:
    return of_achievements.call((user, "call"), "founder", user=user)


def signs_up(user: str) -> pb.Command:
    message = of_achievements.entry((user, "update"), user=user)
    message.user.attributes["sign_up_date"] = SIGNED_UP
    message.user_update.says_sign_up_date = True
    return participants.command(message)


def taken(user: str) -> pb.Command:
    message = of_achievements.entry((user, "taken"), user=user)
    message.achievement_revocation.achievement = "founder"
    return participants.command(message)


ACHIEVEMENTS: Final = (
    Story("does-it", (ten("does-it"),), ((Type.ACHIEVEMENT_COMPLETED, "ten"),)),
    Story("is-called", (founder("is-called"),), ((Type.ACHIEVEMENT_COMPLETED, "founder"),)),
    Story(
        "is-excused",  # at midnight, so that the streak is as long as it takes
        (
            of_achievements.closing(
                "excused", of_achievements.streak(7, 7, reached={7: "x"}), user="is-excused"
            ),
        ),
        ((Type.ACHIEVEMENT_COMPLETED, "week"),),
    ),
    Story("stays", (signs_up("stays"), MIDNIGHT), ((Type.ACHIEVEMENT_COMPLETED, "year"),)),
    Story("cheats", (founder("cheats"), taken("cheats")), ((Type.ACHIEVEMENT_REVOKED, "founder"),)),
    Story(
        "is-undone",
        (
            ten("is-undone"),
            of_achievements.revert(("is-undone", "ten"), user="is-undone"),
            of_achievements.correction(
                "undone", version=2, total=0, peak=0, of=("is-undone", "ten"), user="is-undone"
            ),
        ),
        ((Type.ACHIEVEMENT_REVOKED, "ten"),),
    ),
)


@pytest.fixture
async def streaks(service_database: ServiceDatabase) -> AsyncIterator[streak.Service]:
    async with streak.started(service_database) as service:
        for story in STREAKS:
            wanted = streak_pb2.Streak(key=story.user, frequency=streak_pb2.FREQUENCY_DAILY)
            wanted.metrics.add(metric=story.user, threshold=1)
            wanted.freezes.CopyFrom(story.freezes)
            await service.definitions.put(wanted)
        yield service


@pytest.fixture
async def achievements(service_database: ServiceDatabase) -> AsyncIterator[achievement.Service]:
    async with achievement.started(service_database) as service:
        # These users live in 2025: the service's own passes are far ahead.
        hold = pb.RunMaintenanceRequest(now=to_timestamp(of_achievements.NOON), hold_seconds=3600)
        await service.participant.RunMaintenance(hold)
        await service.definitions.put(
            achievement_pb2.Achievement(key="ten", metric=of_achievements.by_metric(10)),
            achievement_pb2.Achievement(key="founder", api=of_achievements.API),
            achievement_pb2.Achievement(key="week", streak=of_achievements.by_streak(7)),
            achievement_pb2.Achievement(key="year", anniversary=achievement_pb2.AnniversaryTrigger(years=1)),
        )
        yield service


async def test_every_type_is_told_by_who_brings_it_about_with_before_and_after(
    streaks: streak.Service, achievements: achievement.Service
) -> None:
    heard: dict[str, list[tuple[str, object]]] = {}
    for service, stories in ((streaks, STREAKS), (achievements, ACHIEVEMENTS)):
        for story in stories:
            heard[story.user] = [(told.type, detail(told)) for told in await lived(service, story)]
    assert heard == {story.user: list(story.told) for story in (*STREAKS, *ACHIEVEMENTS)}
    assert {type_ for events in heard.values() for type_, _ in events} == WANTED


async def lived(service: streak.Service | achievement.Service, story: Story) -> list[DomainEvent]:
    """What is told of the last step of a story."""
    told: list[DomainEvent] = []
    for step in story.steps:
        match step:
            case pb.Command():
                request = participants.apply(step)
                (outcome,) = (await service.participant.ApplyEntries(request)).outcomes
                assert not outcome.HasField("error"), outcome.error
                told = read(step.entry, outcome.effects)
            case pb.RevertEntriesRequest():
                await service.participant.RevertEntries(step)
            case Declared():
                await service.definitions.create(step.amnesty, at=step.on)
            case datetime():
                before = {change.entry_id for change in (await listed(service)).changes}
                request_ = pb.RunMaintenanceRequest(now=to_timestamp(step))
                while (await service.participant.RunMaintenance(request_)).more:
                    pass
                told = [
                    one
                    for change in (await listed(service)).changes
                    if change.user_id == story.user and change.entry_id not in before
                    for one in found(change)
                ]
    assert {one.user_id for one in told} == {story.user}
    return told


def found(change: pb.Change) -> list[DomainEvent]:
    """What is told of something that maintenance found, once it is an entry."""
    incoming = incoming_change(change)
    operation = OPERATIONS[incoming.operation]
    plain = entry_pb2.Entry(
        entry_id=change.entry_id,
        user=participants.snapshot(change.user_id, of_achievements.NOON),
        now=change.occur_time,
        occur_time=change.occur_time,
        origin=change.origin,
    )
    entry = stored_entry(operation, plain.SerializeToString(), incoming.request)
    return read(entry, operation.effects_before(entry))


def read(entry: entry_pb2.Entry, effects: effects_pb2.Effects) -> list[DomainEvent]:
    """What followers read of an entry that is complete, with the data that its reply has."""
    row = told_of(entry, entry.SerializeToString(), effects.SerializeToString())
    assert row is not None
    events = [DomainEvent.FromString(event.body) for event in events_of(row, WANTED)]
    for one in events:
        assert one.entry_id == entry.entry_id
        assert (
            one.streak in effects.streaks
            if one.HasField("streak")
            else one.achievement in effects.achievements
        )
    return events


def detail(told: DomainEvent) -> object:
    """Before and after, of what it is about."""
    if told.HasField("achievement"):
        return told.achievement.achievement
    effect = told.streak
    if told.type in (Type.STREAK_FROZEN, Type.STREAK_FREEZE_EARNED):
        return effect.freeze_count_before, effect.state.freeze_count
    if effect.HasField("change"):
        return effect.change.length_before, effect.change.length
    return effect.state.length, effect.state.length
