"""The wallet's revision goes up, down and up again; scales of amounts are pinned."""

from decimal import Decimal

import pytest
from sqlalchemy import inspect, text

from app.instruments import INSTRUMENTS
from app.kit import schema
from app.kit.database import Database
from app.kit.errors import ConfigurationError
from app.wallet.ledger import models as ledger_models
from app.wallet.ledger.assets import ASSETS, LARGEST, base_of, base_units, notional
from app.wallet.ledger.service import Ledger
from app.wallet.models import OrderRow, SettlementRow, WithdrawalRow

TABLES = {
    model.__tablename__
    for model in (
        ledger_models.AssetRow,
        ledger_models.AccountRow,
        ledger_models.TransferRow,
        ledger_models.PostingRow,
        ledger_models.HoldRow,
        OrderRow,
        SettlementRow,
        WithdrawalRow,
    )
}


async def tables(database: Database) -> set[str]:
    async with database.engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    return {name for name in names if name.startswith(("wallet_", "ledger_"))}


async def test_up_down_up(empty_database: Database) -> None:
    for expected in (TABLES, set(), TABLES):
        await schema.to(empty_database, "0002_wallet" if expected else "-1")
        assert await tables(empty_database) == expected


async def test_amounts_of_another_scale_are_not_misread(database: Database) -> None:
    ledger = Ledger(database)
    for _ in range(2):
        async with database.transaction() as session:
            await ledger.prepare(session)
    async with database.transaction() as session:
        await session.execute(text("UPDATE ledger_assets SET scale = 2 WHERE code = 'USD'"))
    with pytest.raises(ConfigurationError, match="amounts of USD are stored with another scale"):
        async with database.transaction() as session:
            await ledger.prepare(session)


@pytest.mark.parametrize("symbol", INSTRUMENTS)
def test_every_trade_is_exact(symbol: str) -> None:
    instrument = INSTRUMENTS[symbol]
    ticks, lots = 12_345, 678
    assert ASSETS[base_of(instrument)].decimal(base_units(instrument, lots)) == instrument.quantity(lots)
    assert ASSETS[instrument.currency].decimal(notional(instrument, ticks, lots)) == (
        instrument.price(ticks) * instrument.quantity(lots)
    )


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        ("0.000000001", "8 decimal places"),
        ("1.0000000000000000000000000000000000000001", "8 decimal places"),
        ("1e12", "at most"),
        ("1e400", "at most"),
        ("-92233720368.54775808", "at most"),
        ("NaN", "is no amount"),
        ("Infinity", "is no amount"),
    ],
)
def test_amounts_that_are_not_counted_are_refused(amount: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ASSETS["USD"].units(Decimal(amount))


def test_amounts_are_exact() -> None:
    usd = ASSETS["USD"]
    assert usd.units(usd.decimal(LARGEST)) == LARGEST
    assert [usd.text(units) for units in (0, 1, 10**8, 150_000_000, -LARGEST)] == [
        "0",
        "0.00000001",
        "1",
        "1.5",
        "-92233720368.54775807",
    ]


@pytest.mark.parametrize(
    ("asset", "amount", "message"),
    [("USD", "0.001", "2 decimal"), ("JPY", "0.5", "0 decimal"), ("BTC", "0", "more than zero")],
)
def test_what_banks_do_not_take_is_refused(asset: str, amount: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ASSETS[asset].external_units(Decimal(amount))
