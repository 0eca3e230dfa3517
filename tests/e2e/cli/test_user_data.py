"""laurel user export and verify-deleted."""

import json
from datetime import timedelta
from pathlib import Path

from tests.fixtures.clock import now
from tests.fixtures.command import Laurel, ingest


def test_what_is_kept_of_a_user_is_one_document_of_every_service(laurel: Laurel, tmp_path: Path) -> None:
    ingest(laurel, "ada-export")
    ingest(laurel, "ada-export-2")
    laurel.run("contacts", "set", "ada-export", "--email", "ada@example.com")
    file = tmp_path / "ada.json"

    told = laurel.run("user", "export", "ada-export", "--output", str(file)).stderr

    document = json.loads(file.read_text())
    assert document["user_id"] == "ada-export"
    assert set(document["services"]) == {
        "orchestrator",
        "streak",
        "achievement",
        "points",
        "leaderboard",
        "notification",
    }
    assert "of notification" in told
    [entry] = document["services"]["orchestrator"]["entries"]
    assert entry["request"]["metric"] == "commits"
    assert document["services"]["notification"]["contacts"][0]["body"]["email"] == "ada@example.com"
    assert "ada-export-2" not in file.read_text()


def test_a_search_names_every_table_that_has_something_of_a_user(laurel: Laurel) -> None:
    ingest(laurel, "ada-search")
    found = laurel.run("user", "verify-deleted", "ada-search", code=1)
    assert "orchestrator.entries: 1 rows" in found.stdout
    assert "leaderboard.scores" in found.stdout
    assert "name ada-search" in found.stderr
    assert "no trace is left" in laurel.run("user", "verify-deleted", "nobody-at-all").stdout


def test_who_is_deleted_leaves_no_trace_and_others_move_up(laurel: Laurel) -> None:
    user, rival = "ada-deleted", "bob-stays"
    for day in range(3):
        ingest(laurel, user, "--at", _days_ago(day), "--key", f"day-{day}", value="400000")
    ingest(laurel, rival, value="399999")
    laurel.run("contacts", "set", user, "--email", "ada@example.com")
    laurel.run("transfer", user, rival, "xp", "3")
    passed_on = laurel.json("transfer", rival, user, "xp", "2", "--key", "back")
    exported = json.loads(laurel.run("user", "export", user).stdout)["services"]
    assert _place(laurel, user) < _place(laurel, rival)
    before = _place(laurel, rival)

    reply = laurel.json("user", "delete", user, "--yes", "--key", "k-7f3", "--reason", "asked for it")
    again = laurel.json("user", "delete", user, "--yes", "--key", "k-7f3", "--reason", "asked for it")

    assert again == reply | {"idempotentReplayed": True}
    proof = laurel.run("user", "verify-deleted", user)
    assert "no trace is left" in proof.stdout
    assert "that tell of the deletion" in proof.stdout
    assert _place(laurel, rival) == before - 1
    replayed = laurel.json("transfer", rival, user, "xp", "2", "--key", "back")
    assert (replayed["entryId"], replayed["idempotentReplayed"]) == (passed_on["entryId"], True)
    assert user not in json.dumps(replayed)
    assert "there is no such user" in laurel.run("user", user, code=1).stderr
    kept = json.loads(laurel.run("user", "export", reply["pseudonym"]).stdout)["services"]
    assert len(kept["points"]["awards"]) == len(exported["points"]["awards"])
    own = [entry for entry in kept["orchestrator"]["entries"] if entry["user_id"] == reply["pseudonym"]]
    assert [entry for entry in own if "request" in entry and entry["operation"] != "user_erasure"] == []
    assert reply["pseudonym"] in laurel.run("audit", "--limit", "1").stdout
    erased = laurel.json("feed", "list", "--type", "user.erased", "--user", user)["events"]
    assert [event["entryId"] for event in erased] == [reply["entryId"]]

    anew = ingest(laurel, user, "--key", "day-0", value="2")
    assert anew["totalAfter"] == 2
    refused = laurel.run("void", exported["orchestrator"]["entries"][0]["entry_id"], "--reason", "r", code=1)
    assert "stays as it is" in refused.stderr


def test_who_is_merged_goes_up_in_the_other_in_every_service(laurel: Laurel) -> None:
    anonymous, user = "device-4711", "ada-signed-in"
    ingest(laurel, user, "--key", "k", value="3")
    ingest(laurel, anonymous, "--key", "k", value="399990")
    ingest(laurel, anonymous, "--key", "l", value="4")
    assert _place(laurel, anonymous) < _place(laurel, user)

    told = laurel.run("user", "merge", anonymous, user, "--yes", "--key", "m", "--reason", "signed in")

    assert f"{anonymous} is {user} now" in told.stdout
    again = laurel.json("user", "merge", anonymous, user, "--yes", "--key", "m", "--reason", "signed in")
    assert (again["intoUserId"], again["idempotentReplayed"]) == (user, True)
    members = laurel.json("leaderboard", "commits", "--around", user)["members"]
    assert anonymous not in {member["userId"] for member in members}
    assert next(member["score"] for member in members if member["userId"] == user) == 399997
    assert user in laurel.run("user", anonymous).stdout
    assert ingest(laurel, anonymous, "--key", "n")["totalBefore"] == 399997
    merged = laurel.json("feed", "list", "--type", "user.merged", "--user", anonymous)["events"]
    assert [event["merge"]["intoUserId"] for event in merged] == [user]
    exported = json.loads(laurel.run("user", "export", user).stdout)["services"]["orchestrator"]["entries"]
    assert {anonymous, user} <= {entry["user_id"] for entry in exported}

    refused = laurel.run("user", "delete", anonymous, "--yes", code=1)
    assert user in refused.stderr
    laurel.run("user", "delete", user, "--yes")
    for each in (user, anonymous):
        assert "no trace is left" in laurel.run("user", "verify-deleted", each).stdout


def _place(laurel: Laurel, user: str) -> int:
    board = laurel.json("leaderboard", "commits", "--around", user)["members"]
    return next(int(member["rank"]) for member in board if member["userId"] == user)


def _days_ago(days: int) -> str:
    return f"{now() - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
