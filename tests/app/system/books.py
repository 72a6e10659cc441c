"""What must hold of the exchange's books once everybody has caught up, whatever happened before."""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
import httpx

from app.exchange import MatchingEngine
from app.matching.journal import unpack
from infra.servers.exchange import Exchange

FOLLOWERS = ("wallet", "order", "portfolio")


async def rows(exchange: Exchange, statement: str, *values: object) -> list[Mapping[str, Any]]:
    connection = await asyncpg.connect(exchange.database_url.replace("+asyncpg", ""))
    try:
        return list(await connection.fetch(statement, *values))
    finally:
        await connection.close()


async def engine_state(exchange: Exchange) -> dict[str, Any]:
    url = exchange.url("matching-engine")
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        answer = await client.get("/internal/matching/state", headers=exchange.internal_headers)
        return dict(answer.raise_for_status().json())


async def settled(exchange: Exchange, seconds: float = 60) -> None:
    """Wait until every follower has seen all that the engine decided."""
    async with asyncio.timeout(seconds):
        while True:
            state = await engine_state(exchange)
            found = await rows(exchange, "SELECT consumer, symbol, sequence FROM stream_positions")
            places = {(row["consumer"], row["symbol"]): row["sequence"] for row in found}
            behind = {
                (follower, symbol): (places.get((follower, symbol), 0), book["sequence"])
                for symbol, book in state.items()
                for follower in FOLLOWERS
                if places.get((follower, symbol), 0) < book["sequence"]
            }
            if not behind:
                return
            await asyncio.sleep(0.1)


async def check(exchange: Exchange, acknowledged: Mapping[str, str]) -> None:
    """No acknowledged order is lost, none executed twice, every asset adds up to zero, the journal tells all.

    Nobody may trade meanwhile.
    """
    kept = {
        row["client_order_id"]: str(row["order_id"])
        for row in await rows(exchange, "SELECT client_order_id, order_id FROM orders")
    }
    lost = {id: order_id for id, order_id in acknowledged.items() if kept.get(id) != order_id}
    assert not lost

    wrong = await rows(
        exchange,
        """
        SELECT o.order_id, o.quantity, o.filled, coalesce(sum(f.quantity), 0) AS executed
        FROM orders o LEFT JOIN fills f USING (order_id)
        GROUP BY o.order_id
        HAVING coalesce(sum(f.quantity), 0) <> o.filled OR o.filled > o.quantity
        """,
    )
    assert not wrong

    [counts] = await rows(
        exchange,
        "SELECT (SELECT count(*) FROM fills) AS fills, (SELECT count(*) FROM wallet_settlements) AS settled",
    )
    assert counts["fills"] == 2 * counts["settled"]

    imbalance = await rows(
        exchange,
        "SELECT asset, sum(balance) AS total FROM ledger_accounts GROUP BY asset HAVING sum(balance) <> 0",
    )
    assert not imbalance

    held_for_nothing = await rows(
        exchange,
        """
        SELECT o.order_id, o.status, h.amount - h.posted - h.released AS held FROM orders o
        JOIN ledger_holds h ON h.id = 'hold:' || o.order_id
        WHERE o.status IN ('filled', 'cancelled', 'rejected') AND h.state = 'pending'
        """,
    )
    assert not held_for_nothing

    state = await engine_state(exchange)
    replayed = {symbol: MatchingEngine(symbol) for symbol in state}
    for row in await rows(exchange, "SELECT records FROM matching_journal ORDER BY batch"):
        for symbol, entries in unpack(row["records"]):
            for entry in entries:
                replayed[symbol].apply(entry.command)
    assert {symbol: book["state_hash"] for symbol, book in state.items()} == {
        symbol: engine.state_hash() for symbol, engine in replayed.items()
    }

    uneven = await rows(
        exchange,
        "SELECT symbol, sum(lots) AS total FROM portfolio_positions GROUP BY symbol HAVING sum(lots) <> 0",
    )
    assert not uneven
