"""The role table and the data services as a stack's settings change them."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.roles import ROLES, Kind, Need, Resources, Role, cluster_roles
from infra.settings.local import LocalSettings
from infra.settings.model import ResourceSettings, ScalingSettings, StackSettings
from infra.settings.quantities import Cpu, Memory

POOL_CONNECTIONS = 10
"""Connections that one process of the app opens at most: pool and overflow of `app.kit.database.Database`."""

_DATA_RESOURCES = {
    "postgres": Resources("100m", "1", "192Mi", "1Gi"),
    "redis": Resources("50m", "500m", "64Mi", "256Mi"),
    "kafka": Resources("150m", "1500m", "512Mi", "1Gi"),
}
"""What one replica of a data service asks for where the stack file says nothing."""


@dataclass(frozen=True)
class Workload:
    """One role with its size in a stack."""

    role: Role
    resources: Resources
    replicas: int
    """Fixed number of replicas; with `scaling`, the lowest."""
    scaling: ScalingSettings | None
    environment: Mapping[str, str]

    @property
    def most_pods(self) -> int:
        """Pods at full scale while a rolling update adds one more."""
        if self.role.kind is not Kind.SERVICE:
            return 1
        return (self.scaling.maximum if self.scaling else self.replicas) + 1


def workload(settings: StackSettings, name: str) -> Workload:
    """The role `name` as this stack runs it."""
    role, given = ROLES[name], settings.services.get(name)
    scaling = None
    if given is None or given.replicas is None:
        scaling = given.scaling if given is not None else None
        if scaling is None and role.scaling is not None:
            scaling = ScalingSettings.model_validate(
                {
                    "minimum": role.scaling.minimum,
                    "maximum": role.scaling.maximum,
                    "cpuPercent": role.scaling.cpu_percent,
                }
            )
    fixed = given.replicas if given is not None and given.replicas is not None else role.replicas
    return Workload(
        role=role,
        resources=_merge(role.resources, given.resources if given else ResourceSettings()),
        replicas=scaling.minimum if scaling else fixed,
        scaling=scaling,
        environment=given.environment if given else {},
    )


def workloads(settings: StackSettings) -> dict[str, Workload]:
    """Every role that the stack runs in Kubernetes, by name."""
    return {name: workload(settings, name) for name in cluster_roles(cloud=settings.platform == "aws")}


def connections(settings: StackSettings) -> int:
    """Connections that the roles in Kubernetes open at full scale while each is updated."""
    users = (item for item in workloads(settings).values() if Need.DATABASE in item.role.needs)
    return sum(item.most_pods for item in users) * POOL_CONNECTIONS


def data_resources(settings: LocalSettings) -> dict[str, Resources]:
    """Resources of the data services by key of the stack file."""
    given = {
        "postgres": settings.postgres.resources,
        "redis": settings.redis.resources,
        "kafka": settings.kafka.resources,
    }
    return {name: _merge(_DATA_RESOURCES[name], resources) for name, resources in given.items()}


def _merge(default: Resources, given: ResourceSettings) -> Resources:
    return Resources(
        cpu_request=str(given.cpu_request or Cpu.parse(default.cpu_request)),
        cpu_limit=str(given.cpu_limit or Cpu.parse(default.cpu_limit)),
        memory_request=str(given.memory_request or Memory.parse(default.memory_request)),
        memory_limit=str(given.memory_limit or Memory.parse(default.memory_limit)),
    )
