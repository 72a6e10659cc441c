"""Refresh tokens: each good once, a copy ends its family; sessions are listed and ended."""

import asyncio

import jwt
import pytest

from app.kit.auth import AUDIENCE, ISSUER
from tests.app.auth.conftest import EMAIL, PASSWORD, Auth


async def refresh(auth: Auth, token: str, expect: int = 200) -> dict[str, str]:
    return dict(await auth.call("POST", "/refresh", expect=expect, refresh_token=token))


async def test_an_access_token_is_what_its_guards_want(auth: Auth) -> None:
    user = await auth.register()
    tokens = await auth.login()
    head = jwt.get_unverified_header(tokens["access_token"])
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    document = (await auth.client.get("/api/auth/jwks.json")).json()
    assert (head["alg"], head["typ"], head["kid"]) == ("EdDSA", "at+jwt", document["keys"][0]["kid"])
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, AUDIENCE, user)
    assert claims["exp"] - claims["iat"] == 900
    assert claims["sid"] == tokens["session_id"]
    assert "d" not in document["keys"][0]
    assert set(document["keys"][0]) == {"crv", "kty", "x", "kid", "alg", "use"}


async def test_refreshing_goes_on_with_the_session(auth: Auth) -> None:
    await auth.register()
    first = await auth.login()
    second = await refresh(auth, first["refresh_token"])
    third = await refresh(auth, second["refresh_token"])
    assert len({t["refresh_token"] for t in (first, second, third)}) == 3
    assert len({t["access_token"] for t in (first, second, third)}) == 3
    assert {t["session_id"] for t in (first, second, third)} == {first["session_id"]}
    assert await auth.call("GET", "/me", third["access_token"])


@pytest.mark.parametrize("token", ["x", "A" * 43, "é"])
async def test_made_up_refresh_tokens_are_refused(auth: Auth, token: str) -> None:
    problem = await refresh(auth, token, 401)
    assert problem["code"] == "invalid-refresh-token"


async def test_refresh_tokens_are_stored_as_digests(auth: Auth) -> None:
    await auth.register()
    token = (await auth.login())["refresh_token"]
    async with auth.context.database.engine.connect() as connection:
        rows = (await connection.exec_driver_sql("SELECT * FROM auth_refresh_tokens")).all()
    assert len(rows) == 1
    assert token not in str(rows)


async def test_a_copy_of_a_used_token_ends_the_family(auth: Auth) -> None:
    user = await auth.register()
    stolen, other = await auth.login(), await auth.login()
    successor = await refresh(auth, stolen["refresh_token"])
    await auth.events()
    auth.clock.pass_(6)
    problem = await refresh(auth, stolen["refresh_token"], 401)
    assert problem["code"] == "refresh-token-reused"
    told = {
        "type": "SessionsEnded",
        "user": user,
        "sessions": [stolen["session_id"]],
        "reason": "refresh-token-reused",
    }
    assert await auth.events() == [told]
    assert (await refresh(auth, successor["refresh_token"], 401))["code"] == "invalid-refresh-token"
    assert (await refresh(auth, stolen["refresh_token"], 401))["code"] == "refresh-token-reused"
    assert await auth.events() == []
    await auth.refused("session-ended", 401, "GET", "/me", successor["access_token"])
    assert await refresh(auth, other["refresh_token"])


async def test_a_token_used_twice_at_once_is_traded_once(auth: Auth) -> None:
    await auth.register()
    auth.clock.stop()
    for _ in range(5):
        token = (await auth.login())["refresh_token"]
        body = {"refresh_token": token}
        answers = await asyncio.gather(*(auth.client.post("/api/auth/refresh", json=body) for _ in range(6)))
        won = [answer.json() for answer in answers if answer.status_code == 200]
        lost = {answer.json()["code"] for answer in answers if answer.status_code != 200}
        assert len(won) == 1
        assert lost == {"refresh-token-spent"}
        successor = await refresh(auth, won[0]["refresh_token"])
        auth.clock.pass_(6)
        assert (await refresh(auth, token, 401))["code"] == "refresh-token-reused"
        assert (await refresh(auth, successor["refresh_token"], 401))["code"] == "invalid-refresh-token"


async def test_sessions_end_when_they_are_not_used_or_grow_old(auth: Auth) -> None:
    await auth.register()
    idle = await auth.login()
    assert idle["refresh_expires_in"] == 14 * 86_400
    auth.clock.pass_(14 * 86_400)
    assert (await refresh(auth, idle["refresh_token"], 401))["code"] == "invalid-refresh-token"
    used = await auth.login()
    for _ in range(3):
        auth.clock.pass_(9 * 86_400)
        used = await refresh(auth, used["refresh_token"])
    assert int(used["refresh_expires_in"]) <= 3 * 86_400
    auth.clock.pass_(3 * 86_400)
    assert (await refresh(auth, used["refresh_token"], 401))["code"] == "invalid-refresh-token"


