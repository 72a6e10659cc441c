"""A server process that ends with the tests, whatever becomes of them."""

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(what: str, condition: Callable[[], bool], seconds: float) -> None:
    """Poll until `condition` holds; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def die_with_parent() -> None:
    """For a child before it runs its program: it is killed when its parent's thread ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerProcess:
    """Starts a command, waits until it is ready, stops it by its pid."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        self._env = {**os.environ, **(env or {})}
        self._user = user if os.geteuid() == 0 else None
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.command[0]} was never started")
        return self._process

    @property
    def pid(self) -> int:
        """Process id, of the last start."""
        return self._started.pid

    @property
    def returncode(self) -> int | None:
        """Exit code; None while it runs."""
        return self._started.poll()

    @property
    def output(self) -> str:
        """What it wrote to both of its outputs."""
        return self.log.read_text(errors="replace")

    def launch(self) -> None:
        """Start and do not wait. Call it from the main thread: the process dies with its parent thread."""
        account = pwd.getpwnam(self._user) if self._user else None
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
                preexec_fn=die_with_parent,
            )

    def start(self, ready: Callable[[], bool], seconds: float = 30) -> None:
        """Start and wait until `ready` says so."""
        self.launch()
        try:
            wait_until(f"{self.command[0]} is ready", lambda: self._alive() and ready(), seconds)
        except BaseException:
            self.kill()
            raise

    def _alive(self) -> bool:
        if self.returncode is not None:
            raise AssertionError(f"{self.command} ended with {self.returncode}:\n{self.output[-3000:]}")
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def stop(self, seconds: float = 20) -> int:
        """End it politely; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 20) -> int:
        """Exit code, when it ended by itself; it is killed and AssertionError raised after `seconds`."""
        try:
            return self._started.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.command} did not end in {seconds:g} s:\n{self.output[-3000:]}"
            ) from None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class ProcessGroup:
    """Several server processes that end together."""

    def __init__(self, processes: Sequence[ServerProcess]) -> None:
        self._processes = processes

    def kill(self) -> None:
        """End them at once."""
        for process in self._processes:
            process.kill()
