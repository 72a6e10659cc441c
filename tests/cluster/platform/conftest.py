"""The whole platform on the tests' own cluster, brought up by the command that a user types."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from infra.cluster.cluster import Cluster
from tests.traders import within

UP_SECONDS = 1500


@dataclass(frozen=True)
class Platform:
    """What `up` made."""

    cluster: Cluster
    url: str

    @property
    def stream(self) -> str:
        return self.url.replace("http", "ws") + "/ws"

    def get(self, *arguments: str) -> Any:
        return json.loads(self.cluster.kubectl("get", *arguments, "-o", "json"))

    def pods(self, namespace: str, name: str | None = None) -> list[dict[str, Any]]:
        """Pods of a namespace that are not on their way out, of one workload if one is named."""
        selector = [] if name is None else ["-l", f"app.kubernetes.io/name={name}"]
        found = self.get("pods", "-n", namespace, *selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def restarts(self) -> dict[str, int]:
        """Restarts of every container by pod."""
        return {
            pod["metadata"]["name"]: sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
            for pod in self.get("pods", "-A")["items"]
            if pod["status"].get("containerStatuses")
        }


def tradestack(
    *words: str, cluster: str, expect: int | None = 0, answer: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command line against the tests' cluster; None expects any exit code."""
    command = [sys.executable, "-m", "infra.cli", *words, "--cluster", cluster]
    done = subprocess.run(
        command, input=answer, capture_output=True, text=True, timeout=UP_SECONDS, check=False
    )
    assert expect in (None, done.returncode), (
        f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


@contextmanager
def pinned(platform: Platform, count: int) -> Iterator[None]:
    """So many replicas of price-service, whatever its load; at the end as few as its autoscaler allows.

    One that was left over would be taken away in the middle of a later test, with its connections.
    """
    place = ("scaledobject", "price-service", "-n", "trading-system")
    own = platform.get(*place)["spec"]
    least, most = own["minReplicaCount"], own["maxReplicaCount"]

    def bounds(least: int, most: int) -> None:
        patch = json.dumps({"spec": {"minReplicaCount": least, "maxReplicaCount": most}})
        platform.cluster.kubectl("patch", *place, "--type=merge", "-p", patch)

    def keep(replicas: int) -> None:
        def settled() -> bool:
            found = platform.get("pods", "-n", "trading-system", "-l", "app.kubernetes.io/name=price-service")
            return len(found["items"]) == replicas and all(map(is_ready, found["items"]))

        bounds(replicas, replicas)
        within(300, f"{replicas} of price-service", settled)

    try:
        keep(count)
        yield
    finally:
        if count != least:
            keep(least)
        bounds(least, most)


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod takes work."""
    conditions = pod["status"].get("conditions", ())
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


@pytest.fixture(scope="session")
def platform(cluster: Cluster) -> Iterator[Platform]:
    """The local stack, ready."""
    done = tradestack("up", "local", cluster=cluster.name)
    yield Platform(cluster, done.stdout.strip().splitlines()[-1])
    tradestack("down", "local", "--volumes", "--yes", cluster=cluster.name)
