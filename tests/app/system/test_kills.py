"""Roles and servers are killed at random moments under load; the books stay whole."""

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.servers.backing import Missing
from infra.servers.exchange import Exchange
from tests.app.system import books
from tests.app.system.traders import trading

USERS = 6
ROLES = ("matching-engine", "order", "wallet", "portfolio", "risk", "auth")
SERVERS = ("postgresql", "kafka")


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    directory = Path(tempfile.mkdtemp(prefix="tradestack-test-"))
    made = None
    try:
        try:
            made = Exchange(directory, settings={"APP_RISK_ORDER_RATE": "100000"})
        except Missing as missing:
            pytest.skip(str(missing))
        made.prepare()
        made.start()
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(directory, ignore_errors=True)


async def _kill(exchange: Exchange, victim: str) -> None:
    if victim in ROLES:
        exchange.roles[victim].kill()
        exchange.restart(victim)
        await asyncio.to_thread(exchange.wait_ready, victim)
    else:
        server = getattr(exchange, victim)
        server.process.kill()
        server.start()  # in this thread, because the process ends with the thread that started it
        for role in ROLES:
            await asyncio.to_thread(exchange.wait_ready, role)


async def _campaign(exchange: Exchange, victims: list[str], seed: int) -> None:
    pick = random.Random(seed)
    async with trading(exchange, USERS, seed) as traders:
        await traders.more(20)
        for victim in victims:
            # The moment is part of what is tested: anywhere in the life of the orders under way.
            await asyncio.sleep(pick.uniform(0.05, 0.8))
            await _kill(exchange, victim)
            await traders.more(20)
    await books.settled(exchange)
    await books.check(exchange, traders.acknowledged)


@pytest.mark.timeout(900)
async def test_nothing_is_lost_when_each_role_and_server_is_killed_once(exchange: Exchange) -> None:
    victims = [*ROLES, *SERVERS]
    random.Random(5).shuffle(victims)
    await _campaign(exchange, victims, seed=5)


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("victim", [*ROLES, *SERVERS])
async def test_nothing_is_lost_in_twenty_kills(exchange: Exchange, victim: str) -> None:
    seed = random.Random(victim).randrange(10, 250)
    await _campaign(exchange, [victim] * int(os.environ.get("TRADESTACK_KILLS", "20")), seed)
