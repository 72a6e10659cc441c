"""The worth of an account goes on being told, whatever went wrong once."""

import asyncio

import pytest

from app.kit.errors import Unavailable
from app.price_service import portfolio
from app.price_service.accounts import Account
from app.price_service.portfolio import PortfolioValues


class Watcher:
    """A connection of a user."""

    user_id = "anna"
    slow = False

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def push(self, data: bytes) -> None:
        self.heard.put_nowait(data)


@pytest.mark.parametrize(
    "wrong", [Unavailable("portfolio", "is away"), ZeroDivisionError("a mistake of ours")]
)
async def test_what_went_wrong_once_is_tried_again(wrong: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portfolio, "_PACE_SECONDS", 0.01)
    answers: list[Exception | Account] = [wrong, wrong, Account([], {})]

    async def read(owner: str) -> Account:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    values, watcher = PortfolioValues(read, lambda _: None), Watcher()
    values.join(watcher)
    told = await asyncio.wait_for(watcher.heard.get(), 30)
    values.leave(watcher)
    assert b'"portfolio"' in told
    assert answers == []
