"""The role table and the data services as a stack's settings change them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.roles import ROLES, Hours, Kind, Need, Rate, Resources, Role, Scaling, cluster_roles
from infra.settings.local import LocalSettings
from infra.settings.model import HoursSettings, ResourceSettings, ScalingSettings, StackSettings
from infra.settings.quantities import Cpu, Duration, Memory

POOL_CONNECTIONS = 10
"""Connections that one process of the app opens at most: pool and overflow of `app.kit.database.Database`."""

_DATA_RESOURCES = {
    "postgres": Resources("100m", "1", "192Mi", "1Gi"),
    "redis": Resources("50m", "500m", "64Mi", "256Mi"),
    "kafka": Resources("150m", "1500m", "512Mi", "1Gi"),
}
"""What one replica of a data service asks for where the stack file says nothing."""


_MONITORING_RESOURCES = {
    "prometheus": Resources("100m", "1", "256Mi", "1Gi"),
    "alertmanager": Resources("10m", "100m", "32Mi", "128Mi"),
}


@dataclass(frozen=True)
class Workload:
    """One role with its size in a stack."""

    role: Role
    resources: Resources
    replicas: int
    """Fixed number of replicas; with `scaling`, the lowest."""
    scaling: Scaling | None
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
    fixed_here = given is not None and given.replicas is not None
    scaling = None if fixed_here else _scaling(role.scaling, given.scaling if given else None)
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


def _scaling(default: Scaling | None, given: ScalingSettings | None) -> Scaling | None:
    """The autoscaler of the role table with the targets that the stack file changes."""
    if given is None:
        return default
    base = default or Scaling(given.minimum, given.maximum)
    changed: dict[str, Any] = {
        "cpu_percent": given.cpu_percent,
        "memory_percent": given.memory_percent,
        "connections": given.connections_per_replica,
        "requests_per_second": given.requests_per_second,
        "added": _after(base.added, given.up_window),
        "removed": _after(base.removed, given.down_window),
    }
    if given.messages_behind is not None:
        changed["lag"] = base.lag and replace(base.lag, messages=given.messages_behind)
        changed["backlog"] = base.backlog and given.messages_behind
    return replace(
        base,
        minimum=given.minimum,
        maximum=given.maximum,
        hours=tuple(_hours(item) for item in given.cron),
        **{name: value for name, value in changed.items() if value is not None},
    )


def _after(rate: Rate, window: Duration | None) -> Rate:
    return rate if window is None else replace(rate, window_seconds=int(window))


def _hours(given: HoursSettings) -> Hours:
    def at(clock: str) -> str:
        hour, minute = clock.split(":")
        return f"{int(minute)} {int(hour)} * * {given.days}"

    return Hours(given.time_zone, at(given.start), at(given.end), given.replicas)


def monitoring_resources(settings: StackSettings) -> dict[str, Resources]:
    """Resources of the servers of monitoring by their name."""
    given = {"prometheus": settings.monitoring.resources}
    return {
        name: _merge(resources, given.get(name, ResourceSettings()))
        for name, resources in _MONITORING_RESOURCES.items()
    }


def _merge(default: Resources, given: ResourceSettings) -> Resources:
    return Resources(
        cpu_request=str(given.cpu_request or Cpu.parse(default.cpu_request)),
        cpu_limit=str(given.cpu_limit or Cpu.parse(default.cpu_limit)),
        memory_request=str(given.memory_request or Memory.parse(default.memory_request)),
        memory_limit=str(given.memory_limit or Memory.parse(default.memory_limit)),
    )
