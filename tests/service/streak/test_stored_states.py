"""States that earlier versions wrote are read like any other after the migrations."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import asyncpg

from services.streak.config import MIGRATIONS
from services.streak.domain.freezes import Freezes
from services.streak.domain.rows import Reach, Run
from services.streak.domain.state import Anchor, Settled, StreakState, Tally
from services.streak.domain.travel import Sighting
from services.streak.encoding import decode
from shared.postgres.migrations import migrate

BY_NAME = "0004_states_by_name.sql"
FIRST, LAST = UUID("01900000-0000-7000-8000-000000000001"), UUID("01900000-0000-7000-8000-000000000002")
MORNING = datetime(2025, 3, 3, 9, 30, 0, 123_456, tzinfo=UTC)
NEXT_DAY = datetime(2025, 3, 4, 9, 30, tzinfo=UTC)
OLD = (
    '{"first":[1740994200123456,"01900000000070008000000000000001"],'
    '"newest":[1741080600000000,"01900000000070008000000000000002","Europe/Berlin"],"latest_date":"2025-03-04",'
    '"settled":{"freezes":["2025-03-03",2,1],"longest":1,"zones":[[739313,"Europe/Berlin"]],"anchor":'
    '{"period":739313,"run":["2025-03-03",1],"qualified":1740994200123456,"latest":[1740994200123456,"UTC"]}},'
    '"tally":{"period":739314,"sums":[500000,0],"earliest":[1741080600000000,"UTC"],'
    '"latest":[1741080600000000,"01900000000070008000000000000002","Europe/Berlin"],"qualified":null}}'
)
STATE = StreakState(
    first_order=(MORNING, FIRST),
    latest_date=date(2025, 3, 4),
    zones=((739313, "Europe/Berlin"),),
    settled=Settled(
        freezes=Freezes(date(2025, 3, 3), 2, 1),
        anchor=Anchor(
            739313,
            Run(date(2025, 3, 3), 1),
            Reach(FIRST, MORNING, date(2025, 3, 3)),
            Sighting(MORNING, "UTC"),
            date(2025, 3, 3),
        ),
        longest=1,
    ),
    tally=Tally(
        period=739314,
        sums_micros=(500_000, 0),
        earliest=Sighting(NEXT_DAY, "UTC"),
        latest=Sighting(NEXT_DAY, "Europe/Berlin"),
        latest_order=(NEXT_DAY, LAST),
    ),
)


async def test_a_state_of_the_first_version_is_read_as_what_it_was(
    empty_database: str, tmp_path: Path
) -> None:
    for step in sorted(MIGRATIONS.glob("*.sql")):
        if step.name < BY_NAME:
            shutil.copy(step, tmp_path)
    await migrate(empty_database, tmp_path)
    connection = await asyncpg.connect(empty_database)
    await connection.executemany(
        "INSERT INTO streak_states (user_id, streak, version, length, longest, fingerprint, closed_time, state) "
        "VALUES ($1, 'daily', 1, 1, 1, 1, now(), $2)",
        [
            ("settled", OLD),
            ("young", OLD.replace(OLD[OLD.index('{"period":739313') : OLD.index('},"tally"')], "null")),
            ("undone", None),
        ],
    )
    await connection.execute(
        "INSERT INTO request_log (entry_id, user_id, digest, state, apply_time, metric, value_micros, occur_time,"
        " time_zone, streaks) VALUES ($1, 'settled', '', 1, $2, 'commits', 1, $2, 'UTC', '{daily}')",
        FIRST,
        MORNING,
    )
    await connection.execute(
        "INSERT INTO periods VALUES ('settled', 'daily', $1, $1, 2, 1, $2)", date(2025, 3, 3), MORNING
    )
    await migrate(empty_database, MIGRATIONS)
    period = await connection.fetchrow("SELECT entry_id, local_date FROM periods")
    rows = await connection.fetch("SELECT user_id, state FROM streak_states")
    stored = {row["user_id"]: row["state"] for row in rows}
    await connection.close()
    assert tuple(period or ()) == (FIRST, date(2025, 3, 3))
    assert decode(stored["settled"]) == STATE
    assert decode(stored["young"]).settled.anchor is None
    assert stored["undone"] is None
