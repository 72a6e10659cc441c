"""No role answers made-up requests with a fault of its own: they are made from its OpenAPI document."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation

from app.kit.problems import MEDIA_TYPE
from tests.app.auth.issuer import publishing
from tests.app.platform import Platform, running

ROLES = ("auth", "wallet", "order", "portfolio", "risk", "market-data")
SCOPES = ("read", "trade", "withdraw", "admin")
EXAMPLES = 6
"""Requests of each kind, valid and invalid, for each operation."""
EMAIL, PASSWORD = "ann@example.com", "wobbly-lantern-41-quay"


@pytest.fixture
async def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "app_auth_signing_key").write_text("signing " * 6)
    (secrets / "app_auth_encryption_key").write_text("encrypting " * 5)
    monkeypatch.setenv("APP_SECRETS_DIR", str(secrets))
    async with running(tmp_path, "matching-engine", *ROLES) as found:
        yield found


@pytest.mark.parametrize("role", ROLES)
async def test_made_up_requests_get_answers_and_problems(platform: Platform, role: str) -> None:
    if role == "auth":
        await made_up(platform, role, f"Bearer {await _token(platform)}")
        return
    async with publishing(platform.addresses) as issuer:
        bearer = issuer.headers("u-1", *SCOPES, second_factor_at=int(time.time()))["authorization"]
        await made_up(platform, role, bearer)


async def made_up(platform: Platform, role: str, bearer: str) -> None:
    url = platform.url(role)
    document = (await platform.get(role, "/openapi.json")).json()
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert operations
    faults: list[str] = []
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        for operation in operations:
            faults += await asyncio.to_thread(_faults, client, operation, bearer)
    assert not faults, "\n".join(faults)


def _faults(client: httpx.Client, operation: APIOperation, bearer: str) -> list[str]:
    """What is wrong with the answers of an operation."""
    found: list[str] = []

    def call(case: Any) -> None:
        answer = _send(client, case, bearer)
        if answer is None:
            return
        told = answer.headers.get("content-type") == MEDIA_TYPE and answer.json()["code"]
        if answer.status_code >= 500 or (answer.status_code >= 400 and not told):
            found.append(f"{answer.status_code} {case.as_curl_command()}: {answer.text[:300]}")
            raise AssertionError

    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        test = settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )(given(case=operation.as_strategy(generation_mode=mode))(call))
        try:
            test()
        except AssertionError:
            pass
        except Exception as error:
            # There is nothing invalid about an operation without parameters.
            if "Unsatisfiable" not in type(error).__name__ and "No " not in str(error):
                raise
    return found[:1]


def _send(client: httpx.Client, case: Any, bearer: str) -> httpx.Response | None:
    """The answer; None when HTTP itself does not carry the request."""
    sent = case.as_transport_kwargs(base_url=str(client.base_url))
    given = (sent.get("headers") or {}).items()
    headers = [(name, value) for name, value in given if name.lower() not in ("authorization", "x-api-key")]
    body = sent.get("data")
    if "json" in sent:
        body = json.dumps(sent["json"]).encode()
    try:
        return client.request(
            sent["method"],
            sent["url"],
            params=sent.get("params"),
            headers=[*headers, ("authorization", bearer)],
            content=body if isinstance(body, bytes | str | None) else json.dumps(body),
        )
    except (httpx.LocalProtocolError, UnicodeEncodeError):
        return None


async def _token(platform: Platform) -> str:
    async with httpx.AsyncClient(base_url=platform.url("auth"), trust_env=False) as client:
        account = {"email": EMAIL, "password": PASSWORD}
        assert (await client.post("/api/auth/register", json=account)).status_code == 201
        return str((await client.post("/api/auth/login", json=account)).json()["access_token"])
