"""How long the matching engine takes to be ready again after a long journal without a snapshot."""

import asyncio
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import httpx

from app.exchange import COMPILED, Cancel, Command, MatchingEngine, OrderType, Place, Side
from app.matching.journal import Entry, pack
from infra.bench.matching import command_stream
from infra.bench.report import Report, versions
from infra.errors import TradestackError
from infra.progress import Steps
from infra.servers.exchange import Exchange

COMMANDS = 1_000_000
"""Since the last snapshot."""
GROUP = 20
"""Commands in one batch of the journal."""
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD")
OWNERS = 200
_LEVELS = 100
_ROLE = "matching-engine"
_READY_SECONDS = 120.0


def measure(steps: Steps) -> Report:
    """Write a journal of a million commands, start the role on it, compare the books with a replay in memory.

    `ready_s` is from the start of the process until it takes commands, `recovery_s` what the role itself says
    of reading and replaying.

    Raises:
        TradestackError: a book is not what its commands make of it.
    """
    with steps.step(f"{COMMANDS:,} commands", estimate_s=30):
        commands = {symbol: _commands(number) for number, symbol in enumerate(SYMBOLS)}
        expected = {symbol: _replayed(symbol, given) for symbol, given in commands.items()}
    with tempfile.TemporaryDirectory(prefix="tradestack-bench-") as directory:
        exchange = Exchange(Path(directory), [_ROLE])
        try:
            with steps.step("Write the journal", estimate_s=30):
                exchange.prepare()
                batches = asyncio.run(_write(exchange, commands))
            with steps.step("Recover", estimate_s=10):
                begun = time.perf_counter()
                exchange.start()
                exchange.wait_ready(_ROLE, _READY_SECONDS)
                ready = time.perf_counter() - begun
            state = httpx.get(
                f"{exchange.url(_ROLE)}/internal/matching/state", headers=exchange.internal_headers
            ).json()
            told = httpx.get(f"{exchange.url(_ROLE)}/metrics").text
        finally:
            exchange.stop()
    for symbol, digest in expected.items():
        if state[symbol]["state_hash"] != digest:
            raise TradestackError(f"the recovered book of {symbol} differs from a replay of its commands")
    found = re.search(r"^matching_recovery_seconds (\S+)", told, re.MULTILINE)
    return Report(
        name="recovery",
        ours={
            "commands": COMMANDS,
            "batches": batches,
            "ready_s": round(ready, 2),
            "recovery_s": round(float(found.group(1)), 2) if found else None,
            "compiled": COMPILED,
        },
        versions=dict(versions(["sqlalchemy", "asyncpg"])),
    )


def _commands(number: int) -> list[Command]:
    """Commands of one symbol; order ids are shared out among the symbols."""
    found: list[Command] = []
    for kind, id, side, price, quantity in command_stream(_LEVELS, COMMANDS // len(SYMBOLS), seed=number):
        order_id, at = id * len(SYMBOLS) + number, len(found) + 1
        owner = order_id % OWNERS + 1
        if kind:
            found.append(Place(at, order_id, owner, Side(side), OrderType.LIMIT, quantity, price))
        else:
            found.append(Cancel(at, order_id, owner))
    return found


def _replayed(symbol: str, commands: list[Command]) -> str:
    engine = MatchingEngine(symbol)
    for command in commands:
        engine.apply(command)
    return engine.state_hash()


async def _write(exchange: Exchange, commands: dict[str, list[Command]]) -> int:
    """Fill the tables as a leader leaves them that has published everything; how many batches."""
    connection = await asyncpg.connect(exchange.database_url.replace("+asyncpg", ""))
    try:
        await connection.copy_records_to_table(
            "trading_accounts", records=[(n, f"owner-{n}") for n in range(1, OWNERS + 1)]
        )
        records = list(_batches(commands))
        await connection.copy_records_to_table("matching_journal", records=records)
        await connection.execute("INSERT INTO matching_progress VALUES ('published', $1)", len(records))
        await connection.execute("ANALYZE matching_journal")
    finally:
        await connection.close()
    return len(records)


def _batches(commands: dict[str, list[Command]]) -> Iterator[tuple[int, int, int, int, bytes]]:
    share = GROUP // len(commands)
    for number in range(COMMANDS // GROUP):
        sections = {
            symbol: [Entry(command) for command in given[number * share : (number + 1) * share]]
            for symbol, given in commands.items()
        }
        yield number + 1, 1, number + 1, GROUP, pack(sections)
