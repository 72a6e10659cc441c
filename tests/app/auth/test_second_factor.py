"""The second factor: each code once, recovery codes once, step-up before what matters."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from pydantic import SecretStr

from app.auth.admin import create_operator
from app.kit.problems import Problem
from tests.app.auth.conftest import EMAIL, PASSWORD, Auth


def claims(token: str) -> dict[str, object]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


async def test_it_is_switched_on_by_its_first_code(auth: Auth) -> None:
    token = await auth.token()
    await auth.refused("wrong-password", 403, "POST", "/totp", token, password="not-my-password-1")
    made = await auth.call("POST", "/totp", token, password=PASSWORD)
    query = parse_qs(urlsplit(made["uri"]).query)
    assert made["uri"].startswith("otpauth://totp/Tradestack:ann%40example.com?")
    assert (query["secret"], query["issuer"]) == ([made["secret"]], ["Tradestack"])
    assert (await auth.login())["access_token"], "it does not count yet"
    await auth.refused("wrong-code", 403, "POST", "/totp/confirm", token, code="000000x")
    await auth.events()
    codes = await auth.call("POST", "/totp/confirm", token, code=auth.code(made["secret"]))
    assert len(set(codes["recovery_codes"])) == 10
    told = await auth.events()
    assert [(event["type"], event["enabled"]) for event in told] == [("SecondFactorChanged", True)]
    me = await auth.call("GET", "/me", token)
    assert (me["second_factor"], me["recovery_codes_left"]) == (True, 10)
    await auth.refused("second-factor-enabled", 409, "POST", "/totp", token, password=PASSWORD)
    await auth.refused("second-factor-enabled", 409, "POST", "/totp/confirm", token, code="000000")


async def test_nothing_is_confirmed_or_proved_before_it_is_enrolled(auth: Auth) -> None:
    token = await auth.token()
    await auth.refused("second-factor-not-enrolled", 409, "POST", "/totp/confirm", token, code="000000")
    await auth.refused("second-factor-not-enrolled", 409, "POST", "/step-up", token, code="000000")


async def test_login_wants_a_code(auth: Auth) -> None:
    ann = await auth.enrolled()
    right = {"email": EMAIL, "password": PASSWORD}
    await auth.refused("second-factor-required", 401, "POST", "/login", **right)
    await auth.refused("wrong-code", 403, "POST", "/login", **right, code="000000x")
    wrong = {**right, "password": "not-my-password-1", "code": auth.code(ann.secret)}
    await auth.refused("invalid-credentials", 401, "POST", "/login", **wrong)
    before = auth.context.now
    tokens = await auth.login(code=auth.code(ann.secret))
    assert before <= int(str(claims(tokens["access_token"])["second_factor_at"])) <= auth.context.now


async def test_a_code_counts_once_and_none_before_it(auth: Auth) -> None:
    ann = await auth.enrolled()
    code, before = auth.code(ann.secret), auth.code(ann.secret, -1)
    assert await auth.login(code=code)
    for used in (code, before):
        await auth.refused("wrong-code", 403, "POST", "/login", email=EMAIL, password=PASSWORD, code=used)
    auth.clock.pass_(30)
    assert await auth.login(code=auth.code(ann.secret))


async def test_a_code_used_twice_at_once_counts_once(auth: Auth) -> None:
    ann = await auth.enrolled()
    body = {"email": EMAIL, "password": PASSWORD, "code": auth.code(ann.secret)}
    answers = await asyncio.gather(*(auth.client.post("/api/auth/login", json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 403, 403, 403]


@pytest.mark.parametrize(("steps", "taken"), [(-2, False), (-1, True), (1, True), (2, False)])
async def test_codes_of_the_neighbouring_steps_are_taken(auth: Auth, steps: int, taken: bool) -> None:
    ann = await auth.enrolled()
    auth.clock.pass_(90 + 10 - auth.clock() % 30)
    code = auth.code(ann.secret, steps)
    body = {"email": EMAIL, "password": PASSWORD, "code": code}
    answer = await auth.client.post("/api/auth/login", json=body)
    assert answer.status_code == (200 if taken else 403)


async def test_a_recovery_code_counts_once(auth: Auth) -> None:
    ann = await auth.enrolled()
    code = ann.recovery_codes[3]
    await auth.events()
    assert await auth.login(code=f" {code.lower().replace('-', ' ')} ")
    told = await auth.events()
    assert [event["type"] for event in told] == ["RecoveryCodeUsed", "SessionStarted"]
    assert told[0]["left"] == 9
    await auth.refused("wrong-code", 403, "POST", "/login", email=EMAIL, password=PASSWORD, code=code)
    bodies = {"email": EMAIL, "password": PASSWORD, "code": ann.recovery_codes[4]}
    answers = await asyncio.gather(*(auth.client.post("/api/auth/login", json=bodies) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 403, 403]
    assert (await auth.call("GET", "/me", ann.token))["recovery_codes_left"] == 8


async def test_recovery_codes_are_those_of_one_account(auth: Auth) -> None:
    ann, bob = await auth.enrolled(), await auth.enrolled("bob@example.com")
    body = {"email": bob.email, "password": PASSWORD, "code": ann.recovery_codes[0]}
    await auth.refused("wrong-code", 403, "POST", "/login", **body)


async def test_recovery_codes_are_replaced_after_a_step_up(auth: Auth) -> None:
    ann = await auth.enrolled()
    auth.clock.pass_(301)
    await auth.refused("step-up-required", 401, "POST", "/recovery-codes", ann.token)
    await auth.refused("wrong-code", 403, "POST", "/step-up", ann.token, code="000000x")
    proved = (await auth.call("POST", "/step-up", ann.token, code=auth.code(ann.secret)))["access_token"]
    codes = (await auth.call("POST", "/recovery-codes", proved))["recovery_codes"]
    assert not set(codes) & set(ann.recovery_codes)
    old = {"email": EMAIL, "password": PASSWORD, "code": ann.recovery_codes[0]}
    await auth.refused("wrong-code", 403, "POST", "/login", **old)
    assert await auth.login(code=codes[0])


async def test_it_is_switched_off_after_a_step_up(auth: Auth) -> None:
    ann = await auth.enrolled()
    tokens = await auth.login(code=auth.code(ann.secret))
    auth.clock.pass_(301)
    await auth.refused("step-up-required", 401, "DELETE", "/totp", tokens["access_token"])
    proved = await auth.call("POST", "/step-up", tokens["access_token"], code=ann.recovery_codes[0])
    assert proved["refresh_token"] is None
    await auth.events()
    await auth.call("DELETE", "/totp", proved["access_token"], expect=204)
    assert [event["enabled"] for event in await auth.events()] == [False]
    me = await auth.call("GET", "/me", proved["access_token"])
    assert (me["second_factor"], me["recovery_codes_left"]) == (False, 0)
    assert await auth.login()


async def test_guessing_codes_is_slowed_down(auth: Auth) -> None:
    ann = await auth.enrolled()
    for _ in range(5):
        await auth.refused("wrong-code", 403, "POST", "/step-up", ann.token, code="000000x")
    code = auth.code(ann.secret)
    await auth.refused("too-many-attempts", 429, "POST", "/step-up", ann.token, code=code)
    body = {"email": EMAIL, "password": PASSWORD, "code": code}
    await auth.refused("too-many-attempts", 429, "POST", "/login", **body)
    auth.clock.pass_(31)
    assert await auth.call("POST", "/step-up", ann.token, code=auth.code(ann.secret))


async def test_secrets_of_authenticators_are_encrypted(auth: Auth) -> None:
    ann = await auth.enrolled()
    async with auth.context.database.transaction(read_only=True) as session:
        user = await auth.context.repository.user_of(session, EMAIL)
    assert user is not None
    assert user.totp_secret is not None
    assert ann.secret.encode() not in user.totp_secret


async def test_operators_administer_only_under_a_second_factor(auth: Auth) -> None:
    made = await create_operator(auth.context, "Op@Example.com", SecretStr(PASSWORD))
    assert (made.operator, made.email) == (True, "op@example.com")
    with pytest.raises(Problem, match="account with this address"):
        await create_operator(auth.context, "op@example.com", SecretStr(PASSWORD))
    tokens = await auth.login(made.email)
    assert tokens["scope"] == "read"
    secret = (await auth.call("POST", "/totp", tokens["access_token"], password=PASSWORD))["secret"]
    await auth.call("POST", "/totp/confirm", tokens["access_token"], code=auth.code(secret))
    auth.clock.pass_(30)
    assert (await auth.login(made.email, code=auth.code(secret)))["scope"] == "read admin"
    assert claims(tokens["access_token"])["scope"] == "read"
