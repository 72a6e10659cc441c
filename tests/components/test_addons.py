"""The add-ons of a cloud cluster: pinned releases, their values and what they may do in AWS."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pulumi
import pytest
from pulumi_kubernetes.helm.v3 import Release
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from components.aws import addon_access
from components.aws.identity import Statement
from components.aws.scope import Scope
from components.kubernetes import addons, charts
from components.kubernetes.addons import Addons, AddonsArgs, selected
from components.kubernetes.charts import Chart, Sizing
from components.kubernetes.namespace import Namespace

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="eu-west-1")
ARGS = AddonsArgs(
    cluster="trade",
    region="eu-west-1",
    vpc_id="vpc-1",
    version="1.35",
    zone_id="Z0ABCDEFGHIJ",
    domain="example.com",
)
Record = Callable[[Callable[[], object]], Any]


def _releases(made: Any) -> dict[str, dict[str, Any]]:
    return {item.name: item.inputs for item in made.custom() if item.typ.endswith(":Release")}


def _nested(values: Mapping[str, Any], key: str) -> Iterator[Any]:
    for name, value in values.items():
        if name == key:
            yield value
        if isinstance(value, Mapping):
            yield from _nested(value, key)


def test_every_add_on_is_pinned_waited_for_and_taken_back_when_it_fails(record: Record) -> None:
    releases = _releases(record(lambda: Addons("addons", ARGS)))
    assert set(releases) == {
        "aws-load-balancer-controller",
        "cluster-autoscaler",
        "external-secrets",
        "cert-manager",
        "external-dns",
        "keda",
        "envoy-gateway",
        "prometheus-operator",
    }
    for name, release in releases.items():
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", release["version"]), name
        assert release["name"] == name
        assert release["atomic"] is True
        assert release["skipAwait"] is False
        assert release["createNamespace"] is False
        assert release["timeout"] == 600
        assert ("repositoryOpts" in release) != release["chart"].startswith("oci://")


def test_namespaces_of_add_ons_enforce_restricted_pods(record: Record) -> None:
    made = record(lambda: Addons("addons", ARGS))
    namespaces = {item.name: item.inputs for item in made.custom() if item.typ.endswith(":Namespace")}
    used = {release["namespace"] for release in _releases(made).values()}
    assert set(namespaces) == used - {"kube-system"}
    for namespace in namespaces.values():
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def _allowed(made: Any, namespace: str, direction: str, peers: str) -> list[tuple[str, list[int | None]]]:
    """Peers and ports that a namespace's flows allow; a namespace by name, a network by its range."""
    found = []
    for rule in made.one("NetworkPolicy", f"{namespace}-flows")["spec"][direction]:
        ports = [int(port["port"]) if "port" in port else None for port in rule.get("ports", [])]
        for peer in rule[peers]:
            if "ipBlock" in peer:
                found.append((peer["ipBlock"]["cidr"], ports))
            elif "namespaceSelector" in peer:
                labels = peer["namespaceSelector"]["matchLabels"]
                found.append((labels["kubernetes.io/metadata.name"], ports))
    return found


def test_namespaces_of_add_ons_are_closed_bounded_and_open_for_what_is_needed(record: Record) -> None:
    made = record(lambda: Addons("addons", replace(ARGS, networks=("10.1.0.0/16",))))
    assert {chart.namespace for chart in selected(ARGS) if chart.own_namespace} == set(charts.NAMESPACES)
    for namespace in charts.NAMESPACES:
        assert made.one("NetworkPolicy", f"{namespace}-default-deny")["spec"]["podSelector"] == {}
        assert made.one("ResourceQuota", f"{namespace}-quota")
        assert made.one("LimitRange", f"{namespace}-limits")
    assert _allowed(made, "cert-manager", "ingress", "from") == [
        ("10.1.0.0/16", [10250]),
        ("trading-monitoring", [9402]),
    ]
    assert _allowed(made, "cert-manager", "egress", "to") == [
        ("0.0.0.0/0", [443]),
        ("169.254.170.23/32", [80]),
        ("0.0.0.0/0", [53, 53]),
    ]
    # Envoy takes what the load balancer sends and passes it on to the platform; it calls AWS for nothing.
    assert _allowed(made, "envoy-gateway-system", "ingress", "from") == [
        ("10.1.0.0/16", [10443, 9443]),
        ("trading-monitoring", [19001]),
    ]
    assert _allowed(made, "envoy-gateway-system", "egress", "to") == [
        ("0.0.0.0/0", [443]),
        ("trading-system", [None]),
        ("10.1.0.0/16", [None]),
    ]
    assert _allowed(made, "external-dns", "ingress", "from") == [("trading-monitoring", [7979])]


def test_replicas_and_priority_are_given_to_all(record: Record) -> None:
    args = replace(ARGS, sizing=Sizing(replicas=3, priority_class="high"))
    releases = _releases(record(lambda: Addons("addons", args)))
    for name, release in releases.items():
        found = [*_nested(release["values"], "replicaCount"), *_nested(release["values"], "replicas")]
        # These keep no state and do one thing at a time.
        expected = {"external-dns": [], "external-secrets": [1, 3, 3]}.get(name, [3] * len(found))
        assert sorted(found) == expected, name
        assert found or name in {"external-dns", "prometheus-operator"}
        assert set(_nested(release["values"], "priorityClassName")) == {"high"}


@pytest.mark.parametrize("chart", selected(ARGS), ids=lambda chart: chart.release)
def test_every_add_on_requests_resources_and_bounds_its_memory(chart: Chart) -> None:
    found = [item for item in _nested(chart.values, "resources") if "requests" in item]
    if chart.release == charts.PROMETHEUS_OPERATOR:
        # The reloaders beside its servers are under the quota of a namespace of the platform.
        found = [item for item in found if "cpu" not in item["limits"]]
    if chart.release == charts.KEDA:
        found = list(chart.values["resources"].values())
    assert found
    for resources in found:
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}


