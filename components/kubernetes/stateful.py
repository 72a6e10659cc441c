"""A server that keeps data: a StatefulSet of one replica with a volume of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pulumi import ComponentResource, Input, ResourceOptions
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core

from app.roles import Resources
from components.kubernetes.disruption import make_disruption_budget
from components.kubernetes.identity import make_identity
from components.kubernetes.meta import Environment, host, metadata, selector
from components.kubernetes.pod import PodArgs, Probes, pod_template

_PRE_STOP_SECONDS = 2


@dataclass(frozen=True)
class DataServiceArgs:
    """What every data service inside the cluster is told."""

    namespace: str
    """Namespace that everything is put in."""
    image: Input[str]
    """Image of the server."""
    resources: Resources
    """Requests and limits, in canonical Kubernetes quantities."""
    storage: str
    """Size of the volume, in canonical Kubernetes quantities."""
    storage_class: str
    """StorageClass of the volume."""


@dataclass(frozen=True)
class StatefulServerArgs:
    """A server's own way to run."""

    service: DataServiceArgs
    """Size and place."""
    port: int
    """TCP port of the server."""
    data_path: str
    """Where the volume is mounted."""
    probes: Probes
    """Startup, liveness and readiness."""
    args: Sequence[str] = ()
    """Arguments of the image's entry point."""
    environment: Environment = field(default_factory=dict)
    """Variables of the container."""
    secret: str | None = None
    """Secret whose keys are mounted as files."""
    secret_keys: Sequence[str] = ()
    """Keys of `secret` that the server reads."""
    drain_seconds: int = 30
    """Time for an orderly shutdown."""


class StatefulServer(ComponentResource):
    """Base of the data services; the component's name is the Service's name."""

    host: str
    """DNS name inside the cluster."""
    port: int
    """TCP port of the Service."""

    def __init__(
        self, token: str, name: str, args: StatefulServerArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__(token, name, None, opts)
        service = args.service
        self.host, self.port = host(name, service.namespace), args.port
        pods = make_identity(name, service.namespace, (), parent=self)
        self._make_services(name, service.namespace)
        apps.StatefulSet(
            name,
            metadata=metadata(name, service.namespace),
            spec={
                "replicas": 1,
                "service_name": f"{name}-headless",
                "selector": {"match_labels": selector(name)},
                # Ordered management would wait for ever for a broken pod before it takes a repaired template.
                "pod_management_policy": "Parallel",
                "template": pod_template(
                    PodArgs(
                        name=name,
                        image=service.image,
                        resources=service.resources,
                        args=args.args,
                        environment=args.environment,
                        ports={"server": args.port},
                        probes=args.probes,
                        secret=args.secret,
                        secret_keys=args.secret_keys,
                        mounts={"data": args.data_path},
                        pre_stop_seconds=_PRE_STOP_SECONDS,
                        drain_seconds=args.drain_seconds,
                    )
                ),
                "volume_claim_templates": [
                    {
                        "metadata": {"name": "data"},
                        "spec": {
                            "access_modes": ["ReadWriteOnce"],
                            "storage_class_name": service.storage_class,
                            "resources": {"requests": {"storage": service.storage}},
                        },
                    }
                ],
            },
            opts=ResourceOptions.merge(pods, ResourceOptions(delete_before_replace=True)),
        )
        make_disruption_budget(name, service.namespace, parent=self)
        self.register_outputs({"host": self.host, "port": self.port})

    def _make_services(self, name: str, namespace: str) -> None:
        """One Service for clients, and the headless one that gives the pod its stable name."""
        ports: list[core.ServicePortArgsDict] = [
            {"name": "server", "port": self.port, "target_port": "server", "protocol": "TCP"}
        ]
        child = ResourceOptions(parent=self)
        core.Service(
            name,
            metadata=metadata(name, namespace),
            spec={"type": "ClusterIP", "selector": selector(name), "ports": ports},
            opts=child,
        )
        core.Service(
            f"{name}-headless",
            metadata=metadata(f"{name}-headless", namespace, owner=name),
            spec={
                "type": "ClusterIP",
                "cluster_ip": "None",
                # The pod's name resolves before it is ready, as members of a cluster need to find each other.
                "publish_not_ready_addresses": True,
                "selector": selector(name),
                "ports": ports,
            },
            opts=child,
        )
