"""With the real engine and wallet: what was traded, paid and charged is what the portfolio says."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.matching_client.client import MatchingClient
from app.matching_client.commands import Place
from app.prices import write_latest
from tests.app.auth.issuer import Issuer, publishing
from tests.app.platform import Platform, running
from tests.app.portfolio.conftest import deposit
from tests.app.ticks import tick

SECONDS = 30.0


async def trade(client: MatchingClient, *orders: tuple[str, str, int, int]) -> None:
    """Enter limit orders: owner, side, price in ticks, lots."""
    for owner, side, price, quantity in orders:
        result = await client.submit(
            Place(
                owner=owner,
                client_order_id=f"{owner}-{side}-{price}-{quantity}",
                symbol="BTC-USD",
                side=side,
                order_type="limit",
                quantity=quantity,
                price=price,
            )
        )
        assert result.code == "ok", result


async def test_funds_and_profit_agree(tmp_path: Path) -> None:
    async with running(tmp_path, "matching-engine", "wallet", "portfolio", wait=False) as platform:
        await write_latest(platform.backends.cache, [tick(price=6_000_000)])
        database = platform.backends.database
        await deposit(database, "anna", "USD", 10_000 * 10**8)
        await deposit(database, "ben", "BTC", 10**8)
        for runtime in platform.runtimes.values():
            async with asyncio.timeout(SECONDS):
                await runtime.became_ready.wait()
        client = MatchingClient(platform.runtimes["portfolio"])
        async with publishing(platform.addresses) as issuer:
            await trade(client, ("ben", "sell", 6_000_000, 4_000), ("anna", "buy", 6_000_000, 3_000))
            await trade(client, ("anna", "buy", 6_000_000, 1_000))
            # What was bought and earned can be used once it is settled.
            await settled(platform, issuer, "anna", 2)
            await trade(client, ("ben", "buy", 6_100_000, 1_500), ("anna", "sell", 6_100_000, 1_500))
            await client.close()
            found = await settled(platform, issuer, "anna", 3)
            (position,) = found["positions"]
            assert (position["quantity"], position["average_price"], position["realised"]) == (
                "0.025",
                "60000",
                "15",
            )
            history = await get(platform, issuer, "anna", "/positions/BTC-USD/history")
            assert [e["realised"] for e in history["entries"]] == ["15", "0", "0"]
            fees = sum(Decimal(e["fee"]) for e in history["entries"])
            assert fees > 0
            (dollars,) = [t for t in found["totals"] if t["currency"] == "USD"]
            # All that funds changed by are costs, profits and fees.
            cash = Decimal(dollars["cash"])
            assert cash == 10_000 - Decimal(position["cost"]) + Decimal(position["realised"]) - fees
            (coins,) = [b for b in found["balances"] if b["asset"] == "BTC"]
            assert (coins["available"], coins["held"]) == ("0.025", "0")


async def get(platform: Platform, issuer: Issuer, user: str, path: str = "") -> Any:
    answer = await platform.get("portfolio", f"/api/portfolio{path}", headers=issuer.headers(user))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def settled(platform: Platform, issuer: Issuer, user: str, trades: int) -> Any:
    """The portfolio as soon as the wallet has charged for so many trades and nothing is held."""
    async with asyncio.timeout(SECONDS):
        while True:
            history = await get(platform, issuer, user, "/positions/BTC-USD/history")
            fees = [e["fee"] for e in history["entries"]]
            found = await get(platform, issuer, user)
            if len(fees) == trades and None not in fees and all(b["held"] == "0" for b in found["balances"]):
                return found
            await asyncio.sleep(0.05)
