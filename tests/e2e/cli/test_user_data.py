"""laurel user export and verify-deleted."""

import json
from pathlib import Path

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
