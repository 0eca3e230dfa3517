"""Definitions on a real database: kept, changed, compared, cached (DESIGN 1)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from laurel.common.v1.configuration_pb2 import (
    CONFIGURATION_ACTION_CREATE,
    CONFIGURATION_ACTION_KEEP,
    CONFIGURATION_ACTION_UPDATE,
)
from laurel.streak.v1.streak_pb2 import (
    FREQUENCY_DAILY,
    FREQUENCY_WEEKLY,
    STREAK_STATUS_ACTIVE,
    STREAK_STATUS_UNSPECIFIED,
    Frequency,
    MetricThreshold,
    Streak,
)

from deploy.local.postgres import PostgresServer
from shared.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    LaurelError,
    NotFound,
    Violations,
)
from shared.postgres.definitions import Catalogue, DefinitionKind, Definitions
from shared.postgres.pool import Pool
from tests.fixtures.counter.database import counter_pool


def validate(streak: Streak, path: str, violations: Violations) -> None:
    for index, metric in enumerate(streak.metrics):
        if metric.threshold < 0:
            violations.add(f"{path}.metrics[{index}].threshold", "must not be negative")


def normalise(streak: Streak) -> Streak:
    if streak.status == STREAK_STATUS_UNSPECIFIED:
        streak.status = STREAK_STATUS_ACTIVE
    return streak


KIND = DefinitionKind(
    name="streak",
    message_type=Streak,
    validate=validate,
    normalise=normalise,
    immutable_fields=("frequency",),
    domain="streak.laurel",
    not_found="STREAK_NOT_FOUND",
    exists="STREAK_EXISTS",
    in_use="STREAK_IN_USE",
    in_use_query="SELECT EXISTS (SELECT FROM users WHERE user_id = $1)",
)


class SteppingClock:
    """Each look at it is a second later than the one before."""

    def __init__(self) -> None:
        self._now = datetime(2026, 3, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


@pytest.fixture
async def pool(postgres_server: PostgresServer) -> AsyncIterator[Pool]:
    async with counter_pool(postgres_server) as pool:
        yield pool


@pytest.fixture
def definitions(pool: Pool) -> Definitions[Streak]:
    return Definitions(KIND, pool, SteppingClock())


def streak(
    key: str, name: str = "", threshold: float = 1, frequency: Frequency.ValueType = FREQUENCY_DAILY
) -> Streak:
    metrics = [MetricThreshold(metric="lessons", threshold=threshold)]
    return Streak(key=key, name=name, frequency=frequency, metrics=metrics)


async def version(pool: Pool) -> int:
    value: int = await pool.fetchval("SELECT version FROM configuration_version")
    return value


def fields(error: LaurelError) -> list[str]:
    return [violation.field for violation in error.violations]


# Create, get, list


async def test_a_created_definition_reads_back_with_its_defaults_and_times(
    definitions: Definitions[Streak],
) -> None:
    created = await definitions.create(streak("daily", "Daily"), "r1")

    assert created.status == STREAK_STATUS_ACTIVE
    assert created.create_time == created.update_time
    assert created.create_time.seconds > 0
    assert await definitions.get("daily") == created


async def test_times_that_a_client_sends_are_passed_over(definitions: Definitions[Streak]) -> None:
    sent = streak("daily")
    sent.create_time.seconds = 1

    assert (await definitions.create(sent, "r1")).create_time.seconds > 1


async def test_a_key_that_is_taken_is_refused(definitions: Definitions[Streak]) -> None:
    await definitions.create(streak("daily"), "r1")

    with pytest.raises(AlreadyExists) as raised:
        await definitions.create(streak("daily"), "r2")

    assert (raised.value.reason, raised.value.domain) == ("STREAK_EXISTS", "streak.laurel")


async def test_everything_wrong_with_a_new_definition_is_said_at_once(
    definitions: Definitions[Streak],
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await definitions.create(streak("No Key", threshold=-1), "")

    assert fields(raised.value) == ["request_id", "streak.key", "streak.metrics[0].threshold"]


async def test_an_unknown_key_is_not_found_and_a_malformed_one_is_invalid(
    definitions: Definitions[Streak],
) -> None:
    with pytest.raises(NotFound) as raised:
        await definitions.get("daily")
    assert raised.value.reason == "STREAK_NOT_FOUND"
    with pytest.raises(InvalidArgument):
        await definitions.get("da\x00ily")


async def test_a_list_comes_in_pages_in_order_of_key(definitions: Definitions[Streak]) -> None:
    for number in (3, 1, 5, 2, 4):
        await definitions.create(streak(f"s{number}"), f"r{number}")

    seen, token, sizes = [], "", []
    while True:
        page, token = await definitions.list(2, token)
        seen += [one.key for one in page]
        sizes.append(len(page))
        if not token:
            break

    assert seen == ["s1", "s2", "s3", "s4", "s5"]
    assert sizes == [2, 2, 1]


async def test_a_token_of_another_list_is_refused(definitions: Definitions[Streak]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await definitions.list(2, "bm90IGEgdG9rZW4")
    assert fields(raised.value) == ["page_token"]


# Update


async def test_an_update_changes_the_masked_fields_only(definitions: Definitions[Streak]) -> None:
    created = await definitions.create(streak("daily", "Daily"), "r1")

    changed = await definitions.update(streak("daily", "Every day", 9), FieldMask(paths=["name"]), "r2")

    assert (changed.name, changed.metrics[0].threshold) == ("Every day", 1)
    assert changed.create_time == created.create_time
    assert changed.update_time.seconds > created.update_time.seconds
    assert await definitions.get("daily") == changed


async def test_an_update_without_a_difference_writes_nothing(
    definitions: Definitions[Streak], pool: Pool
) -> None:
    created = await definitions.create(streak("daily", "Daily"), "r1")
    before = await version(pool)

    assert await definitions.update(streak("daily", "Daily"), FieldMask(paths=["name"]), "r2") == created
    assert await version(pool) == before


async def test_an_immutable_field_cannot_be_updated(definitions: Definitions[Streak]) -> None:
    await definitions.create(streak("daily"), "r1")

    with pytest.raises(InvalidArgument) as raised:
        await definitions.update(
            streak("daily", frequency=FREQUENCY_WEEKLY), FieldMask(paths=["frequency"]), "r2"
        )

    assert fields(raised.value) == ["frequency"]


async def test_an_update_is_validated_as_a_whole(definitions: Definitions[Streak]) -> None:
    await definitions.create(streak("daily"), "r1")

    with pytest.raises(InvalidArgument) as raised:
        await definitions.update(streak("daily", threshold=-1), FieldMask(paths=["metrics"]), "r2")

    assert fields(raised.value) == ["streak.metrics[0].threshold"]
    with pytest.raises(InvalidArgument) as raised:
        await definitions.update(streak("daily"), FieldMask(paths=["nonsense"]), "r2")
    assert fields(raised.value) == ["update_mask"]


async def test_what_does_not_exist_cannot_be_updated_or_deleted(definitions: Definitions[Streak]) -> None:
    with pytest.raises(NotFound):
        await definitions.update(streak("daily"), FieldMask(paths=["name"]), "r1")
    with pytest.raises(NotFound):
        await definitions.delete("daily", "r2")


# Delete


async def test_a_deleted_definition_is_gone(definitions: Definitions[Streak]) -> None:
    await definitions.create(streak("daily"), "r1")

    await definitions.delete("daily", "r2")

    with pytest.raises(NotFound):
        await definitions.get("daily")


async def test_what_is_in_use_cannot_be_deleted(definitions: Definitions[Streak], pool: Pool) -> None:
    await definitions.create(streak("daily"), "r1")
    await pool.execute("INSERT INTO users (user_id, version, total) VALUES ('daily', 1, 1)")

    with pytest.raises(FailedPrecondition) as raised:
        await definitions.delete("daily", "r2")

    assert raised.value.reason == "STREAK_IN_USE"
    assert (await definitions.get("daily")).key == "daily"


# One reply per request id


async def test_a_mutation_sent_again_gets_its_first_reply(
    definitions: Definitions[Streak], pool: Pool
) -> None:
    created = await definitions.create(streak("daily", "Daily"), "r1")
    changed = await definitions.update(streak("daily", "New"), FieldMask(paths=["name"]), "r2")
    await definitions.delete("daily", "r3")
    before = await version(pool)

    assert await definitions.create(streak("daily", "Daily"), "r1") == created
    assert await definitions.update(streak("daily", "New"), FieldMask(paths=["name"]), "r2") == changed
    await definitions.delete("daily", "r3")
    assert await version(pool) == before


async def test_a_request_id_with_other_content_is_refused(definitions: Definitions[Streak]) -> None:
    await definitions.create(streak("daily"), "r1")
    await definitions.update(streak("daily", "New"), FieldMask(paths=["name"]), "r2")
    await definitions.delete("daily", "r3")

    for again in (
        definitions.create(streak("weekly"), "r1"),
        definitions.update(streak("daily", "New"), FieldMask(paths=["name", "metrics"]), "r2"),
        definitions.delete("weekly", "r3"),
    ):
        with pytest.raises(AlreadyExists) as raised:
            await again
        assert raised.value.reason == "REQUEST_ID_REUSED"


async def test_a_failed_mutation_is_not_remembered(definitions: Definitions[Streak]) -> None:
    with pytest.raises(NotFound):
        await definitions.delete("daily", "r1")
    await definitions.create(streak("daily"), "r2")

    await definitions.delete("daily", "r1")


async def test_of_one_request_sent_many_times_at_once_one_takes_effect(
    definitions: Definitions[Streak], pool: Pool
) -> None:
    before = await version(pool)

    replies = await asyncio.gather(*(definitions.create(streak("daily"), "r1") for _ in range(20)))

    assert all(reply == replies[0] for reply in replies)
    assert await version(pool) == before + 1


# Apply


async def test_applying_says_what_it_does_to_each_definition(
    definitions: Definitions[Streak], pool: Pool
) -> None:
    await definitions.create(streak("kept"), "r1")
    await definitions.create(streak("changed", "Old"), "r2")
    await definitions.create(streak("untouched"), "r3")
    before = await version(pool)

    changes = await definitions.apply(
        [streak("new"), streak("changed", "New", 2), streak("kept")], validate_only=False, path="streaks"
    )

    assert [(one.kind, one.key, one.action, list(one.changed_fields)) for one in changes] == [
        ("streak", "new", CONFIGURATION_ACTION_CREATE, []),
        ("streak", "changed", CONFIGURATION_ACTION_UPDATE, ["name", "metrics"]),
        ("streak", "kept", CONFIGURATION_ACTION_KEEP, []),
    ]
    assert await version(pool) == before + 1
    assert (await definitions.get("changed")).name == "New"
    assert (await definitions.get("new")).status == STREAK_STATUS_ACTIVE
    assert (await definitions.get("untouched")).key == "untouched"


async def test_applying_the_same_again_keeps_everything(definitions: Definitions[Streak], pool: Pool) -> None:
    wanted = [streak("a"), streak("b")]
    await definitions.apply(wanted, validate_only=False, path="streaks")
    before = await version(pool)

    changes = await definitions.apply(wanted, validate_only=False, path="streaks")

    assert {one.action for one in changes} == {CONFIGURATION_ACTION_KEEP}
    assert await version(pool) == before


async def test_what_the_service_returns_can_be_applied_without_a_difference(
    definitions: Definitions[Streak],
) -> None:
    await definitions.create(streak("daily"), "r1")
    listed, _ = await definitions.list(0, "")

    [change] = await definitions.apply(listed, validate_only=False, path="streaks")

    assert change.action == CONFIGURATION_ACTION_KEEP


async def test_a_dry_run_says_the_same_and_writes_nothing(
    definitions: Definitions[Streak], pool: Pool
) -> None:
    before = await version(pool)

    dry = await definitions.apply([streak("new")], validate_only=True, path="streaks")

    assert await version(pool) == before
    assert await definitions.list(0, "") == ([], "")
    assert await definitions.apply([streak("new")], validate_only=False, path="streaks") == dry


@pytest.mark.parametrize("validate_only", [True, False])
async def test_one_mistake_keeps_everything_from_being_applied(
    definitions: Definitions[Streak], validate_only: bool
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await definitions.apply(
            [streak("a"), streak("b", threshold=-1), streak("a"), streak("")],
            validate_only=validate_only,
            path="streaks",
        )

    assert fields(raised.value) == ["streaks[1].metrics[0].threshold", "streaks[2].key", "streaks[3].key"]
    assert await definitions.list(0, "") == ([], "")


async def test_an_immutable_field_cannot_be_applied_otherwise(definitions: Definitions[Streak]) -> None:
    await definitions.create(streak("daily"), "r1")

    with pytest.raises(InvalidArgument) as raised:
        await definitions.apply(
            [streak("new"), streak("daily", frequency=FREQUENCY_WEEKLY)], validate_only=False, path="streaks"
        )

    assert fields(raised.value) == ["streaks[1].frequency"]
    with pytest.raises(NotFound):
        await definitions.get("new")


async def test_too_many_definitions_at_once_are_refused(definitions: Definitions[Streak]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await definitions.apply([streak("a")] * 1_001, validate_only=True, path="streaks")
    assert fields(raised.value) == ["streaks"]


async def test_concurrent_writers_of_one_definition_follow_one_another(
    definitions: Definitions[Streak], pool: Pool
) -> None:
    before = await version(pool)

    await asyncio.gather(
        *(
            definitions.apply([streak("a", f"name {number}")], validate_only=False, path="streaks")
            for number in range(20)
        )
    )

    assert await version(pool) == before + 20


# The catalogue


async def test_a_change_is_in_the_catalogue_at_the_next_version(
    definitions: Definitions[Streak], pool: Pool
) -> None:
    catalogue = Catalogue(pool, Streak, lambda all_of_them: [one.key for one in all_of_them])
    assert await catalogue.at(await version(pool)) == []

    await definitions.create(streak("b"), "r1")
    await definitions.create(streak("a"), "r2")

    assert await catalogue.at(await version(pool)) == ["a", "b"]
    assert await catalogue.latest() == ["a", "b"]


async def test_the_catalogue_is_built_once_for_each_version(
    definitions: Definitions[Streak], pool: Pool
) -> None:
    await definitions.create(streak("a"), "r1")
    builds = []

    def build(all_of_them: Sequence[Streak]) -> int:
        builds.append(all_of_them)
        return len(all_of_them)

    catalogue = Catalogue(pool, Streak, build)
    current = await version(pool)

    assert await asyncio.gather(*(catalogue.at(current) for _ in range(10))) == [1] * 10
    assert len(builds) == 1


async def test_whoever_holds_a_connection_learns_of_a_change_without_waiting_for_another_one(
    definitions: Definitions[Streak], pool: Pool
) -> None:
    catalogue = Catalogue(pool, Streak, lambda all_of_them: [one.key for one in all_of_them])
    await definitions.create(streak("a"), "r1")
    current = await version(pool)

    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(pool.acquire()) for _ in range(pool.get_max_size())]
        async with asyncio.timeout(5):
            assert await asyncio.gather(*(catalogue.at(current, one) for one in held)) == [["a"]] * len(held)
