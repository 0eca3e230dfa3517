"""Backfills over a real channel: whoever had qualified is given it, once, whatever happens meanwhile (RULES 4.6)."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import grpc.aio
import pytest
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.achievement.v1 import achievement_service_pb2 as pb
from laurel.achievement.v1.achievement_service_pb2_grpc import AchievementServiceStub
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceStub
from pydantic import SecretStr

from services.achievement.config import Settings
from services.achievement.domain import place_of
from services.achievement.server import build
from shared import faults
from shared.errors import from_rpc_error
from shared.ids import derived_id
from shared.rpc.convert import to_timestamp
from shared.rpc.server import running
from tests.fixtures.databases import owner_of
from tests.fixtures.definitions import Administrator
from tests.fixtures.feeds import listed
from tests.fixtures.waiting import until
from tests.service.achievement.conftest import Service, ServiceDatabase
from tests.service.achievement.messages import (
    API,
    MERGED,
    NOON,
    apply,
    by_metric,
    call,
    correction,
    entry_id,
    event,
    revert,
)
from tests.service.achievement.steps import completed, define, held, shown

USERS = [f"user-{number}" for number in range(7)]
NEVER = 3_600.0


@pytest.fixture
async def quiet(service_database: ServiceDatabase) -> AsyncIterator[Service]:
    """A replica that looks at three users at a time, and only when it is told to."""
    async with _replica(service_database, NEVER) as service:
        yield service


@asynccontextmanager
async def _replica(
    service_database: ServiceDatabase, interval_seconds: float, sessions: int = 2
) -> AsyncIterator[Service]:
    dsn = await service_database("achievement")
    settings = Settings(
        postgres_dsn=SecretStr(dsn),
        listen="127.0.0.1:0",
        drain_grace_seconds=0,
        backfill_interval_seconds=interval_seconds,
        backfill_batch_size=3,
        backfill_sessions=sessions,
        backfill_timeout_seconds=0.1,
    )
    async with running(await build(settings), settings) as server:
        database = await asyncpg.connect(owner_of(dsn))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Service(
                AchievementServiceStub(channel),
                ParticipantServiceStub(channel),
                Administrator(channel),
                database,
                dsn,
            )
        await database.close()


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


async def lived(service: Service) -> None:
    """Each has three commits in as many minutes, and the last user has one."""
    await service.participant.ApplyEntries(
        apply(
            *(
                event(f"{user} {number}", 1, version=number, total=number, user=user)
                for user in USERS
                for number in (1, 2, 3)
                if number == 1 or user != USERS[-1]
            )
        )
    )


async def part(service: Service) -> participant_pb.RunMaintenanceResponse:
    return await service.participant.RunMaintenance(
        participant_pb.RunMaintenanceRequest(now=to_timestamp(NOON + timedelta(days=1)))
    )


async def finished(service: Service, key: str = "two") -> types.Backfill:
    while (await part(service)).more:
        pass
    return await backfill_of(service, key)


async def backfill_of(service: Service, key: str = "two") -> types.Backfill:
    response = await service.stub.GetBackfill(pb.GetBackfillRequest(achievement=key))
    return response.backfill


async def holders(service: Service, key: str = "two") -> dict[str, str]:
    rows = await service.database.fetch(
        "SELECT user_id, entry_id FROM live_completions WHERE achievement = $1 ORDER BY user_id", key
    )
    return {row["user_id"]: str(row["entry_id"]) for row in rows}


async def test_who_had_qualified_is_given_it_as_of_the_event_with_which_it_was_met(quiet: Service) -> None:
    await lived(quiet)
    await define(quiet, "two", metric=by_metric(2))
    done = await finished(quiet)
    assert await holders(quiet) == {user: str(entry_id(f"{user} 2")) for user in USERS[:-1]}
    assert (done.state, done.percent, done.user_count, done.looked_at_count) == (
        types.BACKFILL_STATE_DONE,
        100,
        7,
        7,
    )
    assert (done.completed_user_count, done.completion_count) == (6, 6)
    [one] = await shown(quiet, USERS[0])
    assert (one.backdated, one.complete_time) == (True, to_timestamp(NOON + timedelta(minutes=2)))
    [record] = (await quiet.stub.ListCompletions(pb.ListCompletionsRequest(user_id=USERS[0]))).completions
    assert (record.backdated, record.cause_entry_id) == (True, done.backfill_id)


async def test_many_who_do_not_qualify_are_looked_at_with_one_who_does(quiet: Service) -> None:
    await lived(quiet)
    below = [event(f"below {number}", 1, version=1, total=1, user=f"below-{number}") for number in range(20)]
    await quiet.participant.ApplyEntries(apply(*below))
    await define(quiet, "two", metric=by_metric(2))
    looked_at = [(await part(quiet)).done_count]
    while not (await backfill_of(quiet)).HasField("finish_time"):
        looked_at.append((await part(quiet)).done_count)
    assert looked_at == [23, 3, 1]
    assert list(await holders(quiet)) == USERS[:-1]


async def test_others_hear_of_it_only_where_points_are_given_for_it(quiet: Service) -> None:
    await lived(quiet)
    await define(quiet, "two", metric=by_metric(2))
    await finished(quiet)
    assert (await listed(quiet)).changes == []
    await define(quiet, "three", metric=by_metric(3), award_backdated=True)
    await finished(quiet)
    told = (await listed(quiet)).changes
    assert sorted(change.user_id for change in told) == USERS[:-1]
    assert {change.origin for change in told} == {entry_pb2.ENTRY_ORIGIN_BACKFILL}
    [change] = told[0].achievement_backfill.changes
    assert (change.achievement, change.backdated, change.unrewarded) == ("three", True, False)


async def test_events_meanwhile_and_the_backfill_never_give_the_same_twice(quiet: Service) -> None:
    await lived(quiet)
    await define(quiet, "two", metric=by_metric(2))
    await part(quiet)
    outcomes = (
        await quiet.participant.ApplyEntries(
            apply(
                event("early", 1, version=4, total=4, user=USERS[0]),
                event("late", 1, version=4, total=4, user=USERS[5]),
                event("last", 1, version=2, total=2, user=USERS[-1]),
                event("new", 2, version=1, total=2, user="zoe"),
            )
        )
    ).outcomes
    assert [completed(outcome) for outcome in outcomes] == [[], [], ["two"], ["two"]]
    await finished(quiet)
    expected = {user: str(entry_id(f"{user} 2")) for user in USERS[:-1]}
    expected |= {USERS[-1]: str(entry_id("last")), "zoe": str(entry_id("new"))}
    assert await holders(quiet) == expected
    facts = await quiet.database.fetchval("SELECT count(*) FROM completion_facts")
    assert facts == len(expected)


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_one_that_fails_at_a_commit_goes_on_where_it_was(quiet: Service, point: str) -> None:
    await lived(quiet)
    await define(quiet, "two", metric=by_metric(2), award_backdated=True)
    faults.arm(f"achievement.backfill.{point}=error@2")
    with pytest.raises(grpc.aio.AioRpcError):
        await finished(quiet)
    done = await finished(quiet)
    assert (done.looked_at_count, done.completed_user_count) == (7, 6)
    assert len(await holders(quiet)) == 6
    assert await quiet.database.fetchval("SELECT count(*) FROM feed") == 6


@pytest.mark.parametrize(("sessions", "repeatable"), [(1, False), (2, False), (2, True)])
async def test_what_was_given_before_the_cursor_moved_is_given_and_counted_once(
    service_database: ServiceDatabase, sessions: int, repeatable: bool
) -> None:
    async with _replica(service_database, NEVER, sessions) as service:
        await lived(service)
        await define(service, "two", metric=by_metric(2), repeatable=repeatable)
        faults.arm("achievement.backfill.after_giving=error@2")
        with pytest.raises(grpc.aio.AioRpcError):
            await finished(service)
        assert (await backfill_of(service)).looked_at_count == 3
        assert len(await holders(service)) == (3 if sessions == 1 or repeatable else 6)
        done = await finished(service)
        assert (done.looked_at_count, done.completed_user_count, done.completion_count) == (7, 6, 6)
        assert len(await holders(service)) == 6
        assert await service.database.fetchval("SELECT count(*) FROM completion_facts") == 6


async def test_one_that_is_ended_leaves_the_rest_to_the_next_event(quiet: Service) -> None:
    await lived(quiet)
    await define(quiet, "two", metric=by_metric(2))
    await part(quiet)
    request = pb.EndBackfillRequest(achievement="two", now=to_timestamp(NOON + timedelta(days=1)))
    ended = (await quiet.stub.EndBackfill(request)).backfill
    assert (ended.state, ended.looked_at_count) == (types.BACKFILL_STATE_CANCELLED, 3)
    assert (await quiet.stub.EndBackfill(request)).backfill == ended
    assert not (await part(quiet)).more
    assert list(await holders(quiet)) == USERS[:3]
    [outcome] = (
        await quiet.participant.ApplyEntries(apply(event("e", 1, version=4, total=4, user=USERS[4])))
    ).outcomes
    assert completed(outcome) == ["two"]


async def test_it_begins_when_an_achievement_is_activated_or_what_it_asks_for_is_changed(
    quiet: Service,
) -> None:
    await lived(quiet)
    definition = await define(quiet, "two", metric=by_metric(2), status=types.ACHIEVEMENT_STATUS_INACTIVE)
    assert (await quiet.stub.ListBackfills(pb.ListBackfillsRequest())).backfills == []
    definition.status = types.ACHIEVEMENT_STATUS_ACTIVE
    await quiet.definitions.update(definition)
    assert (await finished(quiet)).completed_user_count == 6
    definition.name = "Deux"
    await quiet.definitions.update(definition)
    first = await backfill_of(quiet)
    assert first.state == types.BACKFILL_STATE_DONE
    definition.metric.threshold = 1
    await quiet.definitions.update(definition)
    again = await finished(quiet)
    assert (again.completed_user_count, again.backfill_id != first.backfill_id) == (1, True)
    definition.status = types.ACHIEVEMENT_STATUS_ARCHIVED
    await quiet.definitions.update(definition)
    assert (await backfill_of(quiet)).state == types.BACKFILL_STATE_DONE


async def test_composites_come_after_what_they_hang_on(quiet: Service) -> None:
    await lived(quiet)
    await define(quiet, "low", metric=by_metric(1))
    await define(quiet, "two", metric=by_metric(2))
    await define(quiet, "both", composite=types.CompositeTrigger(achievements=["two", "low"]))
    await finished(quiet)
    assert await holders(quiet, "both") == await holders(quiet, "two")
    listed = await quiet.stub.ListCompletions(pb.ListCompletionsRequest(achievement="both"))
    assert {record.backdated for record in listed.completions} == {True}


async def test_what_was_given_goes_when_its_event_is_undone(quiet: Service) -> None:
    await lived(quiet)
    await define(quiet, "two", metric=by_metric(3))
    await finished(quiet)
    await quiet.participant.RevertEntries(revert(f"{USERS[0]} 1", user=USERS[0]))
    undone = correction("c", version=4, total=2, peak=2, of=f"{USERS[0]} 1", user=USERS[0])
    await quiet.participant.ApplyEntries(apply(undone))
    assert await held(quiet, USERS[0]) == set()


async def test_a_preview_says_who_would_be_given_it_and_changes_nothing(quiet: Service) -> None:
    await lived(quiet)
    proposed = types.Achievement(key="two", metric=by_metric(2))
    request = pb.PreviewAchievementRequest(achievement=proposed, sample_size=2)
    found = await quiet.stub.PreviewAchievement(request)
    assert (found.qualified_count, found.looked_at_count, found.user_count) == (6, 7, 7)
    assert [(each.user_id, each.complete_time) for each in found.sample] == [
        (user, to_timestamp(NOON + timedelta(minutes=2))) for user in USERS[:2]
    ]
    assert (found.estimated, found.holder_count) == (False, 0)
    assert found.estimated_seconds > 0
    assert await quiet.database.fetchval("SELECT count(*) FROM completion_facts") == 0


async def test_a_preview_of_what_is_stored_counts_who_holds_it(quiet: Service) -> None:
    await lived(quiet)
    await define(quiet, "two", metric=by_metric(2))
    await part(quiet)
    found = await quiet.stub.PreviewAchievement(pb.PreviewAchievementRequest(key="two"))
    assert (found.qualified_count, found.holder_count) == (3, 3)


async def test_whatever_holds_it_up_it_says_so_and_goes_on_by_itself(
    service_database: ServiceDatabase,
) -> None:
    async with _replica(service_database, 0.02) as service:
        await lived(service)
        await service.database.execute("ALTER TABLE completion_facts RENAME COLUMN backdated TO gone")
        await define(service, "two", metric=by_metric(2))

        async def held_up() -> bool:
            return "backdated" in (await backfill_of(service)).last_error

        await until(held_up, seconds=20, what="the backfill says what holds it up")
        await service.database.execute("ALTER TABLE completion_facts RENAME COLUMN gone TO backdated")

        async def done() -> bool:
            return (await backfill_of(service)).state == types.BACKFILL_STATE_DONE

        await until(done, seconds=20, what="the backfill goes on")
        assert len(await holders(service)) == 6


async def test_where_others_do_not_answer_it_says_so_and_tries_again(quiet: Service) -> None:
    await lived(quiet)
    await define(quiet, "two", metric=by_metric(2, [MERGED]))
    assert not (await part(quiet)).done_count
    waiting = await backfill_of(quiet)
    assert (waiting.state, waiting.looked_at_count) == (types.BACKFILL_STATE_RUNNING, 0)
    assert waiting.last_error


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.PreviewAchievementRequest(), "key"),
        (pb.PreviewAchievementRequest(key="Two"), "key"),
        (pb.PreviewAchievementRequest(key="two", sample_size=101), "sample_size"),
        (pb.PreviewAchievementRequest(achievement=types.Achievement(key="two")), "achievement"),
    ],
)
async def test_what_is_wrong_with_a_preview_is_said(
    quiet: Service, request_: pb.PreviewAchievementRequest, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await quiet.stub.PreviewAchievement(request_)
    assert [violation.field for violation in from_rpc_error(failure.value).violations] == [field]


async def test_what_calls_alone_earn_has_no_backfill_and_no_preview(quiet: Service) -> None:
    await quiet.participant.ApplyEntries(apply(call("c", "founder")))
    await define(quiet, "founder", api=API)
    for ask, reason in (
        (quiet.stub.PreviewAchievement(pb.PreviewAchievementRequest(key="founder")), "NOTHING_TO_PREVIEW"),
        (quiet.stub.GetBackfill(pb.GetBackfillRequest(achievement="founder")), "BACKFILL_NOT_FOUND"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await ask
        assert from_rpc_error(failure.value).reason == reason


@pytest.mark.parametrize("repeatable", [False, True])
async def test_what_the_database_gives_at_once_is_what_the_fold_gives(
    service_database: ServiceDatabase, repeatable: bool
) -> None:
    """The composite above makes the service fold every user; without one it need not."""
    threshold = 1.5 if repeatable else 3

    async def given(*, folds: bool) -> tuple[list[tuple[object, ...]], list[tuple[str, ...]], str]:
        async with _replica(service_database, NEVER) as service:
            await _lived_variously(service)
            if folds:
                await define(service, "never", api=API)
                above = types.CompositeTrigger(achievements=["three", "never"])
                await define(service, "above", status=types.ACHIEVEMENT_STATUS_INACTIVE, composite=above)
            proposed = types.Achievement(key="three", metric=by_metric(threshold), repeatable=repeatable)
            request = pb.PreviewAchievementRequest(achievement=proposed, sample_size=100)
            preview = await service.stub.PreviewAchievement(request)
            await define(service, "three", metric=by_metric(threshold), repeatable=repeatable)
            done = await finished(service, "three")
            query = """
                SELECT live.user_id, live.entry_id, complete_time, target, live.local_date, cause_position, cause_time,
                       live.cause_id, live.number, live.backdated, fact.fact_time, fact.kind, fact.local_date
                  FROM live_completions AS live JOIN completion_facts AS fact USING (user_id, completion_id)
                 ORDER BY user_id, number
            """
            rows = [tuple(row) for row in await service.database.fetch(query)]
            assert {each.user_id: each.completion_count for each in preview.sample} == Counter(
                row[0] for row in rows
            )
            for each in preview.sample:
                earned = min(row[2] for row in rows if row[0] == each.user_id)
                assert each.complete_time == to_timestamp(earned)
            ids = await service.database.fetch(
                "SELECT user_id, number, entry_id, completion_id FROM live_completions"
            )
            named: list[tuple[str, ...]] = [
                (
                    row["user_id"],
                    place_of("three", row["number"]),
                    str(row["entry_id"]),
                    str(row["completion_id"]),
                )
                for row in ids
            ]
            assert (done.completed_user_count, done.completion_count) == (
                len({row[0] for row in rows}),
                len(rows),
            )
            return rows, named, done.backfill_id

    at_once, named, backfill_id = await given(folds=False)
    assert {row[0] for row in at_once} >= {"plain", "früh", "late", "long", "again", "many", "other"}
    for user_id, place, entry, completion_id in named:
        wanted = derived_id("completion", user_id, place, entry, f"backfill {backfill_id}")
        assert completion_id == str(wanted)
    folded, _, _ = await given(folds=True)
    assert at_once == folded


async def _lived_variously(service: Service) -> None:
    commands = [event(f"p{number}", 1, version=number, total=number, user="plain") for number in (1, 2, 3, 4)]
    commands += [event(f"f{number}", 2, version=number, total=2 * number, user="früh") for number in (1, 2)]
    commands += [
        event(f"l{number}", 1, version=number, total=number, user="late", minutes=minutes)
        for number, minutes in ((1, 10), (2, 30), (3, 20), (4, 5))
    ]
    commands += [
        event("n1", 2, version=1, total=2, user="fallen"),
        event("n2", -1, version=2, total=1, peak=2, user="fallen"),
        event("n3", 1, version=3, total=2, user="fallen"),
    ]
    commands += [
        event("a1", 2, version=1, total=2, user="again"),
        event("a2", 5, version=2, total=7, user="again"),
        event("a3", 1, version=3, total=8, user="again"),
    ]
    commands += [
        event(f"g{number}", 1, version=number, total=number, user="long") for number in range(1, 301)
    ]
    commands += [
        event(f"m{number}", 20 * number, version=number, total=total, user="many")
        for number, total in ((1, 20), (2, 60))
    ]
    # As many entries as a long past has, few of which are of the metric.
    logins = [event(f"o{number}", 1, version=number, total=number, user="other") for number in range(1, 301)]
    for login in logins:
        login.entry.metric_event.metric = "logins"
    commands += logins
    commands += [event(f"c{number}", 2, version=number, total=2 * number, user="other") for number in (1, 2)]
    await service.participant.ApplyEntries(apply(*commands))
    await service.participant.RevertEntries(revert("a2", user="again"))
    await service.participant.ApplyEntries(
        apply(correction("a2 undone", version=4, total=3, of="a2", user="again"))
    )


async def test_who_was_taken_something_is_folded(quiet: Service) -> None:
    """What an admin has taken is not given back by a backfill."""
    await lived(quiet)
    await define(quiet, "two", metric=by_metric(2))
    await finished(quiet)
    message = call("taken", "two", user=USERS[0])
    message.entry.ClearField("achievement_call")
    message.entry.achievement_revocation.achievement = "two"
    await quiet.participant.ApplyEntries(apply(message))
    changed = types.Achievement(key="two", name="Two", metric=by_metric(1))
    await quiet.definitions.update(changed)
    await finished(quiet)
    assert USERS[0] not in await holders(quiet)
    assert USERS[-1] in await holders(quiet)
