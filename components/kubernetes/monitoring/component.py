"""Prometheus, Alertmanager, what they read, their rules and the dashboards, as resources of one stack."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pulumi import ComponentResource, Input, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.rbac import v1 as rbac

from app.roles import Resources
from components.kubernetes.disruption import make_disruption_budget
from components.kubernetes.identity import make_identity
from components.kubernetes.meta import host, labels, metadata, selector
from components.kubernetes.monitoring import data
from components.kubernetes.monitoring.alertmanager import Receiver, routing
from components.kubernetes.monitoring.names import ALERTMANAGER, GROUP, PORT_NAME, PROMETHEUS, Server
from components.kubernetes.monitoring.scrapes import (
    KUBELET_NAMESPACE,
    AddonTarget,
    ServiceTarget,
    kubelet,
    pod_monitor,
    service_monitor,
)
from components.kubernetes.monitoring.servers import alertmanager, prometheus
from components.skips import Skip

_READ = ["get", "list", "watch"]
_NODES = "prometheus-nodes"
_DASHBOARD_LABEL = "grafana_dashboard"
"""Label by which the sidecar of Grafana's chart finds dashboards."""


@dataclass(frozen=True)
class ServerArgs:
    """Image and size of one server."""

    image: Input[str]
    version: str
    """Version in the image, such as `3.14.0`; prometheus-operator writes its settings for it."""
    resources: Resources
    """Requests and limits, in canonical Kubernetes quantities."""


@dataclass(frozen=True)
class VolumeArgs:
    """Volume of Prometheus."""

    storage_class: Input[str]
    """StorageClass of both servers' volumes."""
    size: str
    """In canonical Kubernetes quantities."""
    size_bytes: int
    """The same in bytes."""


@dataclass(frozen=True)
class MonitoringArgs:
    """What is watched, by what, and who is told."""

    namespace: str
    """Namespace that everything is put in."""
    stack: str
    """Name of the stack; label `stack` of every alert."""
    prometheus: ServerArgs
    alertmanager: ServerArgs
    volume: VolumeArgs
    services: Sequence[ServiceTarget]
    """Services whose pods answer /metrics, beside the two servers."""
    addons: Sequence[AddonTarget] = ()
    """Add-ons whose pods answer metrics."""
    retention_days: int = 14
    """Seeds 002 and 004."""
    receiver: Receiver | None = None
    """Who is told of alerts; None for nobody."""
    verify_kubelet: bool = True
    """Whether kubelets have certificates of the cluster's authority."""


class Monitoring(ComponentResource):
    """Metrics monitoring; the kinds of prometheus-operator are there before it."""

    url: str
    """Where Prometheus answers inside the cluster."""

    def __init__(self, name: str, args: MonitoringArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Monitoring", name, None, opts)
        self._args = args
        self._child = ResourceOptions(parent=self)
        self.url = f"http://{host(PROMETHEUS.name, args.namespace)}:{PROMETHEUS.port}"
        self._make_rights()
        for server in (PROMETHEUS, ALERTMANAGER):
            self._make_service(server)
            make_disruption_budget(server.name, args.namespace, parent=self)
        self._make_targets()
        for title, content in data.rules().items():
            self._custom("PrometheusRule", title, content)
        for title, dashboard in data.dashboards().items():
            self._make_dashboard(title, dashboard)
        self._custom("AlertmanagerConfig", ALERTMANAGER.name, routing(args.receiver), version="v1alpha1")
        self._custom("Alertmanager", ALERTMANAGER.name, alertmanager(args))
        self._custom("Prometheus", PROMETHEUS.name, prometheus(args))
        self.register_outputs({"url": self.url})

    def _make_rights(self) -> None:
        """Accounts of both; Prometheus looks for targets where they are, and reads metrics of nodes."""
        namespace = self._args.namespace
        make_identity(ALERTMANAGER.name, namespace, (), parent=self)
        make_identity(PROMETHEUS.name, namespace, (), parent=self)
        subject: rbac.SubjectArgsDict = {
            "kind": "ServiceAccount",
            "name": PROMETHEUS.name,
            "namespace": namespace,
        }
        watched = {namespace, KUBELET_NAMESPACE}
        watched |= {item.namespace for item in self._args.services}
        watched |= {item.namespace for item in self._args.addons}
        for place in sorted(watched):
            title = f"{PROMETHEUS.name}-{place}"
            about = metadata(PROMETHEUS.name, place)
            rbac.Role(
                title,
                metadata=about,
                rules=[
                    {"api_groups": [""], "resources": ["pods", "services"], "verbs": _READ},
                    {"api_groups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
                ],
                opts=self._child,
            )
            rbac.RoleBinding(
                title,
                metadata=about,
                role_ref={
                    "api_group": "rbac.authorization.k8s.io",
                    "kind": "Role",
                    "name": PROMETHEUS.name,
                },
                subjects=[subject],
                opts=self._child,
            )
        cluster_wide = ObjectMetaArgs(name=_NODES, labels=labels(PROMETHEUS.name))
        rbac.ClusterRole(
            _NODES,
            metadata=cluster_wide,
            rules=[
                {"api_groups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
            ],
            opts=self._child,
        )
        rbac.ClusterRoleBinding(
            _NODES,
            metadata=cluster_wide,
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _NODES},
            subjects=[subject],
            opts=self._child,
        )

    def _make_service(self, server: Server) -> None:
        core.Service(
            server.name,
            metadata=metadata(server.name, self._args.namespace),
            spec={
                "type": "ClusterIP",
                "selector": selector(server.name),
                "ports": [
                    {"name": PORT_NAME, "port": server.port, "target_port": PORT_NAME, "protocol": "TCP"}
                ],
            },
            opts=self._child,
        )

    def _make_targets(self) -> None:
        args = self._args
        own = [
            ServiceTarget(args.namespace, server.name, PORT_NAME, server.port)
            for server in (PROMETHEUS, ALERTMANAGER)
        ]
        for target in sorted([*args.services, *own]):
            self._custom("ServiceMonitor", target.name, service_monitor(target))
        for addon in sorted(args.addons):
            self._custom("PodMonitor", addon.name, pod_monitor(addon))
        self._custom("ServiceMonitor", "kubelet", kubelet(verified=args.verify_kubelet))

    def _make_dashboard(self, title: str, dashboard: Mapping[str, Any]) -> None:
        name, namespace = f"dashboard-{title}", self._args.namespace
        core.ConfigMap(
            name,
            metadata=ObjectMetaArgs(
                name=name, namespace=namespace, labels={**labels("grafana"), _DASHBOARD_LABEL: "1"}
            ),
            data={f"{title}.json": json.dumps(dashboard)},
            opts=self._child,
        )

    def _custom(self, kind: str, name: str, spec: Mapping[str, Any], version: str = "v1") -> None:
        CustomResource(
            f"{name}-{kind.lower()}",
            api_version=f"{GROUP}/{version}",
            kind=kind,
            metadata=metadata(name, self._args.namespace),
            spec=dict(spec),
            opts=self._child,
        )


_MADE_LATER = "Its pods are made by prometheus-operator from a custom resource, which scanners do not read."

SKIPS: tuple[Skip, ...] = tuple(
    Skip(check, kind, _MADE_LATER, name=server.name)
    for server in (PROMETHEUS, ALERTMANAGER)
    for check, kind in (
        ("networkpolicy-targets-pod", "NetworkPolicy"),
        ("service-targets-pod", "Service"),
    )
)
"""Findings that are accepted here."""
