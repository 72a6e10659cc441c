"""A plan by itself, for people (tree, counts, outputs) and for programs (JSON)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from infra.plan.model import Plan, PlannedResource, masked

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.tree import Tree


def document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON data; secrets are `[secret]`, values that only a provider knows `[unknown]`."""
    return {
        "stack": plan.stack,
        "resources": [_resource(resource) for resource in plan.resources],
        "outputs": masked(plan.outputs),
    }


def text(plan: Plan) -> "RenderableType":
    """The plan as a tree of components with their resources, the counts by kind and the outputs."""
    from rich.console import Group

    return Group(_tree(plan), "", *_counts(plan), "", *_outputs(plan), *_warnings(plan))


def _resource(resource: PlannedResource) -> dict[str, Any]:
    return {
        "urn": resource.urn,
        "type": resource.type,
        "name": resource.name,
        "parent": resource.parent,
        "custom": resource.custom,
        "inputs": masked(resource.inputs),
        "outputs": masked(resource.outputs),
        "dependencies": list(resource.dependencies),
        "propertyDependencies": masked(resource.property_dependencies),
        "provider": resource.provider,
        "protect": resource.options.protect,
        "options": asdict(resource.options),
        "secrets": resource.secrets,
    }


def _tree(plan: Plan) -> "Tree":
    from rich.tree import Tree

    root = next(resource for resource in plan.resources if not resource.parent)
    tree = Tree(f"[bold]{root.name}[/]")

    def grow(branch: "Tree", urn: str) -> None:
        for child in plan.children(urn):
            style = "dim" if child.custom else "bold"
            grow(branch.add(f"[{style}]{short_type(child.type)}[/] {child.name}"), child.urn)

    grow(tree, root.urn)
    return tree


def short_type(token: str) -> str:
    """The last part of a type token: `Deployment` of `kubernetes:apps/v1:Deployment`."""
    return token.rsplit(":", 1)[-1]


def _counts(plan: Plan) -> Iterator[str]:
    custom = [resource for resource in plan.resources if resource.custom]
    by_package = Counter(resource.type.split(":", 1)[0] for resource in custom)
    packages = ", ".join(f"{count} {package}" for package, count in by_package.most_common())
    components = len(plan.resources) - len(custom)
    yield f"[bold]{len(plan.resources)} resources[/]: {packages}, {components} components"
    by_kind = Counter(short_type(resource.type) for resource in custom)
    yield "  " + ", ".join(f"{count} {kind}" for kind, count in by_kind.most_common())


def _outputs(plan: Plan) -> Iterator[str]:
    from rich.markup import escape

    yield "[bold]Outputs[/]"
    for name, value in masked(plan.outputs).items():
        yield f"  {name}: {escape(str(value))}"


def _warnings(plan: Plan) -> Iterator[str]:
    from rich.markup import escape

    for warning in plan.warnings:
        yield f"[yellow]warning:[/] {escape(warning)}"
