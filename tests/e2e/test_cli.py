"""The `laurel` command against the whole system, started as a user starts it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy.local.config import StackConfig
from deploy.local.databases import SERVICES
from deploy.local.stack import Stack
from services.cli.main import cli
from tests.fixtures import clock

REPOSITORY = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("laurel")
DEMO_CONFIGURATION = REPOSITORY / "deploy" / "demo" / "laurel.yaml"
UP_TIMEOUT_SECONDS = 110


@dataclass(frozen=True)
class Laurel:
    """A running system and its user's environment."""

    home: Path
    port_base: str = "0"

    @property
    def environment(self) -> dict[str, str]:
        return {"LAUREL_HOME": str(self.home), "LAUREL_PORT_BASE": self.port_base}

    def shell(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command as a process of its own."""
        return subprocess.run(
            [str(COMMAND), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=UP_TIMEOUT_SECONDS,
            check=False,
        )

    def run(self, *arguments: str, code: int = 0, text: str | None = None) -> Result:
        """Run the command in this process, with a text on its input; the services are reached all the same."""
        result = CliRunner().invoke(cli, arguments, input=text, env=self.environment)
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str) -> Any:
        """Run a command with --json and read the one document that it prints."""
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def laurel(server_directory: Path) -> Iterator[Laurel]:
    """A system that is up and has the demo's configuration."""
    laurel = Laurel(server_directory / "cli")
    try:
        started = laurel.shell("up")
        assert started.returncode == 0, started.stdout + started.stderr
        laurel.run("apply", "-f", str(DEMO_CONFIGURATION))
        yield laurel
    finally:
        stack_of(laurel).erase()


def stack_of(laurel: Laurel) -> Stack:
    return Stack(StackConfig(home=laurel.home, port_base=0))


def ingest(laurel: Laurel, user: str, *arguments: str, value: str = "1") -> Any:
    return laurel.json("ingest", "--user", user, "--metric", "commits", "--value", value, *arguments)


def history(path: Path, user: str, days: int, month: str = "2015-06") -> Path:
    """One commit at each noon of a month, from its first day."""
    lines = [
        json.dumps(
            {
                "user": {"userId": user, "timeZone": "Europe/Rome", "attributes": {"region": "europe"}},
                "metric": "commits",
                "value": 1,
                "occurTime": f"{month}-{day:02}T12:00:00+02:00",
                "idempotencyKey": f"{user}-{day}",
            }
        )
        for day in range(1, days + 1)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def occur_time(line: str) -> str:
    """When the event on a line happened; all lines have one offset."""
    return str(json.loads(line)["occurTime"])


def test_status_shows_every_process_and_that_it_serves(laurel: Laurel) -> None:
    output = laurel.run("status").stdout
    for name in SERVICES:
        assert f"{name}-0" in output
    assert len(re.findall(r"\bserving\b", output)) == len(SERVICES)
    assert "MB" in output


def test_the_context_is_the_stack_of_this_directory(laurel: Laurel) -> None:
    output = laurel.run("context").stdout
    assert output.count(f"the stack in {laurel.home}") == len(SERVICES)
    assert len(re.findall(r"\bserving\b", output)) == len(SERVICES)


def test_webhooks_are_created_changed_tried_and_deleted(laurel: Laurel) -> None:
    # What is local is refused by default: the attempt shows it, and nothing is called.
    created = laurel.json("webhooks", "create", "shop", "https://127.0.0.1:9/hook", "--type", "streak.lost")
    assert created["secret"].startswith("whsec_")
    laurel.run("webhooks", "update", "shop", "--type", "streak.lost", "--type", "points.changed", "--off")
    shown = laurel.json("webhooks", "show", "shop")["endpoint"]
    assert (shown["types"], shown["switchedOff"]) == (["streak.lost", "points.changed"], True)
    assert "off (operator)" in laurel.run("webhooks", "list").stdout

    assert "127.0.0.1 is not a public address" in laurel.run("webhooks", "test", "shop", code=1).stdout
    assert laurel.json("webhooks", "rotate", "shop")["secret"] != created["secret"]
    assert (
        "it is sent again"
        in laurel.run("webhooks", "replay", "shop", "--since", "2026-01-01T00:00:00Z").stdout
    )
    assert "no attempt" in laurel.run("webhooks", "attempts", "shop").stdout

    assert "deleted shop" in laurel.run("webhooks", "delete", "shop").stdout
    assert "no endpoint" in laurel.run("webhooks", "list").stdout


def test_the_stack_of_another_directory_is_read_by_its_name_and_not_changed(
    laurel: Laurel, tmp_path: Path
) -> None:
    event = ingest(laurel, "oscar")["entryId"]
    port = stack_of(laurel).addresses("orchestrator")[0].rpartition(":")[2]
    elsewhere = Laurel(tmp_path / "nothing", port_base=port)

    read = elsewhere.run("event", event)
    assert f"the stack in {laurel.home}" in read.stderr
    refused = elsewhere.run("void", event, "--reason", "mistaken", code=2)
    assert f"the stack in {laurel.home}" in refused.stderr
    assert laurel.json("user", "oscar")["user"]["metrics"][0]["total"] == 1

    elsewhere.run("--target", f"127.0.0.1:{port}", "void", event, "--reason", "meant")
    # It was all that was known of this user.
    laurel.run("user", "oscar", code=1)


def test_applying_the_same_configuration_again_keeps_everything(laurel: Laurel) -> None:
    changes = laurel.json("apply", "-f", str(DEMO_CONFIGURATION))["changes"]
    assert {each["action"] for each in changes} == {"CONFIGURATION_ACTION_KEEP"}
    assert "Applied." in laurel.run("apply", "-f", str(DEMO_CONFIGURATION)).stdout


def test_a_dry_run_shows_the_difference_and_changes_nothing(laurel: Laurel, tmp_path: Path) -> None:
    path = tmp_path / "laurel.yaml"
    path.write_text("metrics: [{key: commits, name: Changes, unit: commits}, {key: reviews, name: Reviews}]")
    for _ in range(2):
        changes = laurel.json("apply", "-f", str(path), "--dry-run")["changes"]
        shown = [(each["key"], each["action"], [one["path"] for one in each["fields"]]) for each in changes]
        assert shown == [
            ("commits", "CONFIGURATION_ACTION_UPDATE", ["name"]),
            ("reviews", "CONFIGURATION_ACTION_CREATE", []),
        ]
    assert laurel.run("apply", "-f", str(path), "--dry-run").stdout.splitlines() == [
        "update metric commits",
        '  ~ name: "Commits" -> "Changes"',
        "create metric reviews",
        "1 create, 1 update, 0 delete, 0 keep. Nothing was applied: this was a dry run.",
    ]


def test_a_dry_run_marks_what_would_be_removed(laurel: Laurel, tmp_path: Path) -> None:
    path = tmp_path / "laurel.yaml"
    path.write_text(
        """\
streaks:
  - {key: daily-commits, name: Commits every day, frequency: daily, metrics: [{metric: commits}]}
points_systems:
  - {key: xp, name: Experience, level_basis: lifetime}
"""
    )
    lines = laurel.run("apply", "-f", str(path), "--dry-run").stdout.splitlines()
    assert any(line.startswith("  - freezes: {") and line.endswith("  (removed)") for line in lines)
    assert '  - unit: "XP"  (removed)' in lines
    assert any(line.startswith("  - triggers[commit]: {") for line in lines)
    assert lines[-1].startswith("0 create, 2 update, 0 delete, 0 keep. 14 removed.")


ODD = """\
metrics:
  - {key: odd, name: "2026-01-01", unit: "yes"}
streaks:
  - key: odd
    name: " \\u2028 # 'quoted' \\U0001F3C6"
    frequency: weekly
    metrics: [{metric: odd, threshold: 0.000001}]
    week_start: sunday
    user_filters:
      - {attribute: age, range: {min: 0, max: 1.0e+300}}
      - {attribute: "null", in: ["", "~", "0x1f"]}
achievements:
  - {key: odd, description: "two\\nlines", streak: {streak: odd, length: 1}, hidden: true, status: locked}
points_systems:
  - key: odd
    max_balance: 0
    min_balance: -9007199254740991
    levels: [{key: up, threshold: 5}, {key: down, threshold: -5}]
    triggers: [{key: any, amount: -1, block: true, achievement: {}}]
leaderboards:
  - key: odd
    streak: odd
    order: asc
    rank_mode: dense
    schedule: {start_date: 2020-02-29, unit: month, every: 2}
    breakdown_attributes: ["1", "a b"]
    participant_limit: 3
"""


@pytest.fixture
def odd(laurel: Laurel, tmp_path: Path) -> Iterator[Path]:
    """A file of definitions that are hard to write down; what a test applies of it is gone afterwards."""
    path = tmp_path / "laurel.yaml"
    path.write_text(ODD)
    laurel.run("apply", "-f", str(DEMO_CONFIGURATION))
    yield path
    laurel.run("apply", "--prune", "-f", str(DEMO_CONFIGURATION))


def test_what_is_exported_applies_without_a_difference(laurel: Laurel, odd: Path) -> None:
    laurel.run("apply", "-f", str(odd))

    exported = laurel.run("export").stdout

    again = laurel.run("apply", "--dry-run", "--prune", "-f", "-", text=exported).stdout
    assert re.fullmatch(r"0 create, 0 update, 0 delete, \d+ keep\. Nothing was applied: .*\n", again)
    laurel.run("apply", "--prune", "-f", "-", text=exported)
    assert laurel.run("export").stdout == exported
    assert laurel.run("validate", "-f", "-", text=exported).stdout.startswith("Valid: ")


def test_pruning_deletes_what_the_file_does_not_have(laurel: Laurel, odd: Path) -> None:
    without = laurel.run("export").stdout
    laurel.run("apply", "-f", str(odd))

    output = laurel.run("apply", "--prune", "-f", "-", text=without).stdout

    assert " 5 delete, " in output
    assert laurel.run("export").stdout == without


def test_definitions_are_shown_and_deleted_one_by_one(laurel: Laurel, tmp_path: Path) -> None:
    path = tmp_path / "laurel.yaml"
    path.write_text("metrics: [{key: gone}]\nleaderboards: [{key: gone, metric: gone}]")
    laurel.run("apply", "-f", str(path))

    assert "gone" in laurel.run("get", "leaderboards").stdout
    assert (
        laurel.run("get", "metric", "gone").stdout
        == "metrics:\n- {key: gone, name: gone, aggregation: sum}\n"
    )
    assert laurel.json("get", "metric", "gone")["definition"]["metric"]["key"] == "gone"
    refused = laurel.run("delete", "metric", "gone", code=1)
    assert "DEFINITION_MENTIONED" in refused.stderr
    assert "can be deleted" in laurel.run("delete", "leaderboard", "gone", "--dry-run").stdout
    laurel.run("delete", "leaderboard", "gone")
    laurel.run("delete", "metric", "gone")
    assert "METRIC_NOT_FOUND" in laurel.run("get", "metrics", "gone", code=1).stderr
    laurel.run("get", "moon", code=2)


def test_what_the_services_refuse_is_shown_with_its_place_and_nothing_is_applied(
    laurel: Laurel, tmp_path: Path
) -> None:
    path = tmp_path / "laurel.yaml"
    path.write_text(
        """\
metrics:
  - {key: runs, name: Runs}
streaks:
  - {key: running, frequency: daily, metrics: [{metric: jumps}]}
achievements:
  - {key: runner, metric: {metric: runs, threshold: -1}}
leaderboards:
  - {key: Top, metric: runs}
"""
    )
    result = laurel.run("apply", "-f", str(path), code=1)
    places = [line.removeprefix(str(path)).split("  ")[:2] for line in result.stderr.splitlines()[:-1]]
    assert [":4:57", "streaks[0].metrics[0].metric"] in places
    assert [":6:53", "achievements[0].metric.threshold"] in places
    assert [":8:11", "leaderboards[0].key"] in places
    assert "nothing was applied" in result.stderr
    laurel.run("ingest", "--user", "u", "--metric", "runs", "--value", "1", code=1)


def test_one_event_gets_its_complete_reply(laurel: Laurel) -> None:
    reply = ingest(laurel, "alice", "--tz", "Asia/Tokyo", "--user-attr", "region=asia", "--name", "Alice")
    assert reply["totalAfter"] == 1
    assert {each["state"]["streak"]: each["extended"] for each in reply["effects"]["streaks"]} == {
        "daily-commits": True,
        "weekly-commits": True,
    }
    assert [each["achievement"] for each in reply["effects"]["achievements"]] == ["first-commit"]
    assert [(each["pointsSystem"], each["added"]) for each in reply["effects"]["points"]] == [("xp", "135")]
    assert ("commits", {"region": "asia"}) in [
        (each["leaderboard"], each["segment"]) for each in reply["effects"]["leaderboards"]
    ]


def test_the_same_key_again_gets_the_same_reply_and_does_nothing(laurel: Laurel) -> None:
    first = ingest(laurel, "bob", "--key", "k1")
    second = ingest(laurel, "bob", "--key", "k1")
    assert second == {**first, "idempotentReplayed": True}
    assert laurel.json("user", "bob")["user"]["metrics"][0]["total"] == 1
    reused = laurel.run(
        "ingest", "--user", "bob", "--metric", "commits", "--value", "2", "--key", "k1", code=1
    )
    assert "IDEMPOTENCY_KEY_REUSED" in reused.stderr


NOW = clock.now()


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"--metric": "nonsense"}, "METRIC_NOT_FOUND"),
        ({"--tz": "Mars/Olympus"}, "user.time_zone"),
        ({"--tz": "+09:00"}, "user.time_zone"),
        ({"--value": "0"}, "value"),
        ({"--value": "nan"}, "value"),
        ({"--value": "inf"}, "value"),
        ({"--value": "1e13"}, "value"),
        ({"--at": (NOW - timedelta(days=8)).isoformat()}, "EVENT_TOO_OLD"),
        ({"--at": (NOW + timedelta(hours=1)).isoformat()}, "EVENT_IN_FUTURE"),
        ({"--user": ""}, "user.user_id"),
        ({"--user": "u" * 256}, "user.user_id"),
        ({"--key": "k" * 256}, "idempotency_key"),
    ],
)
def test_a_bad_event_is_refused_naming_what_is_wrong(
    laurel: Laurel, change: dict[str, str], wanted: str
) -> None:
    options = {"--user": "carol", "--metric": "commits", "--value": "1", **change}
    arguments = [part for option in options.items() for part in option]
    assert wanted in laurel.run("ingest", *arguments, code=1).stderr


