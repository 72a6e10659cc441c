"""Which Kubernetes cluster a local stack goes to.

Order: what the user named (context, cluster, KUBECONFIG); kind, where it and Docker are there; embedded.
"""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import yaml
from typing_extensions import override

from infra.cluster.cluster import Cluster
from infra.errors import TradestackError
from infra.kubeconfig import EMBEDDED
from infra.paths import state_dir
from infra.process import run
from infra.progress import Steps


class Target(ABC):
    """A cluster that may be changed, because the user named it or because it is Tradestack's own."""

    name: str
    description: str

    @property
    @abstractmethod
    def kubeconfig(self) -> Path:
        """Leads to the cluster, and to no other."""

    @property
    @abstractmethod
    def kubectl(self) -> Path:
        """A kubectl that fits the cluster."""

    @property
    def address(self) -> str | None:
        """Where node ports answer; None where that is the API server's host."""
        return None

    @property
    @abstractmethod
    def state(self) -> Path:
        """Folder of this machine for what is kept about the cluster."""

    @abstractmethod
    def start(self, steps: Steps) -> None:
        """Bring the cluster up, where it is Tradestack's own."""

    @abstractmethod
    def load(self, archives: Mapping[str, Path], steps: Steps) -> None:
        """Make images available to the cluster; keys are references, values docker archives."""

    @abstractmethod
    def stop(self, steps: Steps, *, volumes: bool) -> None:
        """Stop the cluster, where it is Tradestack's own; `volumes` also deletes its state."""

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a running cluster to talk to."""

    @property
    def holds_data(self) -> bool:
        """Whether `stop` would delete data of volumes, also while nothing runs."""
        return False


class EmbeddedTarget(Target):
    """The embedded single-node cluster."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cluster = Cluster(name)
        self.description = f"embedded cluster '{name}'"

    @property
    @override
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig_path

    @property
    @override
    def kubectl(self) -> Path:
        return self.cluster.kubectl_path

    @property
    @override
    def state(self) -> Path:
        return self.cluster.instance.state

    @override
    def start(self, steps: Steps) -> None:
        self.cluster.up(steps)

    @override
    def load(self, archives: Mapping[str, Path], steps: Steps) -> None:
        missing = {
            reference: path for reference, path in archives.items() if not self.cluster.has_image(reference)
        }
        if missing:
            with steps.step("Load images into the cluster", estimate_s=8 * len(missing)) as step:
                for reference, path in missing.items():
                    step.detail(reference)
                    self.cluster.load_image(path)

    @override
    def stop(self, steps: Steps, *, volumes: bool) -> None:
        with steps.step("Stop the cluster", estimate_s=15):
            self.cluster.down(purge=volumes)

    @property
    @override
    def exists(self) -> bool:
        return self.cluster.status().ready

    @property
    @override
    def holds_data(self) -> bool:
        return self.cluster.instance.holds_data


class NamedTarget(Target):
    """A cluster that the user named by --context or KUBECONFIG: never created, stopped or deleted here."""

    def __init__(self, context: str | None) -> None:
        source = yaml.safe_load(
            run([_kubectl(), "config", "view", "--minify", "--flatten", "-o", "yaml", *_context(context)])
        )
        self.name = str(source["current-context"])
        self.description = f"context '{self.name}'"
        # A copy of this one context: what the user's file selects later cannot redirect a running command.
        self._copy = state_dir() / "contexts" / f"{self.name.replace('/', '_')}.yaml"
        self._copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._copy.touch(mode=0o600)
        self._copy.write_text(yaml.safe_dump(source))

    @property
    @override
    def kubeconfig(self) -> Path:
        return self._copy

    @property
    @override
    def kubectl(self) -> Path:
        return _kubectl()

    @property
    @override
    def state(self) -> Path:
        return self._copy.with_suffix("")

    @override
    def start(self, steps: Steps) -> None:
        run([self.kubectl, "--kubeconfig", self.kubeconfig, "version", "--request-timeout=10s"])

    @override
    def load(self, archives: Mapping[str, Path], steps: Steps) -> None:
        if not self.name.startswith("kind-"):
            raise TradestackError(
                f"images cannot be loaded into {self.description}; allowed are kind and embedded clusters",
                hint="run without --context and KUBECONFIG for the embedded cluster",
            )
        _kind_load(self.name.removeprefix("kind-"), archives, steps)

    @override
    def stop(self, steps: Steps, *, volumes: bool) -> None:
        """Do nothing: the cluster is the user's."""

    @property
    @override
    def exists(self) -> bool:
        return True


