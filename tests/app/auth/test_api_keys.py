"""API keys: made by their owners, and signed requests checked for other roles, each once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, Request

from app.auth.api_keys import ApiKeys
from app.auth.models import ApiKeyRow
from app.kit import web
from app.kit.auth import Authenticator, Principal, User, require, second_factor
from tests.app.auth.conftest import Auth, Enrolled
from tests.app.platform import running

router = APIRouter()


@router.api_route("/who", methods=["GET", "POST", "PUT"])
async def who(request: Request, user: User) -> dict[str, object]:
    return {
        "user": user.user_id,
        "scopes": sorted(user.scopes),
        "method": user.method,
        "key": user.credential_id,
        "body": (await request.body()).decode(),
    }


@router.post("/other")
async def elsewhere(user: User) -> str:
    return user.user_id


@router.post("/withdraw")
async def withdraw(user: Annotated[Principal, Depends(second_factor("withdraw"))]) -> str:
    return user.user_id


@router.post("/trade")
async def trade(body: dict[str, int], user: Annotated[Principal, Depends(require("trade"))]) -> str:
    return f"{user.user_id} {body}"


@pytest.fixture
async def ann(auth: Auth) -> Enrolled:
    return await auth.enrolled()


@pytest.fixture
async def other(auth: Auth, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another role, which asks the role `auth` over HTTP."""
    async with running(tmp_path, "frontend") as platform:
        runtime = replace(platform.runtimes["frontend"], directory=auth.runtime.directory)
        app = web.create_app(runtime, router)
        Authenticator.of(app).now = auth.clock
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("203.0.113.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_a_signed_request_is_its_owners(auth: Auth, ann: Enrolled, other: httpx.AsyncClient) -> None:
    key, secret = await auth.api_key(ann.token, "trade", "read")
    headers = auth.signed(key, secret, method="POST", query="a=%20b&a=c", body=b"hello", nonce="n-1")
    found = (await other.post("/who?a=%20b&a=c", content=b"hello", headers=headers)).json()
    me = await auth.call("GET", "/me", ann.token)
    assert found == {
        "user": me["user_id"],
        "scopes": ["read", "trade"],
        "method": "api-key",
        "key": key,
        "body": "hello",
    }
    body = b'{"quantity": 1}'
    headers = auth.signed(key, secret, method="POST", path="/trade", body=body)
    headers["content-type"] = "application/json"
    answer = await other.post("/trade", content=body, headers=headers)
    assert answer.json() == f"{me['user_id']} {{'quantity': 1}}"


CHANGES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "method": ({"method": "PUT"}, {}),
    "path": ({"url": "/other?a=1"}, {}),
    "path, quoted differently": ({"url": "/wh%6f?a=1"}, {}),
    "query": ({"url": "/who?a=2"}, {}),
    "order of the query": ({"url": "/who?b=1&a=1"}, {}),
    "query left out": ({"url": "/who"}, {}),
    "body": ({"content": b"hullo"}, {}),
    "no body": ({"content": b""}, {}),
    "timestamp": ({}, {"x-api-timestamp": "+1"}),
    "window": ({}, {"x-api-window": "60000"}),
    "nonce": ({}, {"x-api-nonce": "n-2"}),
    "signature": ({}, {"x-api-signature": "0" * 64}),
}


async def test_any_change_breaks_the_signature(auth: Auth, ann: Enrolled, other: httpx.AsyncClient) -> None:
    key, secret = await auth.api_key(ann.token, "read")
    for name, (request, changed) in CHANGES.items():
        headers = auth.signed(key, secret, method="POST", query="a=1", body=b"hello", nonce="n-1")
        later = str(int(headers["x-api-timestamp"]) + 1)
        headers |= {header: later if value == "+1" else value for header, value in changed.items()}
        sent = {"method": "POST", "url": "/who?a=1", "content": b"hello", **request}
        answer = await other.request(**sent, headers=headers)
        assert refusal(answer) == (401, "invalid-signature"), name
        assert answer.headers["www-authenticate"].startswith("TRADESTACK-HMAC-SHA256 realm=")


