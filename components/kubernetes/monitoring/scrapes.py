"""What Prometheus reads: roles and servers behind Services, pods of add-ons, the kubelet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.kubernetes.meta import NAME_LABEL, selector

INTERVAL, TIMEOUT = "15s", "10s"
"""Seed 000 section 6.3."""

KUBELET_PORT = 10250
KUBELET_NAMESPACE = "kube-system"
"""Where the Service of the kubelets is."""

_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path
_AUTHORITY = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"

_KEPT_OF_CONTAINERS = (
    "container_cpu_(usage_seconds_total|cfs_periods_total|cfs_throttled_periods_total)",
    "container_memory_(usage|working_set)_bytes",
    "container_network_(receive|transmit)_bytes_total",
    "container_spec_(cpu_quota|cpu_period|memory_limit_bytes)",
    "container_start_time_seconds",
    "machine_(cpu_cores|memory_bytes)",
)
_KEPT_OF_VOLUMES = ("kubelet_running_pods", "kubelet_volume_stats_(available|capacity)_bytes")


@dataclass(frozen=True, order=True)
class ServiceTarget:
    """Pods behind a Service; the Service's name becomes the label `job`."""

    namespace: str
    name: str
    """Name of the Service and of the workload behind it."""
    port: str
    """Name of the Service's port that answers /metrics."""
    number: int
    """Port of the pods."""
    interval: str = INTERVAL
    """How often it is read."""


@dataclass(frozen=True, order=True)
class AddonTarget:
    """Pods of an add-on, which have no Service for their metrics."""

    name: str
    namespace: str
    label: str
    """Label of the pods whose value becomes the label `job`."""
    values: tuple[str, ...]
    """Values of that label that the pods may have."""
    number: int
    """Port of the pods that answers `path`; the pods declare it."""
    path: str = "/metrics"


def service_monitor(target: ServiceTarget) -> dict[str, Any]:
    """Spec of a ServiceMonitor.

    Labels that the process gives are kept: `service="price-service"` is the app's own.
    """
    return {
        "jobLabel": NAME_LABEL,
        "namespaceSelector": {"matchNames": [target.namespace]},
        "selector": {"matchLabels": selector(target.name)},
        "endpoints": [{"port": target.port, "path": "/metrics", **_pace(target.interval)}],
    }


def pod_monitor(target: AddonTarget) -> dict[str, Any]:
    """Spec of a PodMonitor. Labels that the process gives are kept: KEDA tells the namespace it acts in."""
    wanted = {"key": target.label, "operator": "In", "values": list(target.values)}
    return {
        "jobLabel": target.label,
        "namespaceSelector": {"matchNames": [target.namespace]},
        "selector": {"matchExpressions": [wanted]},
        "podMetricsEndpoints": [{"portNumber": target.number, "path": target.path, **_pace()}],
    }


def kubelet(*, verified: bool) -> dict[str, Any]:
    """Spec of the ServiceMonitor of every node's kubelet, and of the containers that it counts.

    prometheus-operator keeps the Service with the addresses. `verified` asks kubelets for a certificate
    of the cluster's authority. Of the thousands of series only those are kept that rules and dashboards read.
    """
    return {
        "jobLabel": NAME_LABEL,
        "namespaceSelector": {"matchNames": [KUBELET_NAMESPACE]},
        "selector": {"matchLabels": selector("kubelet")},
        "endpoints": [
            _of_kubelet("/metrics/cadvisor", _KEPT_OF_CONTAINERS, verified=verified),
            _of_kubelet("/metrics", _KEPT_OF_VOLUMES, verified=verified),
        ],
    }


def _pace(interval: str = INTERVAL) -> dict[str, Any]:
    # A timeout must not be above the interval.
    timeout = TIMEOUT if interval == INTERVAL else interval
    return {"interval": interval, "scrapeTimeout": timeout, "honorLabels": True}


def _of_kubelet(path: str, kept: Sequence[str], *, verified: bool) -> dict[str, Any]:
    return {
        **_pace(),
        "port": "https-metrics",
        "scheme": "https",
        "path": path,
        # Under the kubelet's own times, containers that are gone would stay for five minutes.
        "honorTimestamps": False,
        # A file, because the kubelet renews it.
        "bearerTokenFile": _TOKEN,
        "tlsConfig": {"caFile": _AUTHORITY} if verified else {"insecureSkipVerify": True},
        "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "|".join(kept), "action": "keep"}],
    }
