"""JSON schemas of Kubernetes and of the custom resources in use, from their Go modules: no schema server."""

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.check import store
from infra.check.tools import GO_ENVIRONMENT
from infra.cluster.binaries import KUBERNETES_VERSION, go_tool
from infra.errors import TradestackError
from infra.process import run
from infra.progress import Steps

TEMPLATE = "{{.ResourceKind}}{{.KindSuffix}}.json"
"""Name of a schema's file, in kubeconform's language."""
_FORMAT = "2"
_ESTIMATE_S = 40
_SPECIFICATION = "api/openapi-spec/swagger.json"
_KINDS = "x-kubernetes-group-version-kind"
_NUMBER_OR_TEXT: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "number"}]}
_REPLACED: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _NUMBER_OR_TEXT,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": _NUMBER_OR_TEXT,
}


@dataclass(frozen=True)
class Source:
    """A Go module with definitions of custom resources."""

    module: str
    """Path in the module proxy."""
    version: str
    """Version there."""
    checksum: str
    """What the module's content must be, as go.sum has it."""
    files: tuple[str, ...] = ()
    """Globs of the definitions."""


_KUBERNETES = Source(
    "k8s.io/kubernetes",
    f"v{KUBERNETES_VERSION}",
    "h1:qDQdoMiluAE2Eab6Fa52YV+WjiGz9mZFFoagEA6cI+o=",
)
SOURCES = (
    Source(
        "github.com/external-secrets/external-secrets",
        "v1.3.2",
        "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
        ("config/crds/bases/external-secrets.io_*.yaml",),
    ),
    Source(
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        ("deploy/crds/*.yaml",),
    ),
    Source(
        # The project's module path under sigs.k8s.io ends at version 1.
        "github.com/kubernetes-sigs/aws-load-balancer-controller",
        "v0.0.0-20260423195125-93ff3b5fdaad",
        "h1:sttxR+rS5X6cS1ldieB5JKVucs61EHq8XO7VKySyU5w=",
        ("config/crd/bases/*.yaml",),
    ),
    Source(
        "github.com/kedacore/keda/v2",
        "v2.21.0",
        "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
        ("config/crd/bases/keda.sh_*.yaml",),
    ),
    Source(
        "sigs.k8s.io/gateway-api",
        "v1.6.0",
        "h1:735YBRj5NXFrOGX0GoSjwzUIzbz8kiEOfADsqHFmHgE=",
        ("config/crd/standard/gateway.*.yaml",),
    ),
    Source(
        "github.com/envoyproxy/gateway",
        "v1.9.1",
        "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=",
        ("charts/gateway-crds-helm/templates/generated/*.yaml",),
    ),
    Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        ("example/prometheus-operator-crd/*.yaml",),
    ),
)
"""Where the custom resources of the stacks are defined."""


def content() -> str:
    """Identity of everything that the schemas come from."""
    parts = [f"{item.module} {item.checksum} {item.files}" for item in (_KUBERNETES, *SOURCES)]
    return store.content_hash([_FORMAT, *parts])


def folder(steps: Steps) -> Path:
    """The folder with one schema for each kind and version.

    Raises:
        TradestackError: a module cannot be fetched, or is not the one that was pinned.
    """

    def make(target: Path) -> None:
        tool = go_tool(steps)
        with steps.step("Make the schemas of Kubernetes objects", estimate_s=_ESTIMATE_S):
            specification = json.loads((_fetch(tool, _KUBERNETES, target) / _SPECIFICATION).read_text())
            for name, schema in kubernetes_schemas(specification):
                (target / name).write_text(json.dumps(schema))
            for source in SOURCES:
                where = _fetch(tool, source, target)
                paths = sorted(path for pattern in source.files for path in where.glob(pattern))
                if not paths:
                    raise TradestackError(f"{source.module} {source.version} has no {source.files}")
                for path in paths:
                    for name, schema in custom_schemas(path.read_text()):
                        (target / name).write_text(json.dumps(schema))

    return store.ensure("schemas", content(), make)


def _fetch(tool: Path, source: Source, work: Path) -> Path:
    command: list[str | Path] = [tool, "mod", "download", "-json", f"{source.module}@{source.version}"]
    answer = json.loads(run(command, cwd=work, env={**os.environ, **GO_ENVIRONMENT, "GOFLAGS": ""}))
    if answer["Sum"] != source.checksum:
        raise TradestackError(
            f"{source.module} {source.version} has the checksum {answer['Sum']}, not {source.checksum}"
        )
    return Path(answer["Dir"])


def file_name(kind: str, group: str, version: str) -> str:
    """Name of a schema's file; must be what `TEMPLATE` gives."""
    first = group.split(".", 1)[0]
    return "-".join(part for part in (kind.lower(), first.lower(), version.lower()) if part) + ".json"


def kubernetes_schemas(specification: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and strict schema of every kind in Kubernetes' own OpenAPI document."""
    definitions = {
        name: _REPLACED.get(name) or _strict(definition)
        for name, definition in specification["definitions"].items()
    }
    for name, definition in specification["definitions"].items():
        kinds = definition.get(_KINDS, [])
        # Several kinds mean an option or a status that is no object of its own.
        if len(kinds) != 1 or "metadata" not in definition.get("properties", {}):
            continue
        kind = kinds[0]
        needed = {item: definitions[item] for item in _reachable(name, definitions)}
        yield (
            file_name(kind["kind"], kind["group"], kind["version"]),
            {"$ref": f"#/definitions/{name}", "definitions": needed},
        )


def custom_schemas(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and strict schema of every version in the definitions of custom resources in `text`."""
    # Charts wrap them in conditions.
    plain = re.sub(r"^\{\{.*\}\}\s*$", "", text, flags=re.MULTILINE)
    for item in yaml.load_all(plain, Loader=_Loader):
        if not isinstance(item, Mapping) or item.get("kind") != "CustomResourceDefinition":
            continue
        spec = item["spec"]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            properties = schema.setdefault("properties", {})
            properties["metadata"] = {"type": "object"}
            properties.setdefault("apiVersion", {"type": "string"})
            properties.setdefault("kind", {"type": "string"})
            yield file_name(spec["names"]["kind"], spec["group"], version["name"]), schema


class _Loader(yaml.SafeLoader):
    """Takes a lone `=` as text, as YAML 1.2 does: it is a value that some definitions allow."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def _reachable(name: str, definitions: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += re.findall(r'"#/definitions/([^"]+)"', json.dumps(definitions[current]))
    return found


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `schema` in the form of JSON schema, that refuses fields it does not name."""
    found = copy.deepcopy(dict(schema))
    _tighten(found)
    return found


def _tighten(schema: dict[str, Any]) -> None:
    for key in ("properties", "patternProperties"):
        for item in schema.get(key, {}).values():
            _tighten(item)
    for key in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(key), dict):
            _tighten(schema[key])
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
        schema["anyOf"] = _NUMBER_OR_TEXT["anyOf"]
    free = schema.pop("x-kubernetes-preserve-unknown-fields", False)
    if schema.get("properties") and not free and "additionalProperties" not in schema:
        schema["additionalProperties"] = False
    if schema.pop("nullable", False) and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    for key in [key for key in schema if key.startswith("x-kubernetes-")]:
        del schema[key]
    # Regular expressions and formats there are Go's.
    schema.pop("pattern", None)
    schema.pop("format", None)
