"""Live progress on standard error, with the time of each step."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_HEARTBEAT_SECONDS = 30.0


@dataclass
class Step:
    """One running step; `detail` says what it is doing right now."""

    name: str
    estimate_s: float | None = None
    started: float = field(default_factory=time.monotonic)
    detail_text: str = ""

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.started

    def detail(self, text: str) -> None:
        """Replace the line that tells what is pending and why."""
        self.detail_text = text


class Steps:
    """Shows steps one after another and remembers how long each took.

    On a terminal: a bar against the estimate. Elsewhere (CI): a line at the start, every 30 s and at the end.
    Never writes to standard output, which belongs to `--json` and to results.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._started = time.monotonic()
        self.timings: list[tuple[str, float]] = []
        """(step name, seconds) in order of completion."""

    @contextmanager
    def step(self, name: str, *, estimate_s: float | None = None) -> Iterator[Step]:
        """Run the body as a named step; `estimate_s` is the expected time in seconds, for the bar."""
        step = Step(name, estimate_s)
        stop = threading.Event()
        show = self._bar if self.console.is_terminal else self._lines
        thread = threading.Thread(target=show, args=(step, stop), daemon=True)
        thread.start()
        outcome = "failed"
        try:
            yield step
            outcome = "done"
        finally:
            stop.set()
            thread.join()
            self.timings.append((name, step.seconds))
            mark = "[green]✓[/]" if outcome == "done" else "[red]✗[/]"
            self.console.print(f"{mark} {name} [dim]{step.seconds:.1f} s[/]", soft_wrap=True)

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def summary(self, outcome: str) -> None:
        """Print the time of each step, the total and the outcome."""
        for name, seconds in self.timings:
            self.console.print(f"[dim]{seconds:8.1f} s  {name}[/]", soft_wrap=True)
        self.console.print(f"{time.monotonic() - self._started:8.1f} s  in total: {outcome}", soft_wrap=True)

    def _bar(self, step: Step, stop: threading.Event) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(step.name, total=step.estimate_s, detail="")
            while not stop.wait(0.2):
                shown = step.seconds if step.estimate_s is None else min(step.seconds, step.estimate_s * 0.99)
                bar.update(task, completed=shown, detail=step.detail_text)

    def _lines(self, step: Step, stop: threading.Event) -> None:
        expected = f" (about {step.estimate_s:.0f} s)" if step.estimate_s and step.estimate_s >= 5 else ""
        self.console.print(f"… {step.name}{expected}", soft_wrap=True)
        while not stop.wait(_HEARTBEAT_SECONDS):
            told = f"  {step.name}: {step.seconds:.0f} s {step.detail_text}"
            self.console.print(told, soft_wrap=True, markup=False)
