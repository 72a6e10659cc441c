"""What the controllers' own modules say about their custom resources and roles, as one document for each.

Definitions lose their descriptions: they are most of their size, which the API server keeps in memory.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from infra.cluster import binaries
from infra.cluster.binaries import CONTROLLERS, MONITORING, Module
from infra.errors import TradestackError
from infra.paths import cache_dir
from infra.process import run
from infra.progress import Steps

_FORMAT = "1"
_ESTIMATE_S = 15
_CONDITION = re.compile(r"^\{\{.*\}\}\s*$", re.MULTILINE)
"""Charts wrap definitions in conditions, each on a line of its own."""
_SCHEMAS = ("items", "additionalProperties", "not")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf")
_KINDS = frozenset({"CustomResourceDefinition", "ClusterRole", "Role"})


class _Loader(yaml.CSafeLoader):
    """Reads a bare `=` as text, as YAML 1.2 does; in 1.1 it is a type of its own."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: str(node.value))


@dataclass(frozen=True)
class Source:
    """A Go module with definitions."""

    path: str
    """Path of the module; its version is the one that `module` builds from."""
    module: Module
    files: tuple[str, ...]
    """Globs of the documents."""
    patches: Mapping[str, str] = field(default_factory=dict)
    """JSON patches of the module by the name of the definition that each one is for."""


_EXAMPLES = "example/prometheus-operator"
_MONITORING_KINDS = (
    "alertmanagerconfigs",
    "alertmanagers",
    "podmonitors",
    "probes",
    "prometheuses",
    "prometheusrules",
    "scrapeconfigs",
    "servicemonitors",
)
SOURCES: Mapping[str, Source] = {
    "keda": Source(
        "github.com/kedacore/keda/v2",
        CONTROLLERS,
        ("config/crd/bases/*.yaml", "config/rbac/role.yaml"),
        {
            "scaledjobs.keda.sh": "config/crd/patches/scaledjob_patch.yaml",
            "scaledobjects.keda.sh": "config/crd/patches/scaledobject_patch.yaml",
        },
    ),
    "envoy-gateway": Source(
        "github.com/envoyproxy/gateway",
        CONTROLLERS,
        (
            "charts/gateway-crds-helm/templates/standard-gatewayapi-crds.yaml",
            "charts/gateway-crds-helm/templates/generated/*.yaml",
        ),
    ),
    "prometheus-operator": Source(
        "github.com/prometheus-operator/prometheus-operator",
        MONITORING,
        (
            *(
                f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
                for kind in _MONITORING_KINDS
            ),
            "example/rbac/prometheus-operator/prometheus-operator-cluster-role.yaml",
        ),
    ),
}
"""By add-on."""


def content_hash(addon: str) -> str:
    """16 hexadecimal digits that change when the definitions of `addon` may change."""
    source = SOURCES[addon]
    given = json.dumps([_FORMAT, source.path, source.files, dict(source.patches)]).encode()
    folder = source.module.folder
    locks = (hashlib.sha256((folder / name).read_bytes()).digest() for name in ("go.mod", "go.sum"))
    return hashlib.sha256(given + b"".join(locks)).hexdigest()[:16]


def objects(addon: str, steps: Steps) -> list[dict[str, Any]]:
    """Definitions first, then roles; made from the module on a miss, then kept in the cache.

    Raises:
        TradestackError: the module cannot be fetched, or has not what is expected.
    """
    target = cache_dir() / "definitions" / f"{addon}-{content_hash(addon)}.json"
    if not target.exists():
        tool = binaries.go_tool(steps, SOURCES[addon].module)
        with steps.step(f"Make the definitions of {addon}", estimate_s=_ESTIMATE_S):
            made = json.dumps(_make(SOURCES[addon], _fetch(tool, SOURCES[addon])))
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.{os.getpid()}")
            partial.write_text(made)
            partial.rename(target)
    return list(json.loads(target.read_text()))


def patched(document: dict[str, Any], patch: Sequence[Mapping[str, Any]]) -> None:
    """Apply the operations add and remove of a JSON patch (RFC 6902) to `document`.

    Raises:
        TradestackError: it has another operation, or a path that the document has not.
    """
    for operation in patch:
        *parents, last = (
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        )
        place: Any = document
        try:
            for part in parents:
                place = place[int(part)] if isinstance(place, list) else place[part]
            match operation["op"], place:
                case "add", list() if last == "-":
                    place.append(operation["value"])
                case "add", dict():
                    place[last] = operation["value"]
                case "remove", dict():
                    del place[last]
                case other, _:
                    raise TradestackError(f"JSON patch: {other} at {operation['path']} is not supported")
        except (KeyError, IndexError) as error:
            raise TradestackError(f"JSON patch: there is no {operation['path']}") from error


def without_descriptions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an OpenAPI schema that says the same to a machine."""
    found = {key: value for key, value in schema.items() if key != "description"}
    if "properties" in found:
        found["properties"] = {name: without_descriptions(item) for name, item in found["properties"].items()}
    for key in _SCHEMAS:
        if isinstance(found.get(key), Mapping):
            found[key] = without_descriptions(found[key])
    for key in _SCHEMA_LISTS:
        if key in found:
            found[key] = [without_descriptions(item) for item in found[key]]
    return found


def _fetch(tool: Path, source: Source) -> Path:
    """The folder of the module's content, whose checksum go.sum pins."""
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    command: list[str | Path] = [tool, "mod", "download", "-json", source.path]
    return Path(json.loads(run(command, cwd=source.module.folder, env=environment))["Dir"])


def _make(source: Source, folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for pattern in source.files:
        files = sorted(folder.glob(pattern))
        if not files:
            raise TradestackError(f"{source.path} has no {pattern}")
        found += [item for file in files for item in _documents(file) if item["kind"] in _KINDS]
    by_name = {item["metadata"]["name"]: item for item in found}
    for name, patch in source.patches.items():
        patched(by_name[name], yaml.load((folder / patch).read_text(), Loader=_Loader))  # noqa: S506 - a safe one
    for item in found:
        for version in item["spec"]["versions"] if item["kind"] == "CustomResourceDefinition" else ():
            version["schema"]["openAPIV3Schema"] = without_descriptions(version["schema"]["openAPIV3Schema"])
    return sorted(found, key=lambda item: (item["kind"] != "CustomResourceDefinition", item["kind"]))


def _documents(file: Path) -> Iterator[dict[str, Any]]:
    text = _CONDITION.sub("", file.read_text())
    yield from (item for item in yaml.load_all(text, Loader=_Loader) if item)
