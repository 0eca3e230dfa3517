"""Definitions of all services, written through the orchestrator: every write is checked against the whole."""

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from laurel.achievement.v1.achievement_pb2 import Achievement, MetricTrigger
from laurel.common.v1 import configuration_pb2 as changes
from laurel.leaderboard.v1.leaderboard_pb2 import Leaderboard
from laurel.orchestrator.v1 import event_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1.definition_pb2 import Definition
from laurel.orchestrator.v1.metric_pb2 import METRIC_AGGREGATION_MAX, METRIC_AGGREGATION_SUM, Metric
from laurel.points.v1.points_pb2 import PointsSystem
from laurel.streak.v1.streak_pb2 import FREQUENCY_WEEKLY, MetricThreshold, Streak

from tests.service.configuration.conftest import World
from tests.service.configuration.steps import (
    ALL,
    BOARD,
    DAILY,
    STEPS,
    WEEK,
    WHOLE,
    XP,
    create,
    delete,
    fields,
    listed,
    refused,
)

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import (
        OrchestratorServiceAsyncStub as Stub,
    )


# One by one


async def test_a_definition_of_each_kind_is_created_and_read_back(stub: "Stub") -> None:
    wanted = [
        Definition(metric=STEPS),
        Definition(streak=DAILY),
        Definition(achievement=WEEK),
        Definition(points_system=XP),
        Definition(leaderboard=BOARD),
    ]
    for number, definition in enumerate(wanted):
        created = await stub.CreateDefinition(create(definition, f"r{number}"))
        kind, key = ALL[number].split()
        got = await stub.GetDefinition(pb.GetDefinitionRequest(kind=kind, key=key))
        assert got.definition == created.definition
    assert created.definition.leaderboard.create_time.seconds > 0
    assert created.definition.leaderboard.create_time == created.definition.leaderboard.update_time
    assert await listed(stub) == ALL
    assert await listed(stub, "streak") == ["streak daily"]


@pytest.mark.parametrize(
    ("definition", "path"),
    [
        (Definition(streak=DAILY), "definition.streak.metrics[0].metric"),
        (Definition(achievement=WEEK), "definition.achievement.streak.streak"),
        (Definition(points_system=XP), "definition.points_system.triggers[0].streak.streak"),
        (Definition(leaderboard=BOARD), "definition.leaderboard.streak"),
    ],
)
async def test_what_mentions_something_that_does_not_exist_is_not_created(
    stub: "Stub", definition: Definition, path: str
) -> None:
    error = await refused(stub.CreateDefinition(create(definition, "r")))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REFERENCE_NOT_FOUND")
    assert fields(error) == [path]
    assert await listed(stub) == []


async def test_an_update_that_would_mention_something_unknown_is_refused(stub: "Stub") -> None:
    await stub.ApplyConfiguration(WHOLE)
    other = Streak(key="daily", metrics=[MetricThreshold(metric="jumps")])
    error = await refused(
        stub.UpdateDefinition(pb.UpdateDefinitionRequest(definition=Definition(streak=other), request_id="r"))
    )
    assert (error.reason, fields(error)) == ("REFERENCE_NOT_FOUND", ["definition.streak.metrics[0].metric"])


async def test_what_is_mentioned_cannot_be_deleted_until_nothing_mentions_it(stub: "Stub") -> None:
    await stub.ApplyConfiguration(WHOLE)

    error = await refused(stub.DeleteDefinition(delete("streak", "daily", "r1")))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DEFINITION_MENTIONED")
    assert (error.metadata["by_kind"], error.metadata["by_key"]) == ("achievement", "week")
    error = await refused(stub.DeleteDefinition(delete("metric", "steps", "r2")))
    assert error.reason == "DEFINITION_MENTIONED"
    for one in reversed(ALL):
        kind, key = one.split()
        await stub.DeleteDefinition(delete(kind, key, f"delete {one}"))
    assert await listed(stub) == []


async def test_a_mention_that_was_missing_before_is_no_fault_of_another_write(
    world: World, stub: "Stub"
) -> None:
    await stub.ApplyConfiguration(WHOLE)
    async with world.database("streak") as database:
        await database.execute("DELETE FROM definitions")

    await stub.CreateDefinition(create(Definition(metric=Metric(key="more")), "r1"))
    error = await refused(
        stub.CreateDefinition(create(Definition(leaderboard=Leaderboard(key="b", streak="daily")), "r2"))
    )
    assert error.reason == "REFERENCE_NOT_FOUND"


