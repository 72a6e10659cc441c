"""Monitoring on the cluster: everything answers, every query is understood, an alert arrives."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from components.kubernetes.monitoring import data
from infra.errors import TradestackError
from stacks.monitoring import ADDONS
from tests.cluster.platform.conftest import Platform

pytestmark = pytest.mark.cluster

MONITORING = ("-n", "trading-monitoring")
ALWAYS = (
    'sum(websocket_connections_active{service="price-service"})',
    'count(up{job="price-service"})',
    'avg(rate(container_cpu_usage_seconds_total{pod=~"price-service.*", container="price-service"}[5m]))'
    " * 100",
    'avg(container_memory_usage_bytes{pod=~"price-service.*", container="price-service"}) / 1024 / 1024',
    'rate(websocket_messages_published_total{service="price-service"}[1m])',
    'count by (job) (up{namespace="trading-system"})',
    "max by (job) (role_ready)",
    "sum(matching_leader)",
    "sum by (topic, group) (bus_consumer_lag)",
)
"""Queries of dashboards that have data without anybody's doing."""


def _ask(platform: Platform, query: str) -> Any:
    """What Prometheus finds, asked through the API server; an error of the query fails the command."""
    service = "/api/v1/namespaces/trading-monitoring/services/prometheus:9090/proxy"
    url = f"{service}/api/v1/query?{urlencode({'query': query})}"
    deadline = time.monotonic() + 60
    while True:
        try:
            return json.loads(platform.cluster.kubectl("get", "--raw", url))["data"]["result"]
        except TradestackError as error:
            # Its pod is no endpoint while a probe fails.
            if "ServiceUnavailable" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def _queries() -> Iterator[str]:
    for dashboard in data.dashboards().values():
        yield from (target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    for content in data.rules().values():
        yield from (rule["expr"] for group in content["groups"] for rule in group["rules"])


def test_every_target_answers(platform: Platform, eventually: Callable[..., None]) -> None:
    def missing() -> set[str]:
        answer = _ask(platform, "up")
        answering = {item["metric"]["job"] for item in answer if item["value"][1] == "1"}
        wanted = {"prometheus", "alertmanager", "kubelet", "gateway", "price-service", "matching-engine"}
        wanted |= {addon.values[0] for addon in ADDONS}
        silent = {item["metric"]["job"] for item in answer if item["value"][1] != "1"}
        return (wanted - answering) | silent

    eventually(lambda: not missing(), seconds=300)


def test_every_query_is_understood_and_those_that_must_have_data(
    platform: Platform, eventually: Callable[..., None]
) -> None:
    asked = list(_queries())
    for query in asked:
        _ask(platform, query)
    assert set(ALWAYS) <= set(asked)
    eventually(lambda: all(_ask(platform, query) for query in ALWAYS), seconds=300)


def test_an_alert_arrives(platform: Platform, eventually: Callable[..., None]) -> None:
    paused = "autoscaling.keda.sh/paused-replicas"
    scaled = ("annotate", "-n", "trading-system", "scaledobject/price-service")
    inside = ("exec", *MONITORING, "alertmanager-alertmanager-0", "-c", "alertmanager", "--")
    query = ("amtool", "--alertmanager.url=http://localhost:9093", "alert", "query", "-o", "json")

    def arrived() -> Any:
        return json.loads(platform.cluster.kubectl(*inside, *query, "alertname=PriceServiceDown"))

    platform.cluster.kubectl(*scaled, f"{paused}=0", "--overwrite")
    try:
        eventually(arrived, seconds=600)
    finally:
        platform.cluster.kubectl(*scaled, f"{paused}-")

        def scaled_again() -> bool:
            found = platform.get("hpa", "-n", "trading-system")["items"]
            return "keda-hpa-price-service" in {item["metadata"]["name"] for item in found}

        # KEDA takes the autoscaler away with the pause, and makes it anew.
        eventually(scaled_again, seconds=120)
