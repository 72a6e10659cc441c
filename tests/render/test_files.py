"""Rendered manifests: one file for each object, in order, without secrets."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from infra.errors import TradestackError
from infra.plan import Plan, Secret, masked
from infra.plan.monitor import reference
from infra.render import objects, write
from infra.render.files import GENERATED_KEYS
from infra.render.objects import KubernetesObject
from stacks.base import APP_KEYS


def test_one_file_for_each_object_with_its_exact_content(local_plan: Plan, tmp_path: Path) -> None:
    files = write(local_plan, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert len(files) == len(objects(local_plan)) > 100
    for path, item in zip(files, objects(local_plan), strict=True):
        content = yaml.safe_load(path.read_text())
        if item.kind != "Secret":
            assert content == masked(item.manifest)


def test_namespaces_come_first_and_what_is_needed_before_what_needs_it(
    local_plan: Plan, tmp_path: Path
) -> None:
    files = write(local_plan, tmp_path)
    assert [path.name[:3] for path in files] == sorted(path.name[:3] for path in files)
    assert [path.name for path in files[:3]] == [
        "010-namespace-trading-data.yaml",
        "010-namespace-trading-monitoring.yaml",
        "010-namespace-trading-system.yaml",
    ]
    kinds = list(dict.fromkeys(item.kind for item in objects(local_plan)))
    builtin = [
        "Namespace",
        "ResourceQuota",
        "LimitRange",
        "NetworkPolicy",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Secret",
        "ConfigMap",
        "Service",
        "StatefulSet",
        "Job",
        "Deployment",
        "CronJob",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
    ]
    # Whose controllers are there already.
    custom = kinds[len(builtin) :]
    assert custom[-1] == "HTTPRoute"
    assert kinds == [*builtin, *sorted(custom[:-1]), "HTTPRoute"]
    assert {"GatewayClass", "Gateway", "Prometheus"} <= set(custom)


def test_secrets_name_their_keys_and_hold_no_values(local_plan: Plan, tmp_path: Path) -> None:
    files = write(local_plan, tmp_path)
    secrets = [yaml.safe_load(path.read_text()) for path in files if "-secret-" in path.name]
    keys = {item["metadata"]["name"]: item["metadata"]["annotations"][GENERATED_KEYS] for item in secrets}
    assert keys == {
        "app-secrets": "app_auth_encryption_key,app_auth_signing_key,app_cache_password,"
        "app_database_password,app_internal_token",
        "app-keys": "app_auth_encryption_key,app_auth_signing_key,app_internal_token",
        "postgresql": "password",
        "redis": "password",
    }
    assert all("data" not in item and "stringData" not in item for item in secrets)
    everything = "".join(path.read_text() for path in files)
    assert all(reference(name) not in everything for name in ("database-password", *APP_KEYS))


def test_files_of_an_earlier_render_go_and_others_stay(local_plan: Plan, tmp_path: Path) -> None:
    made = write(local_plan, tmp_path)[-1]
    gone = made.rename(tmp_path / "180-deployment-trading-system-gone.yaml")
    others = [tmp_path / name for name in ("kustomization.yaml", "001-notes.yaml", "900-secret-mine.yaml")]
    for path in others:
        path.write_text("metadata: {labels: {app.kubernetes.io/part-of: other}}\n")
    write(local_plan, tmp_path)
    assert made.exists()
    assert not gone.exists()
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_what_is_no_directory_is_refused(local_plan: Plan, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TradestackError, match=f"cannot write to {tmp_path / where}: "):
        write(local_plan, tmp_path / where)
    assert (tmp_path / "file").read_text() == "mine"


def test_rendering_again_writes_the_same(local_plan: Plan, tmp_path: Path) -> None:
    first = {path.name: path.read_text() for path in write(local_plan, tmp_path)}
    assert {path.name: path.read_text() for path in write(local_plan, tmp_path)} == first


def test_a_secret_outside_a_secret_is_refused(local_plan: Plan, tmp_path: Path) -> None:
    resources = list(local_plan.resources)
    at = next(n for n, item in enumerate(resources) if item.type.endswith(":Deployment"))
    inputs = {**resources[at].inputs, "spec": Secret(resources[at].inputs["spec"])}
    resources[at] = replace(resources[at], inputs=inputs)
    with pytest.raises(TradestackError, match=r"has secret values outside a Secret \(spec\)"):
        write(replace(local_plan, resources=tuple(resources)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert str(KubernetesObject(resources[at])).startswith("Deployment ")
