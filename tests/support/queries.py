"""The queries of the dashboard and the alert rules, and the existing metrics."""

import json
import re
from pathlib import Path

import yaml
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from broker import metrics

INFRA = Path(__file__).resolve().parents[2] / "infra"
ALERTS = INFRA / "prometheus" / "alerts.yaml"
DASHBOARD = INFRA / "grafana" / "dashboard.json"
OF_PROMETHEUS = {"up": {"job", "instance"}}
"""What Prometheus itself adds."""


def dashboard_queries() -> dict[str, list[str]]:
    """Return the queries of each panel, by its title, with the dashboard's variables filled in."""
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    return {panel["title"]: [_filled(target["expr"]) for target in panel["targets"]] for panel in panels}


def alert_queries() -> dict[str, list[str]]:
    """Return the query of each alert, by its name."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: [rule["expr"]] for group in groups for rule in group["rules"]}


def series() -> dict[str, set[str]]:
    """Return the labels of each series that a broker shows, by its name."""
    found = dict(OF_PROMETHEUS)
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            labels = {*metric._labelnames, "job", "instance"}
            match metric:
                case Counter():
                    found[f"{metric._name}_total"] = labels
                case Histogram():
                    found |= {f"{metric._name}_{end}": labels for end in ("count", "sum")}
                    found[f"{metric._name}_bucket"] = {*labels, "le"}
                case _:
                    found[metric._name] = labels
    process = (sample for family in REGISTRY.collect() for sample in family.samples)
    found |= {sample.name: {"job", "instance"} for sample in process if sample.name.startswith("process_")}
    return found


def named_in(query: str) -> set[str]:
    """Return the names of series in a query."""
    bare = re.sub(r"\{[^}]*\}|\b(?:by|without) ?\([^)]*\)|\[[^\]]*\]", " ", query)
    return set(re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", bare)) - {"by", "and", "or", "unless"}


def labels_in(query: str) -> set[str]:
    """Return the names of labels in a query."""
    grouped = re.findall(r"\b(?:by|without) ?\(([^)]*)\)", query)
    return {name.strip() for names in grouped for name in names.split(",")} | set(
        re.findall(r"(\w+)\s*(?:!=|=|!~|=~)\s*\"", query)
    )


def _filled(query: str) -> str:
    return query.replace("$__rate_interval", "5m").replace("$job", ".*")
