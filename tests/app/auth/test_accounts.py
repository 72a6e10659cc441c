"""Registration, login, passwords: who gets in, who waits, and that nobody learns who has an account."""

import asyncio

import pytest
from argon2 import PasswordHasher, extract_parameters
from hypothesis import given
from hypothesis import strategies as st

from app.auth import accounts
from app.auth.context import AuthContext
from app.auth.models import UserRow
from app.kit.addresses import client_address
from app.kit.problems import Problem
from tests.app.auth.conftest import EMAIL, OTHER_PASSWORD, PASSWORD, Auth


async def stored(context: AuthContext, email: str = EMAIL) -> UserRow:
    async with context.database.transaction(read_only=True) as session:
        found = await context.repository.user_of(session, email)
    assert found is not None
    return found


async def test_registration_and_login(auth: Auth) -> None:
    made = await auth.call("POST", "/register", expect=201, email="Ann@Example.COM", password=PASSWORD)
    assert made["email"] == EMAIL
    user = made["user_id"]
    tokens = await auth.login("aNN@example.com")
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == (
        "Bearer",
        900,
        "read trade withdraw",
    )
    me = await auth.call("GET", "/me", tokens["access_token"])
    assert me == {
        "user_id": user,
        "email": EMAIL,
        "operator": False,
        "second_factor": False,
        "recovery_codes_left": 0,
    }
    told = await auth.events()
    assert [event["type"] for event in told] == ["UserCreated", "UserEmailSet", "SessionStarted"]
    assert {event["user"] for event in told} == {user}
    assert told[1]["email"] == EMAIL
    assert told[2]["session"] == tokens["session_id"]


