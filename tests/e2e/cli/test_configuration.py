"""apply, export, get, delete: definitions."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import DEMO_CONFIGURATION, Laurel


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


TOLD_OUTSIDE = """\
webhook_endpoints:
  - {key: crm-file, url: "https://crm.example.com/hook", types: [streak.lost], min_interval_seconds: 60}
event_streams:
  - {key: bus-file, types: ["*"], redis: {stream: events-of-the-file}}
messages:
  - {type: achievement, channels: [push, email]}
"""


def test_what_is_told_outside_stands_in_the_file_too(laurel: Laurel, tmp_path: Path) -> None:
    path = tmp_path / "told.yaml"
    path.write_text(TOLD_OUTSIDE)
    assert "1 webhook endpoint, 1 event stream, 1 message" in laurel.run("validate", "-f", str(path)).stdout
    assert "create event stream bus-file" in laurel.run("apply", "-f", str(path), "--dry-run").stdout
    applied = laurel.run("apply", "-f", str(path)).stdout
    assert "create webhook endpoint crm-file" in applied
    assert "secret of crm-file: whsec_" in applied
    exported = laurel.run("export").stdout
    assert "key: crm-file" in exported
    again = tmp_path / "exported.yaml"
    again.write_text(exported)
    kept = laurel.json("apply", "-f", str(again), "--dry-run")["changes"]
    assert {each["action"] for each in kept} == {"CONFIGURATION_ACTION_KEEP"}
    path.write_text("event_streams: [{key: bus-file, types: [streak.last], redis: {stream: x}, health: {}}]")
    wrong = laurel.run("apply", "-f", str(path), code=1).stderr
    assert "event_streams[0].health  is set by the server" in wrong
    path.write_text(
        "metrics: [{key: never}]\nevent_streams: [{key: bus-file, types: [streak.last], redis: {stream: x}}]"
    )
    refused = laurel.run("apply", "-f", str(path), code=1).stderr
    assert "event_streams[0].types[0]" in refused
    assert "key: never" not in laurel.run("export").stdout
    laurel.run("webhooks", "delete", "crm-file")
    laurel.run("streams", "delete", "bus-file")
