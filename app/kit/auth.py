"""Who sends a request, and what they may do: guards for the endpoints of every role.

A request proves who sends it in one of two ways.

* `Authorization: Bearer <access token>`: a JWT signed by the role `auth` with EdDSA. Every role checks it by
  itself with the public keys that `auth` publishes as a JWKS; no role but `auth` has a private key. A token
  is good until it expires (15 minutes), also when its session was revoked meanwhile.
* `X-API-Key` and its signature: an HMAC needs the secret in clear, so the check is left to `auth`, behind
  `/internal/auth/verify`. Checking in each role through the database would hand the key that decrypts all
  secrets, and a database, to every process; the price is one request within the cluster for each one signed,
  and that API keys do not work while `auth` is away (503). Revoking a key holds at once.

Use `Annotated[Principal, Depends(current_user)]`, `Depends(require("trade"))` or `Depends(second_factor())`.
A role that uses them names `auth` in its `calls`.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Protocol

import httpx
import jwt
import orjson
from fastapi import Depends, FastAPI, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from app.kit import logs
from app.kit.errors import Unavailable
from app.kit.problems import MEDIA_TYPE, Problem
from app.kit.runtime import Runtime
from app.kit.upstream import role_client

ISSUER = "tradestack-auth"
AUDIENCE = "tradestack-api"
STREAM_AUDIENCE = "tradestack-stream"
"""Of the short-lived tokens that log in to the price stream, and are good for nothing else."""
ALGORITHM = "EdDSA"
"""The only algorithm that is accepted; what a token says of itself does not choose it."""
TOKEN_TYPE = "at+jwt"  # noqa: S105 - the media type of access tokens (RFC 9068)
LEEWAY_SECONDS = 5
"""How far the clocks of two machines may differ: tokens begin that much earlier and end that much later."""
JWKS_PATH = "/api/auth/jwks.json"
VERIFY_PATH = "/internal/auth/verify"
SECOND_FACTOR_SECONDS = 300
"""Default age up to which a second factor counts as recent."""
_REALM = "tradestack"
_LONGEST_TOKEN = 4096
_LONGEST_HEADER = 200
_REFRESH_SECONDS = 300.0
"""Age after which the public keys are asked for anew, so that a withdrawn key is forgotten."""
_STALE_SECONDS = 3600.0
"""Age up to which known keys serve while `auth` does not answer."""
_PAUSE_SECONDS = 1.0
"""Least time between two requests for keys: made-up key ids must not become load for `auth`."""
_RETRY_SECONDS = 15.0
"""Least time between two requests for newer keys while the known ones still serve."""
_VERIFIED_SECONDS = 60.0
"""Age up to which a verified token need not be verified again: a signature costs 0.1 ms. A key that `auth`
withdraws is good for that much longer; expiry is checked each time."""
_VERIFIED_TOKENS = 10_000
"""Verified tokens that are remembered, the newest ones: 10 MB or less."""
_REQUIRED = ["exp", "iat", "nbf", "iss", "aud", "sub", "sid"]
_log = logs.get(__name__)


class Method(StrEnum):
    """How a request was authenticated."""

    TOKEN = "token"  # noqa: S105 - a name
    API_KEY = "api-key"


@dataclass(frozen=True)
class Principal:
    """The sender of a request."""

    user_id: str
    scopes: frozenset[str]
    """Among `read`, `trade`, `withdraw` and, for operators with a second factor, `admin`."""
    method: Method
    credential_id: str
    """The session of a token, or the API key."""
    second_factor_at: int | None = None
    """Unix time at which the session last proved a second factor; None when never, and for API keys."""


class SignedRequest(BaseModel):
    """What the signature of an API key covers, as it came over the wire, and where it came from."""

    model_config = ConfigDict(frozen=True)

    key: str = Field(max_length=_LONGEST_HEADER)
    signature: str = Field(max_length=_LONGEST_HEADER)
    timestamp: str = Field(max_length=_LONGEST_HEADER)
    window: str = Field(max_length=_LONGEST_HEADER)
    nonce: str = Field(max_length=_LONGEST_HEADER)
    method: str
    path: str
    query: str
    body_sha256: str
    """In hexadecimal."""
    forwarded_for: str
    """X-Forwarded-For as the gateway sent it; empty when the request came directly."""
    peer: str
    """Address of the other end of the connection."""


class KeySource(Protocol):
    """Public keys by id."""

    async def key(self, kid: str) -> jwt.PyJWK | None:
        """The key; None when there is none of that id. Raises `Unavailable` when that cannot be told."""


class RequestVerifier(Protocol):
    """Checks signed requests."""

    async def verify(self, request: SignedRequest) -> Principal:
        """The owner of the key. Raises `Problem` when the request is refused, `Unavailable`."""


class Jwks(KeySource):
    """The published keys, fetched when first needed, when a key id is unknown and every five minutes.

    `fetch` returns the document and raises `Unavailable`; `clock` counts seconds.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[bytes]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._asked: float | None = None
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> jwt.PyJWK | None:
        """See `KeySource`."""
        if self._is_due(kid) and not (self._lock.locked() and kid in self._keys):
            async with self._lock:
                if self._is_due(kid):
                    await self._refresh()
        if self._fetched is None:
            raise Unavailable("auth", "its public keys are not known")
        return self._keys.get(kid)

    def _is_due(self, kid: str) -> bool:
        waited = float("inf") if self._asked is None else self._clock() - self._asked
        if self._fetched is None or kid not in self._keys:
            return waited >= _PAUSE_SECONDS
        return waited >= _RETRY_SECONDS and self._clock() - self._fetched >= _REFRESH_SECONDS

    async def _refresh(self) -> None:
        try:
            self._keys = _public_keys(await self._fetch())
            self._fetched = self._clock()
        except Unavailable as error:
            _log.warning("public keys are not refreshed", reason=str(error))
            if self._fetched is not None and self._clock() - self._fetched >= _STALE_SECONDS:
                self._fetched = None
        finally:
            self._asked = self._clock()


