"""Orders over HTTP to settled ledger, on real PostgreSQL and Kafka."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import httpx
import psutil

from app.instruments import INSTRUMENTS
from app.kit.database import Database
from app.wallet.deposits import Deposit
from app.wallet.ledger.assets import ASSETS
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from infra.bench.order_load import Load
from infra.bench.report import Report, versions
from infra.errors import TradestackError
from infra.loadtest.latencies import percentile
from infra.progress import Steps
from infra.servers.exchange import Exchange
from infra.servers.process import wait_until

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD")
USERS = 50
LATENCY_RATE, LATENCY_SECONDS = 200.0, 30.0
"""Orders a second of the phase that latency is taken from."""
RATE, SECONDS = 1020.0, 60.0
"""Orders a second of the sustained phase."""
_WARM_UP = (200.0, 5.0)
_DRAIN_SECONDS = 120.0
_PASSWORD = "correct horse battery staple 9"  # noqa: S105 - of accounts that live as long as the benchmark
PEATIO = 60.0
"""Orders a second of the database path of peatio, as its project published it: 57 to 62."""


def measure(steps: Steps) -> Report:
    """Three loads on one exchange: warm-up, 200 orders/s for latency, 1,000 orders/s sustained.

    `settled_p99_ms` is from the moment the taker was journaled to its settlement in the ledger.

    Raises:
        TradestackError: orders were refused or lost, or the books do not add up.
    """
    with tempfile.TemporaryDirectory(prefix="tradestack-bench-") as directory:
        settings = {"APP_RISK_ORDER_RATE": "100000", "APP_RISK_ORDER_BURST": "100000"}
        exchange = Exchange(Path(directory), settings=settings)
        try:
            with steps.step("Start PostgreSQL, Kafka and the roles", estimate_s=40):
                exchange.prepare()
                exchange.start()
            with steps.step(f"{USERS} users with funds", estimate_s=20):
                tokens = asyncio.run(_users(exchange))
            _run(exchange, tokens, "warm", *_WARM_UP)
            with steps.step(f"{LATENCY_RATE:g} orders/s", estimate_s=LATENCY_SECONDS + 5):
                calm = _phase(exchange, tokens, "calm", LATENCY_RATE, LATENCY_SECONDS)
            with steps.step(f"{RATE:g} orders/s", estimate_s=SECONDS + 20):
                full = _phase(exchange, tokens, "full", RATE, SECONDS)
            with steps.step("Check the books"):
                asyncio.run(_check(exchange))
        finally:
            exchange.stop()
    reached = full["orders_per_s"]
    return Report(
        name="orders",
        ours={
            "orders_per_s": reached,
            "p50_ms": calm["p50_ms"],
            "p99_ms": calm["p99_ms"],
            "seconds": full["seconds"],
            "calm": calm,
            "full": full,
        },
        versions=dict(versions(["fastapi", "uvicorn", "sqlalchemy", "asyncpg", "confluent-kafka"])),
        peers={"peatio": {"orders_per_s": PEATIO, "source": "published, on another machine"}},
        ratio=round(reached / PEATIO, 2),
    )


async def _users(exchange: Exchange) -> list[str]:
    """Access tokens of new users, each with funds in every asset."""
    assets = {"USD", *(symbol.partition("-")[0] for symbol in SYMBOLS)}
    database = Database(exchange.database_url)
    wallet = Wallet.of(database, WalletSettings())
    await wallet.prepare()
    tokens = []
    async with httpx.AsyncClient(base_url=exchange.url("auth"), trust_env=False, timeout=30) as client:
        for number in range(USERS):
            account = {"email": f"trader{number}@example.com", "password": _PASSWORD}
            headers = {"x-forwarded-for": f"10.1.{number // 10}.{number}"}
            user = (await client.post("/api/auth/register", json=account, headers=headers)).raise_for_status()
            login = (await client.post("/api/auth/login", json=account, headers=headers)).raise_for_status()
            tokens.append(login.json()["access_token"])
            for asset in assets:
                deposit = Deposit(
                    f"{number}-{asset}",
                    user.json()["user_id"],
                    asset,
                    ASSETS[asset].units(Decimal(10_000_000)),
                )
                async with database.transaction() as session:
                    await wallet.deposits.book(session, deposit)
    await database.close()
    return tokens


def _run(exchange: Exchange, tokens: list[str], run: str, rate: float, seconds: float) -> dict[str, Any]:
    markets = {
        symbol: (str(item.start_price), str(item.tick_size), str(item.lot_size))
        for symbol, item in INSTRUMENTS.items()
        if symbol in SYMBOLS
    }
    load = Load(exchange.url("order"), tokens, markets, rate, seconds, run=run)
    command = [sys.executable, "-m", "infra.bench.order_load"]
    done = subprocess.run(
        command, input=json.dumps(asdict(load)), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TradestackError(f"the load ended with an error:\n{done.stderr[-2000:]}")
    outcome: dict[str, Any] = json.loads(done.stdout)
    refused = {status: n for status, n in outcome["statuses"].items() if status not in ("201", "200")}
    if refused:
        raise TradestackError(f"of {round(rate * seconds)} orders some were not taken: {refused}")
    return outcome


def _phase(exchange: Exchange, tokens: list[str], run: str, rate: float, seconds: float) -> dict[str, Any]:
    processes = _processes(exchange)
    before = {name: _cpu_seconds(pids) for name, pids in processes.items()}
    self_before = psutil.Process().cpu_times()
    first = asyncio.run(_last_order(exchange))
    outcome = _run(exchange, tokens, run, rate, seconds)
    drained = _drain(exchange)
    self_after = psutil.Process().cpu_times()
    orders = len(outcome["acknowledged"])
    cost = {
        name: round((_cpu_seconds(pids) - before[name]) / orders * 1e6) for name, pids in processes.items()
    }
    # The load is a child that has ended: its time is in this process's children.
    client = self_after.children_user + self_after.children_system
    client -= self_before.children_user + self_before.children_system
    cost["load"] = round(client / orders * 1e6)
    latencies = sorted(outcome["latencies_ms"])
    settled, trades = asyncio.run(_settlement(exchange, first))
    asyncio.run(_check_acknowledged(exchange, outcome["acknowledged"]))
    return {
        "orders": orders,
        "trades": trades,
        "orders_per_s": round(orders / outcome["seconds"], 1),
        "seconds": round(outcome["seconds"], 1),
        "p50_ms": round(percentile(latencies, 0.5), 1),
        "p99_ms": round(percentile(latencies, 0.99), 1),
        "p999_ms": round(percentile(latencies, 0.999), 1),
        "settled_p50_ms": settled[0],
        "settled_p99_ms": settled[1],
        "settled_after_load_s": drained,
        "cpu_us_per_order": cost,
    }


def _processes(exchange: Exchange) -> dict[str, list[psutil.Process]]:
    """Processes by name; children, such as PostgreSQL's servers of connections, are found when asked for."""
    roots = {name: process.pid for name, process in exchange.roles.items()}
    roots["postgresql"] = exchange.postgresql.process.pid
    roots["kafka"] = exchange.kafka.process.pid
    return {name: [psutil.Process(pid)] for name, pid in roots.items()}


