"""The public address of a stack: which roles it leads to, with which limits."""

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import Resource, ResourceOptions

from app.roles import ROLES, Resources, Role
from components.kubernetes.edge import NAMESPACE, PODS, Backend, Edge, EdgeArgs, Replicas
from components.kubernetes.edge_policies import Limits
from components.kubernetes.network_policy import Pods
from infra.settings.model import EdgeSettings
from stacks.flows import SYSTEM

EDGE_PODS = Pods(NAMESPACE, PODS)
"""Envoy's pods."""

_STREAM, _PAGES, _API = "price-service", "frontend", "gateway"

ENTRIES = (_API, _STREAM, _PAGES)
"""Roles that requests from outside reach, through Envoy."""

GATEWAY_HOPS, STREAM_HOPS = 2, 1
"""Proxies of the cluster that a request passes: Envoy and the gateway, or Envoy alone."""


@dataclass(frozen=True)
class Surroundings:
    """What the edge of one stack stands in."""

    clients: tuple[str, ...]
    """Networks that may ask."""
    internal_networks: tuple[str, ...]
    """Networks of the cluster."""
    origins: tuple[str, ...]
    """Origins beside those of the settings."""
    resources: Resources
    """Of one Envoy."""
    hsts_seconds: int
    """For how long browsers that came by HTTPS come by nothing else."""
    hops: int = 0
    """Proxies in front of the cluster."""
    idle_seconds: int = 75
    """Quiet seconds between two requests (nginx's default, whose figures seed 000 names)."""
    drain_seconds: int = 60
    """For how long an Envoy that ends lets requests go on."""
    image: str | None = None
    """Image of Envoy; None for the one that Envoy Gateway was built for."""
    certificate_namespace: str | None = None
    """Namespace of the certificate, where it is not that of the routes."""
    node_ports: Mapping[str, int] | None = None
    """Ports on every node by listener; None where a load balancer reaches the pods."""


def make_edge(given: EdgeSettings, around: Surroundings, opts: ResourceOptions, *after: Resource) -> Edge:
    """The edge of a stack; `after` are the things that it needs."""
    return Edge(
        "edge",
        EdgeArgs(
            namespace=SYSTEM,
            backends={
                "api": _backend(_API, "/api"),
                "stream": _backend(_STREAM, "/ws", sticky=True),
                "registry": _backend(_API, "/registry", internal=True),
                "web": _backend(_PAGES, "/"),
            },
            limits=Limits(
                requests_per_second=given.requests_per_second,
                total_connections=given.total_connections,
                websocket_seconds=int(given.websocket_timeout),
            ),
            resources=around.resources,
            replicas=Replicas(given.replicas.minimum, given.replicas.maximum),
            internal_networks=given.internal_networks or around.internal_networks,
            certificate_namespace=around.certificate_namespace,
            image=around.image,
            node_ports=around.node_ports,
            clients=around.clients,
            origins=tuple(dict.fromkeys((*around.origins, *given.cors_origins))),
            hops=around.hops,
            idle_seconds=around.idle_seconds,
            hsts_seconds=around.hsts_seconds,
            drain_seconds=around.drain_seconds,
        ),
        ResourceOptions.merge(opts, ResourceOptions(depends_on=list(after))),
    )


def edge_environment(given: EdgeSettings, role: Role, *, hops: int) -> dict[str, str]:
    """Variables of a role that follow from the edge; `hops` is the number of proxies before the cluster."""
    if role.port is None:
        return {}
    environment = {"APP_PROXY_HOPS": str(hops + (STREAM_HOPS if role.name == _STREAM else GATEWAY_HOPS))}
    if role.name == _STREAM:
        environment["APP_CONNECTIONS_PER_CLIENT"] = str(given.connections)
    return environment


def _backend(role: str, path: str, *, sticky: bool = False, internal: bool = False) -> Backend:
    port = ROLES[role].port
    if port is None:
        raise ValueError(f"role '{role}' has no port for the edge")
    return Backend(role, port, path, sticky=sticky, internal=internal)
