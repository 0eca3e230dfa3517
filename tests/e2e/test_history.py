"""A real project's activity of years, imported through the command line (RULES 1.4)."""

import gzip
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from laurel.achievement.v1 import achievement_service_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2

from deploy.demo.checks import run_checks
from deploy.demo.expected import read_expected
from deploy.local.config import StackConfig
from deploy.local.errors import with_log_tail
from deploy.local.stack import Stack
from services.cli.connect import Connections
from tests.fixtures.system import connect
from tests.unit.streak.slow_fold import SlowFact, SlowRules, slow_fold, start_of

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
HISTORY = DEMO / "activity.ndjson.gz"
LAST_YEARS = "2023"
"""Where the part begins that is always tried; `--whole-history`: all of it."""
COMMAND = Path(sys.executable).with_name("laurel")
IMPORT_TIMEOUT_SECONDS = 560
PERIOD_STATUS = {"QUALIFIED": 2, "SKIPPED": 5, "FROZEN": 6, "BROKEN": 7}
STREAKS: Mapping[str, SlowRules] = {
    "daily-commits": SlowRules("DAILY", {"commits": 1_000_000}, initial=2, earn=1, every=7, maximum=3),
    "weekly-commits": SlowRules("WEEKLY", {"commits": 1_000_000}),
}
"""The streaks of the demo's configuration, written down once more."""

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Imported:
    """A system with the history in it."""

    stack: Stack
    file: Path
    said: str = ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The events of the file."""
        with gzip.open(self.file, "rt") as lines:
            return [json.loads(line) for line in lines]

    def laurel(self, *arguments: str) -> str:
        """What the command prints."""
        done = subprocess.run(
            [str(COMMAND), *arguments],
            env={**os.environ, "LAUREL_HOME": str(self.stack.home)},
            capture_output=True,
            text=True,
            timeout=IMPORT_TIMEOUT_SECONDS,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, with_log_tail(said, self.stack.home / "logs" / "orchestrator.log")
        return done.stdout

    async def rows(self, service: str, query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.stack.service_dsn(service))
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query)
            return rows
        finally:
            await connection.close()


def last_years(home: Path) -> Path:
    """The end of the history: its first fourteen years cost a pass of maintenance for each of their days."""
    home.mkdir(exist_ok=True)
    file = home / "last-years.ndjson.gz"
    with gzip.open(HISTORY, "rt") as lines, gzip.open(file, "wt") as kept:
        kept.writelines(line for line in lines if json.loads(line)["occurTime"] >= LAST_YEARS)
    return file


@pytest.fixture(scope="module")
def imported(quick_directory: Path, request: pytest.FixtureRequest) -> Iterator[Imported]:
    """The demo's configuration, then the file: what of it lies in its last years, or all of it."""
    home = quick_directory / "history"
    file = HISTORY if request.config.getoption("--whole-history") else last_years(home)
    with Stack(StackConfig(home=home / "stack", port_base=0, fsync=False)) as stack:
        stack.up()
        system = Imported(stack, file)
        system.laurel("apply", "-f", str(DEMO / "laurel.yaml"))
        yield Imported(stack, file, system.laurel("import", str(file)))


def facts_by_user(imported: Imported) -> Mapping[str, Sequence[SlowFact]]:
    """The file's events as the slow fold takes them."""
    facts: dict[str, list[SlowFact]] = defaultdict(list)
    for number, event in enumerate(imported.lines):
        time = datetime.fromisoformat(event["occurTime"]).astimezone(UTC)
        micros = round(event["value"] * 1_000_000)
        user = event["user"]
        facts[user["userId"]].append(SlowFact(time, number, event["metric"], micros, user["timeZone"]))
    return facts


def test_every_event_is_imported_and_none_is_refused(imported: Imported) -> None:
    assert f"{len(imported.lines):,} imported, 0 already there, 0 refused" in imported.said


def test_totals_points_achievements_and_boards_equal_those_computed_from_the_file(imported: Imported) -> None:
    addresses = {
        name: imported.stack.addresses(name)[0]
        for name in ("orchestrator", "streak", "achievement", "points", "leaderboard")
    }
    connections = Connections(addresses, timeout_seconds=30)
    listed = connections.achievement.ListAchievements(
        achievement_service_pb2.ListAchievementsRequest(page_size=1_000)
    )
    checks = list(run_checks(connections, read_expected(imported.file), listed.achievements))
    assert len(checks) > 10
    assert [check.shown_mismatches for check in checks if not check.holds] == []


