"""Dashboard and alerts speak of metrics that there are, and the runbook of alerts that there are."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from deploy.generate import ROOT
from deploy.metrics_page import METRICS
from shared.telemetry.metrics import Kind

WATCHING = ROOT / "deploy" / "watching"
OPERATIONS = ROOT / "docs" / "operations"


def names_in_prometheus() -> Iterator[str]:
    """Every series that Prometheus reads of Laurel."""
    for metrics in METRICS.values():
        for metric in metrics:
            endings = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
            yield from (metric.in_prometheus + ending for ending in endings)


def named_in(expression: str) -> set[str]:
    """The series of an expression, without labels."""
    bare = re.sub(r"\{[^}]*\}|by \([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:laurel|rpc)_\w+", bare))


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((WATCHING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_graph_is_of_metrics_that_there_are() -> None:
    panels = json.loads((WATCHING / "dashboard.json").read_text())["panels"]
    named = {name for panel in panels for target in panel["targets"] for name in named_in(target["expr"])}
    assert named
    assert named - set(names_in_prometheus()) == set()


def test_every_alert_is_about_metrics_that_there_are() -> None:
    for alert in alerts():
        assert named_in(alert["expr"]) - set(names_in_prometheus()) == set(), alert["alert"]


def test_every_metric_is_on_the_dashboard() -> None:
    shown = (WATCHING / "dashboard.json").read_text()
    metrics = [metric for group in METRICS.values() for metric in group]
    # A counter of what has an alert of its own needs no graph.
    told = " ".join(alert["expr"] for alert in alerts())
    assert [each.name for each in metrics if each.in_prometheus not in shown + told] == []


def test_every_alert_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (\w+)$", (OPERATIONS / "runbook.md").read_text(), re.M)
    assert sections == [alert["alert"] for alert in alerts()]
    for alert in alerts():
        assert alert["annotations"]["runbook"].endswith("runbook.md#" + alert["alert"].lower())
