"""The stack's services have two roles each, but for a stack from before there were two."""

import json
from pathlib import Path

from deploy.local.databases import owner_dsn, service_dsn
from deploy.local.state import CREDENTIALS_FILE, owner_passwords, service_passwords


def test_who_serves_and_who_owns_the_tables_have_passwords_of_their_own_which_are_kept(
    tmp_path: Path,
) -> None:
    serving = service_passwords(tmp_path, ["streak", "points"])
    owning = owner_passwords(tmp_path, ["streak", "points"])
    assert serving.keys() == owning.keys() == {"streak", "points"}
    assert len({*serving.values(), *owning.values()}) == 4
    assert service_passwords(tmp_path, ["streak", "points"]) == serving
    assert owner_passwords(tmp_path, ["streak", "points"]) == owning


def test_a_stack_from_before_keeps_to_one_role(tmp_path: Path) -> None:
    (tmp_path / CREDENTIALS_FILE).write_text(json.dumps({"streak": "old"}))
    assert service_passwords(tmp_path, ["streak"]) == {"streak": "old"}
    assert owner_passwords(tmp_path, ["streak"]) == {}


def test_the_owner_is_another_role_of_the_same_database() -> None:
    admin = "postgresql://admin:secret@db:5432/postgres?sslmode=require"
    assert (
        service_dsn(admin, "streak", "a")
        == "postgresql://laurel_streak:a@db:5432/laurel_streak?sslmode=require"
    )
    assert owner_dsn(admin, "streak", "b") == (
        "postgresql://laurel_streak_owner:b@db:5432/laurel_streak?sslmode=require"
    )
