"""Stands for the role `auth` where only its tokens are needed: signs them and publishes the public key."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.kit.auth import ALGORITHM, AUDIENCE, ISSUER, JWKS_PATH, TOKEN_TYPE

ALL_SCOPES = ("read", "trade", "withdraw")


class Issuer:
    """A signing key and the access tokens that it signs."""

    def __init__(self, kid: str = "test-key") -> None:
        self.kid = kid
        self.private = Ed25519PrivateKey.generate()
        self.url = ""
        """Base URL of the published key, for the directory of a runtime."""
        self.asked = 0
        """How often the key was asked for."""

    def jwks(self) -> bytes:
        public = json.loads(jwt.get_algorithm_by_name(ALGORITHM).to_jwk(self.private.public_key()))
        return json.dumps({"keys": [{**public, "kid": self.kid, "alg": ALGORITHM, "use": "sig"}]}).encode()

    def claims(self, user: str, *scopes: str, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "sid": "a-session",
            "scope": " ".join(scopes or ALL_SCOPES),
            "iat": now,
            "nbf": now,
            "exp": now + 900,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, user: str, *scopes: str, **changes: Any) -> str:
        """A token, with every scope of a user unless some are named; a change to None leaves a claim out."""
        headers = {"kid": self.kid, "typ": TOKEN_TYPE}
        return jwt.encode(self.claims(user, *scopes, **changes), self.private, ALGORITHM, headers)

    def headers(self, user: str, *scopes: str, **changes: Any) -> dict[str, str]:
        """What a client sends; `second_factor_at=int(time.time())` for guards that want a second factor."""
        return {"authorization": f"Bearer {self.token(user, *scopes, **changes)}"}

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        body = self.jwks() if head.startswith(f"GET {JWKS_PATH} ".encode()) else b""
        status = b"200 OK" if body else b"404 Not Found"
        length = str(len(body)).encode()
        writer.write(
            b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: " + length + b"\r\n\r\n" + body
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def publishing(directory: dict[str, str], kid: str = "test-key") -> AsyncIterator[Issuer]:
    """An issuer that roles with this directory (`Platform.addresses`) take for the role `auth`."""
    issuer = Issuer(kid)
    server = await asyncio.start_server(issuer._answer, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    directory["auth"] = issuer.url
    try:
        yield issuer
    finally:
        directory.pop("auth", None)
        server.close()