async def test_what_users_hold_something_of_cannot_be_deleted(stub: "Stub") -> None:
    held = Streak(key="held", frequency=FREQUENCY_WEEKLY, metrics=[MetricThreshold(metric="laps")])
    await stub.ApplyConfiguration(pb.ApplyConfigurationRequest(metrics=[Metric(key="laps")], streaks=[held]))
    event = event_pb2.IngestEventRequest(metric="laps", value=1)
    event.user.user_id = "ada"
    await stub.IngestEvent(event)

    error = await refused(stub.DeleteDefinition(delete("streak", "held", "r1")))
    assert (error.code, error.reason, error.domain) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "STREAK_IN_USE",
        "streak.laurel",
    )
    error = await refused(stub.ApplyConfiguration(pb.ApplyConfigurationRequest(prune=True)))
    assert {violation.reason for violation in error.violations} == {"STREAK_IN_USE", "METRIC_IN_USE"}
    assert set(fields(error)) == {"prune"}
    assert await listed(stub) == ["metric laps", "streak held"]


async def test_a_key_that_is_taken_or_unknown_is_refused_with_the_reason_of_its_kind(stub: "Stub") -> None:
    await stub.CreateDefinition(create(Definition(metric=STEPS), "r1"))
    other = Metric(key="steps", aggregation=METRIC_AGGREGATION_MAX)

    error = await refused(stub.CreateDefinition(create(Definition(metric=other), "r2")))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "METRIC_EXISTS")
    error = await refused(stub.DeleteDefinition(delete("points_system", "xp", "r3")))
    assert (error.code, error.reason, error.domain) == (
        grpc.StatusCode.NOT_FOUND,
        "POINTS_SYSTEM_NOT_FOUND",
        "points.laurel",
    )
    error = await refused(stub.GetDefinition(pb.GetDefinitionRequest(kind="leaderboard", key="top")))
    assert error.reason == "LEADERBOARD_NOT_FOUND"


async def test_a_malformed_request_names_every_field_at_fault(stub: "Stub") -> None:
    error = await refused(stub.CreateDefinition(pb.CreateDefinitionRequest()))
    assert fields(error) == ["definition", "request_id"]
    error = await refused(stub.DeleteDefinition(delete("moon", "No Key", "")))
    assert fields(error) == ["request_id", "kind", "key"]
    error = await refused(stub.ListDefinitions(pb.ListDefinitionsRequest(kind="moon")))
    assert fields(error) == ["kind"]
    error = await refused(stub.CreateDefinition(create(Definition(streak=Streak(key="No Key")), "r")))
    assert fields(error) == [
        "definition.streak.key",
        "definition.streak.frequency",
        "definition.streak.metrics",
    ]


# Updates


async def test_an_update_changes_the_masked_fields_and_tells_what_it_changed(stub: "Stub") -> None:
    await stub.ApplyConfiguration(WHOLE)
    wanted = Definition(points_system=PointsSystem(key="xp", name="Points", unit="XP"))
    request = pb.UpdateDefinitionRequest(
        definition=wanted, update_mask=FieldMask(paths=["name", "triggers"]), request_id="r"
    )

    response = await stub.UpdateDefinition(request)

    stored = response.definition.points_system
    assert (stored.name, stored.unit, list(stored.triggers)) == ("Points", "", [])
    assert (response.change.kind, response.change.key) == ("points_system", "xp")
    assert response.change.action == changes.CONFIGURATION_ACTION_UPDATE
    assert [(change.path, change.removed) for change in response.change.fields] == [
        ("name", False),
        ("triggers[week]", True),
    ]
    got = await stub.GetDefinition(pb.GetDefinitionRequest(kind="points_system", key="xp"))
    assert got.definition == response.definition


async def test_an_update_that_is_only_checked_tells_the_same_and_changes_nothing(stub: "Stub") -> None:
    await stub.ApplyConfiguration(WHOLE)
    before = await stub.GetDefinition(pb.GetDefinitionRequest(kind="streak", key="daily"))
    wanted = Definition(streak=Streak(key="daily", name="Every day"))

    dry = await stub.UpdateDefinition(pb.UpdateDefinitionRequest(definition=wanted, validate_only=True))

    assert [(change.path, change.old_value, change.new_value) for change in dry.change.fields] == [
        ("name", '"Daily"', '"Every day"')
    ]
    assert await stub.GetDefinition(pb.GetDefinitionRequest(kind="streak", key="daily")) == before
    real = await stub.UpdateDefinition(pb.UpdateDefinitionRequest(definition=wanted, request_id="r"))
    assert real.change == dry.change


