"""A namespace with its guard rails: Pod Security, quota, limits and closed network."""

from dataclasses import dataclass

from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.networking import v1 as networking

from components.kubernetes.meta import PLATFORM, metadata
from components.kubernetes.pod import DISK_LIMIT, DISK_REQUEST
from components.skips import Skip


@dataclass(frozen=True)
class Quota:
    """What all pods of a namespace may use together, in Kubernetes quantities."""

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str
    storage: str
    pods: int


@dataclass(frozen=True)
class ContainerLimits:
    """Defaults and upper bounds of one container, in Kubernetes quantities."""

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str
    max_cpu: str
    max_memory: str


@dataclass(frozen=True)
class NamespaceArgs:
    """A namespace of the platform."""

    quota: Quota
    """Ceiling for everything in the namespace."""
    limits: ContainerLimits
    """Bounds of every container in it."""


class Namespace(ComponentResource):
    """A namespace; the component's name is the namespace's."""

    namespace: str
    """Name of the namespace."""

    def __init__(self, name: str, args: NamespaceArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Namespace", name, None, opts)
        self.namespace = name
        child = ResourceOptions(parent=self)
        levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
        made = core.Namespace(
            name,
            metadata=ObjectMetaArgs(name=name, labels={"app.kubernetes.io/part-of": PLATFORM, **levels}),
            opts=child,
        )
        inside = ResourceOptions(parent=self, depends_on=[made])
        core.ResourceQuota(
            f"{name}-quota",
            metadata=metadata("quota", name, owner=name),
            spec={
                "hard": {
                    "requests.cpu": args.quota.cpu_request,
                    "limits.cpu": args.quota.cpu_limit,
                    "requests.memory": args.quota.memory_request,
                    "limits.memory": args.quota.memory_limit,
                    "requests.storage": args.quota.storage,
                    "pods": str(args.quota.pods),
                }
            },
            opts=inside,
        )
        core.LimitRange(
            f"{name}-limits",
            metadata=metadata("limits", name, owner=name),
            spec={
                "limits": [
                    {
                        "type": "Container",
                        "default_request": {
                            "cpu": args.limits.cpu_request,
                            "memory": args.limits.memory_request,
                            "ephemeral-storage": DISK_REQUEST,
                        },
                        "default": {
                            "cpu": args.limits.cpu_limit,
                            "memory": args.limits.memory_limit,
                            "ephemeral-storage": DISK_LIMIT,
                        },
                        "max": {"cpu": args.limits.max_cpu, "memory": args.limits.max_memory},
                    }
                ]
            },
            opts=inside,
        )
        networking.NetworkPolicy(
            f"{name}-default-deny",
            metadata=metadata("default-deny", name, owner=name),
            spec={"pod_selector": {}, "policy_types": ["Ingress", "Egress"]},
            opts=inside,
        )
        networking.NetworkPolicy(
            f"{name}-allow-dns",
            metadata=metadata("allow-dns", name, owner=name),
            spec={
                "pod_selector": {},
                "policy_types": ["Egress"],
                "egress": [
                    {
                        "to": [
                            {
                                "namespace_selector": {
                                    "match_labels": {"kubernetes.io/metadata.name": "kube-system"}
                                },
                                "pod_selector": {"match_labels": {"k8s-app": "kube-dns"}},
                            }
                        ],
                        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
                    }
                ],
            },
            opts=inside,
        )
        self.register_outputs({"namespace": name})


SKIPS: tuple[Skip, ...] = tuple(
    Skip(
        "networkpolicy-targets-pod",
        "NetworkPolicy",
        "The policy closes the whole namespace, for pods that come later too.",
        name=f"trading-*-{policy}",
    )
    for policy in ("default-deny", "allow-dns")
)
"""Findings that are accepted here."""
