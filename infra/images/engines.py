"""The programs that turn a Containerfile into an image archive: buildah or a Docker engine."""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from infra.errors import TradestackError
from infra.paths import cache_dir
from infra.process import CommandFailed, run

TIMESTAMP = 1735689600
"""Time of every file and image, in seconds since 1970 (2025-01-01): builds of equal content are equal."""

GUARD = ("setpriv", "--pdeathsig=KILL", "unshare", "--pid", "--mount-proc", "--fork", "--kill-child")
"""Runs the program that follows in process and mount namespaces of its own, which end with us: a build that
outlived us would work in folders that the next one cleans."""

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


class Engine(ABC):
    """Builds images in a store of its own and writes them as archives."""

    root_filesystem: str | None
    """Public image that takes the place of our Debian root file system; None where we make our own."""

    @abstractmethod
    def recover(self) -> None:
        """Remove what a killed build left. No other build may be running."""

    @abstractmethod
    def has(self, reference: str) -> bool:
        """Whether the store holds the image."""

    @abstractmethod
    def build(self, build: Build) -> None:
        """Build into the store. Raises CommandFailed."""

    @abstractmethod
    def save(self, reference: str, archive: Path, log: Path) -> None:
        """Write the image to `archive`, which must not exist. Raises CommandFailed."""

    @abstractmethod
    def prune(self, keep: set[str]) -> None:
        """Remove our images from the store, except those in `keep`."""


def temporary_folder() -> Path:
    """Where builds keep what they need only while they run; emptied at the next start."""
    folder = cache_dir() / "buildah" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Buildah(Engine):
    """Buildah as root in a storage folder of its own, with chroot isolation: no daemon, no runtime."""

    root_filesystem = None

    def __init__(self) -> None:
        self.home = cache_dir() / "buildah"
        if os.geteuid() != 0:
            raise TradestackError(
                "building images with buildah needs root", hint="run it with sudo, or install Docker"
            )
        missing = [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]
        if missing:
            raise TradestackError(
                f"images cannot be built: {' and '.join(missing)} not found",
                hint=f"apt-get install -y {' '.join(missing)}",
            )
        self._environment = {**os.environ, "TMPDIR": str(temporary_folder())}

    def recover(self) -> None:
        """Remove mounts, working containers, temporary files and the state of an earlier boot."""
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
        """Whether the store holds the image."""
        return reference in self._references()

    def build(self, build: Build) -> None:
        """Build as one new layer on the base."""
        command: list[str | Path] = [
            "bud",
            "--isolation=chroot",
            "--network=host",
            "--layers=false",
            "--format=docker",
        ]
        command += ["--pull-never", f"--timestamp={TIMESTAMP}", f"--file={build.containerfile}"]
        command += [f"--build-context={name}={path}" for name, path in build.contexts.items()]
        if build.base is not None:
            command.append(f"--build-arg=BASE_IMAGE={build.base}")
        self._run(*command, f"--tag={build.reference}", build.context, log=build.log)

    def save(self, reference: str, archive: Path, log: Path) -> None:
        """Write a docker-archive."""
        self._run("push", reference, f"docker-archive:{archive}:{reference}", log=log)

    def prune(self, keep: set[str]) -> None:
        """Remove images and what only they used."""
        for reference in self._references() - keep:
            self._run("rmi", "--force", reference)
        self._run("rmi", "--prune", "--force")

    def _references(self) -> set[str]:
        listed = self._run("images", "--format", "{{.Name}}:{{.Tag}}")
        return {line for line in listed.splitlines() if not line.startswith("<none>")}

    def _run(self, *arguments: str | Path, log: Path | None = None) -> str:
        return run([*GUARD, *self.command(*arguments)], env=self._environment, log=log)

    @cached_property
    def _driver(self) -> str:
        """Overlay where kernel and file system can do it; vfs copies every layer but works everywhere."""
        storage = self.home / "storage"
        present = [driver for driver in ("overlay", "vfs") if (storage / driver).is_dir()]
        if present:
            return present[0]
        probe: list[str | Path] = [
            "buildah",
            "--root",
            storage,
            "--runroot",
            self.home / "run",
            "--storage-driver",
            "overlay",
            "info",
        ]
        try:
            run(probe, env=self._environment)
        except CommandFailed:
            shutil.rmtree(storage, ignore_errors=True)
            return "vfs"
        return "overlay"


class Docker(Engine):
    """A Docker engine with BuildKit; starts from the public Python image."""

    root_filesystem = _DOCKER_BASE

    def __init__(self) -> None:
        if not docker_answers():
            raise TradestackError("images cannot be built: no Docker engine answers", hint="docker version")

    def recover(self) -> None:
        """Nothing to do: the engine looks after its own builds."""

    def has(self, reference: str) -> bool:
        """Whether the store holds the image."""
        return bool(run(["docker", "image", "ls", "--quiet", reference]).strip())

    def build(self, build: Build) -> None:
        """Build with BuildKit."""
        command: list[str | Path] = ["docker", "build", "--progress=plain", "--file", build.containerfile]
        command += [f"--build-context={name}={path}" for name, path in build.contexts.items()]
        command += ["--build-arg", f"SOURCE_DATE_EPOCH={TIMESTAMP}", "--provenance=false"]
        if build.base is not None:
            command += ["--build-arg", f"BASE_IMAGE={build.base}"]
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        run([*command, "--tag", build.reference, build.context], env=environment, log=build.log)

    def save(self, reference: str, archive: Path, log: Path) -> None:
        """Write what `docker load` and `ctr images import` read."""
        run(["docker", "image", "save", "--output", archive, reference], log=log)

    def prune(self, keep: set[str]) -> None:
        """Remove images that no container uses."""
        listed = run(
            ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "localhost/tradestack/*"]
        )
        for reference in set(listed.splitlines()) - keep:
            subprocess.run(["docker", "image", "rm", reference], capture_output=True, check=False)


def docker_answers() -> bool:
    """Whether the docker command is there and reaches an engine."""
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, check=False
    )
    return asked.returncode == 0


def choose(backend: Backend | None) -> Engine:
    """The wanted backend; without one, Docker where an engine answers and buildah elsewhere.

    Raises:
        TradestackError: it cannot build on this machine.
    """
    wanted = backend or (Backend.DOCKER if docker_answers() else Backend.BUILDAH)
    return Docker() if wanted is Backend.DOCKER else Buildah()