def _public_keys(document: bytes) -> dict[str, jwt.PyJWK]:
    """Keys of a JWKS by id, without those of another algorithm; raises Unavailable when it is none."""
    try:
        found = [jwt.PyJWK(key) for key in orjson.loads(document)["keys"] if key.get("alg") == ALGORITHM]
    except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise Unavailable("auth", "its public keys cannot be read") from error
    return {key.key_id: key for key in found if key.key_id}


class AuthRole(RequestVerifier):
    """The role `auth` over HTTP."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._client = role_client(2.0)

    async def jwks(self) -> bytes:
        """The document with the public keys; raises Unavailable."""
        return (await self._answer("GET", JWKS_PATH)).content

    async def verify(self, request: SignedRequest) -> Principal:
        """See `RequestVerifier`."""
        found = (await self._answer("POST", VERIFY_PATH, json=request.model_dump())).json()
        return Principal(found["user_id"], frozenset(found["scopes"]), Method.API_KEY, found["credential_id"])

    async def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = await self._client.request(method, self._runtime.upstream("auth") + path, **options)
        except httpx.HTTPError as error:
            raise Unavailable("auth", type(error).__name__) from error
        if answer.status_code in (400, 401, 403) and answer.headers.get("content-type") == MEDIA_TYPE:
            told = answer.json()
            headers = {k: v for k, v in answer.headers.items() if k == "www-authenticate"}
            raise Problem(answer.status_code, told["code"], told["detail"], headers=headers)
        if answer.status_code != 200:
            raise Unavailable("auth", f"status {answer.status_code}")
        return answer


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was verified."""

    principal: Principal
    expires_at: int
    at: float


@dataclass
class Authenticator:
    """Tells who sends a request; one for each web application, in `app.state.authenticator`."""

    keys: KeySource
    requests: RequestVerifier
    now: Callable[[], float] = field(default=time.time)
    audience: str = AUDIENCE
    """The only one that its tokens may have."""
    _verified: dict[str, _Verified] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, app: FastAPI) -> "Authenticator":
        """The one of an application, made when first asked for: it knows keys and secrets through `auth`."""
        if not hasattr(app.state, "authenticator"):
            role = AuthRole(app.state.runtime)
            app.state.authenticator = cls(Jwks(role.jwks), role)
        found: Authenticator = app.state.authenticator
        return found

    async def token(self, token: str) -> Principal:
        """The sender of an access token.

        Raises:
            Problem: 401 `invalid-token` or `token-expired`.
            Unavailable: the public keys are not known and `auth` does not answer.
        """
        known = self._verified.get(token)
        if known is not None:
            now = self.now()
            if 0 <= now - known.at < _VERIFIED_SECONDS and now - LEEWAY_SECONDS < known.expires_at:
                return known.principal
            del self._verified[token]
        try:
            if len(token) > _LONGEST_TOKEN:
                raise jwt.InvalidTokenError
            header = jwt.get_unverified_header(token)
            if (header.get("alg"), header.get("typ")) != (ALGORITHM, TOKEN_TYPE):
                raise jwt.InvalidTokenError
            key = await self.keys.key(str(header.get("kid")))
            if key is None:
                raise jwt.InvalidTokenError
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=self.audience,
                options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
            now = self.now()
            _check_times(claims, now)
            principal = _principal(claims)
        except jwt.ExpiredSignatureError:
            raise unauthenticated(
                "token-expired", "The access token has expired: refresh it.", error="invalid_token"
            ) from None
        except jwt.InvalidTokenError:
            raise unauthenticated(
                "invalid-token", "The access token is not valid here.", error="invalid_token"
            ) from None
        while len(self._verified) >= _VERIFIED_TOKENS:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = _Verified(principal, claims["exp"], now)
        return principal

    async def request(self, request: Request) -> Principal:
        """The sender of a request.

        Raises:
            Problem: 401 with the reason; 400 `ambiguous-credentials` when there are a token and an API key.
            Unavailable: `auth` is needed and does not answer.
        """
        tokens, keys = request.headers.getlist("authorization"), request.headers.getlist("x-api-key")
        if len(tokens) + len(keys) > 1:
            raise Problem(400, "ambiguous-credentials", "Send one access token or one API key.")
        if keys:
            return await self.requests.verify(await _signed(request))
        scheme, _, token = tokens[0].partition(" ") if tokens else ("", "", "")
        if scheme.lower() != "bearer":
            raise unauthenticated("authentication-required", "Send an access token or a signed API key.")
        return await self.token(token.strip())


