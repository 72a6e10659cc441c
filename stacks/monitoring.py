"""What a stack watches, from the role table; who may read metrics of whom."""

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import Input, Resource, ResourceOptions

from app.roles import Kind, Role
from components.kubernetes.addon_namespace import POD_IDENTITY_AGENT as AGENT_NETWORK
from components.kubernetes.addon_namespace import PRIVATE
from components.kubernetes.edge import METRICS_PATH, METRICS_PORT, PODS
from components.kubernetes.edge import NAMESPACE as ENVOY
from components.kubernetes.monitoring import (
    ALERTMANAGER,
    PROMETHEUS,
    AddonTarget,
    Email,
    Monitoring,
    MonitoringArgs,
    Receiver,
    ServerArgs,
    ServiceTarget,
    Topic,
    VolumeArgs,
    Webhook,
)
from components.kubernetes.monitoring.scrapes import INTERVAL, KUBELET_PORT
from components.kubernetes.network_policy import Allow, Network, NetworkPolicy, NetworkPolicyArgs, Pods, Space
from infra.settings import StackSettings
from infra.settings.workloads import monitoring_resources, workloads
from stacks.flows import KEDA, MONITORING, SCRAPER, SYSTEM

ADDONS = (
    AddonTarget("envoy", ENVOY, "app.kubernetes.io/name", (PODS,), number=METRICS_PORT, path=METRICS_PATH),
    # The chart and the project's own manifests call the metrics server differently.
    AddonTarget(
        "keda",
        KEDA.namespace,
        "app",
        ("keda-operator", "keda-operator-metrics-apiserver", "keda-metrics-apiserver"),
        number=8080,
    ),
)

_QUICK = "5s"
"""Interval for roles that are scaled by their connections: it is part of what their clients wait for."""
_API_PORTS = (443, 6443)
_ANYWHERE = Network("0.0.0.0/0")
POD_IDENTITY_AGENT = Allow(Network(AGENT_NETWORK), 80)
"""Where pods fetch the credentials of their role (EKS user guide, 'Pod Identity Agent')."""


@dataclass(frozen=True)
class Images:
    """The two servers as this platform has them."""

    prometheus: Input[str]
    prometheus_version: str
    alertmanager: Input[str]
    alertmanager_version: str


@dataclass(frozen=True)
class Surroundings:
    """What differs between platforms."""

    images: Images
    storage_class: Input[str]
    stack: str
    topic: Topic | None = None
    """The stack's own topic for alerts, where it has one."""


def targets(settings: StackSettings) -> list[ServiceTarget]:
    """Every role that serves and is run here."""
    found = []
    for name, item in sorted(workloads(settings).items()):
        role = item.role
        if role.port is not None and role.kind is Kind.SERVICE:
            port = "http" if role.metrics_port is None else "metrics"
            counted = role.scaling is not None and role.scaling.connections is not None
            interval = _QUICK if counted else INTERVAL
            found.append(ServiceTarget(SYSTEM, name, port, metrics_port(role), interval))
    return found


def metrics_port(role: Role) -> int:
    """Port of /metrics of a role that serves.

    Raises:
        ValueError: it does not serve.
    """
    port = role.metrics_port or role.port
    if port is None:
        raise ValueError(f"role '{role.name}' has no port")
    return port


def monitoring_policies(settings: StackSettings, receiver: Receiver | None) -> dict[str, NetworkPolicyArgs]:
    """Prometheus reaches what it reads and tells Alertmanager; KEDA asks it. People forward a port."""
    alertmanager = Pods(MONITORING, ALERTMANAGER.name)
    reads = [Allow(Pods(target.namespace, target.name), target.number) for target in targets(settings)]
    reads += [Allow(Space(addon.namespace), addon.number) for addon in ADDONS]
    # Nodes and the API server are in private networks.
    reads += [Allow(Network(cidr), port) for cidr in PRIVATE for port in (KUBELET_PORT, *_API_PORTS)]
    told = [] if receiver is None else [Allow(_ANYWHERE, receiver.port)]
    if isinstance(receiver, Topic):
        told.append(POD_IDENTITY_AGENT)
    return {
        PROMETHEUS.name: NetworkPolicyArgs(
            namespace=MONITORING,
            ingress=[Allow(SCRAPER, PROMETHEUS.port), Allow(KEDA, PROMETHEUS.port)],
            egress=[Allow(SCRAPER, PROMETHEUS.port), Allow(alertmanager, ALERTMANAGER.port), *reads],
        ),
        ALERTMANAGER.name: NetworkPolicyArgs(
            namespace=MONITORING, ingress=[Allow(SCRAPER, ALERTMANAGER.port)], egress=told
        ),
    }


def make_monitoring(
    settings: StackSettings, around: Surroundings, opts: ResourceOptions
) -> Monitoring | None:
    """Metrics monitoring of the stack; None where its settings switch it off."""
    given = settings.monitoring
    if not given.enabled:
        return None
    receiver = _receiver(settings, around.topic)
    policies: list[Resource] = [
        NetworkPolicy(name, args, opts) for name, args in monitoring_policies(settings, receiver).items()
    ]
    sizes = monitoring_resources(settings)
    args = MonitoringArgs(
        namespace=MONITORING,
        stack=around.stack,
        prometheus=ServerArgs(
            around.images.prometheus, around.images.prometheus_version, sizes[PROMETHEUS.name]
        ),
        alertmanager=ServerArgs(
            around.images.alertmanager, around.images.alertmanager_version, sizes[ALERTMANAGER.name]
        ),
        volume=VolumeArgs(around.storage_class, str(given.storage), int(given.storage)),
        services=targets(settings),
        addons=ADDONS,
        retention_days=given.retention_days,
        receiver=receiver,
        verify_kubelet=given.verify_kubelet,
    )
    return Monitoring("monitoring", args, ResourceOptions.merge(opts, ResourceOptions(depends_on=policies)))


def outputs(made: Monitoring | None) -> Mapping[str, Input[str]]:
    """What the stack tells of it."""
    return {} if made is None else {"prometheus": made.url}


def _receiver(settings: StackSettings, topic: Topic | None) -> Receiver | None:
    given = settings.monitoring.receiver
    if given is None:
        return None
    match given.kind:
        case "sns":
            return topic
        case "webhook":
            return Webhook(str(given.secret), given.port or 443)
        case "email":
            return Email(
                to=str(given.to),
                sender=str(given.sender),
                host=str(given.host),
                port=given.port or 587,
                user=given.user,
                secret=given.secret,
            )
