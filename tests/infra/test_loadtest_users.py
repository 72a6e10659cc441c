"""Users of a load whose access tokens end before it does."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from infra.errors import TradestackError
from infra.loadtest.users import Users, read_accounts
from tests.infra.test_loadtest import tradestack

LIFE = 0.5
"""Seconds that an access token is good for."""
KEY = "a key that nobody checks, 32 bytes"


class Exchange:
    """Logs users in, renews their tokens and takes orders with tokens that are good."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.statuses: list[int] = []
        self.sessions_end = False
        self._good: dict[str, float] = {}
        self._refresh: set[str] = set()

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
            status = 201 if time.monotonic() < self._good.get(token, 0) else 401
            self.statuses.append(status)
            return status, {"order_id": "1"}
        self.asked.append(path)
        given = body.get("refresh_token")
        if path == "/api/auth/refresh" and (given not in self._refresh or self.sessions_end):
            return 401, {}
        self._refresh.discard(given or "")
        number = len(self.asked)
        self._good[f"token-{number}"] = time.monotonic() + LIFE
        self._refresh.add(f"refresh-{number}")
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


async def test_tokens_are_renewed_before_they_end(tmp_path: Path) -> None:
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
        assert document["figures"]["tokens_renewed"] >= 2 * (3 // LIFE - 1)
        assert document["figures"]["renewals_failed"] == 0
        assert document["settings"]["users"] == 2


async def test_a_session_that_ended_begins_again() -> None:
    async with exchange() as made:
        accounts = [("ann@example.com", "secret")]
        users = await asyncio.to_thread(Users.logged_in, urlsplit(made.url), accounts, None)
        made.sessions_end = True
        keeping = asyncio.create_task(users.keep_fresh())
        async with asyncio.timeout(30):
            while not users.renewed:
                await asyncio.sleep(0.01)
        keeping.cancel()
    assert made.asked == ["/api/auth/login", "/api/auth/refresh", "/api/auth/login"]
    assert (users.tokens, users.renewals_failed) == (["token-3"], 1)


def test_a_token_that_cannot_be_renewed_has_to_last() -> None:
    token = jwt.encode({"exp": time.time() + 100}, KEY)
    assert Users.of_tokens([token, "an-api-key"], 90).tokens == [token, "an-api-key"]
    with pytest.raises(TradestackError, match=r"good for (99|100) s more, and the run takes 110 s"):
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
