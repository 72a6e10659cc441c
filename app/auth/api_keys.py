"""API keys: made and revoked by their owners, and the check of what they sign."""

import re
import secrets

from app.auth import events, signing
from app.auth.accounts import live_user
from app.auth.context import AuthContext
from app.auth.models import ApiKeyRow
from app.auth.schemas import ApiKeyRequest, ApiKeyView, NewApiKey
from app.auth.tokens import new_token
from app.kit import outbox
from app.kit.addresses import client_address, is_within, parse_networks
from app.kit.auth import (
    SECOND_FACTOR_SECONDS,
    Method,
    Principal,
    RequestVerifier,
    SignedRequest,
    unauthenticated,
)
from app.kit.problems import Problem

MOST_KEYS = 20
"""Keys of one user."""
WINDOW_MS = 5_000
"""Default time for which a signed request is good."""
LONGEST_WINDOW_MS = 60_000
AHEAD_MS = 1_000
"""How far a client's clock may be ahead of ours."""
_NUMBER = re.compile(r"[0-9]{1,15}")
_NONCE = re.compile(r"[A-Za-z0-9_-]{0,64}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")


class ApiKeys(RequestVerifier):
    """Makes, lists and revokes keys, and checks signed requests."""

    def __init__(self, context: AuthContext) -> None:
        self._context = context
        self._repository = context.repository

    async def create(self, principal: Principal, wanted: ApiKeyRequest) -> NewApiKey:
        """Make a key; its secret is told this once.

        Raises:
            Problem: 401 `step-up-required` for more than `read`; 403 `insufficient-scope`; 409
                `too-many-api-keys`; 422 `invalid-network`, or `networks-required` for `withdraw`.
        """
        scopes = [scope for scope in ("read", "trade", "withdraw") if scope in wanted.scopes]
        if not principal.scopes.issuperset(scopes):
            raise Problem(403, "insufficient-scope", "A key cannot do more than its owner.")
        if scopes != ["read"]:
            self._require_second_factor(principal)
        try:
            networks = [str(network) for network in parse_networks(wanted.networks)]
        except ValueError as error:
            raise Problem(422, "invalid-network", f"networks: {error}.") from None
        if "withdraw" in scopes and not networks:
            raise Problem(422, "networks-required", "A key that withdraws is bound to addresses: name them.")
        secret, key_id = new_token(), f"ts-{secrets.token_hex(12)}"
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal, lock=True)
            if len(await self._repository.api_keys(session, user.id)) >= MOST_KEYS:
                raise Problem(409, "too-many-api-keys", f"A user has at most {MOST_KEYS} keys.")
            row = ApiKeyRow(
                id=key_id,
                user_id=user.id,
                name=wanted.name,
                scopes=" ".join(scopes),
                networks=" ".join(networks),
                secret=self._context.box.encrypt(secret.encode(), _context_of(key_id)),
                created_at=self._context.now,
                revoked_at=None,
            )
            session.add(row)
            await session.flush()
            told = events.ApiKeyCreated(user=user.id, key=key_id, scopes=scopes)
            await outbox.write(session, [events.of(told)])
        return NewApiKey.made(row, secret)

    async def keys(self, principal: Principal) -> list[ApiKeyView]:
        """The keys of the sender, without secrets."""
        async with self._context.database.transaction(read_only=True) as session:
            user = await live_user(self._context, session, principal)
            return [ApiKeyView.of(row) for row in await self._repository.api_keys(session, user.id)]

    async def revoke(self, principal: Principal, key_id: str) -> None:
        """From now on the key signs nothing; 404 `unknown-api-key`."""
        async with self._context.database.transaction() as session:
            user = await live_user(self._context, session, principal)
            if not await self._repository.revoke_api_key(session, user.id, key_id, self._context.now):
                raise Problem(404, "unknown-api-key", "You have no such API key.")
            await outbox.write(session, [events.of(events.ApiKeyRevoked(user=user.id, key=key_id))])

    async def verify(self, request: SignedRequest) -> Principal:
        """The owner of the key that signed a request, once for each signature.

        Raises:
            Problem: 400 `invalid-signature-headers`; 401 `timestamp-outside-window`, `invalid-api-key`,
                `invalid-signature` or `request-replayed`; 403 `address-not-allowed`.
            Unavailable: database or cache are away.
        """
        timestamp, window = _times(request)
        now = int(self._context.clock() * 1000)
        if not -AHEAD_MS <= now - timestamp <= window:
            raise _refused(
                "timestamp-outside-window", f"The request is good for {window} ms: now it is {now}."
            )
        async with self._context.database.transaction(read_only=True) as session:
            key = await self._repository.api_key(session, request.key)
        if key is None:
            raise _refused("invalid-api-key", "The API key is unknown or revoked.")
        secret = self._context.box.decrypt(key.secret, _context_of(key.id)).decode()
        if not signing.is_signed(secret, _text(request), request.signature):
            raise _refused("invalid-signature", "The signature does not fit the request.")
        address = client_address(request.forwarded_for, request.peer, self._context.proxy_hops)
        networks = parse_networks(key.networks.split())
        if networks and not is_within(address, networks):
            raise Problem(403, "address-not-allowed", f"The API key may not be used from {address}.")
        # The mark lasts until the window has closed, by a clock that may be another one.
        lasts = (timestamp + window - now) / 1000 + 1
        if not await self._context.counters.first(
            f"{key.id}:{request.signature}", self._context.clock(), lasts
        ):
            raise _refused("request-replayed", "This request came before: sign another one.")
        return Principal(key.user_id, frozenset(key.scopes.split()), Method.API_KEY, key.id)

    def _require_second_factor(self, principal: Principal) -> None:
        proved = principal.second_factor_at
        if proved is None or self._context.now - proved > SECOND_FACTOR_SECONDS:
            raise unauthenticated(
                "step-up-required",
                "A key that does more than read is made under a recent second factor.",
                error="insufficient_user_authentication",
                max_age=SECOND_FACTOR_SECONDS,
            )


def _times(request: SignedRequest) -> tuple[int, int]:
    """Timestamp and window in milliseconds; raises Problem when a header has another form."""
    window = request.window or str(WINDOW_MS)
    forms = (
        ("X-API-Timestamp", _NUMBER, request.timestamp),
        ("X-API-Window", _NUMBER, window),
        ("X-API-Nonce", _NONCE, request.nonce),
        ("X-API-Signature", _SIGNATURE, request.signature),
    )
    wrong = [name for name, form, value in forms if not form.fullmatch(value)]
    if not wrong and not 0 < int(window) <= LONGEST_WINDOW_MS:
        wrong = ["X-API-Window"]
    if wrong:
        told = f"{', '.join(wrong)}: missing or not as documented."
        raise Problem(400, "invalid-signature-headers", told)
    return int(request.timestamp), int(window)


def _text(request: SignedRequest) -> bytes:
    try:
        return signing.canonical(
            timestamp=request.timestamp,
            window=request.window,
            nonce=request.nonce,
            method=request.method,
            path=request.path,
            query=request.query,
            body_sha256=request.body_sha256,
        )
    except ValueError:
        raise _refused("invalid-signature", "The signature does not fit the request.") from None


def _refused(code: str, detail: str) -> Problem:
    return Problem(
        401,
        code,
        detail,
        headers={"WWW-Authenticate": f'{signing.PREFIX} realm="tradestack", error="{code}"'},
    )


def _context_of(key_id: str) -> str:
    return f"api key {key_id}"