def test_too_many_attributes_are_refused(laurel: Laurel) -> None:
    attributes = [part for number in range(33) for part in ("--attr", f"a{number}=x")]
    result = laurel.run(
        "ingest", "--user", "carol", "--metric", "commits", "--value", "1", *attributes, code=1
    )
    assert "attributes" in result.stderr


def test_an_import_reports_bad_lines_by_number_and_takes_the_rest(laurel: Laurel, tmp_path: Path) -> None:
    path = history(tmp_path / "june.ndjson", "dora", days=4)
    lines = path.read_text().splitlines()
    unknown = lines[3].replace('"commits"', '"nonsense"')
    path.write_text("\n".join([lines[0], "{", lines[1], "", lines[2], unknown, lines[3]]) + "\n")
    result = laurel.run("import", str(path), code=1)
    assert f"{path}:2: " in result.stderr
    assert f"{path}:6: NOT_FOUND METRIC_NOT_FOUND" in result.stderr
    assert result.stdout.startswith("4 imported, 0 already there, 2 refused")
    (daily,) = laurel.json("streak", "dora", "--streak", "daily-commits")["streaks"]
    assert daily["longest"] == 4


def test_a_second_import_changes_nothing_and_says_so(laurel: Laurel, tmp_path: Path) -> None:
    path = history(tmp_path / "june.ndjson", "erin", days=20)
    assert laurel.run("import", str(path)).stdout.startswith("20 imported, 0 already there, 0 refused")
    page = laurel.json("user", "erin")
    second = laurel.run("import", str(path)).stdout
    assert second.startswith("0 imported, 20 already there, 0 refused")
    assert "Nothing changed." in second
    assert laurel.json("user", "erin") == page


