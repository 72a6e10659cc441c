"""What holds for every test."""

import faulthandler
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is. All else stays as the environment has it.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_GRACE_SECONDS = 120.0
"""For a test that its time limit has ended to clean up."""
_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_stderr] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the run, with what every thread does, where the limit of a test cannot end it: inside a library's
    native code no signal is handled.
    """
    marked = item.get_closest_marker("timeout")
    limit = float(marked.args[0] if marked else item.config.getini("timeout"))
    faulthandler.dump_traceback_later(limit + _GRACE_SECONDS, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_unconfigure(config: pytest.Config) -> None:
    """What a test left behind must not keep the finished run from ending either."""
    faulthandler.dump_traceback_later(_GRACE_SECONDS, exit=True, file=config.stash[_stderr])
