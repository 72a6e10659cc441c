"""Who may talk to whom: the allowed flows as data, and that the policies of the plan say exactly this."""

from typing import Any

import pytest

from infra.plan import Plan
from infra.plan.model import PlannedResource

ALLOWED = {
    ("envoy", "gateway", 8081),
    ("envoy", "price-service", 8083),
    ("envoy", "frontend", 3000),
    ("gateway", "frontend", 3000),
    ("gateway", "market-data", 8085),
    ("gateway", "price-service", 8083),
    ("gateway", "auth", 8086),
    ("gateway", "wallet", 8087),
    ("gateway", "order", 8088),
    ("gateway", "portfolio", 8090),
    ("gateway", "risk", 8091),
    ("price-service", "auth", 8086),
    ("price-service", "portfolio", 8090),
    ("wallet", "auth", 8086),
    ("order", "auth", 8086),
    ("portfolio", "auth", 8086),
    ("risk", "auth", 8086),
    ("wallet", "risk", 8091),
    ("wallet", "matching-engine", 8089),
    ("order", "matching-engine", 8089),
    ("portfolio", "matching-engine", 8089),
    ("risk", "matching-engine", 8089),
    ("auth", "postgresql", 5432),
    ("auth", "redis", 6379),
    ("auth", "kafka", 9092),
    ("wallet", "postgresql", 5432),
    ("wallet", "kafka", 9092),
    ("order", "postgresql", 5432),
    ("order", "kafka", 9092),
    ("matching-engine", "postgresql", 5432),
    ("matching-engine", "redis", 6379),
    ("matching-engine", "kafka", 9092),
    ("portfolio", "postgresql", 5432),
    ("portfolio", "redis", 6379),
    ("portfolio", "kafka", 9092),
    ("risk", "postgresql", 5432),
    ("risk", "redis", 6379),
    ("risk", "kafka", 9092),
    ("market-data", "postgresql", 5432),
    ("market-data", "redis", 6379),
    ("market-data", "kafka", 9092),
    ("price-collector", "postgresql", 5432),
    ("price-collector", "redis", 6379),
    ("price-collector", "kafka", 9092),
    ("price-service", "matching-engine", 8089),
    ("price-service", "market-data", 8085),
    ("price-service", "redis", 6379),
    ("price-service", "kafka", 9092),
    ("migrate", "postgresql", 5432),
    ("housekeeping", "postgresql", 5432),
    ("topics", "kafka", 9092),
    ("keda", "kafka", 9092),
    ("prometheus", "gateway", 9081),
    ("prometheus", "auth", 8086),
    ("prometheus", "frontend", 3000),
    ("prometheus", "market-data", 8085),
    ("prometheus", "matching-engine", 8089),
    ("prometheus", "order", 8088),
    ("prometheus", "portfolio", 8090),
    ("prometheus", "price-collector", 8084),
    ("prometheus", "price-service", 8083),
    ("prometheus", "risk", 8091),
    ("prometheus", "wallet", 8087),
    ("prometheus", "prometheus", 9090),
    ("prometheus", "alertmanager", 9093),
}
OUTSIDE = {"envoy", "keda"}
"""Where flows begin that no policy here lets out."""
SCRAPED = {
    ("prometheus", "keda", 8080),
    ("prometheus", "envoy-gateway-system", 19001),
    *(
        ("prometheus", network, port)
        for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
        for port in (443, 6443, 10250)
    ),
}
"""What Prometheus reads outside the stack's own namespaces: add-ons, and kubelets by their node's address."""
GENERAL = {"default-deny", "allow-dns"}


def _policies(plan: Plan) -> list[PlannedResource]:
    found = [item for item in plan.resources if item.type == "kubernetes:networking.k8s.io/v1:NetworkPolicy"]
    return [item for item in found if item.inputs["metadata"]["name"] not in GENERAL]


def _peer(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    if "podSelector" not in peer:
        return str(peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])
    return str(peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"])


def _flows(plan: Plan, direction: str) -> set[tuple[str, str, int]]:
    flows = set()
    for policy in _policies(plan):
        own = policy.inputs["metadata"]["name"]
        for rule in policy.inputs["spec"].get(direction, []):
            assert len(rule["ports"]) == 1
            for peer in rule["from" if direction == "ingress" else "to"]:
                ends = (_peer(peer), own) if direction == "ingress" else (own, _peer(peer))
                flows.add((*ends, rule["ports"][0]["port"]))
    return flows


def test_ingress_is_exactly_what_is_allowed(local_plan: Plan) -> None:
    assert _flows(local_plan, "ingress") == ALLOWED | {("keda", "prometheus", 9090)}


def test_egress_is_exactly_what_is_allowed(local_plan: Plan) -> None:
    assert _flows(local_plan, "egress") == {flow for flow in ALLOWED if flow[0] not in OUTSIDE} | SCRAPED


def test_each_pod_is_covered_by_a_policy_of_its_own(local_plan: Plan) -> None:
    kinds = (":Deployment", ":StatefulSet", ":Job", ":CronJob")
    workloads = {item.name for item in local_plan.resources if item.type.endswith(kinds)}
    # An operator makes the pods of these.
    workloads |= {"prometheus", "alertmanager"}
    assert {policy.inputs["metadata"]["name"] for policy in _policies(local_plan)} == workloads


@pytest.mark.parametrize("namespace", ["trading-system", "trading-data", "trading-monitoring"])
def test_each_namespace_is_closed_but_for_dns(local_plan: Plan, namespace: str) -> None:
    general = {
        item.inputs["metadata"]["name"]: item.inputs["spec"]
        for item in local_plan.resources
        if item.type.endswith(":NetworkPolicy")
        and item.inputs.get("metadata", {}).get("namespace") == namespace
    }
    assert general["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert general["allow-dns"]["policyTypes"] == ["Egress"]
