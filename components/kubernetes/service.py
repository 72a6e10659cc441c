"""A role of the app as a Deployment behind a Service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pulumi import ComponentResource, Input, ResourceOptions
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict

from app.roles import Resources, Role
from components.kubernetes.disruption import make_disruption_budget
from components.kubernetes.identity import make_identity
from components.kubernetes.meta import Environment, metadata, selector
from components.kubernetes.pod import PodArgs, Pool, Probes, http_probe, pod_template

_PRE_STOP_SECONDS = 5
"""Time in which clients and kube-proxies learn that a replica is about to end."""

_POD_IP = "POD_IP"

_PROBES = Probes(
    startup=http_probe("/livez", period=1, failures=90),
    live=http_probe("/livez", period=10, failures=3),
    ready=http_probe("/readyz", period=5, failures=2),
)


@dataclass(frozen=True)
class ServiceArgs:
    """A long-running role and its size in one stack."""

    role: Role
    """A service of the role table."""
    namespace: str
    """Namespace that everything is put in."""
    image: Input[str]
    """Image of the app."""
    resources: Resources
    """Requests and limits of one replica, in canonical Kubernetes quantities."""
    replicas: int | None
    """Number of replicas; None where an autoscaler owns it."""
    secret: str
    """Secret that holds the role's keys."""
    environment: Environment = field(default_factory=dict)
    """Variables of the app."""
    more_secrets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Keys of other Secrets that the role reads beside its own, by the name of the Secret."""
    waits: Sequence[Input[str]] = ()
    """`host:port` of services that must answer before the role starts."""
    node_port: int | None = None
    """Opens this port on every node, for the public entry."""
    rules: Sequence[PolicyRuleArgsDict] = ()
    """What the role may do at the Kubernetes API; by default nothing."""
    pool: Pool | None = None
    """Nodes that the role runs on; None for all that are not set apart."""


class Service(ComponentResource):
    """A role of the app; the component's name is the role's, and so is every object's."""

    host: str
    """Name under which other roles of the namespace reach it."""
    port: int
    """Port of the Service."""

    def __init__(self, name: str, args: ServiceArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Service", name, None, opts)
        if args.role.port is None:
            raise ValueError(f"role '{args.role.name}' has no port; run it as a Task")
        self.host, self.port = name, args.role.port
        ports = {"http": args.role.port}
        if args.role.metrics_port is not None:
            ports["metrics"] = args.role.metrics_port
        pods = make_identity(name, args.namespace, args.rules, parent=self)
        spec: apps.DeploymentSpecArgsDict = {
            "selector": {"match_labels": selector(name)},
            "strategy": {
                "type": "RollingUpdate",
                "rolling_update": {"max_unavailable": 0, "max_surge": 1},
            },
            "progress_deadline_seconds": 300,
            "template": pod_template(
                PodArgs(
                    name=name,
                    image=args.image,
                    resources=args.resources,
                    args=("run", args.role.name),
                    environment={**args.environment, **_advertised(args.role)},
                    fields={_POD_IP: "status.podIP"} if args.role.leads else {},
                    ports=ports,
                    probes=_PROBES,
                    waits=args.waits,
                    secret=args.secret,
                    secret_keys=sorted(args.role.secrets),
                    more_secrets=args.more_secrets,
                    pre_stop_seconds=_PRE_STOP_SECONDS,
                    drain_seconds=args.role.drain_seconds,
                    use_token=bool(args.rules),
                    scrape_port=args.role.metrics_port or args.role.port,
                    pool=args.pool,
                )
            ),
        }
        if args.replicas is not None:
            spec["replicas"] = args.replicas
        apps.Deployment(name, metadata=metadata(name, args.namespace), spec=spec, opts=pods)
        child = ResourceOptions(parent=self)
        port = _port("http", args.role.port)
        if args.node_port is not None:
            port["node_port"] = args.node_port
        core.Service(
            name,
            metadata=metadata(name, args.namespace),
            spec={
                "type": "ClusterIP" if args.node_port is None else "NodePort",
                "selector": selector(name),
                "ports": [port],
            },
            opts=child,
        )
        if args.role.metrics_port is not None:
            # A Service of its own: the other may be open on every node, with all of its ports.
            core.Service(
                f"{name}-metrics",
                metadata=metadata(f"{name}-metrics", args.namespace, owner=name),
                spec={
                    "type": "ClusterIP",
                    "selector": selector(name),
                    "ports": [_port("metrics", args.role.metrics_port)],
                },
                opts=child,
            )
        make_disruption_budget(name, args.namespace, parent=self)
        self.register_outputs({"host": self.host, "port": self.port})


def _port(name: str, number: int) -> core.ServicePortArgsDict:
    return {"name": name, "port": number, "target_port": name, "protocol": "TCP"}


def _advertised(role: Role) -> Environment:
    """Where callers find this replica, for a role of which one replica leads."""
    return {"APP_ADVERTISED_ADDRESS": f"http://$({_POD_IP}):{role.port}"} if role.leads else {}
