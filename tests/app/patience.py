"""Limits inside of roles that are not what a test is about, wide enough for a machine that pauses."""

import httpx
import pytest

from app.gateway import proxy
from app.kit import auth, upstream
from app.matching import term
from app.matching_client import client
from app.wallet import checks

SECONDS = 60.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a pause of this process nor a slow disk makes a role give up on another one, or a leader."""
    monkeypatch.setattr(client, "RETRY_SECONDS", SECONDS)
    monkeypatch.setattr(client, "_CONNECT_SECONDS", SECONDS)
    monkeypatch.setattr(proxy, "_TIMEOUT", httpx.Timeout(SECONDS))
    monkeypatch.setattr(term, "_GOODBYE_SECONDS", SECONDS / 3)
    for module in (auth, checks):
        monkeypatch.setattr(module, "role_client", lambda _: upstream.role_client(SECONDS))
    # Not more: a killed leader keeps its lease, and tests that start it again wait for that.
    monkeypatch.setenv("APP_MATCHING_LEASE_SECONDS", "10")
