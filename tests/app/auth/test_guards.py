"""Guards of endpoints: who is let in, who is refused and with which code."""

import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter, Depends
from hypothesis import given
from hypothesis import strategies as st

from app.kit import auth, web
from app.kit.auth import (
    ALGORITHM,
    Authenticator,
    Jwks,
    Method,
    Principal,
    SignedRequest,
    User,
    require,
    second_factor,
)
from app.kit.errors import Unavailable
from app.kit.problems import Problem
from tests.app.auth.issuer import Issuer, publishing
from tests.app.platform import running

router = APIRouter()


@router.get("/who")
async def who(user: User) -> dict[str, object]:
    return {"user": user.user_id, "scopes": sorted(user.scopes), "method": user.method}


@router.get("/trade")
async def trade(user: Annotated[Principal, Depends(require("trade"))]) -> str:
    return user.user_id


@router.get("/withdraw")
async def withdraw(user: Annotated[Principal, Depends(second_factor("withdraw", within=60))]) -> str:
    return user.user_id


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Issuer]]:
    async with running(tmp_path, "frontend") as platform, publishing(platform.addresses) as issuer:
        app = web.create_app(platform.runtimes["frontend"], router)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, issuer


Guarded = tuple[httpx.AsyncClient, Issuer]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_a_token_tells_user_and_scopes(guarded: Guarded) -> None:
    client, issuer = guarded
    for _ in range(3):
        found = await client.get("/who", headers=issuer.headers("u-1", "read", "trade"))
        assert found.json() == {"user": "u-1", "scopes": ["read", "trade"], "method": "token"}
    assert issuer.asked == 1


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Bearer", "Bearer ", "Bearer a.b.c", "Bearer é"])
async def test_nothing_that_is_no_token_gets_in(guarded: Guarded, header: str | None) -> None:
    client, _ = guarded
    headers = {} if header is None else {b"authorization": header.encode()}
    answer = await client.get("/who", headers=headers)
    bearer = header is not None and header.startswith("Bearer")
    assert refusal(answer) == (401, "invalid-token" if bearer else "authentication-required")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="tradestack"')


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def forged(issuer: Issuer) -> dict[str, str]:
    """Name of a forgery → token."""
    claims, now = issuer.claims("u-1"), int(time.time())
    good = {"kid": issuer.kid, "typ": "at+jwt"}
    public = issuer.private.public_key().public_bytes_raw()
    another = Ed25519PrivateKey.generate()
    token = issuer.token("u-1")
    head, body, signature = token.split(".")
    return {
        "alg none": f"{encoded({'alg': 'none', **good})}.{encoded(claims)}.",
        "alg none, signed": f"{encoded({'alg': 'none', **good})}.{body}.{signature}",
        "alg HS256 with the public key": jwt.encode(claims, public, "HS256", good),
        "unknown kid": jwt.encode(claims, issuer.private, ALGORITHM, {**good, "kid": "other"}),
        "no kid": jwt.encode(claims, issuer.private, ALGORITHM, {"typ": "at+jwt"}),
        "another type": jwt.encode(claims, issuer.private, ALGORITHM, {**good, "typ": "JWT"}),
        "another key": jwt.encode(claims, another, ALGORITHM, good),
        "changed body": f"{head}.{encoded({**claims, 'sub': 'u-2'})}.{signature}",
        "no signature": f"{head}.{body}.",
        "wrong audience": issuer.token("u-1", aud="somewhere"),
        "wrong issuer": issuer.token("u-1", iss="someone"),
        "not yet valid": issuer.token("u-1", nbf=now + 60),
        "issued in the future": issuer.token("u-1", iat=now + 60),
        "times of another kind": issuer.token("u-1", exp=True),
        "no end": issuer.token("u-1", exp=None),
        "no beginning": issuer.token("u-1", nbf=None),
        "no subject": issuer.token("u-1", sub=None),
        "no session": issuer.token("u-1", sid=None),
        "scope of another kind": issuer.token("u-1", scope=["admin"]),
        "too long": issuer.token("u" * 5000),
    }


@pytest.mark.parametrize("name", list(forged(Issuer())))
async def test_forged_tokens_are_refused(guarded: Guarded, name: str) -> None:
    client, issuer = guarded
    answer = await client.get("/who", headers={"authorization": f"Bearer {forged(issuer)[name]}"})
    assert refusal(answer) == (401, "invalid-token")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_an_expired_token_has_a_code_of_its_own(guarded: Guarded) -> None:
    client, issuer = guarded
    now = int(time.time())
    answer = await client.get("/who", headers=issuer.headers("u-1", exp=now - 60))
    assert refusal(answer) == (401, "token-expired")


