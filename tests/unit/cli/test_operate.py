"""`laurel operate`: every operation has a command, made of its request, with help from the contract."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from laurel.common.v1.date_pb2 import LocalDate
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1.user_pb2 import User
from laurel.streak.v1 import streak_pb2

from services.cli.main import cli
from services.cli.operation_commands import operation_command, operation_names, request_of
from services.cli.options import ShowGroup

NAMES = operation_names()


def request(name: str, *words: str) -> object:
    """What these words ask for."""
    command = operation_command(name)
    assert command is not None
    with command.make_context(name, list(words)) as context:
        return request_of(name, context.params)


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_has_a_command_that_explains_each_field(name: str) -> None:
    command = operation_command(name)
    assert command is not None
    assert command.help
    assert all(getattr(option, "help", "") for option in command.params)
    shown = CliRunner().invoke(cli, ["operate", name, "--help"])
    assert shown.exit_code == 0
    assert "--key" in shown.output


def test_operations_are_listed_and_completed() -> None:
    assert len(NAMES) == len(pb.OperationRequest.DESCRIPTOR.fields)
    shown = CliRunner().invoke(cli, ["operate", "--help"]).output
    assert [name for name in NAMES if f"  {name} " not in shown] == []
    group = cli.commands["operate"]
    context = group.make_context("operate", ["--help-is-not-asked"], ignore_unknown_options=True)
    assert [each.value for each in group.shell_complete(context, "points-g")] == ["points-grant"]


def test_what_is_given_is_in_the_request() -> None:
    assert request(
        "points-grant", "--user-id", "ada", "--points-system", "xp", "--amount", "5", "--key", "k"
    ) == pb.GrantPointsRequest(user_id="ada", points_system="xp", amount=5, request_id="k")
    assert request("streak-pause", "--start-date", "2026-03-01", "--by-user") == pb.PauseStreakRequest(
        start_date=LocalDate(year=2026, month=3, day=1), by_user=True
    )
    assert request("achievements-seen", "--achievements", "a", "--achievements", "b") == pb.MarkSeenRequest(
        achievements=["a", "b"]
    )
    words = ("--user.user-id", "ada", "--user.attributes", "plan=pro", "--update-mask", "attributes.plan")
    asked = pb.UpdateUserRequest(user=User(user_id="ada", attributes={"plan": "pro"}))
    asked.update_mask.paths.append("attributes.plan")
    assert request("user-update", *words) == asked


def test_messages_within_messages_enums_and_lists_of_messages_can_be_given() -> None:
    words = (
        *("--override.mode", "all"),
        *("--override.metrics", '{"metric": "lines", "threshold": 2}'),
        *("--override.metrics", '{"metric": "commits"}'),
        "--override.has-days-off",
        *("--override.days-off", "sunday"),
    )
    assert request("streak-override", *words) == pb.OverrideStreakRequest(
        override=streak_pb2.StreakOverride(
            mode=streak_pb2.METRIC_MODE_ALL,
            metrics=[
                streak_pb2.MetricThreshold(metric="lines", threshold=2),
                streak_pb2.MetricThreshold(metric="commits"),
            ],
            has_days_off=True,
            days_off=[streak_pb2.WEEKDAY_SUNDAY],
        )
    )
    wrong = ["operate", "streak-override", "--override.metrics", "lines"]
    shown = CliRunner().invoke(cli, ["--target", "127.0.0.1:1", *wrong])
    assert (shown.exit_code, "--override.metrics" in shown.output) == (2, True)


def test_what_is_not_given_is_not_in_the_request() -> None:
    for name in NAMES:
        assert request(name).ByteSize() == 0  # type: ignore[attr-defined]


def test_what_is_no_operation_is_a_file(tmp_path: Path) -> None:
    group = cli.commands["operate"]
    assert isinstance(group, ShowGroup)
    file = tmp_path / "operations.jsonl"
    file.write_text("nonsense\n")
    shown = CliRunner().invoke(cli, ["operate", str(file)])
    assert f"{file}:1:" in shown.output


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("points-grnt", "'points-grnt' is neither an operation nor a file; did you mean points-grant?"),
        ("zzz", "'zzz' is neither an operation nor a file\n"),
    ],
)
def test_what_is_no_operation_and_no_file_is_said_to_be_neither(name: str, said: str) -> None:
    shown = CliRunner().invoke(cli, ["operate", name, "--user-id", "ada"])
    assert shown.exit_code == 2
    assert said in shown.output
