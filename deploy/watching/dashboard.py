"""The Grafana dashboard, as code: deploy/watching/dashboard.json is generated from it."""

import json
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

_WIDTH: Final = 8
_HEIGHT: Final = 8
_COLUMNS: Final = 24 // _WIDTH


class Panel(Struct, frozen=True):
    """A graph: its title, its unit as Grafana has it, and for each line an expression and a legend."""

    title: str
    unit: str
    lines: Sequence[tuple[str, str]]
    description: str = ""


def _share_of_calls(quantile: str) -> str:
    return (
        f"histogram_quantile({quantile}, sum by (le, job) "
        '(rate(rpc_server_call_duration_seconds_bucket{job=~"$service"}[$__rate_interval])))'
    )


PANELS: Final = (
    Panel(
        "Entries answered",
        "ops",
        [("sum by (outcome) (rate(laurel_events_total[$__rate_interval]))", "{{outcome}}")],
        "Everything that comes in, by what became of it.",
    ),
    Panel(
        "Waiting at the intake",
        "short",
        [("laurel_queue_depth", "{{instance}}")],
        "Grows where more comes than can be recorded; at the limit, callers are refused.",
    ),
    Panel(
        "Entries recorded together",
        "short",
        [
            (
                "sum(rate(laurel_group_size_sum[$__rate_interval])) / "
                "sum(rate(laurel_group_size_count[$__rate_interval]))",
                "mean",
            )
        ],
        "Near 1: each travels alone, there is room. Near the largest size: no more would fit.",
    ),
    Panel(
        "How long calls take",
        "s",
        [(_share_of_calls("0.5"), "{{job}} p50"), (_share_of_calls("0.99"), "{{job}} p99")],
    ),
    Panel(
        "Calls that fail",
        "ops",
        [
            (
                "sum by (job, rpc_response_status_code) (rate(rpc_server_call_duration_seconds_count"
                '{rpc_response_status_code!="OK", job=~"$service"}[$__rate_interval]))',
                "{{job}} {{rpc_response_status_code}}",
            )
        ],
    ),
    Panel(
        "Calls refused: too many in progress, or by the rate limit of a key",
        "ops",
        [
            ("sum by (job) (rate(laurel_rpc_refused_total[$__rate_interval]))", "{{job}}"),
            (
                "sum by (job) (rate(laurel_rate_limit_refused_total[$__rate_interval]))",
                "{{job}}, rate limits",
            ),
        ],
    ),
    Panel(
        "Sagas",
        "short",
        [("max by (state) (laurel_sagas)", "{{state}}")],
        "Parked ones wait for an operator.",
    ),
    Panel("Age of the oldest unfinished saga", "s", [("max(laurel_sagas_oldest_age_seconds)", "age")]),
    Panel(
        "Domain events held back",
        "s",
        [("max(laurel_domain_events_lag_seconds)", "lag")],
        "By the oldest transaction in the orchestrator's database.",
    ),
    Panel(
        "Feeds of services that are not followed",
        "s",
        [("max by (service) (laurel_feed_failing_seconds)", "{{service}}")],
    ),
    Panel(
        "Rank changes",
        "ops",
        [("sum(rate(laurel_leaderboard_rank_changes_total[$__rate_interval]))", "acting users")],
    ),
    Panel(
        "Sorted sets filled anew",
        "short",
        [("sum(increase(laurel_leaderboard_rebuilds_total[1h]))", "in an hour")],
    ),
    Panel(
        "Webhook attempts",
        "ops",
        [("sum by (outcome) (rate(laurel_webhook_attempts_total[$__rate_interval]))", "{{outcome}}")],
    ),
    Panel("Webhooks overdue", "s", [("max by (endpoint) (laurel_webhook_overdue_seconds)", "{{endpoint}}")]),
    Panel(
        "Streams that fail, and that are behind",
        "s",
        [
            ("max by (stream) (laurel_stream_failing_seconds)", "{{stream}} fails"),
            ("max by (stream) (laurel_stream_behind_seconds)", "{{stream}} is behind"),
        ],
    ),
)


def dashboard() -> str:
    """The JSON that Grafana imports."""
    document: dict[str, Any] = {
        "title": "Laurel",
        "uid": "laurel",
        "schemaVersion": 39,
        "tags": ["laurel"],
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_data_source(), _service()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }
    return json.dumps(document, indent=2) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "gridPos": {
            "x": number % _COLUMNS * _WIDTH,
            "y": number // _COLUMNS * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.lines)
        ],
    }


def _data_source() -> dict[str, Any]:
    return {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _service() -> dict[str, Any]:
    return {
        "name": "service",
        "type": "query",
        "label": "Service",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": "label_values(rpc_server_call_duration_seconds_count, job)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }
