"""The role as it runs: probes, metrics, events on the bus, holds that end by themselves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import process
from app.events.envelope import Envelope
from app.events.registry import FAMILIES
from app.kit import schema
from app.kit.database import Database
from app.kit.errors import ConfigurationError, Unavailable
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.wallet.deposits import Deposit
from app.wallet.ledger.accounts import available
from app.wallet.ledger.repository import Contended
from app.wallet.ledger.transfers import Transfer
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from tests.app.wallet.conftest import ROLE

SECONDS = 30.0


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Runtime]:
    settings = Settings.load(
        database_url=f"sqlite+aiosqlite:///{directory}/app.db", bus_url="memory://", host="127.0.0.1", port=0
    )
    backends = Backends(settings)
    await schema.to(backends.database)
    await backends.bus.ensure([family.topic for family in FAMILIES.values()])
    runtime = Runtime(ROLE, settings, backends)
    task = asyncio.create_task(process.run([runtime], backends))
    try:
        async with asyncio.timeout(SECONDS):
            await runtime.became_ready.wait()
        yield runtime
    finally:
        runtime.stopping.set()
        async with asyncio.timeout(SECONDS):
            await task


async def test_the_role_serves_sweeps_and_tells(tmp_path: Path) -> None:
    async with running(tmp_path) as runtime:
        bus, url = runtime.backends.bus, runtime.directory["wallet"]
        subscription = await bus.subscribe(["wallet-events"], "test")
        past = Wallet.of(runtime.backends.database, WalletSettings(), clock=lambda: 1_000_000)
        await past.transact(lambda s: past.deposits.book(s, Deposit("1", "anna", "USD", 100)))
        hold = Transfer.hold("h", available("anna", "USD"), 40, timeout=10)
        await past.transact(lambda s: past.ledger.apply(s, [hold]))
        told: list[str] = []
        async with asyncio.timeout(SECONDS):
            while len(told) < 2:
                messages = await subscription.batch(10, seconds=1.0)
                told += [Envelope.decode(message.value).id for message in messages]
        await subscription.close()
        assert told == ["ledger:deposit:1", "ledger:expire:h"]
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get("/api/wallet/assets")).status_code == 200
            assert (await client.get("/api/wallet/balances")).status_code == 401
            await past.reconciliation.check()
            metrics = (await client.get("/metrics")).text
            paths = (await client.get("/openapi.json")).json()["paths"]
        assert 'ledger_imbalance{asset="USD"} 0.0' in metrics
        assert "ledger_differences 0.0" in metrics
        assert not [path for path in paths if path.startswith("/internal/")]


@pytest.mark.parametrize("failures", [4, 5])
async def test_a_contended_transaction_is_tried_again(database: Database, failures: int) -> None:
    wallet = Wallet.of(database, WalletSettings())
    tries = 0

    async def work(_: AsyncSession) -> int:
        nonlocal tries
        tries += 1
        if tries <= failures:
            raise Contended("another one was faster")
        return tries

    if failures < 5:
        assert await wallet.transact(work) == 5
    else:
        with pytest.raises(Unavailable, match="another one was faster"):
            await wallet.transact(work)
    assert tries == 5


def test_the_settings_say_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_WALLET_MAKER_FEE_BPS", "-1")
    monkeypatch.setenv("APP_WALLET_TAKER_FEE_BPS", "0.001")
    monkeypatch.setenv("APP_WALLET_UNPROVED_LIMITS", '{"XXX": "1"}')
    with pytest.raises(ConfigurationError) as error:
        WalletSettings.load()
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "APP_WALLET_MAKER_FEE_BPS",
        "APP_WALLET_TAKER_FEE_BPS",
        "APP_WALLET_UNPROVED_LIMITS",
    ]


def test_the_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_WALLET_MAKER_FEE_BPS", "2.25")
    monkeypatch.setenv("APP_WALLET_UNPROVED_LIMITS", '{"USD": "0.5"}')
    settings = WalletSettings.load()
    assert (settings.fees.maker, settings.fees.taker) == (225, 2000)
    assert settings.taker_fee_bps == Decimal(20)
    assert (settings.unproved_limit("USD"), settings.unproved_limit("BTC")) == (50_000_000, 0)
