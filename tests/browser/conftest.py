"""A real Chromium in front of the whole platform in one process."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, expect, sync_playwright

from infra.servers.process import ServerProcess, answers, free_port

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Platform:
    """`python -m app run all` on a fixed port, so that it can come back at the same address."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        command = [
            sys.executable,
            "-m",
            "app",
            "run",
            "all",
            "--port",
            str(self.port),
            "--data",
            str(directory),
        ]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
        self.process = ServerProcess(
            command,
            directory / "all.log",
            env={**clean, "APP_FEED_RATE": "5", "APP_FEED_HISTORY_MINUTES": "60"},
        )

    def start(self) -> None:
        self.process.start(lambda: answers(self.port), 60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with the module: while Playwright runs, no other test can have an event loop."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium: install chromium")
    # As long as Playwright waits for everything else.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        try:
            made = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        except Error as error:
            pytest.skip(f"Chromium does not start: {error.message.splitlines()[0]}")
        yield made
        made.close()


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path)
    made.start()
    yield made
    made.process.kill()
