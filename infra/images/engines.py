"""The programs that turn a Containerfile into an image archive: buildah or a Docker engine."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Protocol

from infra.errors import TradestackError
from infra.paths import cache_dir
from infra.process import CommandFailed, run

TIMESTAMP = 1735689600
"""Time of every file and image, in seconds since 1970 (2025-01-01): builds of equal content are equal."""

_DOCKER_BASE = "docker.io/library/python:3.11-slim-bookworm"


class Backend(StrEnum):
    """Which program builds."""

    BUILDAH = "buildah"
    DOCKER = "docker"


@dataclass(frozen=True)
class Build:
    """What one build is made from."""

    reference: str
    containerfile: Path
    context: Path
    contexts: Mapping[str, Path]
    """Further build contexts by the name that `--from=` uses."""
    base: str | None
    """Reference of the image to start from; None for images from scratch."""
    log: Path


class Engine(Protocol):
    """Builds images in a store of its own and writes them as archives."""

    root_filesystem: str | None
    """Public image that takes the place of our Debian root file system; None where we make our own."""

    def recover(self) -> None:
        """Remove what a killed build left. No other build may be running."""

    def has(self, reference: str) -> bool:
        """Whether the store holds the image."""

    def build(self, build: Build) -> None:
        """Build into the store. Raises CommandFailed."""

    def save(self, reference: str, archive: Path, log: Path) -> None:
        """Write the image to `archive`, which must not exist. Raises CommandFailed."""

    def prune(self, keep: set[str]) -> None:
        """Remove our images from the store, except those in `keep`."""


class Buildah:
    """buildah as root in a storage folder of its own, with chroot isolation: needs no daemon and no runtime."""

    root_filesystem = None

    def __init__(self) -> None:
        self.home = cache_dir() / "buildah"
        if os.geteuid() != 0:
            raise TradestackError("building images with buildah needs root", hint="run it with sudo, or install Docker")
        missing = [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]
        if missing:
            raise TradestackError(
                f"images cannot be built: {' and '.join(missing)} not found",
                hint=f"apt-get install -y {' '.join(missing)}",
            )
        self._environment = {**os.environ, "TMPDIR": str(self.home / "tmp")}

    def recover(self) -> None:
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed([point for point in mounted if point.startswith(f"{self.home}/")]):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
        for volatile in ("run", "tmp"):
            shutil.rmtree(self.home / volatile, ignore_errors=True)
            (self.home / volatile).mkdir(parents=True)
        self._run("rm", "--all")

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """A buildah command line on our own storage."""
        folders = ("--root", self.home / "storage", "--runroot", self.home / "run")
        return ["buildah", *folders, "--storage-driver", self._driver, *arguments]

    def has(self, reference: str) -> bool:
        return reference in self._references()

    def build(self, build: Build) -> None:
        command: list[str | Path] = ["bud", "--isolation=chroot", "--network=host", "--layers=false", "--format=docker"]
        command += ["--pull-never", f"--timestamp={TIMESTAMP}", f"--file={build.containerfile}"]
        command += [f"--build-context={name}={path}" for name, path in build.contexts.items()]
        if build.base is not None:
            command.append(f"--build-arg=BASE_IMAGE={build.base}")
        self._run(*command, f"--tag={build.reference}", build.context, log=build.log)

    def save(self, reference: str, archive: Path, log: Path) -> None:
        self._run("push", reference, f"docker-archive:{archive}:{reference}", log=log)

    def prune(self, keep: set[str]) -> None:
        for reference in self._references() - keep:
            self._run("rmi", "--force", reference)
        self._run("rmi", "--prune", "--force")

    def _references(self) -> set[str]:
        listed = self._run("images", "--format", "{{.Name}}:{{.Tag}}")
        return {line for line in listed.splitlines() if not line.startswith("<none>")}

    def _run(self, *arguments: str | Path, log: Path | None = None) -> str:
        return run(self.command(*arguments), env=self._environment, log=log)

    @cached_property
    def _driver(self) -> str:
        """Overlay where the kernel and the file system can do it; vfs copies every layer but works everywhere."""
        storage = self.home / "storage"
        present = [driver for driver in ("overlay", "vfs") if (storage / driver).is_dir()]
        if present:
            return present[0]
        probe = ["buildah", "--root", storage, "--runroot", self.home / "run", "--storage-driver", "overlay", "info"]
        try:
            run(probe, env=self._environment)
        except CommandFailed:
            shutil.rmtree(storage, ignore_errors=True)
            return "vfs"
        return "overlay"


class Docker:
    """A Docker engine with BuildKit; starts from the public Python image."""

    root_filesystem = _DOCKER_BASE

    def __init__(self) -> None:
        if not docker_answers():
            raise TradestackError("images cannot be built: no Docker engine answers", hint="docker version")

    def recover(self) -> None:
        """Nothing to do: the engine looks after its own builds."""

    def has(self, reference: str) -> bool:
        return bool(run(["docker", "image", "ls", "--quiet", reference]).strip())

    def build(self, build: Build) -> None:
        command: list[str | Path] = ["docker", "build", "--progress=plain", "--file", build.containerfile]
        command += [f"--build-context={name}={path}" for name, path in build.contexts.items()]
        command += ["--build-arg", f"SOURCE_DATE_EPOCH={TIMESTAMP}", "--provenance=false"]
        if build.base is not None:
            command += ["--build-arg", f"BASE_IMAGE={build.base}"]
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        run([*command, "--tag", build.reference, build.context], env=environment, log=build.log)

    def save(self, reference: str, archive: Path, log: Path) -> None:
        run(["docker", "image", "save", "--output", archive, reference], log=log)

    def prune(self, keep: set[str]) -> None:
        listed = run(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "localhost/tradestack/*"])
        for reference in set(listed.splitlines()) - keep:
            # Refused, rightly, while a container uses the image.
            subprocess.run(["docker", "image", "rm", reference], capture_output=True, check=False)


def docker_answers() -> bool:
    """Whether the docker command is there and reaches an engine."""
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, check=False)
    return asked.returncode == 0


def choose(backend: Backend | None) -> Backend:
    """The wanted backend, or Docker where an engine answers and buildah elsewhere."""
    return backend or (Backend.DOCKER if docker_answers() else Backend.BUILDAH)
