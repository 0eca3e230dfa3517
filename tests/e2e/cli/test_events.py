"""ingest, import, complete."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.fixtures import clock
from tests.fixtures.command import Laurel, history, ingest


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


def test_maintenance_ahead_of_the_clock_is_refused_by_its_reason(laurel: Laurel) -> None:
    ahead = (NOW + timedelta(days=1)).isoformat()
    assert "MAINTENANCE_IN_FUTURE" in laurel.run("maintenance", "--now", ahead, code=1).stderr


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


def test_an_achievement_is_taken_away_with_its_points_and_given_back(laurel: Laurel) -> None:
    laurel.run("complete", "ruth", "conference-speaker")
    taken = laurel.json("revoke", "ruth", "conference-speaker", "--reason", "a mistake", "--key", "k1")
    assert [each["kind"] for each in taken["effects"]["achievements"]] == ["ACHIEVEMENT_CHANGE_KIND_REVOKED"]
    assert [each["balance"] for each in taken["effects"]["points"]] == ["25"]
    again = laurel.json("revoke", "ruth", "conference-speaker", "--reason", "a mistake", "--key", "k1")
    assert again == {**taken, "idempotentReplayed": True}
    refused = laurel.run("complete", "ruth", "conference-speaker", code=1)
    assert "ACHIEVEMENT_REVOKED" in refused.stderr
    voided = laurel.json("void", taken["entryId"], "--reason", "it was none")
    assert [each["balance"] for each in voided["effects"]["points"]] == ["125"]


def test_an_achievement_can_be_completed_by_call_once(laurel: Laurel) -> None:
    first = laurel.json("complete", "ivan", "conference-speaker", "--key", "c1")
    assert [each["achievement"] for each in first["effects"]["achievements"]] == ["conference-speaker"]
    assert laurel.json("complete", "ivan", "conference-speaker", "--key", "c1") == {
        **first,
        "idempotentReplayed": True,
    }
    refused = laurel.run("complete", "ivan", "first-commit", code=1)
    assert "TRIGGER_NOT_API" in refused.stderr


def test_points_are_given_spent_and_given_back(laurel: Laurel) -> None:
    given = laurel.json("grant", "shopper", "xp", "500", "--reason", "welcome")
    balance = given["effects"]["points"][0]["balance"]
    assert "500" in [award["amount"] for award in given["effects"]["points"][0]["awards"]]
    again = [laurel.json("spend", "shopper", "xp", "120", "--key", "cart-1") for _ in range(2)]
    assert again[1] == {**again[0], "idempotentReplayed": True}
    refused = laurel.run("spend", "shopper", "xp", "10000", code=1)
    assert "INSUFFICIENT_POINTS" in refused.stderr
    laurel.run("void", again[0]["entryId"], "--reason", "the cart was cancelled")
    assert "no differences" in laurel.run("points", "audit", "--user", "shopper").stdout
    by_call = laurel.json("points", "summary", "shopper", "xp")["periods"][0]["triggers"][0]
    assert by_call == {"trigger": "", "times": "1", "baseAmount": "500", "amount": "500"}
    assert laurel.json("points", "shopper")["points"][0]["balance"] == balance


def test_a_file_of_operations_is_performed_once(laurel: Laurel, tmp_path: Path) -> None:
    file = tmp_path / "operations.ndjson"
    renamed = [
        json.dumps({"userUpdate": {"user": {"userId": f"many-{n}", "name": f"No {n}"}, "requestId": "many"}})
        for n in range(150)
    ]
    file.write_text("\n".join([*renamed[:120], '{"userUpdate": 5}', *renamed[120:], "{}"]) + "\n")
    first = laurel.run("operate", str(file), code=1)
    assert first.stdout == "150 done, 0 done before, 2 refused.\n"
    assert [line.split(":")[1] for line in first.stderr.splitlines() if str(file) in line] == ["121", "152"]
    again = laurel.run("operate", str(file), code=1)
    assert again.stdout == "0 done, 150 done before, 2 refused.\n"
    assert laurel.json("user", "many-149")["user"]["user"]["name"] == "No 149"


def test_any_operation_is_performed_by_its_request(laurel: Laurel) -> None:
    words = ("--user-id", "asker", "--points-system", "xp", "--amount", "5", "--key", "once")
    first, again = (laurel.json("operate", "points-grant", *words) for _ in range(2))
    assert again == {**first, "idempotentReplayed": True}
    renamed = laurel.run("operate", "user-update", "--user.user-id", "asker", "--user.name", "Ada").stdout
    assert renamed.startswith("Entry ")
    assert '"name":"Ada"' in renamed.replace(" ", "")
    refused = laurel.run("operate", "points-grant", "--user-id", "asker", code=1).stderr
    assert "points_system" in refused
    assert "amount" in refused