def test_every_read_shows_a_table_and_prints_one_document(laurel: Laurel, tmp_path: Path) -> None:
    laurel.run("import", str(history(tmp_path / "june.ndjson", "frank", days=10)))
    event = laurel.json("events", "frank", "--limit", "1")["entries"][0]["entryId"]
    reads = [
        ["event", event],
        ["users"],
        ["ranks", "frank"],
        ["ranks", "frank", "--board", "commits", "--limit", "3"],
        ["events", "frank"],
        ["user", "frank"],
        ["streak", "frank"],
        ["streak", "frank", "--streak", "daily-commits", "--periods"],
        ["streak", "frank", "--streak", "daily-commits", "--freezes"],
        ["streak", "--longest", "daily-commits"],
        ["achievements", "frank"],
        ["achievements", "frank", "--completed"],
        ["points", "frank"],
        ["points", "frank", "--awards", "--system", "xp"],
        ["points", "--levels", "xp"],
        ["leaderboard", "commits"],
        ["leaderboard", "commits", "--segment", "region=europe"],
        ["leaderboard", "commits", "--around", "frank", "--limit", "1"],
        ["leaderboard", "weekly-commits", "--run", "2015-06-03"],
        ["leaderboard", "weekly-commits", "--runs"],
        ["leaderboard", "commits", "--segments"],
        ["sagas", "list"],
    ]
    for arguments in reads:
        assert isinstance(laurel.json(*arguments), dict), arguments
        assert laurel.run(*arguments).stdout.strip(), arguments