def _check_times(claims: dict[str, Any], now: float) -> None:
    """Raise when the token is not valid yet or no longer; by the clock that also ages second factors."""
    times = [claims[name] for name in ("iat", "nbf", "exp")]
    if any(type(at) is not int for at in times) or max(times[:2]) > now + LEEWAY_SECONDS:
        raise jwt.ImmatureSignatureError
    if claims["exp"] <= now - LEEWAY_SECONDS:
        raise jwt.ExpiredSignatureError


def _principal(claims: dict[str, Any]) -> Principal:
    scope, proved = claims.get("scope", ""), claims.get("second_factor_at")
    if not isinstance(scope, str) or not isinstance(proved, int | None):
        raise jwt.InvalidTokenError
    return Principal(str(claims["sub"]), frozenset(scope.split()), Method.TOKEN, str(claims["sid"]), proved)


async def _signed(request: Request) -> SignedRequest:
    def header(name: str, default: str = "") -> str:
        found = request.headers.getlist(name)
        if len(found) > 1 or any(len(value) > _LONGEST_HEADER for value in found):
            raise Problem(
                400, "invalid-signature-headers", f"{name}: once, at most {_LONGEST_HEADER} letters."
            )
        return found[0] if found else default

    scope = request.scope
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    return SignedRequest(
        key=header("x-api-key"),
        signature=header("x-api-signature"),
        timestamp=header("x-api-timestamp"),
        window=header("x-api-window"),
        nonce=header("x-api-nonce"),
        method=request.method,
        path=raw_path.decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        body_sha256=hashlib.sha256(await request.body()).hexdigest(),
        forwarded_for=", ".join(request.headers.getlist("x-forwarded-for")),
        peer=request.client.host if request.client else "",
    )


def unauthenticated(code: str, detail: str, **parameters: object) -> Problem:
    """401 with a challenge for a bearer token (RFC 6750); `parameters` go into the challenge."""
    return Problem(401, code, detail, headers={"WWW-Authenticate": _challenge(parameters)})


def _challenge(parameters: dict[str, object]) -> str:
    return "Bearer " + ", ".join(
        f'{name}="{value}"' for name, value in {"realm": _REALM, **parameters}.items()
    )


_bearer = HTTPBearer(
    auto_error=False, bearerFormat="JWT", description="Access token of POST /api/auth/login."
)
_api_key = APIKeyHeader(
    name="X-API-Key",
    auto_error=False,
    description="With X-API-Timestamp, X-API-Signature and, if wanted, X-API-Window and X-API-Nonce.",
)


async def current_user(
    request: Request, _: Annotated[object, Depends(_bearer)], __: Annotated[object, Depends(_api_key)]
) -> Principal:
    """Dependency: the sender of the request, whatever their scopes.

    Raises:
        Problem: 401 `authentication-required`, `invalid-token`, `token-expired`, or what is wrong with the
            API key and its signature; 400 `ambiguous-credentials`; 403 `address-not-allowed`.
        Unavailable: `auth` is needed and does not answer.
    """
    return await Authenticator.of(request.app).request(request)


User = Annotated[Principal, Depends(current_user)]
"""Parameter of an endpoint that any authenticated sender may call."""


def require(scope: str) -> Callable[[Principal], Awaitable[Principal]]:
    """Dependency: the sender, who has `scope`; else 403 `insufficient-scope`, or as `current_user`."""

    async def guard(user: User) -> Principal:
        if scope not in user.scopes:
            raise Problem(
                403,
                "insufficient-scope",
                f"This needs the scope {scope}.",
                headers={"WWW-Authenticate": _challenge({"error": "insufficient_scope", "scope": scope})},
            )
        return user

    return guard


def second_factor(
    scope: str = "read", within: int = SECOND_FACTOR_SECONDS
) -> Callable[[Request, Principal], Awaitable[Principal]]:
    """Dependency: the sender, who has `scope` and has proved a second factor in the last `within` seconds.

    Else 401 `step-up-required` with the challenge of RFC 9470: the client proves it at POST
    /api/auth/step-up and comes again with the new token. An API key passes with its scope: keys that may
    do more than read are only made under a second factor, and those that withdraw only with an address list.
    """

    async def guard(request: Request, user: Annotated[Principal, Depends(require(scope))]) -> Principal:
        if user.method is Method.API_KEY:
            return user
        proved = user.second_factor_at
        if proved is None or Authenticator.of(request.app).now() - proved > within:
            raise unauthenticated(
                "step-up-required",
                "Prove the second factor again.",
                error="insufficient_user_authentication",
                max_age=within,
            )
        return user

    return guard
