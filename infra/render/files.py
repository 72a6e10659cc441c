"""Manifests as files, one for each object, fit for a Git repository: no secret value is ever written."""

from pathlib import Path
from typing import Any

import yaml

from infra.errors import TradestackError
from infra.plan.model import Plan, Secret
from infra.render.objects import KubernetesObject, objects

_OURS = "app.kubernetes.io/part-of: tradestack\n"
"""Label that every object of a plan has, as it stands in a file."""

GENERATED_KEYS = "tradestack/generated-keys"
"""Annotation of a Secret whose values are left out: its keys, for whoever fills it in the cluster."""


def write(plan: Plan, directory: Path) -> list[Path]:
    """Write every object to `directory`, made where missing; returns the files in the order to apply them.

    Names are stable: kind's rank, kind, namespace, name. Files of earlier renders that are not wanted now go;
    what somebody else put there stays.

    Raises:
        TradestackError: an object other than a Secret holds a secret value, and nothing is written; or the
            directory cannot be written to.
    """
    wanted = {directory / file_name(item): text(item) for item in objects(plan)}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob("[0-9][0-9][0-9]-*.yaml"):
            if path not in wanted and _OURS in path.read_text(errors="replace"):
                path.unlink()
        for path, content in wanted.items():
            path.write_text(content)
    except OSError as error:
        raise TradestackError(
            f"cannot write to {directory}: {error.filename}: {error.strerror}",
            hint="give a directory, or a path at which one can be made",
        ) from error
    return list(wanted)


def file_name(item: KubernetesObject) -> str:
    """Such as `010-namespace-trading-data.yaml`."""
    parts = (f"{item.rank:03}", item.kind.lower(), item.namespace, item.name)
    return "-".join(part for part in parts if part) + ".yaml"


def text(item: KubernetesObject) -> str:
    """The object as YAML, without secret values.

    Raises:
        TradestackError: an object other than a Secret holds a secret value.
    """
    manifest = dict(item.manifest)
    if item.kind == "Secret":
        keys = sorted(_keys(manifest.pop("stringData", {})) | _keys(manifest.pop("data", {})))
        metadata = dict(manifest["metadata"])
        metadata["annotations"] = {**metadata.get("annotations", {}), GENERATED_KEYS: ",".join(keys)}
        manifest["metadata"] = metadata
    elif item.resource.secrets:
        paths = ", ".join(item.resource.secrets)
        raise TradestackError(
            f"{item} has secret values outside a Secret ({paths}); they cannot be written to a file"
        )
    return yaml.safe_dump(manifest, sort_keys=True)


def _keys(values: Any) -> set[str]:
    return set(values.value if isinstance(values, Secret) else values)