async def test_a_request_counts_once(auth: Auth, ann: Enrolled, other: httpx.AsyncClient) -> None:
    auth.clock.stop()
    key, secret = await auth.api_key(ann.token, "read")
    headers = auth.signed(key, secret)
    answers = await asyncio.gather(*(other.get("/who", headers=headers) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
    assert refusal(await other.get("/who", headers=headers)) == (401, "request-replayed")
    headers = auth.signed(key, secret, window_ms=60_000)
    assert (await other.get("/who", headers=headers)).status_code == 200
    auth.clock.pass_(59)
    assert refusal(await other.get("/who", headers=headers)) == (401, "request-replayed")
    auth.clock.pass_(2)
    assert refusal(await other.get("/who", headers=headers)) == (401, "timestamp-outside-window")
    at = int(auth.clock() * 1000)
    for nonce in ("", "1", "2"):
        alike = auth.signed(key, secret, timestamp_ms=at, nonce=nonce, window_ms=60_000)
        assert (await other.get("/who", headers=alike)).status_code == 200


async def test_a_mark_lasts_until_the_window_has_closed(auth: Auth, ann: Enrolled) -> None:
    auth.clock.stop()
    key, secret = await auth.api_key(ann.token, "read")
    marks: list[float] = []

    class Counting:
        async def first(self, mark: str, now: float, seconds: float) -> bool:
            marks.append(seconds)
            return True

    keys = ApiKeys(replace(auth.context, counters=Counting()))  # type: ignore[arg-type]
    app = web.create_app(auth.runtime, router)
    app.state.authenticator = Authenticator(auth.context.signing, keys, auth.clock)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        ahead = auth.signed(key, secret, timestamp_ms=int(auth.clock() * 1000) + 900, window_ms=60_000)
        assert (await client.get("/who", headers=ahead)).status_code == 200
    assert 61.0 < marks[0] < 63.0


@pytest.mark.parametrize(
    ("offset_ms", "window_ms", "taken"),
    [
        (0, None, True),
        (-3000, None, True),
        (-6000, None, False),
        (-6000, 30_000, True),
        (-58_000, 60_000, True),
        (-61_000, 60_000, False),
        (800, None, True),
        (5000, None, False),
        (5000, 60_000, False),
    ],
)
async def test_requests_are_good_for_their_window(
    auth: Auth,
    ann: Enrolled,
    other: httpx.AsyncClient,
    offset_ms: int,
    window_ms: int | None,
    taken: bool,
) -> None:
    auth.clock.stop()
    key, secret = await auth.api_key(ann.token, "read")
    at = int(auth.clock() * 1000) + offset_ms
    headers = auth.signed(key, secret, timestamp_ms=at, window_ms=window_ms)
    answer = await other.get("/who", headers=headers)
    if taken:
        assert answer.status_code == 200, answer.text
    else:
        assert refusal(answer) == (401, "timestamp-outside-window")


@pytest.mark.parametrize(
    "changed",
    [
        {"x-api-timestamp": ""},
        {"x-api-timestamp": "now"},
        {"x-api-timestamp": "-1"},
        {"x-api-timestamp": "١٢٣"},
        {"x-api-window": "0"},
        {"x-api-window": "60001"},
        {"x-api-window": "5.5"},
        {"x-api-nonce": "a b"},
        {"x-api-nonce": "n" * 65},
        {"x-api-signature": ""},
        {"x-api-signature": "A" * 64},
        {"x-api-signature": "f" * 300},
    ],
)
async def test_headers_of_another_form_are_told(
    auth: Auth, ann: Enrolled, other: httpx.AsyncClient, changed: dict[str, str]
) -> None:
    key, secret = await auth.api_key(ann.token, "read")
    headers = {**auth.signed(key, secret), **changed}
    answer = await other.get("/who", headers={k.encode(): v.encode() for k, v in headers.items()})
    assert refusal(answer) == (400, "invalid-signature-headers")
    assert next(iter(changed)) in answer.json()["detail"].lower()


async def test_unknown_and_revoked_keys_sign_nothing(
    auth: Auth, ann: Enrolled, other: httpx.AsyncClient
) -> None:
    key, secret = await auth.api_key(ann.token, "read")
    assert refusal(await other.get("/who", headers=auth.signed("ts-unknown", secret))) == (
        401,
        "invalid-api-key",
    )
    await auth.events()
    await auth.call("DELETE", f"/api-keys/{key}", ann.token, expect=204)
    assert [(e["type"], e["key"]) for e in await auth.events()] == [("ApiKeyRevoked", key)]
    assert refusal(await other.get("/who", headers=auth.signed(key, secret))) == (401, "invalid-api-key")
    await auth.refused("unknown-api-key", 404, "DELETE", f"/api-keys/{key}", ann.token)


async def test_keys_may_be_bound_to_networks(auth: Auth, ann: Enrolled, other: httpx.AsyncClient) -> None:
    for networks, forwarded, taken in (
        (["203.0.113.0/24"], "203.0.113.9", True),
        (["203.0.113.0/24"], "203.0.114.9", False),
        (["198.51.100.1", "2001:db8::/32"], "2001:db8:5::1", True),
        (["198.51.100.1"], "198.51.100.1, 203.0.113.9", False),
        (["203.0.113.7"], "", True),
    ):
        key, secret = await auth.api_key(ann.token, "read", networks=networks)
        headers = auth.signed(key, secret)
        if forwarded:
            headers["x-forwarded-for"] = forwarded
        answer = await other.get("/who", headers=headers)
        if taken:
            assert answer.status_code == 200, answer.text
        else:
            assert refusal(answer) == (403, "address-not-allowed")


async def test_a_key_does_what_its_scopes_say(auth: Auth, ann: Enrolled, other: httpx.AsyncClient) -> None:
    key, secret = await auth.api_key(ann.token, "read", "trade")
    headers = auth.signed(key, secret, method="POST", path="/withdraw")
    assert refusal(await other.post("/withdraw", headers=headers)) == (403, "insufficient-scope")
    key, secret = await auth.api_key(ann.token, "withdraw", networks=["203.0.113.7"])
    headers = auth.signed(key, secret, method="POST", path="/withdraw")
    assert (await other.post("/withdraw", headers=headers)).status_code == 200


async def test_keys_that_do_more_than_read_are_made_under_a_second_factor(auth: Auth, ann: Enrolled) -> None:
    bob = await auth.token("bob@example.com")
    body = {"name": "bot", "scopes": ["trade"]}
    assert await auth.api_key(bob, "read")
    await auth.refused("step-up-required", 401, "POST", "/api-keys", bob, **body)
    assert await auth.api_key(ann.token, "trade")
    auth.clock.pass_(301)
    await auth.refused("step-up-required", 401, "POST", "/api-keys", ann.token, **body)


@pytest.mark.parametrize(
    ("code", "status", "body"),
    [
        ("networks-required", 422, {"name": "k", "scopes": ["withdraw"]}),
        ("invalid-network", 422, {"name": "k", "scopes": ["read"], "networks": ["10.0.0.1/8"]}),
        ("invalid-network", 422, {"name": "k", "scopes": ["read"], "networks": ["home"]}),
        ("invalid-request", 422, {"name": "k", "scopes": ["admin"]}),
        ("invalid-request", 422, {"name": "k", "scopes": []}),
        ("invalid-request", 422, {"name": "", "scopes": ["read"]}),
    ],
)
async def test_wrong_keys_are_refused(
    auth: Auth, ann: Enrolled, code: str, status: int, body: dict[str, Any]
) -> None:
    await auth.refused(code, status, "POST", "/api-keys", ann.token, **body)


async def test_a_user_has_so_many_keys(auth: Auth, ann: Enrolled) -> None:
    for _ in range(20):
        await auth.api_key(ann.token, "read")
    body = {"name": "k", "scopes": ["read"]}
    await auth.refused("too-many-api-keys", 409, "POST", "/api-keys", ann.token, **body)


async def test_secrets_are_shown_once_and_stored_encrypted(auth: Auth, ann: Enrolled) -> None:
    await auth.events()
    key, secret = await auth.api_key(ann.token, "read", networks=["203.0.113.7"])
    told = await auth.events()
    assert [(event["type"], event["key"], event["scopes"]) for event in told] == [
        ("ApiKeyCreated", key, ["read"])
    ]
    assert secret not in str(told)
    listed = await auth.call("GET", "/api-keys", ann.token)
    assert [(k["id"], k["scopes"], k["networks"]) for k in listed] == [(key, ["read"], ["203.0.113.7/32"])]
    assert secret not in str(listed)
    async with auth.context.database.transaction(read_only=True) as session:
        row = await auth.context.repository.api_key(session, key)
    assert isinstance(row, ApiKeyRow)
    assert secret.encode() not in row.secret
    assert secret not in str(vars(row))


async def test_keys_are_their_owners(auth: Auth, ann: Enrolled) -> None:
    key, _ = await auth.api_key(ann.token, "read")
    eve = await auth.token("eve@example.com")
    assert await auth.call("GET", "/api-keys", eve) == []
    await auth.refused("unknown-api-key", 404, "DELETE", f"/api-keys/{key}", eve)


async def test_an_api_key_does_not_change_the_account(auth: Auth, ann: Enrolled) -> None:
    key, secret = await auth.api_key(ann.token, "trade")
    for method, path in (("GET", "/me"), ("GET", "/api-keys"), ("DELETE", "/sessions")):
        headers = auth.signed(key, secret, method=method, path=f"/api/auth{path}")
        answer = await auth.client.request(method, f"/api/auth{path}", headers=headers)
        assert refusal(answer) == (403, "session-required")


async def test_a_secret_that_was_moved_to_another_key_is_no_secret(auth: Auth, ann: Enrolled) -> None:
    one, secret = await auth.api_key(ann.token, "read")
    two, _ = await auth.api_key(ann.token, "trade")
    async with auth.context.database.transaction() as session:
        rows = [await auth.context.repository.api_key(session, key) for key in (one, two)]
        assert rows[0] is not None
        assert rows[1] is not None
        rows[1].secret = rows[0].secret
    headers = auth.signed(two, secret, path="/api/auth/me")
    answer = await auth.client.get("/api/auth/me", headers=headers)
    assert refusal(answer) == (500, "internal-error")