@pytest.mark.parametrize("streak", STREAKS)
async def test_the_recorded_periods_of_every_user_equal_the_slow_fold(
    imported: Imported, streak: str
) -> None:
    rules = STREAKS[streak]
    recorded: dict[str, list[tuple[date, date, int, int, datetime]]] = defaultdict(list)
    for row in await imported.rows(
        "streak",
        f"""SELECT user_id, start_date, end_date, status, length, settle_time FROM periods
             WHERE streak = '{streak}' ORDER BY start_date""",
    ):
        recorded[row["user_id"]].append(tuple(row)[1:])
    wrong = []
    for user, facts in facts_by_user(imported).items():
        last = max(facts)
        expected = [
            (start, end, PERIOD_STATUS[status], length, time)
            for start, end, status, length, time in slow_fold(rules, facts, last.time).periods
        ]
        through = start_of(rules, last.day)
        if [period for period in recorded[user] if period[0] <= through] != expected:
            wrong.append(user)
    assert recorded
    assert wrong == []


async def test_a_second_import_changes_nothing_and_says_so(imported: Imported) -> None:
    queries = {
        "orchestrator": "SELECT count(*), md5(string_agg(t::text, '' ORDER BY user_id, metric)) FROM totals t",
        "streak": "SELECT count(*), md5(string_agg(p::text, '' ORDER BY user_id, streak, start_date)) FROM periods p",
        "achievement": "SELECT count(*), md5(string_agg(c::text, '' ORDER BY c)) FROM live_completions c",
        "points": "SELECT count(*), md5(string_agg(a::text, '' ORDER BY user_id, sequence)) FROM awards a",
        "leaderboard": "SELECT count(*), md5(string_agg(s::text, '' ORDER BY user_id, board, run_start)) FROM scores s",
    }
    # What the days between the last event and today bring is closed by the clock, not by an import.
    system = connect(imported.stack)
    await system.orchestrator.RunMaintenance(orchestrator_service_pb2.RunMaintenanceRequest())
    await system.close()
    before = {service: await imported.rows(service, query) for service, query in queries.items()}
    said = imported.laurel("import", str(imported.file))
    assert f"0 imported, {len(imported.lines):,} already there, 0 refused" in said
    assert {service: await imported.rows(service, query) for service, query in queries.items()} == before


async def test_every_week_with_events_has_been_archived(imported: Imported) -> None:
    runs = await imported.rows(
        "leaderboard",
        "SELECT count(*) FILTER (WHERE NOT finalized), count(*) FROM runs WHERE board = 'weekly-commits'",
    )
    open_runs, all_runs = runs[0]
    weeks = {datetime.fromisoformat(event["occurTime"]).isocalendar()[:2] for event in imported.lines}
    assert all_runs >= len(weeks)
    assert open_runs <= 1


RECOMPUTED = """
    WITH counted AS (
        SELECT {run_start} AS run_start, user_id, sum(value_micros)::bigint AS score, max(occur_time) AS reach_time
          FROM request_log
         WHERE metric = 'commits' AND state = 1
         GROUP BY 1, 2
    ), ranked AS (
        SELECT run_start, user_id, score, reach_time,
               row_number() OVER (PARTITION BY run_start ORDER BY score DESC, reach_time, user_id) AS rank
          FROM counted
         WHERE run_start IN (SELECT start_date FROM runs WHERE board = '{board}' AND finalized = {finalized})
    ), kept AS ({kept})
    SELECT (SELECT count(*) FROM kept) AS places, (SELECT count(DISTINCT run_start) FROM kept) AS runs,
           (SELECT count(*) FROM (TABLE kept EXCEPT TABLE ranked) AS surplus)
               + (SELECT count(*) FROM (TABLE ranked EXCEPT TABLE kept) AS missing) AS differences
"""
ARCHIVED = """
    SELECT run_start, user_id, score, reach_time, rank FROM archive WHERE board = 'weekly-commits' AND segment = ''
"""
LIVE = """
    SELECT run_start, user_id, score, reach_time,
           row_number() OVER (PARTITION BY run_start ORDER BY order_score, reach_time, user_id)
      FROM scores WHERE board = '{board}' AND order_score IS NOT NULL
"""


@pytest.mark.parametrize(
    ("board", "run_start", "finalized", "kept", "runs"),
    [
        ("weekly-commits", "date_trunc('week', local_date)::date", "true", ARCHIVED, range(90, 1_000)),
        ("commits", "'-infinity'::date", "false", LIVE.format(board="commits"), range(1, 2)),
    ],
    ids=["every archived week", "of all time"],
)
async def test_every_rank_of_every_run_equals_a_recomputation_in_sql(
    imported: Imported, board: str, run_start: str, finalized: str, kept: str, runs: range
) -> None:
    query = RECOMPUTED.format(board=board, run_start=run_start, finalized=finalized, kept=kept)
    (found,) = await imported.rows("leaderboard", query)
    assert found["runs"] in runs
    assert found["places"] >= found["runs"]
    assert found["differences"] == 0


def test_the_sorted_sets_of_all_boards_hold_exactly_what_is_stored(imported: Imported) -> None:
    """`laurel leaderboard verify` ends with 1 where they do not."""
    imported.laurel("leaderboard", "verify")
