"""The token of a minute that logs in to the price stream, and to nothing else."""

import jwt
import pytest

from app.kit.auth import STREAM_AUDIENCE, Authenticator
from app.kit.problems import Problem
from tests.app.auth.conftest import Auth


async def test_it_reads_the_stream_for_a_minute_and_nothing_else(auth: Auth) -> None:
    user = await auth.register()
    tokens = await auth.login()
    made = await auth.call("POST", "/stream-token", tokens["access_token"])
    claims = jwt.decode(made["token"], options={"verify_signature": False})
    assert made["expires_in"] == claims["exp"] - claims["iat"] == 60
    assert (claims["aud"], claims["scope"], claims["sid"]) == (STREAM_AUDIENCE, "read", tokens["session_id"])
    refused = await auth.call("GET", "/me", made["token"], expect=401)
    assert refused["code"] == "invalid-token"

    signing, requests = auth.context.signing, None
    stream = Authenticator(signing, requests, auth.clock, STREAM_AUDIENCE)  # type: ignore[arg-type]
    found = await stream.token(made["token"])
    assert (found.user_id, found.scopes) == (user, frozenset({"read"}))
    with pytest.raises(Problem) as wrong:
        await stream.token(tokens["access_token"])
    assert wrong.value.code == "invalid-token"
    auth.clock.pass_(70)
    with pytest.raises(Problem) as late:
        await stream.token(made["token"])
    assert late.value.code == "token-expired"


async def test_it_needs_a_session_that_goes_on(auth: Auth) -> None:
    await auth.register()
    tokens = await auth.login()
    assert (await auth.call("POST", "/stream-token", expect=401))["code"] == "authentication-required"
    await auth.call("POST", "/logout", expect=204, refresh_token=tokens["refresh_token"])
    ended = await auth.call("POST", "/stream-token", tokens["access_token"], expect=401)
    assert ended["code"] == "session-ended"
