"""Which resource of one plan is which of another: URNs, aliases, physical names."""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.plan.model import Plan, PlannedResource

ROOT_TYPE = "pulumi:pulumi:Stack"
"""Type of the stack itself; URNs leave it out of a resource's chain of types."""

_NAMING = ("identifier", "clusterIdentifier", "replicationGroupId", "name")
"""Inputs that are a resource's own name at AWS, whatever the type."""
_NAMING_OF = {
    "aws:s3/bucket:Bucket": "bucket",
    "aws:msk/cluster:Cluster": "clusterName",
    "aws:eks/nodeGroup:NodeGroup": "nodeGroupName",
    "aws:elasticache/cluster:Cluster": "clusterId",
}


def physical_name(resource: PlannedResource) -> str:
    """The name by which the provider knows a resource; empty when the provider chooses it."""
    if resource.type.startswith("kubernetes:"):
        metadata = resource.inputs.get("metadata", {})
        name = metadata.get("name") if isinstance(metadata, Mapping) else None
        return f"{metadata.get('namespace', '')}/{name}" if isinstance(name, str) else ""
    keys = (_NAMING_OF[resource.type],) if resource.type in _NAMING_OF else _NAMING
    found = (resource.inputs.get(key) for key in keys)
    return next((name for name in found if isinstance(name, str)), "")


def urn_of(stack: str, project: str, parent: str, type_: str, name: str) -> str:
    """URN of a resource below `parent`, which is a URN or empty."""
    chain = parent.split("::")[2] if parent else ROOT_TYPE
    qualified = type_ if chain.rpartition("$")[2] == ROOT_TYPE else f"{chain}${type_}"
    return f"urn:pulumi:{stack}::{project}::{qualified}::{name}"


def former_urns(plan: Plan) -> dict[str, list[str]]:
    """URNs that each resource may have had, by its URN: of its own aliases and of its parents'."""
    found: dict[str, list[str]] = {}
    for resource in plan.resources:
        candidates = dict.fromkeys(_former(resource, plan, found))
        candidates.pop(resource.urn, None)
        found[resource.urn] = list(candidates)
    return found


def _former(resource: PlannedResource, plan: Plan, found: Mapping[str, list[str]]) -> Iterator[str]:
    parents = [resource.parent, *found.get(resource.parent, [])]
    parent_name = resource.parent.rpartition("::")[2]
    for parent in parents[1:]:
        # A child named after its parent has followed the parent's renaming, as the engine assumes too.
        name, old_name = resource.name, parent.rpartition("::")[2]
        if name.startswith(parent_name):
            yield urn_of(plan.stack, plan.project, parent, resource.type, old_name + name[len(parent_name) :])
        yield urn_of(plan.stack, plan.project, parent, resource.type, name)
    for alias in resource.options.aliases:
        if alias.startswith("urn:"):
            yield alias
            continue
        spec = _spec(alias)
        own = [""] if "noParent" in spec else [spec["parentUrn"]] if "parentUrn" in spec else parents
        for parent in own:
            yield urn_of(
                spec.get("stack", plan.stack),
                spec.get("project", plan.project),
                parent,
                spec.get("type", resource.type),
                spec.get("name", resource.name),
            )


def _spec(alias: str) -> dict[str, Any]:
    """The fields of an alias as the monitor writes them: `name=old,parentUrn=urn:…` or `noParent`."""
    spec: dict[str, Any] = {}
    for part in alias.split(","):
        name, _, value = part.partition("=")
        spec[name] = value
    return spec
