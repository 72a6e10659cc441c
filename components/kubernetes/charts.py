"""Add-ons as pinned Helm charts, each with the values that this platform gives it.

Chart names, repositories, versions and the keys of the values are those of the projects' own charts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pulumi import Input

from components.kubernetes.edge import HTTPS_TARGET

LOAD_BALANCER = "aws-load-balancer-controller"
EXTERNAL_SECRETS = "external-secrets"
CERT_MANAGER = "cert-manager"
EXTERNAL_DNS = "external-dns"
KEDA = "keda"
ENVOY_GATEWAY = "envoy-gateway"
CLUSTER_AUTOSCALER = "cluster-autoscaler"
PROMETHEUS_OPERATOR = "prometheus-operator"

NAMESPACES = (
    *("cert-manager", "envoy-gateway-system", "external-dns", "external-secrets", "keda"),
    "monitoring-operator",
)
"""Namespaces that add-ons have for themselves."""

_HOSTNAME = "kubernetes.io/hostname"
_ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True)
class Flows:
    """Connections of an add-on beside those within its namespace, to HTTPS anywhere and to DNS."""

    webhooks: tuple[int, ...] = ()
    """Ports on which the API server calls its pods."""
    metrics: tuple[int, ...] = ()
    """Ports on which its pods answer /metrics."""
    peers: tuple[str, ...] = ()
    """Namespaces to whose pods it opens connections on any port; to the cluster's networks as well then."""
    serves: tuple[int, ...] = ()
    """Ports on which its pods take traffic from the cluster's networks."""
    name_servers: bool = False
    """Whether it asks name servers anywhere."""


@dataclass(frozen=True)
class Chart:
    """One Helm release."""

    release: str
    """Name of the release."""
    namespace: str
    """Namespace of the release."""
    chart: str
    """Name in the repository, or an `oci://` address."""
    version: str
    """Exact version."""
    values: Mapping[str, Any]
    """Values; those that are outputs stay outputs."""
    repository: str | None = None
    """Address of the repository; None for an `oci://` chart."""
    service_account: str | None = None
    """ServiceAccount whose pods call AWS; None where none does."""
    own_namespace: bool = True
    """Whether the namespace is the add-on's own and made for it."""
    after: tuple[str, ...] = ()
    """Releases whose kinds it reads."""
    flows: Flows = Flows()
    """Connections in a namespace of its own."""


@dataclass(frozen=True)
class Sizing:
    """What all add-ons have in common."""

    replicas: int = 2
    """Replicas of every controller that elects a leader or shares its work."""
    priority_class: str = "system-cluster-critical"
    """Priority of their pods: what they do, every other pod waits for."""


