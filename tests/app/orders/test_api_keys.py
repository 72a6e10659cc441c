"""Orders by API key, whose requests are signed."""

import json
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from app.orders import sockets
from tests.app.auth.conftest import Auth, auth, secrets_dir
from tests.app.orders.conftest import order
from tests.app.orders.test_stream import ask, closed, receive
from tests.app.platform import running

__all__ = ["auth", "secrets_dir"]


async def test_a_signed_order_and_a_signed_handshake(
    auth: Auth,
    secrets_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("APP_SECRETS_DIR")
    ann = await auth.enrolled()
    key, secret = await auth.api_key(ann.token, "read", "trade")
    async with running(tmp_path, "order", "matching-engine", "gateway") as platform:
        platform.addresses["auth"] = auth.runtime.directory["auth"]
        auth.clock.stop()
        body = json.dumps(order()).encode()
        headers = auth.signed(key, secret, method="POST", path="/api/orders", body=body)
        answer = await _post(platform.url("gateway", "/api/orders"), body, headers)
        assert answer == (422, "insufficient-funds")
        assert (await _post(platform.url("gateway", "/api/orders"), body, headers))[1] == "request-replayed"
        url = platform.url("gateway", "/api/orders/stream").replace("http", "ws")
        headers = auth.signed(key, secret, path="/api/orders/stream")
        async with connect(url, proxy=None, additional_headers=headers) as client:
            assert (await receive(client))["type"] == "login"
            assert (await ask(client, "place", **order()))["code"] == "insufficient-funds"
        monkeypatch.setattr(sockets, "KEY_SECONDS", 0.1)
        headers = auth.signed(key, secret, path="/api/orders/stream", nonce="again")
        async with connect(url, proxy=None, additional_headers=headers) as client:
            assert await closed(client) == (4401, "login-expired")


async def _post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    headers = {**headers, "content-type": "application/json"}
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(url, content=body, headers=headers)
    return answer.status_code, answer.json().get("code", "")
