"""The namespace of an add-on: as closed as those of the platform, and open for what the add-on does."""

from collections.abc import Sequence
from typing import Any

from pulumi import Resource, ResourceOptions
from pulumi_kubernetes.networking import v1 as networking

from components.kubernetes import charts
from components.kubernetes.charts import Chart
from components.kubernetes.meta import metadata
from components.kubernetes.namespace import ContainerLimits, Namespace, NamespaceArgs, Quota
from components.skips import Skip

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
"""Private networks (RFC 1918), in which every cluster lies."""
POD_IDENTITY_AGENT = "169.254.170.23/32"
"""Where pods fetch the credentials of their Pod Identity, over HTTP on the node itself."""

_ANYWHERE = "0.0.0.0/0"
_HTTPS, _HTTP, _DNS = 443, 80, 53
_QUOTA = Quota(
    cpu_request="8", cpu_limit="64", memory_request="16Gi", memory_limit="32Gi", storage="1Gi", pods=50
)
# The default of a processor's limit is high: a controller that is throttled misses its leases.
_LIMITS = ContainerLimits(
    cpu_request="50m",
    cpu_limit="2",
    memory_request="128Mi",
    memory_limit="512Mi",
    max_cpu="4",
    max_memory="4Gi",
)


def make_addon_namespace(
    chart: Chart, networks: Sequence[str], monitoring: str, parent: Resource
) -> list[Resource]:
    """The namespace of a chart with the flows that it needs; what its release depends on.

    `networks` are those of the cluster, `monitoring` is the namespace from which metrics are read.
    """
    namespace = Namespace(chart.namespace, NamespaceArgs(_QUOTA, _LIMITS), ResourceOptions(parent=parent))
    flows = networking.NetworkPolicy(
        f"{chart.namespace}-flows",
        metadata=metadata("flows", chart.namespace, owner=chart.release),
        spec={
            "pod_selector": {},
            "policy_types": ["Ingress", "Egress"],
            "ingress": _ingress(chart, networks, monitoring),
            "egress": _egress(chart, networks),
        },
        opts=ResourceOptions(parent=parent, depends_on=[namespace]),
    )
    return [namespace, flows]


def _ingress(chart: Chart, networks: Sequence[str], monitoring: str) -> list[Any]:
    flows = chart.flows
    rules: list[Any] = [{"from_": [{"pod_selector": {}}]}]
    # The API server calls from its interfaces in the cluster's network.
    if ports := (*flows.serves, *flows.webhooks):
        rules.append({"from_": _blocks(networks), "ports": [_tcp(port) for port in ports]})
    if flows.metrics:
        rules.append({"from_": [_namespace(monitoring)], "ports": [_tcp(port) for port in flows.metrics]})
    return rules


def _egress(chart: Chart, networks: Sequence[str]) -> list[Any]:
    flows = chart.flows
    # The API server, AWS, registries and certificate authorities have no fixed addresses.
    rules: list[Any] = [{"to": [{"pod_selector": {}}]}, {"to": _blocks([_ANYWHERE]), "ports": [_tcp(_HTTPS)]}]
    if chart.service_account is not None:
        rules.append({"to": _blocks([POD_IDENTITY_AGENT]), "ports": [_tcp(_HTTP)]})
    if flows.name_servers:
        ports = [{"port": _DNS, "protocol": protocol} for protocol in ("UDP", "TCP")]
        rules.append({"to": _blocks([_ANYWHERE]), "ports": ports})
    if flows.peers:
        peers = [_namespace(peer) for peer in flows.peers]
        rules.append({"to": [*peers, *_blocks(networks)], "ports": [_tcp()]})
    return rules


def _blocks(networks: Sequence[str]) -> list[Any]:
    return [{"ip_block": {"cidr": network}} for network in networks]


def _namespace(name: str) -> dict[str, Any]:
    return {"namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": name}}}


def _tcp(port: int | None = None) -> dict[str, Any]:
    return {"protocol": "TCP"} | ({"port": port} if port is not None else {})


SKIPS: tuple[Skip, ...] = tuple(
    Skip(
        "networkpolicy-targets-pod",
        "NetworkPolicy",
        "The pods of this namespace come from a Helm chart, which a plan does not unpack.",
        name=f"{namespace}-*",
    )
    for namespace in charts.NAMESPACES
)
"""Findings that are accepted here."""
