"""The two secrets of the role: what signs access tokens and what encrypts secrets in the database.

Both come as files in APP_SECRETS_DIR and are read again when they change, so that rotating needs no restart:

* `app_auth_signing_key`: Ed25519 private keys as PEM blocks (`openssl genpkey -algorithm ed25519`). The first
  one signs, all are published. To rotate, append the new key, wait five minutes until every role knows it,
  then put it first; take the old one out 15 minutes later. A line of random text of at least 40 characters
  stands for a PEM block: a key is derived from it.
* `app_auth_encryption_key`: lines of random text of at least 40 characters (`openssl rand -base64 32`). The
  first one encrypts, all decrypt. A line that is taken out makes what it encrypted unreadable.

In the single process on SQLite, missing ones are made and kept beside the database.
"""

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import jwt
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import make_url

from app.kit import logs
from app.kit.auth import ALGORITHM, KeySource
from app.kit.errors import ConfigurationError
from app.kit.settings import Settings

SIGNING_KEY = "app_auth_signing_key"
ENCRYPTION_KEY = "app_auth_encryption_key"
_SECRETS_DIR = "/run/secrets/tradestack"
_LEAST_TEXT = 40
_PEM = re.compile(r"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----", re.DOTALL)
_MAKE = {SIGNING_KEY: "openssl genpkey -algorithm ed25519", ENCRYPTION_KEY: "openssl rand -base64 32"}
_log = logs.get(__name__)
T = TypeVar("T")


class Reread(Generic[T]):
    """A value made from a text that may change; while the text cannot be read or used, the last value stands.

    Raises:
        ConfigurationError: on construction, when the first text cannot be used.
    """

    def __init__(self, read: Callable[[], str], parse: Callable[[str], T]) -> None:
        self._read = read
        self._parse = parse
        self._text = read()
        self._value = parse(self._text)

    @property
    def value(self) -> T:
        """The value of the text as it is now."""
        try:
            text = self._read()
            if text != self._text:
                self._text = text
                self._value = self._parse(text)
        except (OSError, ConfigurationError) as error:
            _log.error("secret cannot be read again", reason=str(error))
        return self._value


@dataclass(frozen=True)
class SigningKey:
    """A private key and the id that tokens name it by: its thumbprint (RFC 7638)."""

    private: Ed25519PrivateKey

    @cached_property
    def public(self) -> dict[str, Any]:
        """The public key as a JWK."""
        bare = {
            "crv": "Ed25519",
            "kty": "OKP",
            "x": base64.urlsafe_b64encode(self.private.public_key().public_bytes_raw()).decode().rstrip("="),
        }
        thumbprint = hashlib.sha256(orjson.dumps(bare, option=orjson.OPT_SORT_KEYS)).digest()
        kid = base64.urlsafe_b64encode(thumbprint).decode().rstrip("=")
        return {**bare, "kid": kid, "alg": ALGORITHM, "use": "sig"}

    @property
    def kid(self) -> str:
        """The id of the key."""
        return str(self.public["kid"])


class KeyRing(KeySource):
    """The signing keys: the first signs, all verify."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._keys = Reread(read, _signing_keys)

    @property
    def signing(self) -> SigningKey:
        """The key that signs."""
        return self._keys.value[0]

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """Every public key."""
        return {"keys": [key.public for key in self._keys.value]}

    async def key(self, kid: str) -> jwt.PyJWK | None:
        """See `KeySource`."""
        return next((jwt.PyJWK(key.public) for key in self._keys.value if key.kid == kid), None)


def _signing_keys(text: str) -> list[SigningKey]:
    blocks = _PEM.findall(text)
    try:
        loaded = [serialization.load_pem_private_key(block.encode(), None) for block in blocks]
    except ValueError as error:
        raise ConfigurationError(f"{SIGNING_KEY}: a PEM block holds no private key") from error
    if any(not isinstance(key, Ed25519PrivateKey) for key in loaded):
        raise ConfigurationError(f"{SIGNING_KEY}: only Ed25519 keys; make one with `{_MAKE[SIGNING_KEY]}`")
    made = [
        Ed25519PrivateKey.from_private_bytes(_derived(line, "signing"))
        for line in _lines(SIGNING_KEY, _PEM.sub("", text), needed=not blocks)
    ]
    return [SigningKey(key) for key in [*loaded, *made] if isinstance(key, Ed25519PrivateKey)]


def _lines(name: str, text: str, *, needed: bool = True) -> list[str]:
    """Lines of random text; raises ConfigurationError when one is too short, or none is there but needed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(len(line) < _LEAST_TEXT or "-----" in line for line in lines) or (needed and not lines):
        raise ConfigurationError(f"{name}: at least {_LEAST_TEXT} characters; make it with `{_MAKE[name]}`")
    return lines


def _derived(text: str, purpose: str) -> bytes:
    info = f"tradestack auth {purpose}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(text.encode())


class SecretBox:
    """Encrypts small secrets with AES-256-GCM, bound to what they are of."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._keys = Reread(read, _encryption_keys)

    def encrypt(self, secret: bytes, context: str) -> bytes:
        """The id of the key (4 bytes), a nonce (12 bytes) and the secret, encrypted."""
        key_id, key = next(iter(self._keys.value.items()))
        nonce = secrets.token_bytes(12)
        return key_id + nonce + AESGCM(key).encrypt(nonce, secret, context.encode())

    def decrypt(self, blob: bytes, context: str) -> bytes:
        """What `encrypt` was given with the same `context`.

        Raises:
            ConfigurationError: the key is not among the ones known, or the blob was changed or moved.
        """
        key = self._keys.value.get(blob[:4])
        try:
            if key is not None:
                return AESGCM(key).decrypt(blob[4:16], blob[16:], context.encode())
        except (InvalidTag, ValueError):
            pass
        raise ConfigurationError(f"{ENCRYPTION_KEY} does not decrypt what is stored")


def _encryption_keys(text: str) -> dict[bytes, bytes]:
    keys = [_derived(line, "encryption") for line in _lines(ENCRYPTION_KEY, text)]
    return {hashlib.sha256(key).digest()[:4]: key for key in keys}


def reader(settings: Settings, name: str) -> Callable[[], str]:
    """A function that reads a secret as it is now: the file in APP_SECRETS_DIR, else the environment.

    Raises:
        ConfigurationError: there is none, and this is not the single process on SQLite.
    """
    file = Path(os.environ.get("APP_SECRETS_DIR", _SECRETS_DIR)) / name
    if file.is_file():
        return file.read_text
    given = os.environ.get(name.upper())
    if given:
        return lambda: given
    url = make_url(settings.database_url or "")
    if url.get_backend_name() != "sqlite":
        raise ConfigurationError(
            f"{name} is missing in APP_SECRETS_DIR ({file.parent}): make it with `{_MAKE[name]}`"
        )
    if not url.database or url.database == ":memory:":
        made = secrets.token_urlsafe(48)
        return lambda: made
    return _kept(Path(url.database).with_name(name)).read_text


def _kept(file: Path) -> Path:
    """A file with a random secret, made when it is missing, that only its owner can read."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file
    with os.fdopen(descriptor, "w") as sink:
        sink.write(secrets.token_urlsafe(48) + "\n")
    return file
