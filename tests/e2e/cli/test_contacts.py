"""laurel contacts."""

from tests.fixtures.command import Laurel


def test_contacts_are_set_shown_and_deleted(laurel: Laurel) -> None:
    laurel.run("contacts", "set", "ada", "--email", "ada@example.com", "--quiet", "22:00-08:00")
    laurel.run("contacts", "set", "ada", "--refuse", "recap:email", "--refuse", "reactivation")
    laurel.run("contacts", "add-device", "ada", "expo", "a-token")
    shown = laurel.run("contacts", "show", "ada").stdout
    for text in ("ada@example.com", "22:00-08:00", "recap:email, reactivation", "expo a-token"):
        assert text in shown
    laurel.run("contacts", "remove-device", "ada", "expo", "a-token")
    laurel.run("contacts", "set", "ada", "--refuse-nothing", "--quiet", "")
    contact = laurel.json("contacts", "show", "ada")["contact"]
    assert contact["email"] == "ada@example.com"
    assert not {"refusals", "devices", "quietHours"} & {name for name, value in contact.items() if value}
    assert "is not one of" in laurel.run("contacts", "set", "ada", "--refuse", "letters", code=2).stderr
    assert "deleted ada" in laurel.run("contacts", "delete", "ada").stdout
