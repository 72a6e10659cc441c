"""Keeps the components of one instance running: `python -m infra.cluster.supervisor NAME`.

Runs inside the instance's network namespace and a mount namespace of its own, so that nothing that containers
mount is seen outside and all of it is gone with the last process.
"""

import fcntl
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.cluster import cgroups
from infra.cluster.components import Component, Programs, prepare
from infra.cluster.instance import Instance
from infra.errors import TradestackError
from infra.process import run

LOG_LIMIT_BYTES = 16 * 2**20
"""A log of this size becomes `<component>.log.1`, replacing the one before."""
_TICK_SECONDS = 0.25
_READY_WAIT_SECONDS = 60.0
_BACKOFF_LIMIT_SECONDS = 30.0
_STEADY_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POD_STOP_SECONDS = 20.0
_OPEN_FILES = 1_048_576
_OWN_FOLDERS = {
    "/run/containerd": "containerd-shims",
    "/run/netns": "namespaces",
    "/var/lib/cni": "cni",
    "/var/log/containers": "log-links",
}
"""Fixed paths of containerd and the kubelet → the folder of the instance that is put over them."""

log = logging.getLogger("supervisor")


@dataclass
class Report:
    """What is known about one component."""

    pid: int | None = None
    ready: bool = False
    """Whether it has worked since it was started last."""
    restarts: int = 0


class Keeper:
    """Starts one component again whenever it ends."""

    def __init__(self, component: Component, log_file: Path) -> None:
        self.component = component
        self.report = Report()
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._next_start = 0.0
        self._backoff = 1.0

    def start(self) -> None:
        """Start the component, its output appended to its log."""
        with self._log_file.open("ab") as sink:
            self._process = subprocess.Popen(
                self.component.command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.component.environment},
                start_new_session=True,
            )
        self._started = time.monotonic()
        self.report.pid = self._process.pid

    def tick(self) -> None:
        """Start the component again if it has ended, later each time it ends soon after its start."""
        now = time.monotonic()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            steady = now - self._started > _STEADY_SECONDS
            self._backoff = 1.0 if steady else min(self._backoff * 2, _BACKOFF_LIMIT_SECONDS)
            self._next_start = now + self._backoff
            log.warning("%s ended with %s, next start in %.0f s", self.component.name, code, self._backoff)
            self._process, self.report.pid, self.report.ready = None, None, False
        elif now >= self._next_start:
            self.report.restarts += 1
            self.start()

    def check(self) -> None:
        """Learn whether the component works, unless it is known."""
        process = self._process
        if process is not None and not self.report.ready and self.component.ready():
            self.report.ready = self._process is process

    def stop(self) -> None:
        """End the component: SIGTERM, then SIGKILL."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def bound_log(self) -> None:
        """Keep the log and one before it, each below the limit."""
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_LIMIT_BYTES:
            content = self._log_file.read_bytes()
            self._log_file.with_suffix(".log.1").write_bytes(content)
            os.truncate(self._log_file, 0)


class Supervisor:
    """All components of one instance."""

    def __init__(self, instance: Instance, components: list[Component]) -> None:
        self._instance = instance
        self._keepers = [Keeper(each, instance.logs / f"{each.name}.log") for each in components]
        self._begun: list[Keeper] = []
        self._end = threading.Event()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then end everything in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end.set())
        threading.Thread(target=self._start_in_order, daemon=True).start()
        while not self._end.wait(_TICK_SECONDS):
            for keeper in list(self._begun):
                keeper.tick()
                keeper.bound_log()
            self._tell()
        self._stop()

    def _start_in_order(self) -> None:
        """Start each component when the one before works; later, keep asking those that were restarted."""
        for keeper in self._keepers:
            if self._end.is_set():
                return
            log.info("starting %s", keeper.component.name)
            keeper.start()
            self._begun.append(keeper)
            deadline = time.monotonic() + _READY_WAIT_SECONDS
            while not keeper.report.ready and time.monotonic() < deadline:
                keeper.check()
                if keeper.report.ready or self._end.wait(_TICK_SECONDS):
                    break
        while not self._end.wait(1.0):
            for keeper in self._keepers:
                keeper.check()

    def _tell(self) -> None:
        known = {keeper.component.name: asdict(keeper.report) for keeper in self._keepers}
        content = json.dumps(known)
        if not self._instance.report.exists() or self._instance.report.read_text() != content:
            partial = self._instance.report.with_suffix(".partial")
            partial.write_text(content)
            partial.rename(self._instance.report)

    def _stop(self) -> None:
        log.info("stopping")
        by_name = {keeper.component.name: keeper for keeper in self._begun}
        # Without the kubelet nothing starts a container again that ends.
        if "kubelet" in by_name:
            by_name.pop("kubelet").stop()
        stop_containers(self._instance.cgroup)
        for keeper in reversed(by_name.values()):
            keeper.stop()
        cgroups.kill(self._instance.cgroup)
        log.info("stopped")


def stop_containers(group: str) -> None:
    """Ask the first process of each container to end; kill what is left after the time that pods get."""
    deadline = time.monotonic() + _POD_STOP_SECONDS
    inside = cgroups.container_processes(group)
    for process in inside:
        try:
            if _parent(process) not in inside:
                os.kill(process, signal.SIGTERM)
        except (OSError, ValueError):
            continue
    while cgroups.container_processes(group) and time.monotonic() < deadline:
        time.sleep(_TICK_SECONDS)


def _parent(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


def _own_mounts(instance: Instance) -> None:
    """Put the instance's folders over the fixed paths of containerd and the kubelet, in this namespace."""
    # Volumes with bidirectional mounts need a shared root; towards the machine it stays one-way.
    run(["mount", "--make-rshared", "/"])
    while os.path.ismount("/run/netns"):
        run(["umount", "--recursive", "--lazy", "/run/netns"])
    for target, folder in _OWN_FOLDERS.items():
        source = instance.run / folder
        source.mkdir(parents=True, exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        run(["mount", "--bind", source, target])


def main() -> None:
    """Supervise the instance named on the command line."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.umask(0o022)
    # Pods inherit the limit, and databases and brokers open many files.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files = min(most, _OPEN_FILES) if most != resource.RLIM_INFINITY else _OPEN_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, most))
    instance = Instance.named(sys.argv[1])
    with instance.supervisor_pid.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        handle.write(str(os.getpid()))
        handle.flush()
        cgroups.enter(instance.cgroup)
        _own_mounts(instance)
        plan = instance.kept_addresses()
        if plan is None:
            raise TradestackError(f"cluster {instance.name!r} has no addresses", hint="tradestack cluster up")
        Supervisor(instance, prepare(instance, plan, Programs.load(instance))).run()


if __name__ == "__main__":
    main()
