"""The two secrets of the role: their forms, their rotation, and what is told when they are missing."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from app.auth.context import AuthContext
from app.auth.endpoints import serve
from app.auth.keys import ENCRYPTION_KEY, SIGNING_KEY, KeyRing, SecretBox, reader
from app.kit.errors import ConfigurationError
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from tests.app.auth.conftest import EMAIL, PASSWORD, ROLE, serving


def pem(key: Ed25519PrivateKey | None = None) -> str:
    made = key or Ed25519PrivateKey.generate()
    return made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def ec_pem() -> str:
    return (
        generate_private_key(SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


class Text:
    """A file that changes."""

    def __init__(self, text: str) -> None:
        self.text: str | None = text

    def __call__(self) -> str:
        if self.text is None:
            raise OSError("gone")
        return self.text


def test_the_id_of_a_key_is_its_thumbprint() -> None:
    """The example of RFC 8037, appendix A.3."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    ring = KeyRing(lambda: pem(Ed25519PrivateKey.from_private_bytes(seed)))
    assert ring.signing.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


async def test_rotation_publishes_before_it_signs() -> None:
    old, new = pem(), pem()
    text = Text(old)
    ring = KeyRing(text)
    first = ring.signing.kid
    text.text = old + "\n" + new
    assert ring.signing.kid == first
    published = [str(key["kid"]) for key in ring.jwks()["keys"]]
    assert published[0] == first
    assert len(set(published)) == 2
    text.text = new + old
    assert ring.signing.kid == published[1]
    assert await ring.key(first) is not None
    text.text = new
    assert await ring.key(first) is None


@pytest.mark.parametrize(
    "broken", [None, "", "short", "-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----"]
)
def test_a_broken_file_leaves_the_last_key(broken: str | None) -> None:
    text = Text(pem())
    ring = KeyRing(text)
    kid = ring.signing.kid
    text.text = broken
    assert ring.signing.kid == kid
    text.text = pem()
    assert ring.signing.kid != kid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "too short",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----" + "A" * 60,
        ec_pem(),
        pem() + "rest",
    ],
)
def test_what_is_no_signing_key_is_told_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match=SIGNING_KEY) as told:
        KeyRing(lambda: text)
    assert "AAAA" not in str(told.value)
    assert "too short" not in str(told.value)


def test_a_line_of_random_text_stands_for_a_key() -> None:
    one, same, other = (KeyRing(lambda text=text: text) for text in ("x" * 40, "x" * 40 + "\n", "y" * 40))  # type: ignore[misc]
    assert one.signing.kid == same.signing.kid != other.signing.kid


@given(st.binary(max_size=64), st.text(max_size=20))
def test_secrets_come_back_with_their_context_only(secret: bytes, context: str) -> None:
    box = SecretBox(lambda: "k" * 40)
    blob = box.encrypt(secret, context)
    assert box.decrypt(blob, context) == secret
    assert box.encrypt(secret, context) != blob
    for wrong, of in (
        (blob, context + "x"),
        (blob[:-1], context),
        (b"", context),
        (b"0000" + blob[4:], context),
    ):
        with pytest.raises(ConfigurationError, match=ENCRYPTION_KEY):
            box.decrypt(wrong, of)


def test_another_encryption_key_reads_what_the_old_one_wrote() -> None:
    text = Text("old_" * 10)
    box = SecretBox(text)
    blob = box.encrypt(b"secret", "of")
    text.text = "new_" * 10 + "\n" + "old_" * 10
    assert box.decrypt(blob, "of") == b"secret"
    newer = box.encrypt(b"secret", "of")
    text.text = "new_" * 10
    assert box.decrypt(newer, "of") == b"secret"
    with pytest.raises(ConfigurationError):
        box.decrypt(blob, "of")


def settings(url: str) -> Settings:
    return Settings.load(
        database_url=url, bus_url="memory://", cache_url="memory://", host="127.0.0.1", port=0
    )


@pytest.mark.parametrize("missing", [SIGNING_KEY, ENCRYPTION_KEY])
async def test_a_missing_secret_is_told_before_the_role_listens(secrets_dir: Path, missing: str) -> None:
    for name in (SIGNING_KEY, ENCRYPTION_KEY):
        if name != missing:
            (secrets_dir / name).write_text("x" * 40)
    given = settings("postgresql+asyncpg://trading@127.0.0.1:1/trading")
    backends = Backends(given)
    runtime = Runtime(ROLE, given, backends)
    with pytest.raises(ConfigurationError, match=f"{missing} is missing in APP_SECRETS_DIR.*`openssl"):
        await serve(runtime)
    assert runtime.directory == {}
    await backends.close()


def test_a_secret_may_come_from_the_environment(secrets_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_AUTH_SIGNING_KEY", "e" * 40)
    given = settings("postgresql+asyncpg://trading@127.0.0.1:1/trading")
    assert reader(given, SIGNING_KEY)() == "e" * 40
    (secrets_dir / SIGNING_KEY).write_text("f" * 40)
    assert reader(given, SIGNING_KEY)() == "f" * 40


async def test_wrong_settings_are_told(secrets_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PROXY_HOPS", "many")
    given = settings("sqlite+aiosqlite://")
    with pytest.raises(ConfigurationError, match="APP_PROXY_HOPS='many'"):
        AuthContext.of(Runtime(ROLE, given, Backends(given)))


async def test_one_process_makes_its_secrets_and_goes_on_with_them(secrets_dir: Path, tmp_path: Path) -> None:
    given = settings(f"sqlite+aiosqlite:///{tmp_path}/data.db")
    async with serving(given) as auth:
        ann = await auth.enrolled()
        key, secret = await auth.api_key(ann.token, "read", "trade")
        tokens = await auth.login(EMAIL, PASSWORD, code=auth.code(ann.secret))
        told = await auth.events()
        assert [event["type"] for event in told][:3] == ["UserCreated", "UserEmailSet", "SessionStarted"]
    for name in (SIGNING_KEY, ENCRYPTION_KEY):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    async with serving(given) as auth:
        auth.clock.pass_(90)
        assert (await auth.call("GET", "/me", tokens["access_token"]))["email"] == EMAIL
        headers = auth.signed(key, secret, path="/api/auth/me")
        answer = await auth.client.get("/api/auth/me", headers=headers)
        assert answer.json()["code"] == "session-required"
        assert await auth.call("POST", "/refresh", refresh_token=tokens["refresh_token"])
        assert await auth.login(EMAIL, PASSWORD, code=auth.code(ann.secret))


def test_nothing_is_kept_for_a_database_in_memory(secrets_dir: Path) -> None:
    read = reader(settings("sqlite+aiosqlite://"), SIGNING_KEY)
    assert read() == read()
    assert KeyRing(read).signing.kid
