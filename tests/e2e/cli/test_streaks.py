"""streaks freeze, pause, reset, restore."""

from datetime import timedelta

from tests.fixtures import clock
from tests.fixtures.command import DEMO_CONFIGURATION, Laurel, ingest

TODAY = clock.now().date()


def test_a_streak_is_paused_lost_and_given_back(laurel: Laurel) -> None:
    ingest(laurel, "mona", "--at", (clock.now() - timedelta(days=5)).isoformat())
    spent = laurel.json("streak", "mona", "--streak", "daily-commits", "--periods")["periods"]
    assert [each["status"] for each in spent][:3] == [
        "PERIOD_STATUS_BROKEN",
        "PERIOD_STATUS_FROZEN",
        "PERIOD_STATUS_FROZEN",
    ]
    days = [str(TODAY - timedelta(days=before)) for before in (4, 3)]
    paused = laurel.json("streaks", "pause", "mona", "daily-commits", *days, "--reason", "ill")
    state = paused["effects"]["streaks"][0]["state"]
    assert (state["length"], state.get("freezeCount", 0)) == (1, 0)
    laurel.run("void", paused["entryId"], "--reason", "was well")
    restored = laurel.json("streaks", "restore", "mona", "daily-commits", "--key", "r1")
    assert restored["effects"]["streaks"][0]["change"]["length"] == 1
    again = laurel.json("streaks", "restore", "mona", "daily-commits", "--key", "r1")
    assert again == {**restored, "idempotentReplayed": True}


def test_an_amnesty_is_tried_declared_and_taken_back(laurel: Laurel) -> None:
    ingest(laurel, "olga", "--at", (clock.now() - timedelta(days=4)).isoformat())
    ingest(laurel, "olga")
    window = (
        "--from",
        (clock.now() - timedelta(days=3)).isoformat(),
        "--to",
        (clock.now() - timedelta(days=1)).isoformat(),
        "--streak",
        "daily-commits",
    )
    preview = laurel.json("streaks", "amnesty", "outage", *window, "--preview")["streaks"]
    assert [each["streak"] for each in preview] == ["daily-commits"]
    assert int(preview[0]["affectedUserCount"]) >= int(preview[0]["savedUserCount"]) >= 1
    declared = laurel.run("streaks", "amnesty", "outage", *window, "--reason", "the database was away")
    assert "Declared outage" in declared.stdout
    laurel.run("maintenance")
    assert laurel.json("streak", "olga")["streaks"][0]["length"] == 2
    shown = laurel.json("streaks", "amnesties")["amnesties"]
    assert [(each["amnesty"]["key"], each["finished"]) for each in shown] == [("outage", True)]
    audit = laurel.run("audit").stdout
    assert "declare amnesty amnesty/outage" in audit
    assert "the database was away" in audit
    laurel.run("streaks", "withdraw", "outage")
    assert laurel.json("streaks", "amnesties").get("amnesties", []) == []
    laurel.run("apply", "-f", str(DEMO_CONFIGURATION), "--prune", "--dry-run")


def test_a_pause_is_ended_early_and_an_override_is_refused_where_the_streak_does_not_allow_it(
    laurel: Laurel,
) -> None:
    ingest(laurel, "pia", "--at", (clock.now() - timedelta(days=1)).isoformat())
    laurel.run("streaks", "pause", "pia", "daily-commits", str(TODAY), str(TODAY + timedelta(days=9)))
    state = laurel.json("streaks", "resume", "pia", "daily-commits")["effects"]["streaks"][0]["state"]
    assert state.get("pauses", []) == []
    refused = laurel.run("streaks", "override", "pia", "daily-commits", "--off", code=1)
    assert "OVERRIDE_NOT_ALLOWED" in refused.stderr
    laurel.run("streaks", "override", "pia", "daily-commits", "--reason", "as it was")


def test_freezes_are_given_and_a_streak_begins_anew(laurel: Laurel) -> None:
    ingest(laurel, "nils")
    given = laurel.json("streaks", "freeze", "nils", "daily-commits", "5")
    assert given["effects"]["streaks"][0]["givenFreezeCount"] == 1
    reset = laurel.json("streaks", "reset", "nils", "daily-commits", "--reason", "asked for it")
    assert reset["effects"]["streaks"][0]["change"].get("length", 0) == 0
    refused = laurel.run(
        "streaks", "pause", "nils", "daily-commits", str(TODAY), str(TODAY), "--by-user", code=1
    )
    assert "PAUSE_NOT_ALLOWED" in refused.stderr