async def test_an_update_without_a_difference_keeps_the_definition_and_its_time(stub: "Stub") -> None:
    await stub.ApplyConfiguration(WHOLE)
    before = await stub.GetDefinition(pb.GetDefinitionRequest(kind="streak", key="daily"))

    response = await stub.UpdateDefinition(
        pb.UpdateDefinitionRequest(definition=Definition(streak=DAILY), request_id="r")
    )

    assert response.change.action == changes.CONFIGURATION_ACTION_KEEP
    assert response.definition == before.definition


async def test_what_never_changes_is_refused(stub: "Stub") -> None:
    await stub.ApplyConfiguration(WHOLE)
    weekly = Streak(key="daily", frequency=FREQUENCY_WEEKLY)
    by_metric = Achievement(key="week", metric=MetricTrigger(metric="steps", threshold=1))

    error = await refused(
        stub.UpdateDefinition(
            pb.UpdateDefinitionRequest(definition=Definition(streak=weekly), request_id="r1")
        )
    )
    assert fields(error) == ["definition.streak.frequency"]
    error = await refused(
        stub.UpdateDefinition(
            pb.UpdateDefinitionRequest(definition=Definition(achievement=by_metric), request_id="r2")
        )
    )
    assert fields(error) == ["definition.achievement.metric"]


# One reply per request id


async def test_a_write_sent_again_gets_its_first_reply(stub: "Stub") -> None:
    creation = create(Definition(metric=STEPS), "r1")
    update = pb.UpdateDefinitionRequest(
        definition=Definition(metric=Metric(key="steps", unit="steps")), request_id="r2"
    )
    created, updated = await stub.CreateDefinition(creation), await stub.UpdateDefinition(update)
    deletion = delete("metric", "steps", "r3")
    await stub.DeleteDefinition(deletion)

    assert await stub.CreateDefinition(creation) == created
    assert await stub.UpdateDefinition(update) == updated
    await stub.DeleteDefinition(deletion)
    assert await listed(stub) == []


async def test_a_request_id_with_other_content_is_refused_and_a_failure_is_not_remembered(
    stub: "Stub",
) -> None:
    error = await refused(stub.CreateDefinition(create(Definition(streak=DAILY), "r1")))
    assert error.reason == "REFERENCE_NOT_FOUND"
    await stub.CreateDefinition(create(Definition(metric=STEPS), "r2"))
    await stub.CreateDefinition(create(Definition(streak=DAILY), "r1"))

    error = await refused(stub.CreateDefinition(create(Definition(metric=Metric(key="other")), "r2")))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_of_many_that_create_one_key_at_once_one_succeeds(world: World, stub: "Stub") -> None:
    async with world.replica() as twin:
        replies = await asyncio.gather(
            *(
                replica.CreateDefinition(create(Definition(metric=Metric(key="steps")), f"r{number}"))
                for number, replica in enumerate([stub, twin] * 5)
            ),
            return_exceptions=True,
        )
    assert sum(isinstance(reply, pb.CreateDefinitionResponse) for reply in replies) == 1


async def test_of_one_request_sent_many_times_at_once_one_takes_effect(world: World, stub: "Stub") -> None:
    request = create(Definition(metric=STEPS), "r")
    async with world.replica() as twin:
        replies = await asyncio.gather(*(replica.CreateDefinition(request) for replica in [stub, twin] * 5))
    assert all(reply == replies[0] for reply in replies)


async def test_writers_that_depend_on_one_another_never_leave_a_mention_without_its_definition(
    world: World, stub: "Stub"
) -> None:
    await stub.CreateDefinition(create(Definition(metric=STEPS), "r"))
    async with world.replica() as twin:
        await asyncio.gather(
            stub.DeleteDefinition(delete("metric", "steps", "d")),
            twin.CreateDefinition(create(Definition(streak=DAILY), "c")),
            return_exceptions=True,
        )
    assert await listed(stub) in ([], ["metric steps", "streak daily"])


# As a whole


