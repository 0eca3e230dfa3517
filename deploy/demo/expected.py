"""What the file says, summed in the plainest way: the measure for what the system says."""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from shared.calendar import local_date

COMMITS = "commits"
LINES = "lines_changed"


@dataclass(frozen=True, slots=True)
class Expected:
    """Sums over the file, by (user, metric). `weekly` has commits by the Monday of the event's local week."""

    event_count: int
    totals: Mapping[tuple[str, str], Decimal]
    counts: Mapping[tuple[str, str], int]
    areas: Mapping[tuple[str, str], Decimal]
    regions: Mapping[str, str]
    weekly: Mapping[date, Mapping[str, Decimal]]

    @property
    def users(self) -> list[str]:
        return sorted(self.regions)

    def scores(self, metric: str, region: str | None = None) -> dict[str, Decimal]:
        """Totals of a metric by user, of everyone or of one region."""
        return {
            user: total
            for (user, each), total in self.totals.items()
            if each == metric and region in (None, self.regions[user])
        }

    def busiest_week(self) -> date:
        """The Monday of the week with most commits."""
        return max(self.weekly, key=lambda monday: sum(self.weekly[monday].values()))

    def one_short_of(self, thresholds: list[Decimal]) -> str:
        """The user who needs one more commit to reach one of the thresholds, the busiest if there are
        several or none.
        """
        commits = self.scores(COMMITS)
        short = [user for user in commits if commits[user] + 1 in thresholds]
        return max(short or commits, key=lambda user: (commits[user], user))


def read_expected(path: Path) -> Expected:
    """Sum up a gzipped file of ingest requests."""
    totals: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    areas: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    counts: Counter[tuple[str, str]] = Counter()
    weekly: defaultdict[date, defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    regions: dict[str, str] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line, parse_int=Decimal, parse_float=Decimal)
            user, metric, value = event["user"]["userId"], event["metric"], event["value"]
            totals[user, metric] += value
            counts[user, metric] += 1
            regions[user] = event["user"]["attributes"]["region"]
            if metric == COMMITS:
                areas[user, event["attributes"]["area"]] += value
                day = local_date(datetime.fromisoformat(event["occurTime"]), event["user"]["timeZone"])
                weekly[day - timedelta(days=day.weekday())][user] += value
    return Expected(counts.total(), totals, counts, areas, regions, weekly)
