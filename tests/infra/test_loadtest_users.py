"""Users of a load whose access tokens end before it does."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from infra.errors import TradestackError
from infra.loadtest import users
from infra.loadtest.users import Users, read_accounts
from tests.infra.test_loadtest import tradestack

LIFE = 0.5
"""Seconds that an access token is said to be good for."""
KEY = "a key that nobody checks, 32 bytes"


class Exchange:
    """Logs users in, renews their tokens and takes orders with tokens that are good.

    A token is good until its session has two newer ones: an order may be on its way while the next one is
    fetched, and no pause of a process ends a token.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.statuses: list[int] = []
        self.sessions_end = False
        self._good: set[str] = set()
        self._sessions: dict[str, list[str]] = {}
        """Refresh token → access tokens of its session."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                status, answer = self._answer(head.split()[1], head, body)
                text = json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(text), text))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, path: str, head: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/api/orders":
            token = head.split("bearer ")[1].split("\r\n")[0]
            status = 201 if token in self._good else 401
            self.statuses.append(status)
            return status, {"order_id": "1"}
        self.asked.append(path)
        tokens: list[str] | None = []
        if path == "/api/auth/refresh":
            tokens = None if self.sessions_end else self._sessions.pop(body["refresh_token"], None)
        if tokens is None:
            return 401, {}
        number = len(self.asked)
        tokens.append(f"token-{number}")
        self._good.add(tokens[-1])
        self._good -= set(tokens[:-2])
        self._sessions[f"refresh-{number}"] = tokens
        return 200, {
            "access_token": f"token-{number}",
            "refresh_token": f"refresh-{number}",
            "expires_in": LIFE,
        }


@asynccontextmanager
async def exchange() -> AsyncIterator[Exchange]:
    made = Exchange()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        listening.close()


async def test_a_token_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that stands still, so that only what is waited for counts."""
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 3:
            await asyncio.Event().wait()

    monkeypatch.setattr(users, "time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(users, "asyncio", SimpleNamespace(sleep=pause))
    async with exchange() as made:
        accounts = [("ann@example.com", "secret")]
        held = await asyncio.to_thread(Users.logged_in, urlsplit(made.url), accounts, None)
        keeping = asyncio.create_task(held.keep_fresh())
        async with asyncio.timeout(30):
            while len(waits) < 4:
                await asyncio.sleep(0.01)
        keeping.cancel()
    assert held.renewed == 3
    assert all(0 < wait < LIFE for wait in waits)


async def test_tokens_are_renewed_while_orders_are_placed(tmp_path: Path) -> None:
    accounts = tmp_path / "users"
    accounts.write_text("ann@example.com one two three\n\nbob@example.com four\n")
    async with exchange() as made:
        code, out, err = await tradestack(
            *("orders", made.url, "--users", str(accounts), "--rate", "20", "--seconds", "3", "--json")
        )
        document = json.loads(out)
        assert code == 0, err + out
        assert made.statuses == [201] * 60
        assert made.asked[:2] == ["/api/auth/login"] * 2
        assert set(made.asked[2:]) == {"/api/auth/refresh"}
        assert document["figures"]["tokens_renewed"] >= 2
        assert document["figures"]["renewals_failed"] == 0
        assert document["settings"]["users"] == 2


async def test_a_session_that_ended_begins_again() -> None:
    async with exchange() as made:
        accounts = [("ann@example.com", "secret")]
        held = await asyncio.to_thread(Users.logged_in, urlsplit(made.url), accounts, None)
        made.sessions_end = True
        keeping = asyncio.create_task(held.keep_fresh())
        async with asyncio.timeout(30):
            while not held.renewed:
                await asyncio.sleep(0.01)
        keeping.cancel()
    assert made.asked == ["/api/auth/login", "/api/auth/refresh", "/api/auth/login"]
    assert (held.tokens, held.renewals_failed) == (["token-3"], 1)


def test_a_token_that_cannot_be_renewed_has_to_last() -> None:
    token = jwt.encode({"exp": time.time() + 100}, KEY)
    assert Users.of_tokens([token, "an-api-key"], 90).tokens == [token, "an-api-key"]
    with pytest.raises(TradestackError, match=r"good for (9\d|100) s more, and the run takes 110 s"):
        Users.of_tokens([token], 110)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no users"),
        ("ann@example.com\n", ":1 is not an email"),
        ("a@b c\nann secret\n", ":2 is not"),
    ],
)
def test_a_file_that_holds_no_users(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "users").write_text(text)
    with pytest.raises(TradestackError, match=told):
        read_accounts(tmp_path / "users")


async def test_one_way_to_name_users(tmp_path: Path) -> None:
    code, _, err = await tradestack("orders", "http://127.0.0.1:1")
    assert code == 2
    assert "--users" in err
