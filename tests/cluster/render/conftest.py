"""Small plans on the tests' cluster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra import render
from infra.cluster.cluster import Cluster
from infra.images import catalog
from infra.plan import Plan, PlannedResource
from infra.plan.model import Options
from infra.progress import Steps

NAMESPACE = "render-test"
_LABELS = {"app.kubernetes.io/part-of": "tradestack"}


@dataclass(frozen=True)
class Target:
    """The tests' cluster as render wants it."""

    kubectl: Path
    kubeconfig: Path


def _resource(kind: str, name: str, inputs: Mapping[str, Any]) -> PlannedResource:
    return PlannedResource(
        urn=f"urn:pulumi:rendertest::tradestack::{kind}::{name}",
        type=kind,
        name=name,
        parent="",
        custom=True,
        inputs=inputs,
        dependencies=(),
        property_dependencies={},
        provider="",
        options=Options(),
    )


class Objects:
    """Manifests of the test's namespace."""

    def namespace(self) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": _LABELS}}

    def config(self, name: str, **data: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": self._metadata(name), "data": data}

    def claim(self, name: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": self._metadata(name),
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
        }

    def deployment(self, name: str, **container: Any) -> dict[str, Any]:
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self._metadata(name),
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
                "template": {"metadata": {"labels": self._labels(name)}, "spec": self._pod(name, container)},
            },
        }

    def stateful_set(self, name: str, size: str) -> dict[str, Any]:
        template = {"metadata": {"labels": self._labels(name)}, "spec": self._pod(name, {})}
        claim = {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": self._metadata(name),
            "spec": {
                "replicas": 1,
                "serviceName": name,
                "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
                "template": template,
                "volumeClaimTemplates": [claim],
            },
        }

    def job(self, name: str, command: str) -> dict[str, Any]:
        container = {"image": catalog.reference("base"), "command": ["sh", "-c", command]}
        pod = {**self._pod(name, container), "restartPolicy": "Never"}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": self._metadata(name),
            "spec": {
                "backoffLimit": 0,
                "template": {"metadata": {"labels": self._labels(name)}, "spec": pod},
            },
        }

    def _labels(self, name: str) -> dict[str, str]:
        return {**_LABELS, "app.kubernetes.io/name": name}

    def _metadata(self, name: str) -> dict[str, Any]:
        return {"name": name, "namespace": NAMESPACE, "labels": self._labels(name)}

    def _pod(self, name: str, container: Mapping[str, Any]) -> dict[str, Any]:
        given = {"image": catalog.reference("pause"), "imagePullPolicy": "Never", **container}
        return {"terminationGracePeriodSeconds": 0, "containers": [{"name": name, **given}]}


def _plan(manifests: Sequence[Mapping[str, Any]], others: Sequence[PlannedResource] = ()) -> Plan:
    made = [
        _resource(f"kubernetes:{item['apiVersion']}:{item['kind']}", item["metadata"]["name"], item)
        for item in manifests
    ]
    return Plan(
        stack="rendertest",
        project="tradestack",
        resources=(*made, *others),
        outputs={"urls": {"web": "http://node"}},
        settings_file=Path("none"),
    )


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """A plan that holds just these manifests, and further resources."""
    return _plan


@pytest.fixture
def password() -> PlannedResource:
    inputs = {"length": 24, "special": False}
    return _resource("random:index/randomPassword:RandomPassword", "word", inputs)


@pytest.fixture
def target(cluster: Cluster) -> Iterator[Target]:
    """The cluster; what a test applied is removed at its end."""
    target = Target(cluster.kubectl_path, cluster.kubeconfig_path)
    yield target
    render.delete(_plan([]), target, Steps(quiet=True), volumes=True)
