"""`up` gives a platform that is ready, and does nothing when there is nothing to do."""

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.roles import cluster_roles
from tests.cluster.platform.conftest import Platform, is_ready, tradestack
from tests.traders import within

pytestmark = pytest.mark.cluster

# Status and leases move by themselves; these kinds hold nothing else that `up` could have changed.
KINDS = (
    "namespaces,serviceaccounts,secrets,services,configmaps,persistentvolumeclaims,resourcequotas,limitranges,"
    "networkpolicies,poddisruptionbudgets,deployments,statefulsets,jobs,pods"
)


def _ready(pod: dict[str, Any]) -> bool:
    return pod["status"].get("phase") == "Succeeded" or is_ready(pod)


def test_every_pod_is_ready(platform: Platform) -> None:
    for namespace in ("trading-system", "trading-data"):
        assert platform.pods(namespace)
        # An autoscaler may just have added one.
        within(
            120, f"ready pods in {namespace}", lambda name=namespace: all(map(_ready, platform.pods(name)))
        )


def test_status_tells_what_is_ready(platform: Platform) -> None:
    def status() -> Any:
        done = tradestack("status", "local", "--json", cluster=platform.cluster.name, expect=None)
        found = json.loads(done.stdout)
        assert (done.returncode == 0) is found["ready"]
        return found if found["ready"] else None

    # An autoscaler may just have added a pod.
    found = within(120, "everything is ready", status)
    assert found["urls"]["web"] == platform.url
    workloads = {item["name"]: item for item in found["workloads"]}
    assert {
        *(name for name, role in cluster_roles(cloud=False).items() if role.port is not None),
        *("postgresql", "redis", "kafka"),
    } <= workloads.keys()
    assert all(item["ready"] >= item["desired"] for item in workloads.values())


def test_the_address_serves_the_page_and_the_api(platform: Platform) -> None:
    page = httpx.get(platform.url, trust_env=False, timeout=30)
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    url = f"{platform.url}/api/market/instruments"
    instruments = httpx.get(url, trust_env=False, timeout=30).json()
    assert len(instruments) >= 20


def test_a_second_up_changes_nothing(platform: Platform) -> None:
    autoscaled = {
        (item["metadata"]["namespace"], item["spec"]["scaleTargetRef"]["name"])
        for item in platform.get("horizontalpodautoscalers", "-A")["items"]
    }
    assert ("trading-system", "price-service") in autoscaled

    def versions() -> dict[tuple[str, str, str], Any]:
        found: dict[tuple[str, str, str], Any] = {}
        for item in platform.get(KINDS, "-A")["items"]:
            kind, told, spec = item["kind"], item["metadata"], item.get("spec")
            namespace = told.get("namespace", "")
            changed = [told["uid"], item.get("data"), spec]
            if (namespace, told.get("labels", {}).get("app.kubernetes.io/name")) in autoscaled:
                # How many pods there are, its autoscaler may decide meanwhile; others come of another spec.
                if kind == "Pod":
                    continue
                if kind == "Deployment":
                    del spec["replicas"]
            else:
                changed.append(told.get("generation"))
            found[kind, namespace, told["name"]] = changed
        return found

    before = versions()
    resource_versions = {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"]
        for item in platform.get("secrets,services,serviceaccounts,networkpolicies,limitranges", "-A")[
            "items"
        ]
    }
    done = tradestack("up", "local", "--json", cluster=platform.cluster.name)
    assert versions() == before
    assert resource_versions == {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"]
        for item in platform.get("secrets,services,serviceaccounts,networkpolicies,limitranges", "-A")[
            "items"
        ]
    }
    assert set(json.loads(done.stdout)["changes"]) <= {"unchanged", "same"}, done.stderr
    assert "no changes" in done.stderr


@pytest.mark.skipif(shutil.which("pulumi") is not None, reason="the engine made the platform")
def test_what_was_made_without_the_engine_goes_on_without_it(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tmp_path / "pulumi"
    engine.write_text("#!/bin/sh\nexit 1\n")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = tradestack("up", "local", "--json", cluster=platform.cluster.name)
    assert set(json.loads(done.stdout)["changes"]) == {"unchanged"}


def test_secrets_are_nowhere_in_plain_text(platform: Platform) -> None:
    secret = platform.get("secret", "app-secrets", "-n", "trading-system")["data"]
    passwords = [base64.b64decode(value).decode() for value in secret.values()]
    assert all(len(password) >= 16 for password in passwords)
    objects = platform.cluster.kubectl(
        "get", "pods,configmaps,deployments,statefulsets,jobs", "-A", "-o", "yaml"
    )
    assert not any(password in objects for password in passwords)
