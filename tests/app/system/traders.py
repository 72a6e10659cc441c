"""Users who place orders without pause, each again and again until it has its answer."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import httpx

from app.instruments import INSTRUMENTS
from app.kit.database import Database
from app.wallet.deposits import Deposit
from app.wallet.ledger.assets import ASSETS
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from infra.servers.exchange import Exchange

SYMBOLS = ("BTC-USD", "ETH-USD")
_PASSWORD = "correct horse battery staple 9"


@dataclass
class Traders:
    """What was sent and what came back."""

    url: str
    tokens: list[str]
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Client order id → order id."""
    retries: int = 0
    over: bool = False
    """Set to have everybody stop behind the order that is under way."""
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def trade(self, user: int, seed: int) -> None:
        """Place orders until it is over; one that has no answer yet is sent again unchanged."""
        pick = random.Random(seed)
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=10) as client:
            number = 0
            while not self.over:
                number += 1
                await self._place(client, user, f"{seed}-{user}-{number}", pick)

    async def _place(self, client: httpx.AsyncClient, user: int, id: str, pick: random.Random) -> None:
        instrument = INSTRUMENTS[pick.choice(SYMBOLS)]
        price = instrument.start_price + pick.randint(-10, 10) * instrument.tick_size
        order = {
            "client_order_id": id,
            "symbol": instrument.symbol,
            "side": pick.choice(("buy", "sell")),
            "order_type": "limit",
            "quantity": str(pick.randint(1, 9) * instrument.lot_size),
            "price": str(price),
        }
        headers = {"authorization": f"Bearer {self.tokens[user]}"}
        while True:
            try:
                answer = await client.post("/api/orders", json=order, headers=headers)
            except httpx.TransportError:
                self.retries += 1
                await asyncio.sleep(0.1)
                continue
            if answer.status_code in (200, 201):
                order_id = answer.json()["order_id"]
                assert self.acknowledged.setdefault(id, order_id) == order_id
                async with self._news:
                    self._news.notify_all()
                return
            assert answer.status_code in (502, 503, 504), answer.text
            self.retries += 1
            await asyncio.sleep(0.1)

    async def more(self, orders: int) -> None:
        """Wait until so many further orders are acknowledged."""
        wanted = len(self.acknowledged) + orders
        async with asyncio.timeout(90), self._news:
            await self._news.wait_for(lambda: len(self.acknowledged) >= wanted)


@asynccontextmanager
async def trading(exchange: Exchange, users: int, seed: int) -> AsyncIterator[Traders]:
    """Funded users who trade until the end of the body; afterwards no order is under way any more."""
    traders = Traders(exchange.url("order"), [])
    database = Database(exchange.database_url)
    wallet = Wallet.of(database, WalletSettings())
    await wallet.prepare()
    async with httpx.AsyncClient(base_url=exchange.url("auth"), trust_env=False, timeout=30) as client:
        for number in range(users):
            account = {"email": f"trader-{seed}-{number}@example.com", "password": _PASSWORD}
            headers = {"x-forwarded-for": f"10.{seed % 250}.0.{number}"}
            user = (await client.post("/api/auth/register", json=account, headers=headers)).raise_for_status()
            login = (await client.post("/api/auth/login", json=account, headers=headers)).raise_for_status()
            traders.tokens.append(login.json()["access_token"])
            for asset in ("USD", "BTC", "ETH"):
                amount = ASSETS[asset].units(Decimal(1_000_000))
                deposit = Deposit(f"{seed}-{number}-{asset}", user.json()["user_id"], asset, amount)
                async with database.transaction() as session:
                    await wallet.deposits.book(session, deposit)
    await database.close()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(traders.trade(user, seed)) for user in range(users)]
        yield traders
        traders.over = True
        async with asyncio.timeout(90):
            await asyncio.wait(tasks)
