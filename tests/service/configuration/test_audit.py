"""Who changed which definition, and how, is kept with the decision (RULES 9.4)."""

from typing import TYPE_CHECKING

from laurel.common.v1.configuration_pb2 import FieldChange
from laurel.orchestrator.v1 import metric_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from tests.service.configuration.conftest import World

if TYPE_CHECKING:
    from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceAsyncStub

BY_CAROL = (("laurel-actor", "carol"), ("laurel-reason", "a new season"))


async def kept(world: World) -> list[tuple[str, str, str, str, list[tuple[str, str, str]]]]:
    """Method, subject, actor, reason and fields of what was done, in order."""
    async with world.database("orchestrator") as database:
        rows = await database.fetch("SELECT * FROM admin_operations ORDER BY sequence")
    return [
        (
            row["method"],
            row["subject"],
            row["actor"],
            row["reason"],
            [
                (field.path, field.old_value, field.new_value)
                for field in map(FieldChange.FromString, row["fields"])
                if field.path in ("name", "unit")
            ],
        )
        for row in rows
    ]


async def test_each_definition_that_changes_is_kept_with_old_and_new(
    world: World, stub: "OrchestratorServiceAsyncStub"
) -> None:
    async with world.database("orchestrator") as database:
        await database.execute("TRUNCATE admin_operations")
    steps = metric_pb2.Metric(key="steps", name="Steps")
    other = metric_pb2.Metric(key="other", name="Other")
    request = pb.ApplyConfigurationRequest(metrics=[steps, other])
    await stub.ApplyConfiguration(request, metadata=BY_CAROL, timeout=20)
    await stub.ApplyConfiguration(request, metadata=BY_CAROL, timeout=20)  # keeps everything
    steps.name = "Paces"
    await stub.ApplyConfiguration(
        pb.ApplyConfigurationRequest(metrics=[steps, other], validate_only=True), timeout=20
    )
    await stub.ApplyConfiguration(pb.ApplyConfigurationRequest(metrics=[steps, other]), timeout=20)
    delete = pb.DeleteDefinitionRequest(kind="metric", key="other", request_id="d1")
    for _ in range(2):
        await stub.DeleteDefinition(delete, metadata=BY_CAROL, timeout=20)

    applied, why = "apply_configuration", "a new season"
    assert await kept(world) == [
        (applied, "metric/steps", "carol", why, [("name", "", '"Steps"')]),
        (applied, "metric/other", "carol", why, [("name", "", '"Other"')]),
        (applied, "metric/steps", "", "", [("name", '"Steps"', '"Paces"')]),
        ("delete_definition", "metric/other", "carol", why, [("name", '"Other"', "")]),
    ]
