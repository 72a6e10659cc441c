"""Supervised programs come back, end when asked, and do not fill the disk with logs."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.cluster import supervisor
from infra.cluster.components import Component
from infra.cluster.supervisor import Keeper


def wait_for(question: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def keeper(tmp_path: Path, *command: str, ready: bool = True) -> Keeper:
    return Keeper(
        Component("sample", list(command), lambda: ready, {"WORD": "hello"}), tmp_path / "sample.log"
    )


def test_a_killed_program_is_started_again(tmp_path: Path) -> None:
    kept = keeper(tmp_path, "sleep", "600")
    kept.start()
    first = kept.report.pid
    assert first is not None
    kept.check()
    assert kept.report.ready
    os.kill(first, signal.SIGKILL)

    def restarted() -> bool:
        kept.tick()
        return kept.report.restarts == 1

    wait_for(restarted)
    assert kept.report.pid not in {None, first}
    assert not kept.report.ready
    kept.stop()


def test_the_wait_grows_while_a_program_keeps_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    kept = keeper(tmp_path, "false")
    kept.start()
    for _ in range(8):
        assert kept.report.pid is not None
        os.waitid(os.P_PID, kept.report.pid, os.WEXITED | os.WNOWAIT)
        kept.tick()
        clock += 30.0
        kept.tick()
    waits = [record.args[2] for record in caplog.records if isinstance(record.args, tuple)]
    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


def test_stopping_ends_even_a_program_that_ignores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_STOP_SECONDS", 0.2)
    kept = keeper(tmp_path, "sh", "-c", "trap '' TERM; echo armed; while :; do sleep 0.05; done")
    kept.start()
    process = kept.report.pid
    wait_for(lambda: "armed" in (tmp_path / "sample.log").read_text())
    kept.stop()
    assert not Path(f"/proc/{process}").exists()


def test_logs_are_appended_with_the_environment_and_kept_below_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOG_LIMIT_BYTES", 10)
    log = tmp_path / "sample.log"
    log.write_text("earlier line\n")
    kept = keeper(tmp_path, "sh", "-c", "echo $WORD")
    kept.start()
    wait_for(lambda: "hello" in log.read_text())
    kept.bound_log()
    assert log.read_text() == ""
    assert (tmp_path / "sample.log.1").read_text() == "earlier line\nhello\n"
    kept.stop()
