"""Who may talk to whom, from the role table's `calls` and `needs`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.roles import ROLES, Need, Role, cluster_roles
from components.kubernetes.monitoring import PROMETHEUS
from components.kubernetes.network_policy import Allow, NetworkPolicyArgs, Pods, Space

SYSTEM, DATA, MONITORING = "trading-system", "trading-data", "trading-monitoring"
"""Namespaces of the app, of its data services, and of what watches them."""

SCRAPER = Pods(MONITORING, PROMETHEUS.name)
"""What reads the metrics of every role."""

KEDA = Space("keda")
"""What asks Prometheus for metrics, and the brokers how far consumer groups are behind."""


@dataclass(frozen=True)
class Backend:
    """A data service inside the cluster."""

    name: str
    port: int


BACKENDS: Mapping[Need, Backend] = {
    Need.DATABASE: Backend("postgresql", 5432),
    Need.CACHE: Backend("redis", 6379),
    Need.BUS: Backend("kafka", 9092),
}
"""Which data service meets each need."""


def role_policies(
    entries: Sequence[str],
    edge: Pods,
    backends: Mapping[Need, Sequence[Allow]],
    outside: Mapping[str, Sequence[Allow]],
) -> dict[str, NetworkPolicyArgs]:
    """Allowed flows of every role.

    `edge` are the pods through which requests from outside come, to the roles `entries` alone; `backends` are
    the peers that meet each need; `outside` is where roles connect to beyond the platform.
    """
    return {
        role.name: _role_policy(
            role, [edge] if role.name in entries else [], backends, outside.get(role.name, ())
        )
        for role in ROLES.values()
    }


def pod_backends() -> dict[Need, Sequence[Allow]]:
    """Data services inside the cluster as peers of the roles."""
    return {need: (Allow(Pods(DATA, backend.name), backend.port),) for need, backend in BACKENDS.items()}


def backend_policies() -> dict[str, NetworkPolicyArgs]:
    """Allowed flows of every data service: its users and the autoscaler come in, nothing goes out."""
    return {
        backend.name: NetworkPolicyArgs(
            namespace=DATA,
            ingress=[
                Allow(Pods(SYSTEM, role.name), backend.port)
                for role in cluster_roles(cloud=False).values()
                if need in role.needs
            ]
            + ([Allow(KEDA, backend.port)] if need is Need.BUS else []),
        )
        for need, backend in BACKENDS.items()
    }


def _role_policy(
    role: Role,
    clients: Sequence[Pods],
    backends: Mapping[Need, Sequence[Allow]],
    outside: Sequence[Allow],
) -> NetworkPolicyArgs:
    ingress = [
        Allow(Pods(SYSTEM, other.name), role.port)
        for other in ROLES.values()
        if role.port is not None and role.name in other.calls
    ]
    if role.port is not None:
        ingress += [Allow(pods, role.port) for pods in clients]
        ingress.append(Allow(SCRAPER, role.metrics_port or role.port))
    egress = [
        Allow(Pods(SYSTEM, name), port)
        for name in sorted(role.calls)
        if (port := ROLES[name].port) is not None
    ]
    egress += [peer for need in sorted(role.needs) for peer in backends[need]]
    egress += outside
    return NetworkPolicyArgs(namespace=SYSTEM, ingress=ingress, egress=egress)
