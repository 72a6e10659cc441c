"""Dashboards: valid for Grafana, and no query asks for what nobody tells."""

import importlib
import json
import pkgutil
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

import app
from components.kubernetes.monitoring import data

DASHBOARDS = data.dashboards()
SCHEMA = 39
"""Version of Grafana 11; newer ones take it."""

OTHERS = {
    # Prometheus and Alertmanager about targets and themselves.
    *("up", "ALERTS", "prometheus_tsdb_head_series", "prometheus_tsdb_head_samples_appended_total"),
    *("prometheus_rule_evaluation_failures_total", "prometheus_config_last_reload_successful"),
    *("prometheus_notifications_alertmanagers_discovered", "alertmanager_notifications_failed_total"),
    # cAdvisor and the kubelet (kubernetes.io, "Kubernetes Metrics Reference").
    *("container_cpu_usage_seconds_total", "container_memory_usage_bytes"),
    *("container_memory_working_set_bytes", "container_spec_cpu_quota", "container_spec_cpu_period"),
    *("container_spec_memory_limit_bytes", "kubelet_volume_stats_available_bytes"),
    "kubelet_volume_stats_capacity_bytes",
    # KEDA 2.21, pkg/metricscollector/prommetrics.go.
    *("keda_scaler_metrics_value", "keda_scaler_metrics_latency_seconds"),
    "keda_scaler_detail_errors_total",
    # Envoy, "HTTP connection manager: statistics".
    *("envoy_http_downstream_rq_total", "envoy_http_downstream_rq_xx"),
}
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_WORDS = {"and", "or", "unless", "bool", "offset"}


def _expressions() -> Iterator[tuple[str, str]]:
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]
    for name, content in data.rules().items():
        for group in content["groups"]:
            for rule in group["rules"]:
                yield f"{name}: {rule.get('alert') or rule['record']}", rule["expr"]


def metrics(expression: str) -> set[str]:
    """Names of the metrics in a query."""
    plain = re.sub(r'"[^"]*"', "", expression)
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", plain)
    plain = re.sub(r"\boffset\s+\w+", "", _GROUPING.sub("", plain))
    return {
        match[0]
        for match in _NAME.finditer(plain)
        if match[0] not in _WORDS
        and not plain[match.end() :].lstrip().startswith("(")
        and not plain[: match.start()][-1:].isdigit()
    }


def _told() -> set[str]:
    """Names of every metric of every role, with those that a histogram is made of."""
    for info in pkgutil.walk_packages(app.__path__, "app."):
        if info.name.rsplit(".", 1)[-1] != "__main__" and ".migrations." not in info.name:
            importlib.import_module(info.name)
    found = set()
    for family in REGISTRY.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        found |= {family.name + end for end in ends}
    return found


def test_no_query_asks_for_a_metric_that_nobody_tells() -> None:
    records = {
        rule["record"]
        for content in data.rules().values()
        for group in content["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    known = _told() | OTHERS | records
    dangling = {name: sorted(metrics(asked) - known) for name, asked in _expressions()}
    assert {name: left for name, left in dangling.items() if left} == {}
    assert set().union(*(metrics(asked) for _, asked in _expressions())) >= OTHERS


def test_names_are_found_in_a_query() -> None:
    asked = 'sum by (pod) (rate(first_total{job="x_y"}[5m])) / on (pod) second:ratio > 1e3 or third offset 5m'
    assert metrics(asked) == {"first_total", "second:ratio", "third"}


def test_the_panels_of_the_seed_are_there() -> None:
    trading = DASHBOARDS["trading"]
    assert trading["title"] == "Trading Platform - Price Service"
    assert [panel["title"] for panel in trading["panels"]] == [
        "Active WebSocket Connections",
        "Pod Count",
        "CPU Usage",
        "Memory Usage",
        "Messages Published/sec",
    ]
    assert set(DASHBOARDS) == {"app", "data", "scaling", "slo", "trading"}


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_dashboards_have_the_form_that_grafana_reads(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"] == f"tradestack-{name}"
    assert len(dashboard["uid"]) <= 40
    assert dashboard["schemaVersion"] == SCHEMA
    variables = {item["name"]: item for item in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    panels: list[dict[str, Any]] = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] in {"timeseries", "stat"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) >= 1
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: infra/setup.sh test")
def test_every_query_is_valid(tmp_path: Path) -> None:
    rules = [{"record": f"asked:{number}", "expr": asked} for number, (_, asked) in enumerate(_expressions())]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
