"""Definitions on a real database: kept, checked, written, cached (DESIGN 1)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from laurel.orchestrator.v1.definition_pb2 import Definition, DefinitionName
from laurel.orchestrator.v1.metric_pb2 import Metric
from laurel.participant.v1 import definition_service_pb2 as pb
from laurel.streak.v1.streak_pb2 import FREQUENCY_DAILY, Streak

from deploy.local.postgres import PostgresServer
from shared.definition_plan import StoredDefinitions
from shared.definitions import DefinitionKind
from shared.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Violations
from shared.postgres.definitions import Catalogue, Definitions
from shared.postgres.pool import Pool
from shared.rpc.convert import to_timestamp
from tests.fixtures.counter.database import counter_pool


def anything(_message: object, _path: str, _violations: Violations) -> None:
    pass


STREAK = DefinitionKind(
    name="streak",
    message_type=Streak,
    validate=anything,
    normalise=lambda message: message,
    not_found="STREAK_NOT_FOUND",
    exists="STREAK_EXISTS",
    in_use="STREAK_IN_USE",
)
METRIC = DefinitionKind(
    name="metric",
    message_type=Metric,
    validate=anything,
    normalise=lambda message: message,
    not_found="METRIC_NOT_FOUND",
    exists="METRIC_EXISTS",
    in_use="METRIC_IN_USE",
)
IN_USE = "SELECT EXISTS (SELECT FROM users WHERE user_id = $1)"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def pool(postgres_server: PostgresServer) -> AsyncIterator[Pool]:
    async with counter_pool(postgres_server) as pool:
        yield pool


@pytest.fixture
def definitions(pool: Pool) -> Definitions:
    return Definitions(pool, {METRIC: IN_USE, STREAK: IN_USE})


def streak(key: str, name: str = "") -> Definition:
    return Definition(streak=Streak(key=key, name=name or key, frequency=FREQUENCY_DAILY))


def metric(key: str) -> Definition:
    return Definition(metric=Metric(key=key, name=key))


def named(kind: str, key: str) -> DefinitionName:
    return DefinitionName(kind=kind, key=key)


def write(
    *puts: Definition, deletes: tuple[DefinitionName, ...] = (), at: datetime = NOON, write_id: str = ""
) -> pb.WriteDefinitionsRequest:
    return pb.WriteDefinitionsRequest(
        write_id=write_id or str(uuid4()), write_time=to_timestamp(at), puts=puts, deletes=deletes
    )


async def version(pool: Pool) -> int:
    value: int = await pool.fetchval("SELECT version FROM configuration_version")
    return value


# Reads


async def test_a_definition_reads_back_with_the_times_of_its_writes(definitions: Definitions) -> None:
    await definitions.write(write(streak("daily"), at=NOON))
    await definitions.write(write(streak("daily", "Every day"), at=NOON + timedelta(hours=1)))

    found = await definitions.get(STREAK, "daily")

    assert found.name == "Every day"
    assert found.create_time == to_timestamp(NOON)
    assert found.update_time == to_timestamp(NOON + timedelta(hours=1))


async def test_definitions_of_two_kinds_may_have_one_key(definitions: Definitions) -> None:
    await definitions.write(write(streak("steps", "Steps every day"), metric("steps")))

    assert (await definitions.get(STREAK, "steps")).name == "Steps every day"
    assert (await definitions.get(METRIC, "steps")).name == "steps"
    await definitions.write(write(deletes=(named("metric", "steps"),)))
    assert (await definitions.get(STREAK, "steps")).key == "steps"


async def test_an_unknown_key_is_not_found_and_a_malformed_one_is_invalid(definitions: Definitions) -> None:
    await definitions.write(write(metric("daily")))

    with pytest.raises(NotFound) as raised:
        await definitions.get(STREAK, "daily")
    assert raised.value.reason == "STREAK_NOT_FOUND"
    with pytest.raises(InvalidArgument):
        await definitions.get(STREAK, "da\x00ily")


async def test_a_list_comes_in_pages_in_order_of_key(definitions: Definitions) -> None:
    await definitions.write(write(*(streak(f"s{number}") for number in (3, 1, 5, 2, 4)), metric("s0")))

    seen, token, sizes = [], "", []
    while True:
        page, token = await definitions.list(STREAK, 2, token)
        seen += [listed.key for listed in page]
        sizes.append(len(page))
        if not token:
            break

    assert seen == ["s1", "s2", "s3", "s4", "s5"]
    assert sizes == [2, 2, 1]


async def test_a_token_of_another_list_is_refused(definitions: Definitions) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await definitions.list(STREAK, 2, "bm90IGEgdG9rZW4")
    assert [violation.field for violation in raised.value.violations] == ["page_token"]


async def test_the_orchestrator_gets_one_and_lists_from_a_key_on(definitions: Definitions) -> None:
    await definitions.write(write(streak("a"), streak("b"), streak("c"), metric("d")))

    got = await definitions.get_one(pb.GetDefinitionRequest(name=named("streak", "b")))
    listed = await definitions.list_some(pb.ListDefinitionsRequest(kind="streak", after_key="a", limit=5))

    assert got.definition.streak.key == "b"
    assert [definition.streak.key for definition in listed.definitions] == ["b", "c"]


# Checks


async def test_a_check_says_what_would_be_and_writes_nothing(definitions: Definitions, pool: Pool) -> None:
    await definitions.write(write(streak("kept"), metric("m")))
    before = await version(pool)

    checked = await definitions.check(
        pb.CheckDefinitionsRequest(writes=[pb.DefinitionWrite(path="streaks[0]", put=streak("new"))])
    )

    assert {(definition.name.kind, definition.name.key) for definition in checked.definitions} == {
        ("metric", "m"),
        ("streak", "kept"),
        ("streak", "new"),
    }
    assert await version(pool) == before


async def test_what_is_in_use_cannot_be_deleted(definitions: Definitions, pool: Pool) -> None:
    await definitions.write(write(streak("daily"), streak("weekly")))
    await pool.execute("INSERT INTO users (user_id, version, total) VALUES ('daily', 1, 1)")

    delete = pb.DefinitionWrite(path="streak", delete=named("streak", "daily"))
    with pytest.raises(FailedPrecondition) as raised:
        await definitions.check(pb.CheckDefinitionsRequest(writes=[delete]))
    pruned = await definitions.check(pb.CheckDefinitionsRequest(prune=True))

    assert raised.value.reason == "STREAK_IN_USE"
    assert [(violation.field, violation.reason) for violation in pruned.violations] == [
        ("prune", "STREAK_IN_USE")
    ]
    assert list(pruned.writes) == []


# Writes


async def test_a_write_takes_effect_once_for_each_id(definitions: Definitions, pool: Pool) -> None:
    before = await version(pool)
    request = write(streak("daily"), deletes=(named("streak", "gone"),))

    replies = await asyncio.gather(*(definitions.write(request) for _ in range(20)))

    assert {reply.version for reply in replies} == {before + 1}
    assert await version(pool) == before + 1


async def test_a_late_copy_of_an_old_write_does_not_undo_a_newer_one(definitions: Definitions) -> None:
    old = write(streak("daily", "Old"))
    await definitions.write(old)
    await definitions.write(write(streak("daily", "New")))

    await definitions.write(old)

    assert (await definitions.get(STREAK, "daily")).name == "New"


async def test_a_write_id_with_other_content_is_refused(definitions: Definitions) -> None:
    request = write(streak("daily"))
    await definitions.write(request)

    with pytest.raises(AlreadyExists) as raised:
        await definitions.write(write(streak("weekly"), write_id=request.write_id))
    assert raised.value.reason == "REQUEST_ID_REUSED"


async def test_a_write_of_a_kind_that_is_kept_elsewhere_writes_nothing(pool: Pool) -> None:
    streaks_alone = Definitions(pool, {STREAK: IN_USE})

    with pytest.raises(InvalidArgument):
        await streaks_alone.write(write(streak("daily"), metric("steps")))

    assert await streaks_alone.list(STREAK, 0, "") == ([], "")


async def test_concurrent_writes_follow_one_another(definitions: Definitions, pool: Pool) -> None:
    before = await version(pool)

    await asyncio.gather(*(definitions.write(write(streak("a", f"name {number}"))) for number in range(20)))

    assert await version(pool) == before + 20


# The catalogue


def keys(stored: StoredDefinitions) -> list[str]:
    return [one.key for one in stored.of(STREAK)]


async def test_a_change_is_in_the_catalogue_at_the_next_version(definitions: Definitions, pool: Pool) -> None:
    catalogue = Catalogue(pool, [STREAK], keys)
    assert await catalogue.at(await version(pool)) == []

    await definitions.write(write(streak("b")))
    await definitions.write(write(streak("a"), metric("c")))

    assert await catalogue.at(await version(pool)) == ["a", "b"]
    assert await catalogue.latest() == ["a", "b"]


async def test_the_catalogue_is_built_once_for_each_version(definitions: Definitions, pool: Pool) -> None:
    await definitions.write(write(streak("a")))
    builds = []

    def build(stored: StoredDefinitions) -> int:
        builds.append(stored)
        return len(keys(stored))

    catalogue = Catalogue(pool, [METRIC, STREAK], build)
    current = await version(pool)

    assert await asyncio.gather(*(catalogue.at(current) for _ in range(10))) == [1] * 10
    assert len(builds) == 1


async def test_whoever_holds_a_connection_learns_of_a_change_without_waiting_for_another_one(
    definitions: Definitions, pool: Pool
) -> None:
    catalogue = Catalogue(pool, [STREAK], keys)
    await definitions.write(write(streak("a")))
    current = await version(pool)

    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(pool.acquire()) for _ in range(pool.get_max_size())]
        async with asyncio.timeout(5):
            assert await asyncio.gather(*(catalogue.at(current, connection) for connection in held)) == [
                ["a"]
            ] * len(held)