async def test_clocks_may_differ_by_the_leeway() -> None:
    issuer, now = Issuer(), int(time.time())
    authenticator = Authenticator(Published(issuer).keys, NoKeys(), lambda: now)
    times = {"iat": now, "nbf": now, "exp": now + 900}
    for changes in ({"exp": now - 4}, {"nbf": now + 5, "iat": now + 5}):
        assert (await authenticator.token(issuer.token("u-1", **{**times, **changes}))).user_id == "u-1"
    for changes in ({"exp": now - 5}, {"nbf": now + 6}, {"iat": now + 6}):
        with pytest.raises(Problem):
            await authenticator.token(issuer.token("u-1", **{**times, **changes}))


async def test_a_scope_that_is_missing_is_named(guarded: Guarded) -> None:
    client, issuer = guarded
    assert (await client.get("/trade", headers=issuer.headers("u-1", "trade"))).json() == "u-1"
    answer = await client.get("/trade", headers=issuer.headers("u-1", "read", "trades"))
    assert refusal(answer) == (403, "insufficient-scope")
    assert 'error="insufficient_scope", scope="trade"' in answer.headers["www-authenticate"]


async def test_a_second_factor_has_to_be_recent(guarded: Guarded) -> None:
    client, issuer = guarded
    now = int(time.time())
    recent = issuer.headers("u-1", "withdraw", second_factor_at=now - 50)
    assert (await client.get("/withdraw", headers=recent)).status_code == 200
    for changes in ({}, {"second_factor_at": now - 70}):
        answer = await client.get("/withdraw", headers=issuer.headers("u-1", "withdraw", **changes))
        assert refusal(answer) == (401, "step-up-required")
        challenge = answer.headers["www-authenticate"]
        assert 'error="insufficient_user_authentication", max_age="60"' in challenge
    answer = await client.get("/withdraw", headers=issuer.headers("u-1", "read", second_factor_at=now))
    assert refusal(answer) == (403, "insufficient-scope")


async def test_two_credentials_are_refused(guarded: Guarded) -> None:
    client, issuer = guarded
    token = issuer.headers("u-1")
    for headers in ([*token.items(), ("x-api-key", "k")], [*token.items()] * 2, [("x-api-key", "k")] * 2):
        assert refusal(await client.get("/who", headers=headers)) == (400, "ambiguous-credentials")


async def test_without_the_auth_role_nothing_is_let_in(tmp_path: Path) -> None:
    async with running(tmp_path, "frontend") as platform:
        platform.addresses["auth"] = "http://127.0.0.1:1"
        app = web.create_app(platform.runtimes["frontend"], router)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for headers in (Issuer().headers("u-1"), {"x-api-key": "k"}):
                assert refusal(await client.get("/who", headers=headers)) == (503, "unavailable")


async def test_the_endpoints_say_what_they_want(guarded: Guarded) -> None:
    client, _ = guarded
    document = (await client.get("/openapi.json")).json()
    assert document["paths"]["/trade"]["get"]["security"] == [{"HTTPBearer": []}, {"APIKeyHeader": []}]


class Published:
    """Keys of issuers, and a clock."""

    def __init__(self, *issuers: Issuer) -> None:
        self.issuers = list(issuers)
        self.away = False
        self.asked = 0
        self.at = 1000.0
        self.keys = Jwks(self.fetch, lambda: self.at)

    async def fetch(self) -> bytes:
        self.asked += 1
        if self.away:
            raise Unavailable("auth", "away")
        return json.dumps({"keys": [k for i in self.issuers for k in json.loads(i.jwks())["keys"]]}).encode()


class NoKeys:
    async def verify(self, request: SignedRequest) -> Principal:
        raise AssertionError


