"""Starting, dying, coming back and leaving nothing behind, on the real node."""

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.cluster import cgroups
from infra.cluster.addresses import AddressPlan
from infra.cluster.cluster import Cluster
from infra.cluster.instance import Instance
from infra.progress import Steps

pytestmark = pytest.mark.cluster

Eventually = Callable[..., None]


def traces(instance: Instance, plan: AddressPlan) -> list[str]:
    """Whatever of the instance there is on this machine outside its state; others' clusters do not count."""
    marks = {instance.namespace, instance.link, str(instance.run), *map(str, plan.networks), str(plan.node)}
    processes = sorted(map(str, cgroups.processes(instance.cgroup)))
    groups = [str(root) for root in cgroups.hierarchies() if (root / instance.cgroup).exists()]
    run = [str(instance.run)] if instance.run.exists() else []
    listings = [
        *listing("ip", "-o", "link"),
        *listing("ip", "-o", "address"),
        *listing("ip", "route"),
        *listing("ip", "netns"),
        *listing("nft", "list", "tables"),
        *Path("/proc/mounts").read_text().splitlines(),
    ]
    return [*processes, *groups, *run, *(line for line in listings if any(mark in line for mark in marks))]


def listing(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def kill_everything(cluster: Cluster) -> None:
    """End every process at once, the supervisor first, as a power cut does."""
    os.kill(int(cluster.instance.supervisor_pid.read_text()), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not cgroups.end(cluster.instance.cgroup):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def reboot(cluster: Cluster) -> None:
    """What a reboot leaves: the disk, and no process, namespace, link, table, control group or /run."""
    kill_everything(cluster)
    instance = cluster.instance
    subprocess.run(["nft", "delete", "table", "ip", instance.link], check=True)
    subprocess.run(["ip", "link", "delete", instance.link], check=True)
    subprocess.run(["ip", "netns", "delete", instance.namespace], check=True)
    shutil.rmtree(instance.run)


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Cluster]:
    """Another cluster on the same machine, not started."""
    other = Cluster(f"{cluster.name}-b")
    other.down(purge=True)
    yield other
    other.down(purge=True)


def test_a_second_up_changes_nothing(cluster: Cluster, eventually: Eventually) -> None:
    kinds = "deployments,configmaps,services,serviceaccounts,secrets,pods"

    def objects() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", kinds, "-A", "-o=json"))["items"]
        for item in found:
            # A probe that fails once is told in the status, and counts as a version.
            for part, name in ((item, "status"), (item["metadata"], "resourceVersion")):
                part.pop(name, None)
        return found

    eventually(lambda: cluster.status().ready)
    before = (cluster.status(), objects())
    cluster.up(Steps(quiet=True))
    assert objects() == before[1]
    eventually(lambda: cluster.status() == before[0])


def test_the_kubeconfig_is_private_and_the_users_own_is_not_touched(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stat.S_IMODE(cluster.kubeconfig_path.stat().st_mode) == 0o600
    other = tmp_path / "config"
    other.write_text("apiVersion: v1\nkind: Config\ncurrent-context: nowhere\n")
    monkeypatch.setenv("KUBECONFIG", str(other))
    assert cluster.name in cluster.kubectl("get", "nodes")
    cluster.up(Steps(quiet=True))
    assert other.read_text() == "apiVersion: v1\nkind: Config\ncurrent-context: nowhere\n"


@pytest.mark.parametrize("component", ["kube-scheduler", "kube-apiserver", "containerd"])
def test_a_killed_component_comes_back(cluster: Cluster, eventually: Eventually, component: str) -> None:
    before = {each.name: each for each in cluster.status().components}[component]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)

    def back() -> bool:
        now = {each.name: each for each in cluster.status().components}[component]
        return now.pid not in {None, before.pid} and now.ready and now.restarts > before.restarts

    eventually(back, 180)
    eventually(lambda: cluster.status().ready, 180)


def test_a_reboot_keeps_the_data_and_down_leaves_nothing(
    cluster: Cluster, second: Cluster, eventually: Eventually
) -> None:
    eventually(lambda: cluster.status().ready)
    untouched = cluster.status()
    second.up(Steps(quiet=True))
    plan = second.instance.addresses()
    assert second.node_ip != cluster.node_ip
    assert traces(second.instance, plan)
    second.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    uid = second.kubectl("get", "namespace", "kube-system", "-o=jsonpath={.metadata.uid}")

    reboot(second)
    assert not second.status().running
    second.up(Steps(quiet=True))
    assert second.kubectl("get", "configmap", "kept", "-o=jsonpath={.data.answer}") == "42"
    assert second.kubectl("get", "namespace", "kube-system", "-o=jsonpath={.metadata.uid}") == uid

    # A killed supervisor leaves everything else running; the next command finds and ends it.
    os.kill(int(second.instance.supervisor_pid.read_text()), signal.SIGKILL)
    second.down()
    assert traces(second.instance, plan) == []
    assert second.instance.state.exists()
    second.down(purge=True)
    assert not second.instance.state.exists()
    # Its node may have been too busy to answer at once.
    eventually(lambda: cluster.status() == untouched)
