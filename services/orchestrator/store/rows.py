"""Rows of users and totals to values and back."""

from typing import Final

from asyncpg import Record
from msgspec import json

from services.orchestrator.domain import Standing, Total, User
from services.orchestrator.said import Said

_SAID: Final = json.Decoder(Said)
_ENCODER: Final = json.Encoder()


def user_from_row(row: Record) -> User:
    """The user of a row of `users`."""
    standing = Standing(row["standing"])
    return User(
        row["user_id"],
        _SAID.decode(row["said"]),
        row["create_time"],
        row["version"],
        standing,
        row["merged_into"] or "",
        row["life"],
    )


def said_to_json(said: Said) -> str:
    """The column `users.said`."""
    return _ENCODER.encode(said).decode()


def total_from_row(row: Record) -> Total:
    """The total of a row of `totals`."""
    return Total(
        total_micros=row["total_micros"],
        peak_micros=row["peak_micros"],
        gross_micros=row["gross_micros"],
        event_count=row["event_count"],
        version=row["total_version"],
        newest_time=row["newest_time"],
        newest_id=row["newest_id"],
    )