async def test_a_new_key_is_found_and_an_old_one_forgotten() -> None:
    old, new = Issuer("old"), Issuer("new")
    published = Published(old)
    start = time.time() - published.at
    authenticator = Authenticator(published.keys, NoKeys(), lambda: start + published.at)
    assert (await authenticator.token(old.token("u-1"))).method is Method.TOKEN
    published.at += 1
    published.issuers.append(new)
    assert (await authenticator.token(new.token("u-2"))).user_id == "u-2"
    assert published.asked == 2
    published.issuers.remove(old)
    published.at += 299
    token = old.token("u-1")
    assert (await authenticator.token(token)).user_id == "u-1"
    published.at += 60
    with pytest.raises(Problem):
        await authenticator.token(token)


class Keys:
    """One issuer's key, and how often it was needed."""

    def __init__(self, issuer: Issuer) -> None:
        self.source = Published(issuer).keys
        self.needed = 0

    async def key(self, kid: str) -> jwt.PyJWK | None:
        self.needed += 1
        return await self.source.key(kid)


async def test_a_token_is_verified_once_a_minute() -> None:
    issuer, at = Issuer(), [time.time()]
    keys = Keys(issuer)
    authenticator = Authenticator(keys, NoKeys(), lambda: at[0])
    token = issuer.token("u-1", "read", exp=int(at[0]) + 100)
    for ahead, needed in ((0, 1), (59, 1), (2, 2), (30, 2)):
        at[0] += ahead
        assert (await authenticator.token(token)).scopes == {"read"}
        assert keys.needed == needed
    at[0] += 15
    with pytest.raises(Problem) as refused:
        await authenticator.token(token)
    assert refused.value.code == "token-expired"


async def test_a_clock_that_is_set_back_makes_no_token_good_for_longer() -> None:
    issuer, at = Issuer(), [time.time()]
    keys = Keys(issuer)
    authenticator = Authenticator(keys, NoKeys(), lambda: at[0])
    token = issuer.token("u-1", iat=int(at[0]) - 100, nbf=int(at[0]) - 100)
    await authenticator.token(token)
    at[0] -= 50
    await authenticator.token(token)
    assert keys.needed == 2


async def test_only_so_many_verified_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_VERIFIED_TOKENS", 3)
    issuer = Issuer()
    keys = Keys(issuer)
    authenticator = Authenticator(keys, NoKeys())
    tokens = [issuer.token(f"u-{number}") for number in range(4)]
    for token in tokens:
        await authenticator.token(token)
    assert [(await authenticator.token(token)).user_id for token in tokens[1:]] == ["u-1", "u-2", "u-3"]
    assert keys.needed == 4
    await authenticator.token(tokens[0])
    assert keys.needed == 5


async def test_unknown_keys_do_not_become_load() -> None:
    published = Published(Issuer("old"))
    for n in range(100):
        assert await published.keys.key(f"made-up-{n}") is None
    assert published.asked == 1
    published.at += 1
    assert await published.keys.key("made-up") is None
    assert published.asked == 2


async def test_known_keys_serve_while_the_auth_role_is_away() -> None:
    published = Published(Issuer("old"))
    assert await published.keys.key("old") is not None
    published.away = True
    published.at += 3599
    assert await published.keys.key("old") is not None
    published.at += 15
    with pytest.raises(Unavailable):
        await published.keys.key("old")
    asked = published.asked
    with pytest.raises(Unavailable):
        await published.keys.key("old")
    assert published.asked == asked
    published.away = False
    published.at += 1
    assert await published.keys.key("old") is not None


@pytest.mark.parametrize("document", [b"", b"[]", b'{"keys": 7}', b'{"keys": [{"alg": "EdDSA"}]}', b"\xff"])
async def test_a_document_without_keys_is_an_outage(document: bytes) -> None:
    async def fetch() -> bytes:
        return document

    with pytest.raises(Unavailable):
        await Jwks(fetch).key("k")


ISSUER = Issuer()
TOKEN = ISSUER.token("u-1", exp=int(time.time()) + 86_400)
"""Good for as long as a run of all tests may take."""


# The last letter of base64 is left out: it holds bits that belong to no byte.
@given(place=st.integers(0, len(TOKEN) - 2), letter=st.characters(min_codepoint=33, max_codepoint=126))
async def test_no_letter_of_a_token_can_be_changed(place: int, letter: str) -> None:
    changed = TOKEN[:place] + letter + TOKEN[place + 1 :]
    asked = Authenticator(Published(ISSUER).keys, NoKeys()).token(changed)
    if changed == TOKEN:
        assert (await asked).user_id == "u-1"
    else:
        with pytest.raises(Problem) as refused:
            await asked
        assert refused.value.code == "invalid-token"