def test_the_load_balancer_controller_makes_no_load_balancer_and_touches_no_service() -> None:
    values = charts.load_balancer(Sizing(), cluster="trade", region="eu-west-1", vpc_id="vpc-1").values
    assert (values["clusterName"], values["region"], values["vpcId"]) == ("trade", "eu-west-1", "vpc-1")
    assert values["enableServiceMutatorWebhook"] is False
    assert values["createIngressClassResource"] is False
    assert not any(values["controllerConfig"]["featureGates"].values())


def test_external_dns_keeps_to_its_zone_its_domain_and_its_own_records() -> None:
    values = next(chart for chart in selected(ARGS) if chart.release == charts.EXTERNAL_DNS).values
    assert values["extraArgs"] == {"zone-id-filter": "Z0ABCDEFGHIJ"}
    assert values["domainFilters"] == ["example.com"]
    assert (values["registry"], values["txtOwnerId"]) == ("txt", "trade")


def test_without_a_zone_external_dns_is_left_out() -> None:
    assert charts.EXTERNAL_DNS not in [
        chart.release for chart in selected(replace(ARGS, zone_id=None, domain=None))
    ]
    with pytest.raises(ValueError, match="zone_id and domain are given together"):
        selected(replace(ARGS, domain=None))


def test_a_release_waits_for_its_namespace_and_its_identity(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: dict[str, list[Any]] = {}

    def release(resource: str, /, *, opts: pulumi.ResourceOptions, **inputs: Any) -> Release:
        depends: Any = opts.depends_on
        waited[resource] = list(depends)
        return Release(resource, opts=opts, **inputs)

    monkeypatch.setattr(addons, "Release", release)
    made: list[pulumi.Resource] = []

    def build() -> None:
        made.append(pulumi.ComponentResource("test:Role", "role"))
        Addons("addons", replace(ARGS, identities={"cert-manager": made[0]}))

    record(build)
    assert waited["aws-load-balancer-controller"] == []
    assert [type(item) for item in waited["keda"]] == [Namespace, NetworkPolicy]
    assert waited["cert-manager"][2:] == made
    # It reads the Gateway API's kinds, which come with Envoy Gateway.
    assert [type(item) for item in waited["external-dns"]] == [Release, Namespace, NetworkPolicy]


def test_an_identity_that_nobody_takes_is_refused() -> None:
    role: Any = object()
    with pytest.raises(ValueError, match="no release 'envoy-gateway' takes an identity; aws-load"):
        selected(replace(ARGS, identities={"envoy-gateway": role}))


def _by_action(statements: list[Statement]) -> dict[str, list[Any]]:
    return {action: list(item.resources) for item in statements for action in item.actions}


def test_targets_are_registered_in_the_given_groups_only() -> None:
    granted = _by_action(addon_access.load_balancer_statements(["arn:group"]))
    writing = {action: where for action, where in granted.items() if ":Describe" not in action}
    assert writing == {
        "elasticloadbalancing:DeregisterTargets": ["arn:group"],
        "elasticloadbalancing:RegisterTargets": ["arn:group"],
    }


def test_only_the_clusters_own_groups_are_resized() -> None:
    describe, groups, resize = addon_access.cluster_autoscaler_statements(SCOPE, "trade")
    assert not any("Describe" in action or ":Get" in action for action in resize.actions)
    assert all("Describe" in action or ":Get" in action for action in (*describe.actions, *groups.actions))
    assert groups.resources == ("arn:aws:eks:eu-west-1:123456789012:nodegroup/trade/*",)
    tag = "aws:ResourceTag/k8s.io/cluster-autoscaler/trade"
    assert resize.conditions == {"StringEquals": {tag: "owned"}}


def test_the_autoscaler_predicts_the_scheduler_of_the_same_version(record: Record) -> None:
    release = _releases(record(lambda: Addons("addons", ARGS)))["cluster-autoscaler"]
    assert release["values"]["image"]["tag"] == "v1.35.0"
    assert release["values"]["autoDiscovery"] == {"clusterName": "trade"}


def test_the_given_secrets_are_read_and_their_keys_used_through_secrets_manager_only() -> None:
    read, decrypt = addon_access.external_secrets_statements(SCOPE, ["arn:secret"], ["arn:key"])
    assert list(read.resources) == ["arn:secret"]
    assert all(action.split(":")[1].startswith(("Get", "Describe")) for action in read.actions)
    assert (list(decrypt.actions), list(decrypt.resources)) == (["kms:Decrypt"], ["arn:key"])
    assert decrypt.conditions == {
        "StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}
    }


def test_records_are_written_in_one_zone_only() -> None:
    zone = "arn:aws:route53:::hostedzone/Z0ABCDEFGHIJ"
    dns = _by_action(addon_access.external_dns_statements(SCOPE, "Z0ABCDEFGHIJ"))
    assert dns["route53:ChangeResourceRecordSets"] == [zone]
    statements = addon_access.cert_manager_statements(SCOPE, "Z0ABCDEFGHIJ")
    proof = next(item for item in statements if "route53:ChangeResourceRecordSets" in item.actions)
    assert list(proof.resources) == [zone]
    assert proof.conditions["ForAllValues:StringEquals"] == {
        "route53:ChangeResourceRecordSetsRecordTypes": ["TXT"]
    }
    assert [action for action, where in _by_action(statements).items() if where == ["*"]] == []
