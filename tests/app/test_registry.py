"""The live view of the roles behind the gateway."""

from pathlib import Path

import httpx
import pytest

from infra.servers.process import free_port
from tests.app.platform import Platform, running
from tests.app.test_gateway import answer, upstream

ANYTHING = "/registry/x"
PROBE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that answers after a second counts as not ready."""
    monkeypatch.setattr("app.gateway.registry._PROBE_SECONDS", PROBE_SECONDS)


async def _roles(platform: Platform) -> dict[str, dict[str, object]]:
    found = await platform.get("gateway", "/registry")
    assert found.status_code == 200
    assert found.headers["cache-control"] == "no-store"
    return {entry["name"]: entry for entry in found.json()["roles"]}


async def test_tells_which_roles_are_ready_and_what_they_run(tmp_path: Path) -> None:
    async with running(tmp_path, "gateway", "frontend", revision="abc123") as platform:
        roles = await _roles(platform)
        assert {"gateway", "frontend", "price-service", "auth", "order"} <= roles.keys()
        front = roles["frontend"]
        assert front["ready"] is True
        (instance,) = front["instances"]  # type: ignore[misc]
        assert instance["address"] == platform.url("frontend").removeprefix("http://")
        assert (instance["ready"], instance["reason"], instance["revision"]) == (True, None, "abc123")
        assert 0 < instance["latency_ms"] < 1000 * PROBE_SECONDS
        (own,) = roles["gateway"]["instances"]  # type: ignore[misc]
        assert (own["ready"], own["revision"]) == (True, "abc123")


async def test_tells_why_a_role_is_not_ready(tmp_path: Path) -> None:
    def starting(_: bytes) -> bytes:
        body = b'{"status":"not ready","reason":"waiting for database"}'
        return answer(body).replace(b"200 OK", b"503 Service Unavailable")

    async with upstream(starting) as url, running(tmp_path, "gateway") as platform:
        platform.addresses |= {"auth": url, "order": f"http://127.0.0.1:{free_port()}"}
        platform.addresses["wallet"] = "http://name.invalid:8087"
        roles = await _roles(platform)
    (auth,) = roles["auth"]["instances"]  # type: ignore[misc]
    assert (auth["ready"], auth["reason"]) == (False, "waiting for database")
    (order,) = roles["order"]["instances"]  # type: ignore[misc]
    assert order["ready"] is False
    assert "ConnectError" in order["reason"]
    assert roles["wallet"]["instances"] == []
    assert roles["wallet"]["ready"] is False


async def test_is_a_page_for_browsers(tmp_path: Path) -> None:
    def hostile(_: bytes) -> bytes:
        return answer(b'{"reason":"<script>alert(1)</script>"}').replace(b"200 OK", b"503 Not Ready")

    async with upstream(hostile) as url, running(tmp_path, "gateway") as platform:
        platform.addresses["auth"] = url
        found = await platform.get("gateway", "/registry", headers={"accept": "text/html,*/*;q=0.8"})
    assert found.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "<script>" not in found.text
    assert "&lt;script&gt;" in found.text


@pytest.mark.parametrize(("path", "method", "status"), [(ANYTHING, "GET", 404), ("/registry", "POST", 405)])
async def test_is_never_passed_on(tmp_path: Path, path: str, method: str, status: int) -> None:
    heads: list[bytes] = []

    def handle(head: bytes) -> bytes:
        heads.append(head)
        return answer(b"passed on")

    async with upstream(handle) as url, running(tmp_path, "gateway") as platform:
        platform.addresses["frontend"] = url
        async with httpx.AsyncClient(trust_env=False) as client:
            found = await client.request(method, platform.url("gateway", path))
    assert found.status_code == status
    assert heads == []