async def test_a_configuration_is_applied_to_all_services_and_applied_again_changes_nothing(
    stub: "Stub",
) -> None:
    first = await stub.ApplyConfiguration(WHOLE)
    again = await stub.ApplyConfiguration(WHOLE)

    assert [f"{change.kind} {change.key}" for change in first.changes] == ALL
    assert {change.action for change in first.changes} == {changes.CONFIGURATION_ACTION_CREATE}
    assert {change.action for change in again.changes} == {changes.CONFIGURATION_ACTION_KEEP}
    assert await listed(stub) == ALL


async def test_every_mistake_in_every_service_is_told_at_once_and_nothing_is_applied(stub: "Stub") -> None:
    wrong = pb.ApplyConfigurationRequest()
    wrong.CopyFrom(WHOLE)
    wrong.metrics[0].aggregation = 9  # type: ignore[assignment]
    wrong.streaks[0].metrics[0].metric = "jumps"
    wrong.achievements[0].streak.length = 0
    wrong.points_systems.add(key="xp")
    wrong.leaderboards[0].participant_limit = -1
    wrong.leaderboards.add(key="other", points_system="coins")

    error = await refused(stub.ApplyConfiguration(wrong))

    assert fields(error) == [
        "metrics[0].aggregation",
        "achievements[0].streak.length",
        "points_systems[1].key",
        "leaderboards[0].participant_limit",
        "streaks[0].metrics[0].metric",
        "leaderboards[1].points_system",
    ]
    assert await listed(stub) == []


async def test_a_dry_run_tells_what_applying_would_and_changes_nothing(stub: "Stub") -> None:
    dry = pb.ApplyConfigurationRequest()
    dry.CopyFrom(WHOLE)
    dry.validate_only = True

    told = await stub.ApplyConfiguration(dry)

    assert await listed(stub) == []
    assert await stub.ApplyConfiguration(WHOLE) == told


async def test_pruning_deletes_what_the_configuration_does_not_have(stub: "Stub") -> None:
    await stub.ApplyConfiguration(WHOLE)
    less = pb.ApplyConfigurationRequest(metrics=[STEPS], streaks=[DAILY], prune=True)

    told = await stub.ApplyConfiguration(less)

    assert [(f"{change.kind} {change.key}", change.action) for change in told.changes] == [
        ("metric steps", changes.CONFIGURATION_ACTION_KEEP),
        ("streak daily", changes.CONFIGURATION_ACTION_KEEP),
        ("achievement week", changes.CONFIGURATION_ACTION_DELETE),
        ("points_system xp", changes.CONFIGURATION_ACTION_DELETE),
        ("leaderboard board", changes.CONFIGURATION_ACTION_DELETE),
    ]
    assert await listed(stub) == ALL[:2]


async def test_pruning_what_the_configuration_mentions_is_refused(stub: "Stub") -> None:
    await stub.ApplyConfiguration(WHOLE)

    error = await refused(
        stub.ApplyConfiguration(
            pb.ApplyConfigurationRequest(metrics=[STEPS], leaderboards=[BOARD], prune=True)
        )
    )

    assert (error.reason, fields(error)) == ("REFERENCE_NOT_FOUND", ["leaderboards[0].streak"])
    assert await listed(stub) == ALL


async def test_too_many_definitions_at_once_are_refused(stub: "Stub") -> None:
    many = pb.ApplyConfigurationRequest(metrics=[Metric(key="a")] * 1_001)
    assert fields(await refused(stub.ApplyConfiguration(many))) == ["metrics"]


async def test_a_change_takes_effect_on_the_next_event(stub: "Stub") -> None:
    await stub.ApplyConfiguration(pb.ApplyConfigurationRequest(metrics=[Metric(key="dives")]))
    event = event_pb2.IngestEventRequest(metric="dives", value=1)
    event.user.user_id = "bea"
    assert list((await stub.IngestEvent(event)).effects.streaks) == []
    fresh = Streak(key="fresh", frequency=FREQUENCY_WEEKLY, metrics=[MetricThreshold(metric="dives")])

    await stub.CreateDefinition(create(Definition(streak=fresh), "r"))

    (effect,) = (await stub.IngestEvent(event)).effects.streaks
    assert effect.state.streak == "fresh"


async def test_metrics_are_read_from_the_orchestrator_as_features_are_from_their_services(
    stub: "Stub",
) -> None:
    await stub.CreateDefinition(create(Definition(metric=STEPS), "r"))
    got = await stub.GetMetric(pb.GetMetricRequest(key="steps"))
    assert got.metric.aggregation == METRIC_AGGREGATION_SUM
    assert list((await stub.ListMetrics(pb.ListMetricsRequest())).metrics) == [got.metric]