def test_a_past_week_is_read_from_its_archive(laurel: Laurel, tmp_path: Path) -> None:
    laurel.run("import", str(history(tmp_path / "september.ndjson", "grace", days=20, month="2014-09")))
    board = laurel.json("leaderboard", "weekly-commits", "--run", "2014-09-03")
    assert board["run"]["finalized"] is True
    assert [(each["userId"], each["score"]) for each in board["members"]] == [("grace", 7)]


def test_a_streak_that_broke_at_midnight_has_left_its_board_to_those_that_go_on(
    laurel: Laurel, tmp_path: Path
) -> None:
    short = history(tmp_path / "short.ndjson", "judy", days=3).read_text()
    long = history(tmp_path / "long.ndjson", "karl", days=30).read_text()
    path = tmp_path / "june.ndjson"
    path.write_text("".join(sorted((short + long).splitlines(keepends=True), key=occur_time)))
    laurel.run("import", str(path))
    laurel.run("maintenance")
    for user in ("judy", "karl"):
        board = laurel.json("leaderboard", "daily-streak", "--around", user, "--limit", "1")
        scores = {each["userId"]: each["score"] for each in board["members"]}
        (daily,) = laurel.json("streak", user, "--streak", "daily-commits")["streaks"]
        assert scores[user] == daily["length"] == 0


