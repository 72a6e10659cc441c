"""REST API of the role `auth`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from app.auth.accounts import Accounts
from app.auth.api_keys import ApiKeys
from app.auth.context import AuthContext
from app.auth.schemas import (
    ApiKeyRequest,
    ApiKeyView,
    Enrolment,
    Login,
    NewApiKey,
    Password,
    PasswordChange,
    Proof,
    RecoveryCodes,
    Refresh,
    Registration,
    SessionView,
    StreamToken,
    Tokens,
    UserView,
    Verified,
)
from app.auth.second_factor import SecondFactor
from app.auth.sessions import Sessions
from app.kit import web
from app.kit.addresses import client_address
from app.kit.auth import (
    JWKS_PATH,
    VERIFY_PATH,
    Authenticator,
    Method,
    Principal,
    SignedRequest,
    User,
    require,
    second_factor,
)
from app.kit.outbox import Relay
from app.kit.runtime import Runtime


@dataclass(frozen=True)
class Services:
    """What the endpoints call."""

    context: AuthContext
    accounts: Accounts
    second_factor: SecondFactor
    sessions: Sessions
    api_keys: ApiKeys

    @classmethod
    def of(cls, context: AuthContext) -> "Services":
        """The services of a process."""
        accounts = Accounts(context)
        factor = SecondFactor(context, accounts)
        return cls(context, accounts, factor, Sessions(context, factor), ApiKeys(context))


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def _address(request: Request) -> str:
    forwarded = ", ".join(request.headers.getlist("x-forwarded-for"))
    peer = request.client.host if request.client else ""
    return client_address(forwarded, peer, _services(request).context.proxy_hops)


def _no_store(response: Response) -> None:
    response.headers["cache-control"] = "no-store"


Auth = Annotated[Services, Depends(_services)]
Address = Annotated[str, Depends(_address)]
Reader = Annotated[Principal, Depends(require("read"))]
Proved = Annotated[Principal, Depends(second_factor())]

router = APIRouter(prefix="/api/auth", tags=["auth"], dependencies=[Depends(_no_store)])
public = APIRouter(tags=["auth"])
internal = APIRouter(include_in_schema=False)


@router.post("/register", status_code=201)
async def register(auth: Auth, address: Address, wanted: Registration) -> UserView:
    """Make an account."""
    return await auth.accounts.register(wanted.email, wanted.password, address)


@router.post("/login")
async def login(auth: Auth, address: Address, request: Request, given: Login) -> Tokens:
    """Begin a session."""
    agent = request.headers.get("user-agent", "")
    return await auth.sessions.login(given.email, given.password, given.code, address, agent)


@router.post("/refresh")
async def refresh(auth: Auth, given: Refresh) -> Tokens:
    """Trade a refresh token for the next one and an access token."""
    return await auth.sessions.refresh(given.refresh_token)


@router.post("/logout", status_code=204)
async def logout(auth: Auth, given: Refresh) -> None:
    """End the session of a refresh token; its access token expires within 15 minutes."""
    await auth.sessions.logout(given.refresh_token)


@router.get("/me")
async def me(auth: Auth, user: User) -> UserView:
    """The account."""
    return await auth.accounts.view(user)


@router.post("/password", status_code=204)
async def change_password(auth: Auth, user: User, change: PasswordChange) -> None:
    """Set another password; every other session ends."""
    await auth.accounts.change_password(user, change.password, change.new_password)


@router.get("/sessions")
async def sessions(auth: Auth, user: User) -> list[SessionView]:
    """The sessions that go on."""
    return [SessionView.of(row, user.credential_id) for row in await auth.sessions.sessions(user)]


@router.delete("/sessions", status_code=204)
async def revoke_other_sessions(auth: Auth, user: User) -> None:
    """End every session but this one."""
    await auth.sessions.revoke_others(user)


@router.delete("/sessions/{session_id}", status_code=204)
async def revoke_session(auth: Auth, user: User, session_id: str) -> None:
    """End one session, this one or another."""
    await auth.sessions.revoke(user, session_id)


@router.post("/totp")
async def enrol(auth: Auth, user: User, given: Password) -> Enrolment:
    """Make a secret for an authenticator; it counts once a code was confirmed."""
    return await auth.second_factor.enrol(user, given.password)


@router.post("/totp/confirm")
async def confirm(auth: Auth, user: User, given: Proof) -> RecoveryCodes:
    """Switch the second factor on with its first code."""
    return await auth.second_factor.confirm(user, given.code)


@router.delete("/totp", status_code=204)
async def switch_off(auth: Auth, user: Proved) -> None:
    """Switch the second factor off."""
    await auth.second_factor.switch_off(user)


@router.post("/recovery-codes")
async def recovery_codes(auth: Auth, user: Proved) -> RecoveryCodes:
    """Replace the recovery codes."""
    return await auth.second_factor.new_recovery_codes(user)


@router.post("/step-up")
async def step_up(auth: Auth, user: User, given: Proof) -> Tokens:
    """Prove the second factor again; the new access token says so."""
    await auth.second_factor.step_up(user, given.code)
    return await auth.sessions.current(user)


@router.post("/stream-token")
async def stream_token(auth: Auth, user: Reader) -> StreamToken:
    """A token for the private channels of the price stream, good for a minute and for nothing else.

    401 `session-ended` when the session behind the access token has ended meanwhile.
    """
    if user.method is Method.TOKEN:
        await auth.sessions.current(user)
    return StreamToken(token=auth.context.issuer.stream_token(user))


@router.get("/api-keys")
async def api_keys(auth: Auth, user: User) -> list[ApiKeyView]:
    """The API keys, without secrets."""
    return await auth.api_keys.keys(user)


@router.post("/api-keys", status_code=201)
async def create_api_key(auth: Auth, user: User, wanted: ApiKeyRequest) -> NewApiKey:
    """Make an API key; its secret is shown this once."""
    return await auth.api_keys.create(user, wanted)


@router.delete("/api-keys/{key_id}", status_code=204)
async def revoke_api_key(auth: Auth, user: User, key_id: str) -> None:
    """Revoke an API key at once."""
    await auth.api_keys.revoke(user, key_id)


@public.get(JWKS_PATH)
async def jwks(auth: Auth, response: Response) -> dict[str, list[dict[str, Any]]]:
    """The public keys that access tokens are checked with (RFC 7517)."""
    response.headers["cache-control"] = "public, max-age=60"
    return auth.context.signing.jwks()


@internal.post(VERIFY_PATH)
async def verify(auth: Auth, signed: SignedRequest) -> Verified:
    """Who signed a request; for the other roles only, the gateway hides it."""
    found = await auth.api_keys.verify(signed)
    return Verified(user_id=found.user_id, scopes=sorted(found.scopes), credential_id=found.credential_id)


async def serve(runtime: Runtime, make: Callable[[Runtime], AuthContext] = AuthContext.of) -> None:
    """Run the role; raises ConfigurationError before it listens when a secret or a setting is missing."""
    context = make(runtime)
    try:
        services = Services.of(context)
        app = web.create_app(runtime, router, public, internal)
        app.state.services = services
        app.state.authenticator = Authenticator(context.signing, services.api_keys, context.clock)
        relay = Relay(context.database, runtime.backends.bus)
        await runtime.serve(
            web.HttpServer(runtime, app), relay.run, services.sessions.sweep, prepare=context.counters.ping
        )
    finally:
        await context.close()
