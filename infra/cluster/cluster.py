"""A named instance of the embedded cluster, from the outside."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.cluster import addons, binaries, cgroups, doctor, network, node
from infra.cluster.components import Programs
from infra.cluster.instance import RUN_ROOT, Instance
from infra.errors import TradestackError
from infra.images import build, catalog
from infra.process import run
from infra.progress import Step, Steps

_COMPONENTS_SECONDS = 180.0
_NODE_SECONDS = 120.0
_STOP_SECONDS = 90.0
_KILL_SECONDS = 30.0
_POLL_SECONDS = 0.3
_TELLING = re.compile(r"^[EF]\d{4} |level=(error|fatal)|panic: |Error: ")
"""Log lines that say why a component does not work."""


@dataclass(frozen=True)
class ComponentStatus:
    """One program of the node."""

    name: str
    pid: int | None
    ready: bool
    restarts: int


@dataclass(frozen=True)
class Status:
    """What an instance is doing."""

    name: str
    running: bool
    """Whether its supervisor is alive."""
    ready: bool
    """Whether all components work and the node is Ready."""
    node_ip: str | None
    kubeconfig: str
    components: list[ComponentStatus] = field(default_factory=list)


class Cluster:
    """The embedded cluster called `name`. Creating the object touches nothing."""

    def __init__(self, name: str) -> None:
        self.instance = Instance.named(name)
        self.name = name

    @property
    def kubeconfig_path(self) -> Path:
        """Access for the administrator; exists once the cluster has been up."""
        return self.instance.kubeconfig

    @property
    def kubectl_path(self) -> Path:
        """The kubectl that fits the cluster; exists once the cluster has been up."""
        return self.instance.bin / "kubectl"

    @property
    def node_ip(self) -> str:
        """Where node ports and the API server answer, reachable from this machine only.

        Raises:
            TradestackError: the cluster has never been up.
        """
        plan = self.instance.kept_addresses()
        if plan is None:
            raise self._not_up()
        return str(plan.node)

    def up(self, steps: Steps) -> None:
        """Start the cluster, or complete what is missing; does nothing to one that is up.

        Raises:
            TradestackError: the machine cannot run it, or something did not become ready in time.
        """
        doctor.require(self.instance, running=self._alive())
        with self._exclusive():
            programs = Programs(
                kube=binaries.path("kube", steps),
                etcd=binaries.path("etcd", steps),
                pause_image=catalog.reference("pause"),
                snapshotter=doctor.snapshotter(self.instance),
            )
            if self._alive() and not programs.running(self.instance):
                with steps.step("Stop the older cluster", estimate_s=15):
                    self._stop()
            if not self._alive():
                with steps.step(f"Start cluster {self.name}") as step:
                    self._start(programs)
                    self._wait(step, _COMPONENTS_SECONDS, lambda: self._pending_components("containerd"))
            self._load_missing(build.ensure([*addons.IMAGES, "pause"], steps), steps)
            with steps.step("Node ready", estimate_s=10) as step:
                self._wait(step, _COMPONENTS_SECONDS, self._pending_components)
                self._wait(step, _NODE_SECONDS, self._pending_node)
            with steps.step("DNS, metrics and storage ready", estimate_s=20) as step:
                addons.apply(self.kubectl, self.instance)
                addons.wait(self.kubectl, step)

    def down(self, *, purge: bool = False) -> None:
        """Stop everything of the cluster; `purge` also deletes its state, volumes included."""
        with self._exclusive():
            self._stop()
            if purge and self.instance.state.exists():
                shutil.rmtree(self.instance.state)

    def status(self) -> Status:
        """What the cluster is doing now."""
        plan, running = self.instance.kept_addresses(), self._alive()
        components = self._components() if running else []
        ready = bool(components) and all(each.ready for each in components) and not self._pending_node()
        node_ip = str(plan.node) if plan else None
        return Status(self.name, running, ready, node_ip, str(self.kubeconfig_path), components)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the cluster's administrator and return its standard output.

        Raises:
            TradestackError: the cluster is not up, or kubectl failed.
        """
        if not self.kubectl_path.exists() or not self.kubeconfig_path.exists():
            raise self._not_up()
        environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
        command: list[str | Path] = [self.kubectl_path, "--kubeconfig", self.kubeconfig_path, *arguments]
        return run(command, stdin=stdin, env=environment)

    def load_image(self, archive: Path) -> None:
        """Load a docker or OCI archive into the node."""
        snapshotter = Programs.load(self.instance).snapshotter
        self._ctr("images", "import", "--snapshotter", snapshotter, str(archive))

    def has_image(self, reference: str) -> bool:
        """Whether the node has the image."""
        return bool(self._ctr("images", "list", "--quiet", f"name=={reference}").strip())

    def _load_missing(self, archives: Mapping[str, Path], steps: Steps) -> None:
        missing = {
            name: file for name, file in archives.items() if not self.has_image(catalog.reference(name))
        }
        if missing:
            with steps.step("Load system images", estimate_s=1.5 * len(missing)) as step:
                for name, archive in missing.items():
                    step.detail(name)
                    self.load_image(archive)

    def _ctr(self, *arguments: str) -> str:
        return run(["ctr", "--address", self.instance.containerd_socket, "--namespace", "k8s.io", *arguments])

    def _not_up(self) -> TradestackError:
        return TradestackError(
            f"cluster {self.name!r} is not up", hint=f"tradestack cluster up --name {self.name}"
        )

    def _alive(self) -> bool:
        return supervisor_pid(self.instance) is not None

    def _start(self, programs: Programs) -> None:
        """Clean what a killed run left, make the network and start the supervisor."""
        instance = self.instance
        self._clean()
        instance.run.mkdir(parents=True, mode=0o700)
        for folder in (instance.logs, instance.volumes):
            folder.mkdir(parents=True, exist_ok=True)
        instance.owner.write_text(str(instance.state))
        programs.save(instance)
        # Two instances that start at the same time must not choose the same addresses.
        with _locked("addresses"):
            network.create(instance, instance.addresses())
        space = network.namespace_path(instance)
        namespaces = ["nsenter", f"--net={space}", "unshare", "--mount", "--propagation=slave"]
        with (instance.logs / "supervisor.log").open("ab") as sink:
            process = subprocess.Popen(
                [*namespaces, sys.executable, "-m", "infra.cluster.supervisor", self.name],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        while not self._alive():
            if process.poll() is not None:
                raise TradestackError(f"cluster {self.name!r} did not start: {self._with_log('supervisor')}")
            time.sleep(_POLL_SECONDS)

    def _stop(self) -> None:
        """End the supervisor in order, then take away whatever of the instance is left."""
        supervisor = supervisor_pid(self.instance)
        if supervisor is not None:
            os.kill(supervisor, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while self._alive() and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        self._clean()

    def _clean(self) -> None:
        """Leave no process, control group, link, namespace, table or socket of the instance."""
        deadline = time.monotonic() + _KILL_SECONDS
        while not cgroups.end(self.instance.cgroup):
            if time.monotonic() > deadline:
                left = sorted(cgroups.processes(self.instance.cgroup))
                raise TradestackError(f"cluster {self.name!r}: processes {left} do not end")
            time.sleep(0.05)
        network.remove(self.instance)
        if self.instance.run.exists():
            shutil.rmtree(self.instance.run)

    def _components(self) -> list[ComponentStatus]:
        if not self.instance.report.exists():
            return []
        known = json.loads(self.instance.report.read_text())
        return [ComponentStatus(name, **values) for name, values in known.items()]

    def _pending_components(self, only: str = "") -> str:
        """Which component does not work yet and why, nothing when all do, or when `only` that one does."""
        if not self._alive() and self.instance.supervisor_pid.exists():
            return self._with_log("supervisor")
        components = self._components()
        if not components:
            return "supervisor"
        pending = [each for each in components if not each.ready and only in ("", each.name)]
        return self._with_log(pending[0].name) if pending else ""

    def _with_log(self, component: str) -> str:
        file = self.instance.logs / f"{component}.log"
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        telling = [line for line in lines[-200:] if _TELLING.search(line)] or lines
        return f"{component}: {telling[-1][-300:]}" if lines else component

    def _pending_node(self) -> str:
        """Why the node is not Ready, nothing when it is."""
        return node.pending(self.kubectl, self.name, Programs.saved_at(self.instance))

    def _wait(self, step: Step, seconds: float, pending: Callable[[], str]) -> None:
        deadline = time.monotonic() + seconds
        while reason := pending():
            step.detail(reason)
            if time.monotonic() > deadline:
                raise TradestackError(
                    f"cluster {self.name!r}: not ready after {seconds:.0f} s; pending: {reason}",
                    hint=f"tradestack cluster logs --name {self.name}",
                )
            time.sleep(_POLL_SECONDS)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One `up` or `down` of an instance at a time."""
        with _locked(f"cluster-{self.name}"):
            self._refuse_foreign()
            yield

    def _refuse_foreign(self) -> None:
        """Another state directory may have a cluster of the same name; that one is left alone."""
        owner = self.instance.owner
        state = Path(owner.read_text()) if owner.exists() else self.instance.state
        if state != self.instance.state:
            raise TradestackError(
                f"a cluster {self.name!r} with its state in {state} was started on this machine",
                hint=f"choose another --name, or TRADESTACK_STATE_DIR={state.parent.parent} for that one",
            )


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold the machine-wide lock `name`, which only root can take."""
    RUN_ROOT.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(RUN_ROOT / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def supervisor_pid(instance: Instance) -> int | None:
    """Process id of the instance's supervisor, or None if none is alive."""
    try:
        with instance.supervisor_pid.open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(handle.read() or 0) or None
    except FileNotFoundError:
        pass
    return None
