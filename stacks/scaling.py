"""Which autoscaler a role gets, and what its triggers ask for."""

from collections.abc import Iterator
from dataclasses import dataclass

from pulumi import Input

from app.roles import Role, Scaling
from components.kubernetes.autoscaler import AutoscalerArgs
from components.kubernetes.meta import host
from components.kubernetes.monitoring import PROMETHEUS as SERVER
from components.kubernetes.scaled_object import (
    KafkaTrigger,
    PrometheusTrigger,
    ScaledObjectArgs,
    Trigger,
    UtilisationTrigger,
)
from stacks.flows import MONITORING, SYSTEM

PROMETHEUS = f"http://{host(SERVER.name, MONITORING)}:{SERVER.port}"
"""Where the metrics of the roles are asked for."""

_FIRST_REPLICA = 100
"""Connections from which on price-service would begin, were its minimum 0 (seed 000 section 5.2)."""


@dataclass(frozen=True)
class Brokers:
    """The brokers whose backlog is looked at."""

    servers: Input[str]
    """`host:port`, separated by commas."""
    region: str | None = None
    """Region whose IAM they ask; None where they let everyone in."""


def scaler(role: Role, scaling: Scaling, brokers: Brokers) -> AutoscalerArgs | ScaledObjectArgs:
    """The one autoscaler of a role: KEDA's where there are triggers that Kubernetes does not know."""
    if not scaling.needs_events:
        return AutoscalerArgs(
            namespace=SYSTEM,
            minimum=scaling.minimum,
            maximum=scaling.maximum,
            cpu_percent=scaling.cpu_percent,
            memory_percent=scaling.memory_percent,
            added=scaling.added,
            removed=scaling.removed,
        )
    fallback = scaling.minimum if scaling.fallback_replicas is None else scaling.fallback_replicas
    return ScaledObjectArgs(
        namespace=SYSTEM,
        minimum=scaling.minimum,
        maximum=scaling.maximum,
        triggers=tuple(_triggers(role, scaling, brokers)),
        fallback_replicas=min(max(fallback, scaling.minimum), scaling.maximum),
        added=scaling.added,
        removed=scaling.removed,
    )


def _triggers(role: Role, scaling: Scaling, brokers: Brokers) -> Iterator[Trigger]:
    if scaling.connections is not None:
        query = f'sum(websocket_connections_active{{service="{role.name}"}})'
        yield PrometheusTrigger("connections", PROMETHEUS, query, scaling.connections, _FIRST_REPLICA)
    if scaling.requests_per_second is not None:
        yield PrometheusTrigger(
            "requests-per-second", PROMETHEUS, _requests(role.name), scaling.requests_per_second
        )
    if scaling.backlog is not None:
        query = f'sum(bus_consumer_lag{{job="{role.name}"}})'
        yield PrometheusTrigger("backlog", PROMETHEUS, query, scaling.backlog)
    if scaling.lag is not None:
        lag = scaling.lag
        yield KafkaTrigger("lag", brokers.servers, lag.topic, lag.group, lag.messages, brokers.region)
    yield UtilisationTrigger("cpu", scaling.cpu_percent)
    if scaling.memory_percent is not None:
        yield UtilisationTrigger("memory", scaling.memory_percent)
    yield from scaling.hours


def _requests(role: str) -> str:
    """Requests a second of all replicas; 0 before the first, but nothing while no replica is being read."""
    rate = f'sum(rate(http_requests_total{{role="{role}"}}[1m]))'
    return f'({rate} or vector(0)) and on() (sum(up{{job="{role}"}}) > 0)'
