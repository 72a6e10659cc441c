"""Plans made by hand, and plans of components as the program would register them."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

from infra.cost import LineItem, estimate
from infra.plan.model import Options, Plan, PlannedResource

STACK = "urn:pulumi:test::tradestack::pulumi:pulumi:Stack::tradestack-test"


def resource(
    token: str,
    name: str,
    inputs: Mapping[str, Any] | None = None,
    *,
    parent: str = STACK,
    needs: Mapping[str, PlannedResource] | None = None,
    custom: bool = True,
    provider: str = "",
) -> PlannedResource:
    """A planned resource; `needs` says which input comes from which other resource."""
    depends = {key: (other.urn,) for key, other in (needs or {}).items()}
    return PlannedResource(
        urn=f"urn:pulumi:test::tradestack::{token}::{name}",
        type=token,
        name=name,
        parent=parent,
        custom=custom,
        inputs=inputs or {},
        dependencies=tuple(sorted(urn for urns in depends.values() for urn in urns)),
        property_dependencies=depends,
        provider=provider,
        options=Options(),
    )


def plan_of(*resources: PlannedResource, stack: str = "test") -> Plan:
    """A plan of these resources under a stack."""
    root = PlannedResource(
        STACK, "pulumi:pulumi:Stack", "tradestack-test", "", False, {}, (), {}, "", Options()
    )
    return Plan(stack, "tradestack", (root, *resources), {}, Path("Pulumi.test.yaml"))


def lines_of(*resources: PlannedResource, **options: Any) -> list[LineItem]:
    """Line items of a plan of these resources."""
    return list(estimate(plan_of(*resources), **options).lines)


def usd_of(*resources: PlannedResource, **options: Any) -> dict[str, Decimal]:
    """Dollars a month by what is paid for."""
    return {line.what: line.monthly_usd for line in lines_of(*resources, **options)}


def node_group(
    name: str = "general", nodes: int = 1, kind: str = "m7g.large", **inputs: Any
) -> PlannedResource:
    """A managed node group with 20 GiB root volumes."""
    given = {"instanceTypes": [kind], "scalingConfig": {"desiredSize": nodes}, "diskSize": 20, **inputs}
    return resource("aws:eks/nodeGroup:NodeGroup", name, given)


def planned(build: Callable[[], object]) -> Plan:
    """The plan of a program that is `build`, with every output unknown, as the plan command makes it."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(_collect, build).result()


def _collect(build: Callable[[], object]) -> Plan:
    from pulumi.runtime import settings
    from pulumi.runtime.stack import run_in_stack

    from infra.plan.monitor import Engine, Monitor

    monitor = Monitor("test", "tradestack")

    async def program() -> None:
        settings.configure(
            settings.Settings(
                project="tradestack",
                stack="test",
                monitor=monitor,
                engine=Engine(),
                dry_run=True,
                organization="organization",
            )
        )
        await run_in_stack(lambda: build() and None)

    asyncio.run(program())
    return Plan("test", "tradestack", tuple(monitor.resources.values()), {}, Path("Pulumi.test.yaml"))
