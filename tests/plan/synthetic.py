"""Plans made by hand."""

from pathlib import Path
from typing import Any

from infra.plan.identity import urn_of
from infra.plan.model import Options, Plan, PlannedResource

ROOT = urn_of("prod", "tradestack", "", "pulumi:pulumi:Stack", "tradestack-prod")


def urn(type_: str, name: str, parent: str = ROOT) -> str:
    return urn_of("prod", "tradestack", parent, type_, name)


def resource(
    type_: str,
    name: str,
    inputs: dict[str, Any] | None = None,
    *,
    parent: str = ROOT,
    needs: dict[str, list[str]] | None = None,
    custom: bool = True,
    provider: str = "",
    **options: Any,
) -> PlannedResource:
    """A resource; `needs` are the URNs that each input comes from."""
    needs = needs or {}
    return PlannedResource(
        urn=urn(type_, name, parent),
        type=type_,
        name=name,
        parent=parent,
        custom=custom,
        inputs=inputs or {},
        dependencies=tuple(sorted({one for urns in needs.values() for one in urns})),
        property_dependencies={key: tuple(urns) for key, urns in needs.items()},
        provider=provider,
        options=Options(**options),
    )


def plan(*resources: PlannedResource) -> Plan:
    """A plan of the stack `prod` with its root."""
    root = PlannedResource(
        ROOT, "pulumi:pulumi:Stack", "tradestack-prod", "", False, {}, (), {}, "", Options()
    )
    return Plan("prod", "tradestack", (root, *resources), {}, Path("Pulumi.prod.yaml"))
