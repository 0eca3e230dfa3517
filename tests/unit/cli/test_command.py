"""What the command prints, and with which exit code it ends, where no service is needed."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import grpc
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.ledger.v1 import effects_pb2
from laurel.orchestrator.v1 import event_pb2
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from services.cli import render
from services.cli.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE, command_error, describe
from services.cli.main import cli
from services.cli.show_event import show_reply
from shared.errors import (
    FieldViolation,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Violations,
)

NOBODY_LISTENS = "127.0.0.1:1"
REPLY = event_pb2.IngestEventResponse(
    entry_id="0198",
    metric="commits",
    total_before=999.0,
    total_after=1000.5,
    effects=effects_pb2.Effects(
        streaks=[
            streak_pb2.StreakEffect(
                state=streak_pb2.StreakState(streak="daily", length=7, longest=9), extended=True
            )
        ],
        points=[
            points_pb2.PointsChange(
                points_system="xp",
                added=60,
                balance=12_345,
                level_before="expert",
                level="legend",
                awards=[points_pb2.Award(trigger="commit", amount=10)],
            )
        ],
        leaderboards=[
            leaderboard_pb2.Standing(leaderboard="all", segment={"region": "asia"}, score=1000.5, rank=1)
        ],
    ),
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["ingest", "--user", "u", "--metric", "m"],
        ["ingest", "--user", "u", "--metric", "m", "--value", "many"],
        ["ingest", "--user", "u", "--metric", "m", "--value", "1", "--at", "yesterday"],
        ["ingest", "--user", "u", "--metric", "m", "--value", "1", "--attr", "area"],
        ["ingest", "--user", "u", "--metric", "m", "--value", "1", "--attr", "a=1", "--attr", "a=2"],
        ["import", "/does/not/exist"],
        ["apply"],
        ["streak"],
        ["streak", "u", "--longest", "k"],
        ["streak", "u", "--periods"],
        ["streak", "u", "--streak", "k", "--periods", "--freezes"],
        ["points"],
        ["points", "u", "--levels", "xp"],
        ["leaderboard", "k", "--run", "2024-13-01"],
        ["leaderboard", "k", "--around", "u", "--runs"],
        ["leaderboard", "k", "--limit", "0"],
        ["sagas", "list", "--state", "lost"],
        ["void", "id"],
        ["--target", "moon=127.0.0.1:1", "user", "u"],
        ["--target", "nowhere", "user", "u"],
        ["--timeout", "0", "user", "u"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [["user", "u"], ["sagas", "list"], ["ingest", "--user", "u", "--metric", "m", "--value", "1"]],
)
def test_a_service_that_is_away_ends_with_3_and_a_hint(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["--target", NOBODY_LISTENS, *arguments])
    assert result.exit_code == EXIT_UNAVAILABLE
    assert "laurel up" in result.stderr
    assert result.stdout == ""


def test_who_does_not_answer_is_named_with_who_said_so() -> None:
    result = CliRunner().invoke(cli, ["--target", NOBODY_LISTENS, "void", "id", "--reason", "r"])
    first, _ = result.stderr.splitlines()
    assert first.startswith(
        f"failed: UNAVAILABLE: orchestrator at {NOBODY_LISTENS} (--target) does not answer: "
    )


def test_an_address_that_is_none_is_told_once_with_where_it_stands() -> None:
    assert CliRunner().invoke(cli, ["--target", "nowhere", "users"]).stderr == (
        "--target: orchestrator: 'nowhere' is not HOST:PORT\n"
    )


@pytest.mark.parametrize("option", ["--target", "--timeout"])
def test_an_option_that_stands_after_the_command_is_told_where_it_belongs(option: str) -> None:
    result = CliRunner().invoke(cli, ["users", option, "1"])
    assert result.exit_code == EXIT_USAGE
    assert f"{option} comes before the command: laurel {option}" in result.stderr


def test_the_list_of_commands_cuts_no_sentence_short() -> None:
    assert (
        "..." not in CliRunner().invoke(cli, ["--help"], terminal_width=80).stdout.partition("Commands:")[2]
    )


def test_a_kind_that_is_left_out_is_told_what_there_is() -> None:
    assert "There are metric, streak, achievement" in CliRunner().invoke(cli, ["get"]).stderr


def test_where_no_stack_was_ever_started_status_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["status"], env={"LAUREL_HOME": str(tmp_path / "none")})
    assert result.exit_code == EXIT_UNAVAILABLE
    assert result.stderr.startswith(f"There is no stack in {tmp_path / 'none'}.\n")
    assert not (tmp_path / "none").exists()


def test_what_is_not_there_is_told_once() -> None:
    error = NotFound(
        "no metric has the key 'nothing'",
        reason="METRIC_NOT_FOUND",
        domain="orchestrator.laurel",
        metadata={"metric": "nothing"},
        violations=(FieldViolation("metric", "names no metric"),),
    )
    assert command_error(error).message.splitlines() == [
        "refused: NOT_FOUND, METRIC_NOT_FOUND (orchestrator.laurel): no metric has the key 'nothing' "
        "[metric=nothing]"
    ]


def test_a_misspelt_variable_is_refused_before_another_system_is_reached() -> None:
    result = CliRunner().invoke(cli, ["void", "id", "--reason", "r"], env={"LAUREL_TARGT": "far:7400"})
    assert result.exit_code == 2
    assert result.stderr == "LAUREL_TARGT is no setting; did you mean LAUREL_TARGET?\n"


def test_an_import_without_a_server_ends_with_3(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_text('{"metric": "a"}\n' * 5000)
    result = CliRunner().invoke(cli, ["--target", NOBODY_LISTENS, "import", str(path)])
    assert result.exit_code == EXIT_UNAVAILABLE


def test_a_wrong_configuration_is_not_even_sent(tmp_path: Path) -> None:
    path = tmp_path / "laurel.yaml"
    path.write_text("metrics:\n  - {key: a, aggregation: summ}\n  - {kee: b}\n")
    result = CliRunner().invoke(cli, ["--target", NOBODY_LISTENS, "apply", "-f", str(path)])
    assert result.exit_code == EXIT_REFUSED
    assert result.stderr.splitlines() == [
        f"{path}:2:27  metrics[0].aggregation  unknown value 'summ'; did you mean sum?",
        f"{path}:3:6  metrics[1].kee  unknown field 'kee'; did you mean key?",
        "2 mistakes; nothing was applied.",
    ]


def test_a_refusal_shows_its_reason_and_each_field() -> None:
    error = InvalidArgument(
        "2 fields",
        reason="INVALID_FIELDS",
        domain="orchestrator.laurel",
        violations=(FieldViolation("user.time_zone", "unknown"), FieldViolation("value", "is \x1b[31m zero")),
    )
    shown = command_error(error)
    assert shown.exit_code == EXIT_REFUSED
    assert shown.message.splitlines() == [
        "refused: INVALID_ARGUMENT, INVALID_FIELDS (orchestrator.laurel): 2 fields",
        "  user.time_zone: unknown",
        "  value: is \\x1b[31m zero",
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(["value", "user.user_id", "key"]), st.text("abc de", min_size=1)),
        unique=True,
    )
)
def test_no_violation_is_shown_twice(found: list[tuple[str, str]]) -> None:
    violations = Violations()
    for field, description in found:
        violations.add(field, description)
    try:
        violations.raise_if_any()
    except InvalidArgument as error:
        shown = command_error(error).message.splitlines()
        for field, description in found:
            assert sum(line.endswith(f"{field}: {description}") for line in shown) == 1
        assert len(shown) == (1 if len(found) == 1 else 1 + len(found))


def test_only_a_definite_answer_is_a_refusal() -> None:
    assert command_error(NotFound("no", reason="METRIC_NOT_FOUND")).exit_code == EXIT_REFUSED
    assert command_error(Unavailable("away", reason="ENTRY_PENDING")).exit_code == EXIT_UNAVAILABLE
    assert command_error(ResourceExhausted("full", reason="OVERLOADED")).exit_code == EXIT_UNAVAILABLE


def test_the_facts_of_a_refusal_are_shown() -> None:
    error = NotFound("no metric", reason="METRIC_NOT_FOUND", metadata={"metric": "m"})
    assert error.code is grpc.StatusCode.NOT_FOUND
    assert describe(error) == "refused: NOT_FOUND, METRIC_NOT_FOUND: no metric [metric=m]"


def test_a_reply_reads_as_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    show_reply(REPLY)
    output = capsys.readouterr().out
    assert "\x1b" not in output
    for wanted in ("999 -> 1,000.5", "extended it", "+60", "12,345", "legend", "commit +10", "region=asia"):
        assert wanted in output


def test_json_is_one_document_with_fields_at_zero(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_json(REPLY)
    document = json.loads(capsys.readouterr().out)
    assert document["idempotentReplayed"] is False
    assert document["effects"]["streaks"][0]["state"]["length"] == 7
    assert document["effects"]["points"][0]["balance"] == "12345"
    assert "streaks" not in document


def test_what_a_user_is_called_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(["name"], [["\x1b[2J[red]x[/red]\r\u202e"]])
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "\\x1b[2J[red]x[/red]\\r\\u202e" in output


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234567, "1,234,567"), (1000.0, "1,000"), (0.1, "0.1"), (-2.5, "-2.5"), (1e-6, "0.000001")],
)
def test_numbers_have_separators_and_no_needless_zeros(value: float, text: str) -> None:
    assert render.number(value) == text


def test_a_run_is_shown_by_its_dates() -> None:
    date = date_pb2.LocalDate
    week = leaderboard_pb2.Run(
        start_date=date(year=2024, month=1, day=1), end_date=date(year=2024, month=1, day=7), finalized=True
    )
    assert render.run(leaderboard_pb2.Run()) == "all time"
    assert render.run(week) == "2024-01-01 to 2024-01-07, final"


def test_an_argument_that_is_no_utf_8_is_wrong_usage_and_no_traceback() -> None:
    not_utf_8 = b"\xff".decode(errors="surrogateescape")
    result = CliRunner().invoke(cli, ["ingest", "--user", not_utf_8, "--metric", "steps", "--value", "1"])
    assert result.exit_code == 2
    assert "not text in UTF-8" in result.output


def _options(command: click.Command, path: str = "laurel") -> Iterator[tuple[str, click.Parameter]]:
    for option in command.params:
        yield f"{path} {option.name}", option
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _options(below, f"{path} {name}")


def test_no_option_takes_a_whole_number_that_no_field_can_hold() -> None:
    endless = [
        where
        for where, option in _options(cli)
        if option.type is click.INT or (isinstance(option.type, click.IntRange) and option.type.max is None)
    ]
    assert endless == []


@pytest.mark.parametrize(
    "line",
    [
        "grant ada xp 9223372036854775808",
        "operate points-grant --amount 9223372036854775808",
        "operate streak-freeze-grant --count 2147483648",
        "points distribution xp 9223372036854775808",
    ],
)
def test_a_number_that_is_too_large_is_wrong_usage_that_names_it(line: str) -> None:
    shown = CliRunner().invoke(cli, ["--target", NOBODY_LISTENS, *line.split()])
    assert shown.exit_code == EXIT_USAGE
    assert f"{line.rsplit(' ', 1)[1]} is too large a number" in shown.output
