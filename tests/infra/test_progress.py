"""Progress shows the words of other programs as they are."""

import io
import threading

import pytest
from rich.console import Console

from infra import progress
from infra.progress import Steps


@pytest.mark.parametrize("terminal", [False, True])
def test_details_with_brackets_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    monkeypatch.setattr(progress, "_HEARTBEAT_SECONDS", 0.01)
    shown = io.StringIO()
    steps = Steps()
    steps.console = Console(file=shown, force_terminal=terminal, width=120, highlight=False)
    told = "panic: [/] of [bold]nothing[/red]"
    with steps.step("Wait") as step:
        step.detail(told)
        waiting = threading.Event()
        for _ in range(3000):
            if told in shown.getvalue() or failures:
                break
            waiting.wait(0.01)
    assert failures == []
    assert told in shown.getvalue()
