"""Migrations since the last release let its replicas go on (docs/operations/upgrade.md)."""

import re

import pytest

from tests.upgrade.release import ROOT, released_migrations

_CONTRACTS = re.compile(r"^-- contract: ([a-z]+/\d{4}_[a-z0-9_]+\.sql)", re.MULTILINE)
"""What an earlier migration has left unused is taken away: by which one, which must be of an earlier release."""

_COMMENT = re.compile(r"--[^\n]*")
_BREAKING = {
    "takes something away that old replicas use": re.compile(
        r"\bDROP\s+(TABLE|COLUMN|TYPE|VIEW|FUNCTION|TRIGGER|SCHEMA)\b", re.IGNORECASE
    ),
    "calls something by another name": re.compile(r"\bRENAME\b", re.IGNORECASE),
    "alters a type": re.compile(r"\bALTER\s+(TYPE\b|COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE\b)", re.IGNORECASE),
    "asks for what old replicas leave out": re.compile(
        r"\b(SET\s+NOT\s+NULL|DROP\s+DEFAULT)\b", re.IGNORECASE
    ),
    "refuses what old replicas may write": re.compile(
        r"\bADD\s+(CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN|EXCLUDE)\b|\bDROP\s+CONSTRAINT\b", re.IGNORECASE
    ),
    "adds a column without a default": re.compile(
        r"\bADD\s+COLUMN\b(?:(?!\bADD\s+COLUMN\b|\bDEFAULT\b)[^;])*\bNOT\s+NULL\b(?![^;,]*\bDEFAULT\b)",
        re.IGNORECASE,
    ),
}


def breaking(sql: str) -> list[str]:
    """What a migration does that a replica of the release before does not survive."""
    code = _COMMENT.sub("", sql)
    return [what for what, pattern in _BREAKING.items() if pattern.search(code)]


def migrations() -> set[str]:
    return {f"{path.parts[-3]}/{path.name}" for path in (ROOT / "services").glob("*/migrations/*.sql")}


@pytest.mark.parametrize("name", sorted(migrations() - released_migrations()))
def test_a_migration_since_the_last_release_only_adds_or_takes_away_what_that_release_did_not_use(
    name: str,
) -> None:
    service, file = name.split("/")
    sql = (ROOT / "services" / service / "migrations" / file).read_text()
    unused_since = _CONTRACTS.findall(sql)
    assert set(unused_since) <= released_migrations(), "what it takes away is used by the last release"
    if not unused_since:
        assert breaking(sql) == []


def test_what_was_released_is_still_here() -> None:
    assert released_migrations() <= migrations()


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        ("ALTER TABLE users ADD COLUMN a text; CREATE TABLE b (c text NOT NULL);", 0),
        ("ALTER TABLE users ADD COLUMN a text NOT NULL DEFAULT '';", 0),
        ("ALTER TABLE users ADD COLUMN a boolean DEFAULT false NOT NULL;", 0),
        ("ALTER TABLE users ADD COLUMN a text NOT NULL;", 1),
        ("ALTER TABLE users ADD COLUMN a text, ADD COLUMN b text NOT NULL;", 1),
        ("ALTER TABLE users\n    DROP COLUMN a;", 1),
        ("DROP TYPE award_row;", 1),
        ("-- DROP TYPE award_row;\nDROP INDEX awards_reversed;", 0),
        ("ALTER TYPE award_row ADD ATTRIBUTE a text;", 1),
        ("ALTER TABLE users RENAME COLUMN a TO b;", 1),
        ("ALTER TABLE users ALTER COLUMN a SET NOT NULL;", 1),
        ("ALTER TABLE users ADD CONSTRAINT a CHECK (b > 0);", 1),
    ],
)
def test_what_old_replicas_do_not_survive_is_seen(sql: str, wrong: int) -> None:
    assert len(breaking(sql)) == wrong
