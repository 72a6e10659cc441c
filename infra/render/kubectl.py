"""kubectl against one cluster."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from infra.process import run

FIELD_MANAGER = "tradestack"


class Target(Protocol):
    """A cluster that may be changed."""

    @property
    def kubectl(self) -> Path:
        """A kubectl that fits the cluster."""

    @property
    def kubeconfig(self) -> Path:
        """Leads to the cluster, and to no other."""


Key = tuple[str, str, str]
"""Kind, namespace (empty for objects of the whole cluster), name."""


class Kubectl:
    """Runs kubectl with one kubeconfig, whatever the environment says."""

    def __init__(self, target: Target) -> None:
        self._command = [str(target.kubectl), "--kubeconfig", str(target.kubeconfig)]

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl and return its standard output; `timeout` in seconds.

        Raises:
            CommandFailed: with kubectl's own words.
        """
        return run([*self._command, *arguments], stdin=stdin, timeout=timeout)

    def list(self, *arguments: str, stdin: str | None = None) -> list[dict[str, Any]]:
        """The objects that `kubectl get` with these arguments finds; none is no error."""
        output = self("get", *arguments, "--ignore-not-found", "-o", "json", stdin=stdin)
        if not output.strip():
            return []
        answer = json.loads(output)
        return list(answer["items"]) if answer["kind"].endswith("List") else [answer]

    def existing(self, manifests: Sequence[Mapping[str, Any]]) -> dict[Key, dict[str, Any]]:
        """Those of `manifests` that the cluster has, as it has them."""
        return {key_of(item): item for item in self.list("-f", "-", stdin=as_list(manifests))}


def key_of(manifest: Mapping[str, Any]) -> Key:
    """Kind, namespace and name of an object."""
    metadata = manifest["metadata"]
    return str(manifest["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])


def bare(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """As much of an object as tells which one it is."""
    metadata = {
        key: manifest["metadata"][key] for key in ("name", "namespace") if key in manifest["metadata"]
    }
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata}


def text_of(manifest: Mapping[str, Any]) -> str:
    """Such as `Deployment gateway in trading-system`."""
    kind, namespace, name = key_of(manifest)
    return f"{kind} {name} in {namespace}" if namespace else f"{kind} {name}"


def as_list(manifests: Sequence[Mapping[str, Any]]) -> str:
    """Objects as one JSON document that kubectl reads."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
