"""Images run as Kubernetes would run them: runc, read-only root, no capabilities, a tmpfs at /tmp."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.images import build
from infra.progress import Steps

_STOP_SECONDS = 30


@dataclass
class Unpacked:
    """An image archive as a folder, with its configuration."""

    root: Path
    config: dict[str, Any]
    layers: list[str]


class Store:
    """A storage of the tests' own, into which archives are unpacked and from which they run."""

    _PREFIX = "tradestack-images-"

    def __init__(self) -> None:
        folders = Path(tempfile.gettempdir())
        for left in folders.glob(f"{self._PREFIX}*"):
            if not Path("/proc", left.name.removeprefix(self._PREFIX)).exists():
                self._clear(left)
        self.folder = folders / f"{self._PREFIX}{os.getpid()}"
        self.folder.mkdir()
        self._base = ["buildah", "--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run"]
        self.runc = self._runc(self.folder)

    def unpack(self, archive: Path) -> Unpacked:
        container = self._buildah("from", "--pull-never", f"docker-archive:{archive}").strip()
        root = Path(self._buildah("mount", container).strip())
        shown = json.loads(self._buildah("inspect", container))
        return Unpacked(root, shown["Docker"]["config"], shown["Docker"]["rootfs"]["diff_ids"])

    def remove(self) -> None:
        self._clear(self.folder)

    @staticmethod
    def _runc(folder: Path) -> list[str]:
        return ["runc", "--root", f"{folder}/runc"]

    @classmethod
    def _clear(cls, folder: Path) -> None:
        """End the containers of a store and remove it; also one that a killed test run left."""
        runc = cls._runc(folder)
        listed = subprocess.run([*runc, "list", "--quiet"], capture_output=True, text=True, check=False)
        for name in listed.stdout.split():
            subprocess.run([*runc, "delete", "--force", name], capture_output=True, check=False)
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed([point for point in points if point.startswith(f"{folder}/")]):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
        shutil.rmtree(folder)

    def _buildah(self, *arguments: str) -> str:
        command = [*self._base, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass
class Running:
    """A container that was started."""

    process: subprocess.Popen[bytes]
    log_file: Path
    stop_signal: str

    def log(self) -> str:
        """What it has written so far."""
        return self.log_file.read_text(errors="replace")

    def until(self, ready: Callable[[], bool], timeout: float = 60) -> None:
        """Wait until `ready`; fails when the container ends or the time is up."""
        deadline = time.monotonic() + timeout
        while not ready():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"not ready after {timeout:g} s:\n{self.log()}"
            time.sleep(0.1)

    def output(self, timeout: float = 30) -> str:
        """Wait for the end and return what it wrote; fails on a non-zero exit code."""
        assert self.process.wait(timeout) == 0, self.log()
        return self.log()

    def stop(self) -> int:
        """Send the image's stop signal and return the exit code."""
        os.kill(self.process.pid, signal.Signals[self.stop_signal])
        return self.process.wait(_STOP_SECONDS)


class Runtime:
    """Starts containers in the machine's network and removes them in the end."""

    def __init__(self, store: Store, folder: Path, stack: ExitStack) -> None:
        self._runc = store.runc
        self._folder = folder
        self._stack = stack

    def start(
        self,
        image: Unpacked,
        *arguments: str,
        entrypoint: list[str] | None = None,
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[str, Path] | None = None,
    ) -> Running:
        """Start the image's program; `volumes` is path inside → folder (writable) or file (read-only)."""
        name = f"tradestack-test-{uuid.uuid4().hex[:8]}"
        folder = self._folder / name
        folder.mkdir()
        config = image.config
        uid, gid = (int(part) for part in config["User"].split(":"))
        program = (config.get("Entrypoint") or []) if entrypoint is None else entrypoint
        tmpfs = ["nosuid", "nodev", "mode=1777", "size=64m"]
        mounts: list[dict[str, Any]] = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": tmpfs},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": tmpfs},
        ]
        for inside, outside in (volumes or {}).items():
            options = ["rbind", "rw" if outside.is_dir() else "ro"]
            mounts.append({"destination": inside, "type": "bind", "source": str(outside), "options": options})
        bundle = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": gid},
                "args": [*program, *arguments],
                "env": [*config["Env"], *(f"{key}={value}" for key, value in (environment or {}).items())],
                "cwd": config.get("WorkingDir") or "/",
                "noNewPrivileges": True,
            },
            "root": {"path": str(image.root), "readonly": True},
            "mounts": mounts,
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
        }
        (folder / "config.json").write_text(json.dumps(bundle))
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*self._runc, "run", "--bundle", str(folder), name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._stack.callback(self._remove, name, process)
        return Running(process, folder / "log", config.get("StopSignal") or "SIGTERM")

    def _remove(self, name: str, process: subprocess.Popen[bytes]) -> None:
        subprocess.run([*self._runc, "delete", "--force", name], capture_output=True, check=False)
        process.wait(_STOP_SECONDS)


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """Where this run keeps unpacked images; what killed runs have left is removed first."""
    store = Store()
    yield store
    store.remove()


@pytest.fixture(scope="session")
def unpacked(store: Store) -> Callable[[str], Unpacked]:
    """An image by name: built unless the cache has it, unpacked once."""
    done: dict[str, Unpacked] = {}

    def get(name: str) -> Unpacked:
        if name not in done:
            done[name] = store.unpack(build.ensure([name], Steps())[name])
        return done[name]

    return get


@pytest.fixture
def runtime(store: Store, tmp_path: Path) -> Iterator[Runtime]:
    """Runs images; whatever is left of them is removed after the test."""
    with ExitStack() as stack:
        yield Runtime(store, tmp_path, stack)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A volume that belongs to the images' user."""
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.chown(folder, 10001, 10001)
    return folder


@pytest.fixture
def password(tmp_path: Path) -> Path:
    """A password file with what a shell or a configuration file could trip over."""
    file = tmp_path / "password"
    file.write_text("s3cr\"et' $HOME\\x")
    return file


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports of the loopback interface that nobody listens on."""

    def get() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return get
