"""Assertions about Lambda."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource
from infra.policy.registry import assertion
from infra.policy.rules import is_set, number

_FUNCTION = "aws:lambda/function:Function"
_IN_NETWORK = (
    "aws:rds/instance:Instance",
    "aws:elasticache/replicationGroup:ReplicationGroup",
    "aws:msk/cluster:Cluster",
)
"""What can be reached from inside the VPC only."""

_RUNTIMES = (
    "python3.12",
    "python3.13",
    "python3.14",
    "provided.al2023",
    "nodejs22.x",
    "nodejs24.x",
    "java21",
)


@assertion(
    48,
    "Functions run on a supported runtime, lose no event, are traced and bounded",
    "Lambda.2",
    on=[_FUNCTION],
    family="Functions",
    severity="medium",
)
def functions(function: Resource, estate: Estate) -> Iterator[str]:
    """One that reads data of the network is in the network."""
    if not is_set(function, "packageType", "Image") and function.get("runtime") not in _RUNTIMES:
        yield f"the runtime {function.get('runtime')} is none of {', '.join(_RUNTIMES)}"
    if not function.given("deadLetterConfig.targetArn"):
        yield "there is no dead-letter target"
    if not is_set(function, "tracingConfig.mode", "Active"):
        yield "tracing is off"
    if (number(function, "reservedConcurrentExecutions") or 0) < 1:
        yield "concurrency is not reserved"
    if _needs_network(function, estate) and not function.given("vpcConfig.subnetIds"):
        yield "it needs data of the network but is outside the VPC"


def _needs_network(function: Resource, estate: Estate) -> bool:
    sources = function.sources("environment")
    return any(estate.by_urn[urn].type in _IN_NETWORK for urn in sources if urn in estate.by_urn)
