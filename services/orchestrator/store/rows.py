"""Rows of users and totals to values and back."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from asyncpg import Record
from msgspec import json

from services.orchestrator.domain import Stamped, Total, User

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def user_from_row(row: Record) -> User:
    """The user of a row of `users`."""
    return User(
        user_id=row["user_id"],
        name=Stamped(row["name"], row["name_time"]) if row["name_time"] is not None else None,
        time_zone=Stamped(row["time_zone"], row["zone_time"]) if row["zone_time"] is not None else None,
        attributes={
            key: Stamped(value, _EPOCH + micros * _MICROSECOND)
            for key, (value, micros) in json.decode(row["attributes"]).items()
        },
        create_time=row["create_time"],
        version=row["version"],
    )


def attributes_to_json(attributes: Mapping[str, Stamped]) -> str:
    """The column `users.attributes`."""
    return json.encode(
        {key: [stamped.value, (stamped.said - _EPOCH) // _MICROSECOND] for key, stamped in attributes.items()}
    ).decode()


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
