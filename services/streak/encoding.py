"""The compact state of a user's streak as JSON: instants in microseconds since 1970, dates as ISO, ids in hex.

{"first": [time, id], "newest": [time, id, zone], "latest_date": date,
 "settled": {"freezes": [origin, balance, grant_count], "longest": n, "zones": [[period, zone], ...],
             "anchor": null | {"period": n, "run": [start, length], "qualified": time,
                               "latest": [time, zone]}},
 "tally": {"period": n, "sums": [micros, ...], "earliest": [time, zone], "latest": [time, id, zone],
           "qualified": null | time}}
"""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from services.streak.domain.fold import Anchor, Settled, StreakState, Tally
from services.streak.domain.freezes import Freezes
from services.streak.domain.rows import Run
from services.streak.domain.travel import Sighting

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def encode(state: StreakState) -> str:
    """The state as JSON."""
    settled, tally = state.settled, state.tally
    return json.dumps(
        {
            "first": [_micros(state.first_order[0]), state.first_order[1].hex],
            "newest": [_micros(state.newest_order[0]), state.newest_order[1].hex, state.newest_zone],
            "latest_date": state.latest_date.isoformat(),
            "settled": {
                "freezes": [
                    settled.freezes.origin.isoformat(),
                    settled.freezes.balance,
                    settled.freezes.grant_count,
                ],
                "longest": settled.longest,
                "zones": settled.zones,
                "anchor": _anchor_to_json(settled.anchor),
            },
            "tally": {
                "period": tally.period,
                "sums": tally.sums_micros,
                "earliest": _sighting_to_json(tally.earliest),
                "latest": [_micros(tally.latest_order[0]), tally.latest_order[1].hex, tally.latest.zone],
                "qualified": _micros(tally.qualify_time) if tally.qualify_time else None,
            },
        },
        separators=(",", ":"),
    )


def decode(text: str) -> StreakState:
    """The state that `encode` wrote."""
    value = json.loads(text)
    newest_time, newest_id, newest_zone = value["newest"]
    settled, tally = value["settled"], value["tally"]
    origin, balance, grant_count = settled["freezes"]
    latest_time, latest_id, latest_zone = tally["latest"]
    return StreakState(
        first_order=(_instant(value["first"][0]), UUID(hex=value["first"][1])),
        newest_order=(_instant(newest_time), UUID(hex=newest_id)),
        newest_zone=newest_zone,
        latest_date=date.fromisoformat(value["latest_date"]),
        settled=Settled(
            freezes=Freezes(date.fromisoformat(origin), balance, grant_count),
            anchor=_anchor_from_json(settled["anchor"]),
            longest=settled["longest"],
            zones=tuple((period, zone) for period, zone in settled["zones"]),
        ),
        tally=Tally(
            period=tally["period"],
            sums_micros=tuple(tally["sums"]),
            earliest=_sighting_from_json(tally["earliest"]),
            latest=Sighting(_instant(latest_time), latest_zone),
            latest_order=(_instant(latest_time), UUID(hex=latest_id)),
            qualify_time=None if tally["qualified"] is None else _instant(tally["qualified"]),
        ),
    )


def _anchor_to_json(anchor: Anchor | None) -> Any:
    return anchor and {
        "period": anchor.period,
        "run": [anchor.run.start_date.isoformat(), anchor.run.length],
        "qualified": _micros(anchor.qualify_time),
        "latest": _sighting_to_json(anchor.latest),
    }


def _anchor_from_json(value: Any) -> Anchor | None:
    if value is None:
        return None
    start, length = value["run"]
    return Anchor(
        period=value["period"],
        run=Run(date.fromisoformat(start), length),
        qualify_time=_instant(value["qualified"]),
        latest=_sighting_from_json(value["latest"]),
    )


def _sighting_to_json(sighting: Sighting) -> list[Any]:
    return [_micros(sighting.time), sighting.zone]


def _sighting_from_json(value: Any) -> Sighting:
    return Sighting(_instant(value[0]), value[1])


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