def test_a_user_is_everything_that_five_services_know(laurel: Laurel) -> None:
    ingest(laurel, "heidi", "--tz", "Europe/Rome", "--user-attr", "region=europe")
    page = laurel.json("user", "heidi")
    assert set(page) == {"user", "streaks", "achievements", "points", "leaderboards"}
    assert page["user"]["user"]["timeZone"] == "Europe/Rome"
    assert page["points"]["points"][0]["balance"] == "135"


def test_ranks_before_are_shown_for_an_event_and_not_for_a_read(laurel: Laurel) -> None:
    shown = laurel.run("ingest", "--user", "mallory", "--metric", "commits", "--value", "1").stdout
    assert "before" in shown
    page = laurel.run("user", "mallory").stdout
    assert "before" not in page
    assert "unranked" not in page


def test_users_are_listed_by_their_ids_as_many_as_are_wanted(laurel: Laurel) -> None:
    for name in ("u-1", "u-2", "u-3"):
        ingest(laurel, name, "--name", f"Name of {name}")
    everybody = [each["userId"] for each in laurel.json("users", "--limit", "1000")["users"]]
    assert everybody == sorted(everybody)
    assert {"u-1", "u-2", "u-3"} <= set(everybody)
    assert len(laurel.json("users", "--limit", "2")["users"]) == 2
    assert "Name of u-3" in laurel.run("users", "--limit", "1000").stdout


