"""The Kubernetes objects of a plan as files for checkers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from infra.errors import TradestackError
from infra.plan.model import UNKNOWN, Plan, PlannedResource, Secret
from infra.policy import Finding
from infra.render.files import file_name, text
from infra.render.objects import KubernetesObject

PLACEHOLDER = "known-after-deployment"
"""Stands for what only a provider can tell; in checks only, never in a render."""
_NOT_RENDERED = "not-rendered"


@dataclass(frozen=True)
class Manifests:
    """Files by name, and which resource each one is."""

    files: Mapping[str, str]
    """YAML text by file name."""
    sources: Mapping[str, str]
    """URN by file name."""
    urns: Mapping[tuple[str, str, str], str]
    """URN by kind, namespace (empty for the whole cluster) and name."""
    findings: tuple[Finding, ...]
    """Objects that no file can hold."""

    def urn(self, kind: str, namespace: str, name: str) -> str:
        """URN of an object; its kind and name where the plan does not know it."""
        return self.urns.get((kind, namespace, name)) or f"{kind} {namespace}/{name}"

    def urn_of_file(self, path: str) -> str:
        """URN of the object in a file; the path where no object was written there."""
        return self.sources.get(PurePath(path).name, path)


def make(plan: Plan) -> Manifests:
    """Every object of a plan, without secret values; values that are not known are a placeholder."""
    files: dict[str, str] = {}
    sources: dict[str, str] = {}
    urns: dict[tuple[str, str, str], str] = {}
    findings: list[Finding] = []
    for resource in plan.resources:
        if not _is_object(resource):
            continue
        item = KubernetesObject(replace(resource, inputs=_known(resource.inputs)))
        urns[item.key] = resource.urn
        try:
            files[file_name(item)] = text(item)
            sources[file_name(item)] = resource.urn
        except TradestackError as error:
            findings.append(Finding(_NOT_RENDERED, "policy", resource.urn, str(error), "high"))
    return Manifests(files, sources, urns, tuple(findings))


def _is_object(resource: PlannedResource) -> bool:
    # A chart's release has neither: its objects are made from the chart.
    given = resource.inputs
    return (
        resource.custom and resource.type.startswith("kubernetes:") and {"kind", "metadata"} <= given.keys()
    )


def _known(value: Any) -> Any:
    if value is UNKNOWN:
        return PLACEHOLDER
    if isinstance(value, Secret):
        return Secret(_known(value.value))
    if isinstance(value, Mapping):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_known(item) for item in value]
    return value
