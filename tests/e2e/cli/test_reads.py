"""What is read: users, boards, ranks, and what is not there."""

import json
from pathlib import Path

import pytest

from tests.fixtures.command import Laurel, history, ingest


def occur_time(line: str) -> str:
    """When the event on a line happened; all lines have one offset."""
    return str(json.loads(line)["occurTime"])


def test_every_read_shows_a_table_and_prints_one_document(laurel: Laurel, tmp_path: Path) -> None:
    laurel.run("import", str(history(tmp_path / "june.ndjson", "frank", days=10)))
    event = laurel.json("events", "frank", "--limit", "1")["entries"][0]["entryId"]
    reads = [
        ["event", event],
        ["users"],
        ["ranks", "frank"],
        ["ranks", "frank", "--board", "commits", "--limit", "3"],
        ["events", "frank"],
        ["events", "frank", "--metric", "commits", "--origin", "import", "--not-voided"],
        ["events", "frank", "--from", "2015-06-01T00:00:00Z", "--to", "2015-06-03T00:00:00Z"],
        ["metrics", "summary", "frank", "commits", "--from", "2015-06-01", "--to", "2015-07-01"],
        ["metrics", "totals", "commits", "--from", "2015-06-01", "--to", "2015-07-01"],
        ["metrics", "top", "commits", "--from", "2015-06-01", "--to", "2015-07-01"],
        ["user", "frank"],
        ["streak", "frank"],
        ["streak", "frank", "--streak", "daily-commits", "--periods"],
        ["streak", "frank", "--streak", "daily-commits", "--freezes"],
        ["streak", "--longest", "daily-commits"],
        ["streaks", "compare", "daily-commits", "frank", "nobody"],
        ["streaks", "at-risk", "daily-commits", "--hours", "24"],
        ["streaks", "calendar", "frank", "daily-commits", "--from", "2025-06-01"],
        ["streaks", "statistics", "daily-commits", "--from", "2025-06-01"],
        ["achievements", "frank"],
        ["achievements", "frank", "--completed"],
        ["completions", "frank", "--since", "2015-01-01T00:00:00Z"],
        ["completions", "--achievement", "first-commit", "--completed"],
        ["points", "frank"],
        ["points", "frank", "--awards", "--system", "xp"],
        ["points", "--levels", "xp"],
        ["points", "summary", "frank", "xp", "--by", "month", "--from", "2015-06-01"],
        ["points", "distribution", "xp", "10", "100"],
        ["points", "distribution", "xp", "10", "100", "--where", "region=europe"],
        ["points", "boosts", "frank"],
        ["points", "preview", "frank", "commits", "--value", "2"],
        ["points", "audit"],
        ["leaderboard", "commits"],
        ["leaderboard", "commits", "--segment", "region=europe"],
        ["leaderboard", "commits", "--around", "frank", "--limit", "1"],
        ["leaderboard", "commits", "--user", "frank"],
        ["leaderboard", "commits", "--friend", "frank", "--friend", "nobody"],
        ["leaderboard", "commits", "--statistics"],
        ["leaderboard", "weekly-commits", "--run", "2015-06-03"],
        ["leaderboard", "weekly-commits", "--runs"],
        ["leaderboard", "commits", "--segments"],
        ["sagas", "list"],
    ]
    laurel.run("maintenance")  # sums over all users follow an import
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
