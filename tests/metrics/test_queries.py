"""Dashboard and alerts query existing metrics, in queries that Prometheus accepts."""

import json
from pathlib import Path

import pytest
import yaml

from tests.metrics.promtool import promtool
from tests.support.queries import (
    ALERTS,
    DASHBOARD,
    alert_queries,
    dashboard_queries,
    labels_in,
    named_in,
    series,
)

QUERIES = {
    f"{name}: {query}": query
    for named in (dashboard_queries(), alert_queries())
    for name, queries in named.items()
    for query in queries
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_names_existing_series_and_labels(query: str) -> None:
    known = series()
    names = named_in(query)
    assert names
    assert names <= known.keys()
    assert labels_in(query) <= set.union(*(known[name] for name in names))


def test_a_nonexistent_name_would_be_noticed() -> None:
    query = 'sum by (place) (rate(broker_s3_erors_total{job="x", cod!="y"}[5m])) / broker_pending_media > 1'
    assert named_in(query) == {"broker_s3_erors_total", "broker_pending_media"}
    assert labels_in(query) == {"place", "job", "cod"}


def test_each_metric_is_on_the_dashboard() -> None:
    shown = {name for queries in dashboard_queries().values() for query in queries for name in named_in(query)}
    mine = {name for name in series() if name.startswith("broker_")}
    # A histogram is shown by its quantiles, or by its mean.
    hidden = {
        name.removesuffix(end) for name in mine - shown for end in ("_bucket", "_sum", "_count") if name.endswith(end)
    }
    assert {name for name in mine - shown if not name.endswith(("_bucket", "_sum", "_count"))} == set()
    assert all(any(name.startswith(whole) for name in shown) for whole in hidden)


def test_no_two_panels_share_a_place_or_an_id() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_prometheus_can_read_all_queries(tmp_path: Path) -> None:
    rules = [{"record": f"judged:{number}", "expr": query} for number, query in enumerate(QUERIES.values())]
    judged = tmp_path / "rules.yaml"
    judged.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", judged)
    promtool("check", "rules", ALERTS)


CASES = Path(__file__).with_name("alerts_test.yaml")


@pytest.mark.parametrize("alert", alert_queries())
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {bool(case["exp_alerts"]) for case in cases if case["alertname"] == alert} == {True, False}


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    cases = CASES.read_text().replace("ALERTS", str(ALERTS))
    judged = tmp_path / "cases.yaml"
    judged.write_text(cases)
    promtool("test", "rules", judged)