async def test_answers_with_secrets_are_not_stored_by_caches(auth: Auth) -> None:
    await auth.register()
    answer = await auth.client.post("/api/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert answer.headers["cache-control"] == "no-store"


async def test_an_address_has_one_account(auth: Auth) -> None:
    await auth.register()
    body = {"email": "ANN@example.com", "password": OTHER_PASSWORD}
    await auth.refused("email-taken", 409, "POST", "/register", **body)
    answers = await asyncio.gather(
        *(
            auth.client.post("/api/auth/register", json={"email": "bob@example.com", "password": PASSWORD})
            for _ in range(4)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


@pytest.mark.parametrize(
    "password",
    [
        "short-one-4",
        "x" * 129,
        "aaaaaaaaaaaaaaaa",
        "password1234",
        "qwertyuiop12",
        "passwordpassword",
        "123456789012",
        "ann@example.com",
        "tradestacktradestack",
    ],
)
async def test_weak_passwords_are_refused(auth: Auth, password: str) -> None:
    problem = await auth.refused("weak-password", 422, "POST", "/register", email=EMAIL, password=password)
    assert password not in str(problem)


@pytest.mark.parametrize(
    "email", ["ann", "ann@", "@example.com", "ann@localhost", "a b@example.com", "a@b..c"]
)
async def test_what_is_no_address_is_refused(auth: Auth, email: str) -> None:
    await auth.refused("invalid-email", 422, "POST", "/register", email=email, password=PASSWORD)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": EMAIL},
        {"email": EMAIL, "password": 7},
        {"email": EMAIL, "password": ""},
        {"email": EMAIL, "password": "p" * 257},
        {"email": EMAIL, "password": PASSWORD, "operator": True},
    ],
)
async def test_wrong_bodies_are_problems_without_the_input(auth: Auth, body: dict[str, object]) -> None:
    answer = await auth.client.post("/api/auth/register", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert PASSWORD not in answer.text
    assert "ppp" not in answer.text


async def test_passwords_are_kept_as_owasp_says(auth: Auth) -> None:
    await auth.register()
    kept = (await stored(auth.context)).password_hash
    parameters = extract_parameters(kept)
    assert kept.startswith("$argon2id$")
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19456, 2, 1)
    assert PASSWORD not in kept


async def test_a_hash_of_older_parameters_is_renewed_at_login(auth: Auth) -> None:
    await auth.register()
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    async with auth.context.database.transaction() as session:
        user = await auth.context.repository.user_of(session, EMAIL)
        assert user is not None
        user.password_hash = old
    await auth.login()
    renewed = (await stored(auth.context)).password_hash
    assert extract_parameters(renewed).memory_cost == 19456
    await auth.login()
    assert (await stored(auth.context)).password_hash == renewed


async def test_a_password_is_the_same_however_it_is_typed(auth: Auth) -> None:
    composed, decomposed = "ångström-café-41-quay", "a\u030angstro\u0308m-cafe\u0301-41-quay"
    await auth.register(password=composed)
    assert (await auth.login(password=decomposed))["access_token"]


async def test_unknown_accounts_are_refused_like_wrong_passwords(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    await auth.register()
    hashes: list[str] = []
    real = PasswordHasher.verify

    def verify(hasher: PasswordHasher, hash: str, password: str) -> bool:
        hashes.append(hash)
        return real(hasher, hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    problems = [
        await auth.refused(
            "invalid-credentials", 401, "POST", "/login", email=email, password="no-such-password"
        )
        for email in (EMAIL, "nobody@example.com", "no address at all")
    ]
    assert problems[0] == problems[1] == problems[2]
    # As much work for each: one verification against a hash of the same parameters.
    assert len(hashes) == 3
    assert len({hash.rsplit("$", 2)[0] for hash in hashes}) == 1


async def test_guessing_at_an_account_is_slowed_down(auth: Auth) -> None:
    auth.clock.stop()
    for email in (EMAIL, "nobody@example.com"):
        if email == EMAIL:
            await auth.register()
        wrong = {"email": email, "password": "not-the-password-1"}
        for _ in range(5):
            await auth.refused("invalid-credentials", 401, "POST", "/login", **wrong)
        for pause in (30, 60, 120):
            answer = await auth.client.post("/api/auth/login", json={**wrong, "password": PASSWORD})
            assert (answer.status_code, answer.json()["code"]) == (429, "too-many-attempts")
            assert pause - 5 <= int(answer.headers["retry-after"]) <= pause
            auth.clock.pass_(pause)
            await auth.refused("invalid-credentials", 401, "POST", "/login", **wrong)
    auth.clock.pass_(900)
    assert (await auth.login())["access_token"]
    await auth.refused("invalid-credentials", 401, "POST", "/login", email=EMAIL, password="wrong-again-1")
    assert (await auth.login())["access_token"]


async def test_attempts_at_the_same_time_all_count(auth: Auth) -> None:
    await auth.register()
    wrong = {"email": EMAIL, "password": "not-the-password-1"}
    answers = await asyncio.gather(*(auth.client.post("/api/auth/login", json=wrong) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 15


def sent_from(address: str) -> dict[str, str]:
    return {"x-forwarded-for": f"198.51.100.99, {address}"}


async def test_many_addresses_that_guess_at_one_account_are_slowed_down(auth: Auth) -> None:
    await auth.register()
    for n in range(20):
        answer = await auth.client.post(
            "/api/auth/login",
            json={"email": EMAIL, "password": "not-the-password-1"},
            headers=sent_from(f"203.0.113.{n}"),
        )
        assert answer.status_code == 401
    answer = await auth.client.post(
        "/api/auth/login",
        json={"email": EMAIL, "password": PASSWORD},
        headers=sent_from("203.0.113.200"),
    )
    assert answer.json()["code"] == "too-many-attempts"


async def test_one_address_that_guesses_at_many_accounts_is_slowed_down(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    await auth.register()

    async def never(*_: object) -> bool:
        return False

    guessing = sent_from("203.0.113.7")
    with monkeypatch.context() as quick:
        quick.setattr(auth.context.passwords, "verify", never, raising=False)
        for n in range(50):
            body = {"email": f"user{n}@example.com", "password": "not-the-password-1"}
            answer = await auth.client.post("/api/auth/login", json=body, headers=guessing)
            assert answer.status_code == 401
    right = {"email": EMAIL, "password": PASSWORD}
    answer = await auth.client.post("/api/auth/login", json=right, headers=guessing)
    assert answer.json()["code"] == "too-many-attempts"
    answer = await auth.client.post("/api/auth/login", json=right, headers=sent_from("203.0.113.8"))
    assert answer.status_code == 200


async def test_registrations_of_one_address_are_limited(auth: Auth) -> None:
    for _ in range(20):
        await auth.refused("invalid-email", 422, "POST", "/register", email="x", password=PASSWORD)
    await auth.refused("too-many-attempts", 429, "POST", "/register", email=EMAIL, password=PASSWORD)


async def test_another_password_ends_the_other_sessions(auth: Auth) -> None:
    await auth.register()
    here, there = await auth.login(), await auth.login()
    token = here["access_token"]
    change = {"password": PASSWORD, "new_password": OTHER_PASSWORD}
    await auth.refused(
        "wrong-password", 403, "POST", "/password", token, **{**change, "password": "wrong-one-12"}
    )
    await auth.refused(
        "weak-password", 422, "POST", "/password", token, **{**change, "new_password": "password1234"}
    )
    await auth.events()
    await auth.call("POST", "/password", token, expect=204, **change)
    assert await auth.events() == [
        {"type": "PasswordChanged", "user": (await stored(auth.context)).id},
        {
            "type": "SessionsEnded",
            "user": (await stored(auth.context)).id,
            "sessions": [there["session_id"]],
            "reason": "password-changed",
        },
    ]
    await auth.refused("invalid-credentials", 401, "POST", "/login", email=EMAIL, password=PASSWORD)
    assert (await auth.login(password=OTHER_PASSWORD))["access_token"]
    await auth.refused("session-ended", 401, "GET", "/me", there["access_token"])
    await auth.refused("invalid-refresh-token", 401, "POST", "/refresh", refresh_token=there["refresh_token"])
    assert await auth.call("POST", "/refresh", refresh_token=here["refresh_token"])


async def test_guessing_the_password_with_a_stolen_token_is_slowed_down(auth: Auth) -> None:
    token = await auth.token()
    for _ in range(5):
        await auth.refused("wrong-password", 403, "POST", "/totp", token, password="not-the-one-12")
    await auth.refused("too-many-attempts", 429, "POST", "/totp", token, password=PASSWORD)


async def test_too_many_logins_at_once_are_told_to_come_back(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    await auth.register()
    monkeypatch.setattr(auth.context.passwords, "_waiting", 64, raising=False)
    await auth.refused("overloaded", 503, "POST", "/login", email=EMAIL, password=PASSWORD)


@pytest.mark.parametrize(
    ("forwarded", "hops", "address"),
    [
        ("", 1, "10.0.0.1"),
        ("203.0.113.7", 1, "203.0.113.7"),
        ("1.2.3.4, 203.0.113.7", 1, "203.0.113.7"),
        ("1.2.3.4, 203.0.113.7, 10.1.0.1", 2, "203.0.113.7"),
        ("203.0.113.7", 2, "203.0.113.7"),
        ("1.2.3.4", 0, "10.0.0.1"),
        ("1.2.3.4, nonsense", 1, "10.0.0.1"),
        ("[2001:db8::1]", 1, "2001:db8::1"),
        ("::ffff:203.0.113.7", 1, "203.0.113.7"),
    ],
)
def test_the_address_of_a_client_is_what_our_proxies_saw(forwarded: str, hops: int, address: str) -> None:
    assert client_address(forwarded, "10.0.0.1", hops) == address


@given(made_up=st.lists(st.text(st.characters(exclude_characters=","), max_size=12), max_size=5))
def test_nothing_a_client_writes_changes_its_address(made_up: list[str]) -> None:
    forwarded = ", ".join([*made_up, "203.0.113.7", "10.1.0.1"])
    assert client_address(forwarded, "10.0.0.1", 2) == "203.0.113.7"


@given(st.emails())
def test_normalising_twice_changes_nothing(email: str) -> None:
    try:
        once = accounts.normalised(email)
    except Problem as refused:
        assert refused.code == "invalid-email"  # noqa: PT017
        return
    assert accounts.normalised(once) == once
    assert once == once.lower()


async def test_an_account_of_ones_own_buys_no_guesses_at_others(auth: Auth) -> None:
    await auth.register()
    await auth.register("eve@example.com")
    guessing = sent_from("203.0.113.7")

    async def login(email: str, password: str) -> int:
        body = {"email": email, "password": password}
        return (await auth.client.post("/api/auth/login", json=body, headers=guessing)).status_code

    for _ in range(5):
        assert await login(EMAIL, "not-the-password-1") == 401
        assert await login("eve@example.com", PASSWORD) == 200
    assert await login(EMAIL, PASSWORD) == 429
    for n in range(45):
        assert await login(f"user{n}@example.com", "not-the-password-1") == 401
    assert await login("eve@example.com", PASSWORD) == 429
