"""laurel webhooks."""

from tests.fixtures.command import Laurel


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