async def test_logout_ends_the_session(auth: Auth) -> None:
    await auth.register()
    tokens = await auth.login()
    await auth.events()
    for _ in range(2):
        await auth.call("POST", "/logout", expect=204, refresh_token=tokens["refresh_token"])
    assert [event["reason"] for event in await auth.events()] == ["logout"]
    assert (await refresh(auth, tokens["refresh_token"], 401))["code"] == "invalid-refresh-token"
    await auth.refused("session-ended", 401, "GET", "/me", tokens["access_token"])
    await auth.call("POST", "/logout", expect=204, refresh_token="unknown")


async def test_sessions_are_listed_and_revoked(auth: Auth) -> None:
    await auth.register()
    body = {"email": EMAIL, "password": PASSWORD}
    phone = (
        await auth.client.post(
            "/api/auth/login",
            json=body,
            headers={"user-agent": "phone/1 " + "x" * 300, "x-forwarded-for": "203.0.113.7"},
        )
    ).json()
    desk, third = await auth.login(), await auth.login()
    token = desk["access_token"]
    listed = await auth.call("GET", "/sessions", token)
    assert {s["id"] for s in listed} == {s["session_id"] for s in (phone, desk, third)}
    assert [s["id"] for s in listed if s["current"]] == [desk["session_id"]]
    seen = next(s for s in listed if s["id"] == phone["session_id"])
    assert (seen["address"], len(seen["user_agent"])) == ("203.0.113.7", 200)

    await auth.call("DELETE", f"/sessions/{phone['session_id']}", token, expect=204)
    await auth.refused("unknown-session", 404, "DELETE", f"/sessions/{phone['session_id']}", token)
    assert (await refresh(auth, phone["refresh_token"], 401))["code"] == "invalid-refresh-token"
    await auth.call("DELETE", "/sessions", token, expect=204)
    assert [s["id"] for s in await auth.call("GET", "/sessions", token)] == [desk["session_id"]]
    assert (await refresh(auth, third["refresh_token"], 401))["code"] == "invalid-refresh-token"
    await auth.call("DELETE", f"/sessions/{desk['session_id']}", token, expect=204)
    await auth.refused("session-ended", 401, "GET", "/sessions", token)


async def test_nobody_ends_the_session_of_somebody_else(auth: Auth) -> None:
    await auth.register()
    victim = await auth.login()
    token = await auth.token("eve@example.com")
    await auth.refused("unknown-session", 404, "DELETE", f"/sessions/{victim['session_id']}", token)
    await auth.call("DELETE", "/sessions", token, expect=204)
    assert await refresh(auth, victim["refresh_token"])


async def test_sessions_that_revoke_each_other_at_once_do_not_lock(auth: Auth) -> None:
    await auth.register()
    tokens = [(await auth.login())["access_token"] for _ in range(5)]
    answers = await asyncio.gather(
        *(
            auth.client.delete("/api/auth/sessions", headers={"authorization": f"Bearer {token}"})
            for token in tokens
        )
    )
    assert sorted(answer.status_code for answer in answers) == [204] + [401] * 4


async def test_old_sessions_are_deleted_with_their_tokens(auth: Auth) -> None:
    await auth.register()
    for _ in range(2):
        await refresh(auth, (await auth.login())["refresh_token"])
    now = auth.context.now
    async with auth.context.database.transaction() as session:
        assert await auth.context.repository.forget_sessions(session, now + 29 * 86_400) == 0
        assert await auth.context.repository.forget_sessions(session, now + 31 * 86_400) == 2
    async with auth.context.database.engine.connect() as connection:
        left = await connection.exec_driver_sql("SELECT count(*) FROM auth_refresh_tokens")
        assert left.scalar_one() == 0


async def test_every_endpoint_of_an_account_wants_a_token(auth: Auth) -> None:
    open_ = {"/api/auth/register", "/api/auth/login", "/api/auth/refresh", "/api/auth/logout"}
    document = (await auth.client.get("/openapi.json")).json()
    guarded = [
        (method, path)
        for path, methods in document["paths"].items()
        for method in methods
        if path not in {*open_, "/api/auth/jwks.json"}
    ]
    assert len(guarded) == 14
    for method, path in guarded:
        answer = await auth.client.request(method, path.replace("{", "").replace("}", ""))
        assert (answer.status_code, answer.json()["code"]) == (401, "authentication-required"), path
    assert "/internal/auth/verify" not in document["paths"]
