"""backfills, preview: an achievement that comes late is given for what was before it (RULES 4.6)."""

from datetime import timedelta
from pathlib import Path

from tests.fixtures import clock
from tests.fixtures.command import Laurel, ingest

LATE = """
achievements:
  - key: docs-pair
    award_backdated: true
    user_filters: [{attribute: team, equals: atlas}]
    metric: {metric: commits, threshold: 2, event_filters: [{attribute: area, equals: docs}]}
  - key: two-days
    user_filters: [{attribute: team, equals: atlas}]
    streak: {streak: daily-commits, length: 2}
  - {key: late-pair, composite: {achievements: [docs-pair, two-days]}}
"""


def test_an_achievement_that_comes_late_is_given_for_what_was_before_it(
    other_laurel: Laurel, tmp_path: Path
) -> None:
    days = [(clock.now() - timedelta(days=before)).isoformat() for before in (2, 1, 0)]
    team, docs = ("--user-attr", "team=atlas"), ("--attr", "area=docs")
    first = ingest(other_laurel, "olga", "--at", days[0], *docs, *team)
    second = ingest(other_laurel, "olga", "--at", days[1], *docs, *team)
    ingest(other_laurel, "olga", "--at", days[2])
    ingest(other_laurel, "pete", "--at", days[1], *docs)
    ingest(other_laurel, "pete", "--at", days[2], *docs)
    xp = other_laurel.json("points", "olga")["points"][0]["balance"]
    file = tmp_path / "late.yaml"
    file.write_text(LATE)

    for key in ("docs-pair", "two-days"):
        previewed = other_laurel.json("preview", key, "-f", str(file), "--sample", "100")
        sample = {each["userId"]: each["completeTime"] for each in previewed["sample"]}
        assert "olga" in sample
        assert "pete" not in sample
    assert "would be given it" in other_laurel.run("preview", "two-days", "-f", str(file)).stdout

    other_laurel.run("apply", "-f", str(file))
    other_laurel.run("maintenance")
    states = {
        each["achievement"]: each["state"] for each in other_laurel.json("backfills", "list")["backfills"]
    }
    assert {states[key] for key in ("docs-pair", "two-days", "late-pair")} == {"BACKFILL_STATE_DONE"}
    held = {
        each["achievement"]: (each["entryId"], each["backdated"])
        for each in other_laurel.json("achievements", "olga", "--completed")["achievements"]
        if each.get("backdated")
    }
    assert held == dict.fromkeys(("docs-pair", "two-days", "late-pair"), (second["entryId"], True))
    # A hundred for what awards what is backdated, nothing for the others; and nobody is told.
    assert float(other_laurel.json("points", "olga")["points"][0]["balance"]) == float(xp) + 100
    told = other_laurel.json("feed", "list", "--user", "olga", "--type", "achievement.completed")
    assert not {"docs-pair", "two-days"} & {
        each["achievement"]["achievement"] for each in told.get("events", [])
    }

    other_laurel.run("void", first["entryId"], "--reason", "a mistake")
    left = {
        each["achievement"]
        for each in other_laurel.json("achievements", "olga", "--completed")["achievements"]
    }
    assert not left & {"docs-pair", "late-pair"}
    cancelled = other_laurel.run("backfills", "cancel", "two-days", "--reason", "never mind")
    assert "done" in cancelled.stdout