def _cpu_seconds(roots: list[psutil.Process]) -> float:
    total = 0.0
    for root in roots:
        times = root.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
        for child in root.children(recursive=True):
            try:
                times = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
    return total


def _drain(exchange: Exchange) -> float:
    """Seconds until every trade of the matching engine is settled in the ledger."""
    begun = time.monotonic()
    wait_until("every trade is settled", lambda: asyncio.run(_is_settled(exchange)), _DRAIN_SECONDS)
    return round(time.monotonic() - begun, 1)


async def _is_settled(exchange: Exchange) -> bool:
    async with httpx.AsyncClient(base_url=exchange.url("matching-engine"), trust_env=False) as client:
        state = (await client.get("/internal/matching/state", headers=exchange.internal_headers)).json()
    rows = await _query(exchange, "SELECT consumer, symbol, sequence FROM stream_positions")
    places = {(row["consumer"], row["symbol"]): row["sequence"] for row in rows}
    return all(
        places.get((consumer, symbol), 0) == book["sequence"]
        for symbol, book in state.items()
        for consumer in ("wallet", "order", "portfolio")
    )


async def _last_order(exchange: Exchange) -> int:
    return int((await _query(exchange, "SELECT coalesce(max(order_id), 0) AS id FROM orders"))[0]["id"])


async def _settlement(exchange: Exchange, after: int) -> tuple[tuple[float, float], int]:
    """Percentiles (0.5, 0.99) of the time from journal to ledger in milliseconds; the number of trades."""
    [row] = await _query(
        exchange,
        """
        SELECT percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY s.settled_at - o.created_at) AS ms,
               count(*) AS trades
        FROM wallet_settlements s
        JOIN orders o
          ON o.order_id = (CASE s.taker_side WHEN 'buy' THEN s.buy_order_id ELSE s.sell_order_id END)::bigint
        WHERE o.order_id > $1
        """,
        after,
    )
    if not row["trades"]:
        raise TradestackError("no order traded: the load measures nothing")
    return (float(row["ms"][0]), float(row["ms"][1])), int(row["trades"])


async def _check_acknowledged(exchange: Exchange, acknowledged: list[int]) -> None:
    if len(set(acknowledged)) != len(acknowledged):
        raise TradestackError("one order id was acknowledged twice")
    [row] = await _query(
        exchange, "SELECT count(*) AS found FROM orders WHERE order_id = ANY($1::bigint[])", acknowledged
    )
    if row["found"] != len(acknowledged):
        raise TradestackError(f"of {len(acknowledged)} acknowledged orders {row['found']} are kept")


async def _check(exchange: Exchange) -> None:
    """Raise TradestackError when an asset does not add up to zero or a trade was not settled."""
    for row in await _query(
        exchange, "SELECT asset, sum(balance) AS total FROM ledger_accounts GROUP BY asset"
    ):
        if row["total"]:
            raise TradestackError(f"the accounts of {row['asset']} add up to {row['total']}, not to 0")
    [row] = await _query(
        exchange,
        "SELECT (SELECT count(*) FROM fills) AS fills, (SELECT count(*) FROM wallet_settlements) AS settled",
    )
    if row["fills"] != 2 * row["settled"]:
        raise TradestackError(f"{row['fills']} fills of two sides, but {row['settled']} settled trades")


async def _query(exchange: Exchange, statement: str, *values: object) -> list[Mapping[str, Any]]:
    connection = await asyncpg.connect(exchange.database_url.replace("+asyncpg", ""))
    try:
        found: list[Mapping[str, Any]] = await connection.fetch(statement, *values)
        return found
    finally:
        await connection.close()
