"""No password, code, token or key in logs, problems or events; the role behind the gateway."""

import io
import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from infra.servers.backing import Redis
from tests.app.auth.conftest import EMAIL, OTHER_PASSWORD, PASSWORD, Auth
from tests.app.platform import running


@pytest.fixture
def logged(log: io.StringIO, auth: Auth) -> io.StringIO:
    """Both at once: the log is there before the role begins."""
    return log


async def test_secrets_stay_out_of_logs_problems_and_events(logged: io.StringIO, auth: Auth) -> None:
    ann = await auth.enrolled()
    key, secret = await auth.api_key(ann.token, "trade")
    tokens = await auth.login(code=auth.code(ann.secret))
    refreshed = await auth.call("POST", "/refresh", refresh_token=tokens["refresh_token"])
    auth.clock.pass_(30)
    wrong_code, spent = "987123", ann.recovery_codes[0]
    await auth.login(code=spent)
    right = {"email": EMAIL, "password": PASSWORD}
    problems = [
        await auth.refused("wrong-code", 403, "POST", "/login", **right, code=spent),
        await auth.refused("wrong-code", 403, "POST", "/step-up", ann.token, code=wrong_code),
        await auth.refused(
            "invalid-credentials", 401, "POST", "/login", email=EMAIL, password=OTHER_PASSWORD
        ),
        await auth.refused("invalid-request", 422, "POST", "/login", **right, code=7),
        await auth.refused("invalid-request", 422, "POST", "/login", **right, extra=PASSWORD),
        await auth.refused("invalid-refresh-token", 401, "POST", "/refresh", refresh_token="made-up-token"),
        await auth.refused("invalid-token", 401, "GET", "/me", ann.token[:-5]),
    ]
    auth.clock.pass_(6)
    problems.append(
        await auth.refused(
            "refresh-token-reused", 401, "POST", "/refresh", refresh_token=tokens["refresh_token"]
        )
    )
    signed = auth.signed(key, secret, path="/api/auth/me")
    for headers in (signed, signed, {**signed, "x-api-signature": "0" * 64}):
        answer = await auth.client.get("/api/auth/me", headers=headers)
        problems.append(answer.json())
    events = await auth.events()
    told = {
        "log": logged.getvalue(),
        "problems": json.dumps(problems),
        "events": json.dumps(events),
    }
    lines = [json.loads(line) for line in told["log"].splitlines()]
    assert "refresh token reused" in {line["event"] for line in lines}
    assert len([line for line in lines if line["event"] == "request"]) > 15
    hidden = {
        "password": PASSWORD,
        "another password": OTHER_PASSWORD,
        "authenticator": ann.secret,
        "wrong code": wrong_code,
        "access token": tokens["access_token"],
        "signature of a token": tokens["access_token"].rsplit(".", 1)[1],
        "refresh token": tokens["refresh_token"],
        "next refresh token": refreshed["refresh_token"],
        "made-up token": "made-up-token",
        "secret of the key": secret,
        "signature": signed["x-api-signature"],
        **{f"recovery code {n}": code for n, code in enumerate(ann.recovery_codes)},
    }
    for place, text in told.items():
        assert text
        for name, value in hidden.items():
            assert value not in text, f"{name} in {place}"
    assert EMAIL not in told["log"]
    assert EMAIL not in told["problems"]


async def test_an_error_inside_tells_nothing(
    logged: io.StringIO, auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await auth.token()

    def broken(*_: object) -> bytes:
        raise RuntimeError("broken")

    monkeypatch.setattr(type(auth.context.box), "encrypt", broken)
    answer = await auth.client.post(
        "/api/auth/totp", json={"password": PASSWORD}, headers={"authorization": f"Bearer {token}"}
    )
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert PASSWORD not in logged.getvalue()
    assert token not in logged.getvalue()


async def test_without_the_cache_nobody_logs_in(auth: Auth, redis: Redis) -> None:
    await auth.register()
    redis.process.kill()
    try:
        problem = await auth.refused("unavailable", 503, "POST", "/login", email=EMAIL, password=PASSWORD)
        assert "cache" in problem["detail"]
    finally:
        redis.start()
    assert await auth.login()


async def test_credentials_pass_the_gateway_and_the_internal_path_does_not(
    auth: Auth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.gateway.routing._PREFIXES", [("/api/auth", "auth"), ("", "auth")])
    async with running(tmp_path, "gateway") as platform:
        platform.addresses["auth"] = auth.runtime.directory["auth"]
        client = httpx.AsyncClient(base_url=platform.url("gateway"), trust_env=False, timeout=30)
        async with client:
            through = replace(auth, client=client)
            ann = await through.enrolled()
            key, secret = await through.api_key(ann.token, "read")
            path, query = "/api/auth/%73essions", "a=%20b&a=c+d&empty="
            headers = auth.signed(key, secret, path=path, query=query)
            answer = await client.get(f"{path}?{query}", headers=headers)
            assert answer.json()["code"] == "session-required", "the signature fits"
            answer = await client.get(f"{path}?{query}", headers=headers)
            assert answer.json()["code"] == "request-replayed"
            assert answer.headers["www-authenticate"].startswith("TRADESTACK-HMAC-SHA256")
            body = b'{"name": "k",  "scopes": ["read"]}'
            headers = auth.signed(key, secret, method="POST", path="/api/auth/api-keys", body=body)
            headers["content-type"] = "application/json"
            answer = await client.post("/api/auth/api-keys", content=body, headers=headers)
            assert answer.json()["code"] == "session-required", "the signature of the body fits"
            listed = await through.call("GET", "/sessions", ann.token)
            assert [session["address"] for session in listed] == ["127.0.0.1"]
            for hidden in ("/internal/auth/verify", "/api/auth/../../internal/auth/verify"):
                answer = await client.post(hidden, json={})
                assert answer.status_code in (400, 404), hidden
