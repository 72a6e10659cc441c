"""`down` removes what `up` made and nothing else; data in volumes is kept unless it is asked for."""

import httpx
import pytest

from infra.progress import Steps
from tests.cluster.platform.conftest import Platform, tradestack
from tests.traders import within

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def candles(platform: Platform) -> dict[str, tuple[str, str]]:
    """Closed candles of one symbol: open and close by start."""

    def answer() -> httpx.Response | None:
        try:
            told = httpx.get(
                f"{platform.url}/api/market/candles/BTC-USD?limit=500", trust_env=False, timeout=30
            )
        except httpx.TransportError:
            return None
        return told if told.status_code == 200 else None

    # The edge learns of what is ready a moment later.
    found = within(60, "the edge serves", answer).json()["candles"]
    return {item["start"]: (item["open"], item["close"]) for item in found if item["closed"]}


def passwords(platform: Platform) -> dict[str, str]:
    found: dict[str, str] = platform.get("secret", "app-secrets", "-n", "trading-system")["data"]
    return found


def refused(platform: Platform) -> None:
    done = tradestack("down", "local", "--volumes", cluster=platform.cluster.name, expect=1, answer="n\n")
    assert "with the data in its volumes" in done.stdout + done.stderr


def test_volumes_are_asked_about_first(platform: Platform) -> None:
    refused(platform)
    assert platform.pods("trading-system", "gateway")


def test_data_survives_down_and_up(platform: Platform) -> None:
    platform.cluster.kubectl("create", "configmap", "somebody-elses", "-n", "default")
    before, kept = candles(platform), passwords(platform)
    assert before
    tradestack("down", "local", cluster=platform.cluster.name)
    assert not platform.cluster.status().running
    refused(platform)
    platform.cluster.up(Steps())
    assert platform.get("configmap", "somebody-elses", "-n", "default")
    assert platform.get("deployments,statefulsets", "-n", "trading-data")["items"] == []
    assert len(platform.get("persistentvolumeclaims", "-n", "trading-data")["items"]) == 3
    done = tradestack("up", "local", cluster=platform.cluster.name)
    assert done.stdout.strip().splitlines()[-1] == platform.url
    assert passwords(platform) == kept
    after = candles(platform)
    assert {start: after.get(start) for start in before} == before