class KindTarget(Target):
    """A kind cluster of Tradestack's own, where a Docker engine and kind are there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.description = f"kind cluster '{name}'"

    @property
    @override
    def kubeconfig(self) -> Path:
        return state_dir() / "kind" / f"{self.name}.yaml"

    @property
    @override
    def kubectl(self) -> Path:
        return _kubectl()

    @property
    @override
    def state(self) -> Path:
        return state_dir() / "kind" / self.name

    @property
    @override
    def address(self) -> str | None:
        template = "{{.NetworkSettings.Networks.kind.IPAddress}}"
        return run(["docker", "inspect", "-f", template, f"{self.name}-control-plane"]).strip()

    @override
    def start(self, steps: Steps) -> None:
        if not self.exists:
            self.kubeconfig.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with steps.step("Create the kind cluster", estimate_s=60):
                run(
                    [
                        "kind",
                        "create",
                        "cluster",
                        "--name",
                        self.name,
                        "--kubeconfig",
                        self.kubeconfig,
                        "--wait",
                        "120s",
                    ]
                )

    @override
    def load(self, archives: Mapping[str, Path], steps: Steps) -> None:
        _kind_load(self.name, archives, steps)

    @override
    def stop(self, steps: Steps, *, volumes: bool) -> None:
        if volumes:
            with steps.step("Delete the kind cluster", estimate_s=10):
                run(["kind", "delete", "cluster", "--name", self.name, "--kubeconfig", self.kubeconfig])
                shutil.rmtree(self.state, ignore_errors=True)

    @property
    @override
    def exists(self) -> bool:
        return self.name in run(["kind", "get", "clusters"]).split()


def choose(*, context: str | None = None, cluster: str | None = None) -> Target:
    """The cluster to work on; see the module's text for the order."""
    named = os.environ.get("KUBECONFIG") if cluster is None else None
    if context is None and named and (own := _embedded(Path(named))):
        return EmbeddedTarget(own)
    if context is not None or named:
        return NamedTarget(context)
    if shutil.which("kind") and _docker_answers():
        return KindTarget(cluster or EMBEDDED)
    return EmbeddedTarget(cluster or EMBEDDED)


def _embedded(kubeconfig: Path) -> str | None:
    """Name of the embedded cluster that `kubeconfig` belongs to, if it is one's own file."""
    path = kubeconfig.expanduser().absolute()
    clusters = state_dir().absolute() / "clusters"
    return path.parent.name if path == clusters / path.parent.name / "kubeconfig" else None


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    command = ["docker", "info", "--format", "{{.ServerVersion}}"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _context(context: str | None) -> list[str]:
    return [] if context is None else ["--context", context]


def _kubectl() -> Path:
    found = shutil.which("kubectl")
    if found is None:
        raise TradestackError(
            "kubectl is not on PATH", hint="install it from https://kubernetes.io/docs/tasks/tools/"
        )
    return Path(found)


def _kind_load(name: str, archives: Mapping[str, Path], steps: Steps) -> None:
    with steps.step("Load images into the kind cluster", estimate_s=5 * len(archives)) as step:
        for reference, path in archives.items():
            step.detail(reference)
            run(["kind", "load", "image-archive", path, "--name", name])
