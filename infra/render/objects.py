"""The Kubernetes objects of a plan, in the order in which a cluster can take them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from infra.plan.model import Plan, PlannedResource

_PACKAGE = "kubernetes:"
_ORDER = (
    "Namespace",
    "CustomResourceDefinition",
    "StorageClass",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Secret",
    "ConfigMap",
    "PersistentVolumeClaim",
    "Service",
    "StatefulSet",
    "Job",
    "Deployment",
    "CronJob",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
)
_OTHER_KINDS = 900
_LAST = {"HTTPRoute": 950}
"""A route without its policies would be open to all."""


@dataclass(frozen=True)
class KubernetesObject:
    """One object of the plan."""

    resource: PlannedResource

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The object as the program gave it; secret values are `Secret`s."""
        return self.resource.inputs

    @property
    def kind(self) -> str:
        """Kubernetes kind."""
        return str(self.manifest["kind"])

    @property
    def name(self) -> str:
        """Kubernetes name."""
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """Namespace; None for objects of the whole cluster."""
        namespace = self.manifest["metadata"].get("namespace")
        return None if namespace is None else str(namespace)

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace (empty for the whole cluster) and name."""
        return self.kind, self.namespace or "", self.name

    @cached_property
    def rank(self) -> int:
        """Place of its kind: what others need comes first."""
        if self.kind in _ORDER:
            return 10 * (_ORDER.index(self.kind) + 1)
        return _LAST.get(self.kind, _OTHER_KINDS)

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.kind} {self.name}{where}"


def objects(plan: Plan) -> list[KubernetesObject]:
    """Every Kubernetes object of the plan, namespaces and definitions first, then by kind and name."""
    found = [
        KubernetesObject(resource)
        for resource in plan.resources
        if resource.custom and resource.type.startswith(_PACKAGE)
    ]
    return sorted(found, key=lambda item: (item.rank, item.kind, item.namespace or "", item.name))