def test_the_changes_of_a_users_ranks_are_listed_newest_first(laurel: Laurel) -> None:
    first, second = ingest(laurel, "nina"), ingest(laurel, "nina", value="2")
    changes = laurel.json("ranks", "nina", "--board", "commits")["rankEvents"]
    assert [each["entryId"] for each in changes][-1] == first["entryId"]
    assert {each["entryId"] for each in changes} <= {first["entryId"], second["entryId"], ""}
    assert changes[-1]["previousRank"] == "0"


def test_an_achievement_can_be_completed_by_call_once(laurel: Laurel) -> None:
    first = laurel.json("complete", "ivan", "conference-speaker", "--key", "c1")
    assert [each["achievement"] for each in first["effects"]["achievements"]] == ["conference-speaker"]
    assert laurel.json("complete", "ivan", "conference-speaker", "--key", "c1") == {
        **first,
        "idempotentReplayed": True,
    }
    refused = laurel.run("complete", "ivan", "first-commit", code=1)
    assert "TRIGGER_NOT_API" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["user", "nobody"], "USER_NOT_FOUND"),
        (["event", "00000000-0000-7000-8000-000000000000"], "ENTRY_NOT_FOUND"),
        (["event", "not-a-uuid"], "entry_id"),
        (["streak", "--longest", "nonsense"], "STREAK_NOT_FOUND"),
        (["points", "--levels", "nonsense"], "POINTS_SYSTEM_NOT_FOUND"),
        (["leaderboard", "nonsense"], "LEADERBOARD_NOT_FOUND"),
        (["leaderboard", "commits", "--segment", "colour=red"], "SEGMENT_NOT_FOUND"),
    ],
)
def test_what_does_not_exist_is_refused_with_its_reason(
    laurel: Laurel, arguments: list[str], reason: str
) -> None:
    assert reason in laurel.run(*arguments, code=1).stderr


def test_maintenance_says_what_it_did(laurel: Laurel) -> None:
    assert "closedStreakCount" in laurel.json("maintenance")


def test_down_stops_everything_and_up_finds_the_data_again(server_directory: Path) -> None:
    laurel = Laurel(server_directory / "cli-restart")
    try:
        assert laurel.shell("up").returncode == 0
        laurel.run("apply", "-f", str(DEMO_CONFIGURATION))
        ingest(laurel, "alice")
        assert laurel.shell("down").returncode == 0
        away = laurel.shell("user", "alice")
        assert away.returncode == 3
        assert "laurel up" in away.stderr
        assert laurel.shell("status").returncode == 3
        assert laurel.shell("up").returncode == 0
        assert laurel.json("user", "alice")["user"]["metrics"][0]["total"] == 1
    finally:
        stack_of(laurel).erase()