def load_balancer(sizing: Sizing, *, cluster: str, region: str, vpc_id: Input[str]) -> Chart:
    """AWS Load Balancer Controller, for TargetGroupBindings only: it makes no load balancer."""
    return Chart(
        release=LOAD_BALANCER,
        namespace="kube-system",
        chart="aws-load-balancer-controller",
        version="3.5.0",
        repository="https://aws.github.io/eks-charts",
        service_account=LOAD_BALANCER,
        own_namespace=False,
        values={
            "clusterName": cluster,
            "region": region,
            # Given, so that it asks neither the instance metadata nor the nodes.
            "vpcId": vpc_id,
            "replicaCount": sizing.replicas,
            "priorityClassName": sizing.priority_class,
            "serviceAccount": {"create": True, "name": LOAD_BALANCER},
            "resources": _resources("50m", "128Mi", "256Mi"),
            "podDisruptionBudget": {"maxUnavailable": 1},
            "topologySpreadConstraints": _spread({"app.kubernetes.io/name": LOAD_BALANCER}),
            "podSecurityContext": {"fsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "securityContext": _container(),
            "createIngressClassResource": False,
            "ingressClassParams": {"create": False},
            # Without it, every Service of type LoadBalancer in the cluster waits for this controller.
            "enableServiceMutatorWebhook": False,
            "enableShield": False,
            "enableWaf": False,
            "enableWafv2": False,
            "controllerConfig": {"featureGates": {"ALBGatewayAPI": False, "NLBGatewayAPI": False}},
        },
    )


def cluster_autoscaler(sizing: Sizing, *, cluster: str, region: str, version: str) -> Chart:
    """Cluster Autoscaler, which gives the node groups as many machines as the pods ask for.

    `version` is that of Kubernetes, whose scheduler it predicts.
    """
    return Chart(
        release=CLUSTER_AUTOSCALER,
        namespace="kube-system",
        chart="cluster-autoscaler",
        version="9.59.0",
        repository="https://kubernetes.github.io/autoscaler",
        service_account=CLUSTER_AUTOSCALER,
        own_namespace=False,
        values={
            "fullnameOverride": CLUSTER_AUTOSCALER,
            "image": {"tag": f"v{version}.0"},
            "autoDiscovery": {"clusterName": cluster},
            "awsRegion": region,
            "replicaCount": sizing.replicas,
            "priorityClassName": sizing.priority_class,
            "rbac": {"serviceAccount": {"create": True, "name": CLUSTER_AUTOSCALER}},
            "resources": _resources("50m", "256Mi", "512Mi"),
            "podDisruptionBudget": {"maxUnavailable": 1},
            "topologySpreadConstraints": _spread({"app.kubernetes.io/instance": CLUSTER_AUTOSCALER}),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "runAsGroup": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containerSecurityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "extraArgs": {
                "balance-similar-node-groups": True,
                "expander": "least-waste",
                # The add-ons here tolerate a move; nodes that hold nothing else would stay for ever.
                "skip-nodes-with-system-pods": False,
            },
        },
    )


def external_secrets(sizing: Sizing) -> Chart:
    """External Secrets Operator, which reads Secrets Manager."""

    def part(name: str) -> dict[str, Any]:
        return {
            "replicaCount": sizing.replicas,
            "priorityClassName": sizing.priority_class,
            "resources": _resources("25m", "96Mi", "192Mi"),
            "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
            "topologySpreadConstraints": _spread({"app.kubernetes.io/name": name}),
        }

    return Chart(
        release=EXTERNAL_SECRETS,
        namespace="external-secrets",
        chart="external-secrets",
        version="2.9.0",
        repository="https://charts.external-secrets.io",
        service_account=EXTERNAL_SECRETS,
        flows=Flows(webhooks=(10250,), metrics=(8080,)),
        values={
            **part("external-secrets"),
            "leaderElect": True,
            "installCRDs": True,
            "serviceAccount": {"create": True, "name": EXTERNAL_SECRETS},
            # It uses its own identity, so that it need not make tokens for others.
            "rbac": {"serviceAccountTokenCreate": False},
            "processPushSecret": False,
            "processClusterPushSecret": False,
            "processClusterExternalSecret": False,
            "livenessProbe": {"enabled": True},
            "readinessProbe": {"enabled": True},
            "webhook": part("external-secrets-webhook"),
            "certController": {
                **part("external-secrets-cert-controller"),
                "replicaCount": 1,
                "podDisruptionBudget": {"enabled": False},
            },
        },
    )


def cert_manager(sizing: Sizing) -> Chart:
    """cert-manager with its own resource definitions, which outlive the release."""

    def part(name: str, memory: str) -> dict[str, Any]:
        return {
            "replicaCount": sizing.replicas,
            "resources": _resources("25m", memory, "384Mi"),
            "podDisruptionBudget": {
                "enabled": True,
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
            "topologySpreadConstraints": _spread({"app.kubernetes.io/component": name}),
        }

    return Chart(
        release=CERT_MANAGER,
        namespace="cert-manager",
        chart="oci://quay.io/jetstack/charts/cert-manager",
        version="v1.21.2",
        service_account=CERT_MANAGER,
        # It looks for its proof where the domain's own name servers answer.
        flows=Flows(webhooks=(10250,), metrics=(9402,), name_servers=True),
        values={
            **part("controller", "96Mi"),
            "global": {
                "priorityClassName": sizing.priority_class,
                "leaderElection": {"namespace": "cert-manager"},
            },
            "crds": {"enabled": True, "keep": True},
            "serviceAccount": {"create": True, "name": CERT_MANAGER},
            "webhook": part("webhook", "48Mi"),
            "cainjector": part("cainjector", "128Mi"),
            "startupapicheck": {"resources": _resources("25m", "48Mi", "96Mi")},
        },
    )


def external_dns(sizing: Sizing, *, cluster: str, region: str, zone_id: str, domain: str) -> Chart:
    """ExternalDNS for one hosted zone; it changes only records that it made itself.

    It has one replica: it keeps no state and a minute without it changes nothing.
    """
    return Chart(
        release=EXTERNAL_DNS,
        namespace="external-dns",
        chart="external-dns",
        version="1.21.1",
        repository="https://kubernetes-sigs.github.io/external-dns/",
        service_account=EXTERNAL_DNS,
        flows=Flows(metrics=(7979,)),
        after=(ENVOY_GATEWAY,),
        values={
            "provider": {"name": "aws"},
            "env": [{"name": "AWS_DEFAULT_REGION", "value": region}],
            "serviceAccount": {"create": True, "name": EXTERNAL_DNS},
            "priorityClassName": sizing.priority_class,
            "resources": _resources("25m", "64Mi", "128Mi"),
            "sources": ["service", "gateway-httproute"],
            "policy": "sync",
            "registry": "txt",
            "txtOwnerId": cluster,
            "domainFilters": [domain],
            "extraArgs": {"zone-id-filter": zone_id},
        },
    )


def keda(sizing: Sizing, *, cluster: str) -> Chart:
    """KEDA: its operator elects a leader, its metrics server answers the autoscalers."""
    parts = ("operator", "metricServer", "webhooks")
    labels = {
        "operator": "keda-operator",
        "metricsServer": "keda-operator-metrics-apiserver",
        "webhooks": "keda-admission-webhooks",
    }
    return Chart(
        release=KEDA,
        namespace="keda",
        chart="keda",
        version="2.20.2",
        repository="https://kedacore.github.io/charts",
        service_account="keda-operator",
        flows=Flows(webhooks=(6443, 9443), metrics=(8080,), peers=("trading-data", "trading-monitoring")),
        values={
            "clusterName": cluster,
            "priorityClassName": sizing.priority_class,
            "operator": {"replicaCount": sizing.replicas},
            "metricsServer": {"replicaCount": sizing.replicas},
            "webhooks": {"replicaCount": sizing.replicas},
            "podDisruptionBudget": {part: {"maxUnavailable": 1} for part in parts},
            "resources": {part: _resources("50m", "128Mi", "384Mi") for part in parts},
            "topologySpreadConstraints": {part: _spread({"app": name}) for part, name in labels.items()},
            "securityContext": {part: _container() for part in parts},
            "prometheus": {"operator": {"enabled": True}, "metricServer": {"enabled": True}},
        },
    )


def envoy_gateway(sizing: Sizing) -> Chart:
    """Envoy Gateway with the Gateway API's resource definitions."""
    return Chart(
        release=ENVOY_GATEWAY,
        namespace="envoy-gateway-system",
        chart="oci://docker.io/envoyproxy/gateway-helm",
        version="v1.9.1",
        # Envoy itself runs beside its controller.
        flows=Flows(webhooks=(9443,), metrics=(19001,), peers=("trading-system",), serves=(HTTPS_TARGET,)),
        values={
            "deployment": {
                "replicas": sizing.replicas,
                "priorityClassName": sizing.priority_class,
                "pod": {"topologySpreadConstraints": _spread({"control-plane": "envoy-gateway"})},
                "envoyGateway": {"resources": _resources("100m", "256Mi", "1024Mi")},
            },
            "podDisruptionBudget": {
                "minAvailable": 0,
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
            "certgen": {"job": {"resources": _resources("25m", "64Mi", "128Mi")}},
        },
    )


def prometheus_operator(sizing: Sizing) -> Chart:
    """prometheus-operator and its kinds; everything else of the chart is left to the platform's own program.

    It has one replica: it elects no leader, and a minute without it changes nothing.
    """
    parts = (
        *("alertmanager", "coreDns", "grafana", "kubeApiServer", "kubeControllerManager", "kubeDns"),
        *("kubeEtcd", "kubeProxy", "kubeScheduler", "kubeStateMetrics", "kubelet", "nodeExporter"),
        *("prometheus", "thanosRuler", "kubernetesServiceMonitors", "windowsMonitoring"),
    )
    return Chart(
        release=PROMETHEUS_OPERATOR,
        namespace="monitoring-operator",
        chart="kube-prometheus-stack",
        version="77.14.0",
        repository="https://prometheus-community.github.io/helm-charts",
        flows=Flows(metrics=(8080,)),
        values={
            "fullnameOverride": PROMETHEUS_OPERATOR,
            "crds": {"enabled": True},
            "defaultRules": {"create": False},
            **{part: {"enabled": False} for part in parts},
            "prometheusOperator": {
                "enabled": True,
                "priorityClassName": sizing.priority_class,
                "resources": _resources("50m", "128Mi", "256Mi"),
                # What it would check, the plan's own checks know before.
                "admissionWebhooks": {"enabled": False},
                "tls": {"enabled": False},
                "kubeletService": {"enabled": True, "namespace": "kube-system", "name": "kubelet"},
                "serviceMonitor": {"selfMonitor": False},
                "prometheusConfigReloader": {
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "32Mi"},
                        "limits": {"cpu": "100m", "memory": "64Mi"},
                    }
                },
            },
        },
    )


def _resources(cpu: str, memory: str, memory_limit: str) -> dict[str, Any]:
    """Requests, and a limit of memory only: a controller that is throttled misses its leases."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory_limit}}


def _container() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _spread(labels: Mapping[str, str]) -> Sequence[dict[str, Any]]:
    """Over zones and hosts as far as there are any; a small cluster must still start."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(labels)},
        }
        for key in (_ZONE, _HOSTNAME)
    ]
