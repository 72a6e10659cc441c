"""What the endpoints answer, problems included."""

from datetime import UTC, datetime, timedelta

import pytest

from app.wallet.models import SettlementRow
from tests.app.outputs import output, trade
from tests.app.portfolio.conftest import Api, apply, deposit, sender

BTC_LOT = 1_000
"""Smallest units of 0.00001 BTC."""


async def test_somebody_new_has_an_empty_portfolio(api: Api) -> None:
    found = await api.get()
    assert (found["totals"], found["positions"], found["balances"]) == ([], [], [])
    assert await api.get("/positions") == []
    assert (await api.get("/history"))["values"] == []
    assert await api.get("/pnl") == {"start": None, "end": None, "symbols": [], "totals": []}
    assert (await api.get("/positions/BTC-USD/history")) == {"symbol": "BTC-USD", "entries": [], "next": None}


async def test_funds_positions_and_sums(api: Api) -> None:
    database = api.portfolio.database
    for asset, units in (("USD", 500 * 10**8), ("BTC", 3 * 10**8), ("GBP", 7 * 10**8), ("EUR", 10**8)):
        await deposit(database, "anna", asset, units)
    await apply(
        api.portfolio,
        [
            output([trade(1, price=6_000_000, quantity=3), trade(2, price=6_000_001, quantity=4)]),
            output([trade(1, "ben", "anna", price=85_000, quantity=2)], "EUR-GBP"),
            output([trade(1, price=20_000, quantity=5)], "AAPL"),
            output([trade(2, "ben", "anna", price=20_100, quantity=5)], "AAPL"),
        ],
    )
    await api.prices.set("BTC-USD", 6_400_000)
    found = await api.get()
    btc, eur = found["positions"]
    assert btc["average_price"] == "60000.005714"
    assert {k: v for k, v in btc.items() if k not in ("mark_age", "changed_at", "average_price")} == {
        "symbol": "BTC-USD",
        "currency": "USD",
        "quantity": "0.00007",
        "cost": "4.2000004",
        "mark": "64000.00",
        "market_value": "4.48",
        "unrealised": "0.2799996",
        "realised": "0",
        "trades": 2,
    }
    assert (eur["quantity"], eur["cost"], eur["mark"], eur["unrealised"]) == ("-2000", "-1700", None, None)
    assert eur["average_price"] == "0.85"
    totals = {one["currency"]: one for one in found["totals"]}
    assert totals["USD"] == {
        "currency": "USD",
        "cash": "500",
        "borrowed": "0",
        "holdings": "192000",
        "equity": "192500",
        "market_value": "4.48",
        "unrealised": "0.2799996",
        "realised": "5",
        "unpriced": ["EUR-USD"],
    }
    assert (totals["GBP"]["equity"], totals["GBP"]["unpriced"]) == ("7", ["EUR-GBP"])
    balances = {one["asset"]: one for one in found["balances"]}
    assert (balances["BTC"]["available"], balances["BTC"]["value"]) == ("3", "192000")
    assert (balances["EUR"]["value"], balances["EUR"]["currency"]) == (None, "USD")
    api.user = sender("ben")
    assert (await api.get())["balances"] == []
    assert [one["quantity"] for one in (await api.get())["positions"]] == ["-0.00007", "2000"]


async def test_closed_positions_are_there_when_asked_for(api: Api) -> None:
    sent = [trade(1, "anna", "ben", price=100), trade(2, "ben", "anna", price=90)]
    await apply(api.portfolio, [output(sent, at=1_700_000_000_000)])
    assert await api.get("/positions") == []
    (closed,) = await api.get("/positions", status="all")
    one = await api.get("/positions/BTC-USD")
    assert one == closed
    assert (one["quantity"], one["cost"], one["average_price"], one["realised"]) == (
        "0",
        "0",
        None,
        "-0.000001",
    )
    assert one["changed_at"] == "2023-11-14T22:13:20Z"


async def test_the_history_of_a_position_comes_in_pages(api: Api) -> None:
    sent = [trade(n, "anna", "ben", price=100 + n, quantity=n) for n in range(1, 5)]
    await apply(api.portfolio, [output([*sent, trade(5, "ben", "anna", price=200, quantity=10)])])
    database = api.portfolio.database
    async with database.transaction() as session:
        session.add(
            SettlementRow(
                symbol="BTC-USD", trade_id="5", buy_order_id="1", sell_order_id="2", taker_side="buy",
                price=200, quantity=10, notional=20_000, buyer_fee=40, seller_fee=20, settled_at=1,
            )
        )  # fmt: skip
    first = await api.get("/positions/BTC-USD/history", limit=2)
    rest = await api.get("/positions/BTC-USD/history", limit=3, before=first["next"])
    assert [e["number"] for e in first["entries"] + rest["entries"]] == [5, 4, 3, 2, 1]
    assert (first["next"], rest["next"]) == (4, None)
    last, fourth = first["entries"]
    assert (last["side"], last["liquidity"], last["price"], last["quantity"]) == (
        "sell",
        "maker",
        "2.00",
        "0.0001",
    )
    assert (last["realised"], last["position_quantity"], last["position_cost"]) == ("0.000097", "0", "0")
    assert (last["fee"], fourth["fee"]) == ("0.0000002", None)
    assert (last["trade_id"], last["order_id"]) == ("5", "10")
    api.user = sender("ben")
    (mine,) = (await api.get("/positions/BTC-USD/history", limit=1))["entries"]
    assert (mine["side"], mine["fee"]) == ("buy", "0.0000004")


async def test_profit_of_a_time(api: Api) -> None:
    await apply(
        api.portfolio,
        [
            output([trade(1, "anna", "ben", price=100, quantity=9)], "AAPL", at=1_000),
            output([trade(2, "ben", "anna", price=110, quantity=1)], "AAPL", at=2_000),
            output([trade(3, "ben", "anna", price=120, quantity=2)], "AAPL", at=3_000),
            output([trade(1, "anna", "ben", price=100, quantity=1)], "EUR-GBP", at=2_000),
            output([trade(2, "ben", "anna", price=50, quantity=1)], "EUR-GBP", at=2_500),
        ],
    )

    async def realised(**bounds: str) -> list[tuple[str, str]]:
        found = await api.get("/pnl", **bounds)
        totals = {one["currency"]: one["realised"] for one in found["totals"]}
        by_symbol = {one["symbol"]: one["realised"] for one in found["symbols"]}
        assert totals == {"USD": by_symbol["AAPL"], "GBP": by_symbol["EUR-GBP"]}
        return sorted(by_symbol.items())

    first, second, third = (f"1970-01-01T00:00:0{n}Z" for n in (1, 2, 3))
    assert await realised() == [("AAPL", "0.5"), ("EUR-GBP", "-0.5")]
    assert await realised(to=third) == [("AAPL", "0.1"), ("EUR-GBP", "-0.5")]
    assert await realised(**{"from": second, "to": third}) == [("AAPL", "0.1"), ("EUR-GBP", "-0.5")]
    assert await realised(**{"from": third}) == [("AAPL", "0.4"), ("EUR-GBP", "0")]
    assert await realised(to=first) == [("AAPL", "0"), ("EUR-GBP", "0")]
    assert await realised(to="1970-01-01T01:00:02.001+01:00") == [("AAPL", "0.1"), ("EUR-GBP", "0")]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/positions/NOPE", 404, "unknown-symbol"),
        ("/positions/%00", 404, "unknown-symbol"),
        ("/positions/%F0%9F%92%A9/history", 404, "unknown-symbol"),
        ("/positions/" + "x" * 21, 422, "invalid-request"),
        ("/positions/BTC-USD", 404, "no-position"),
        ("/positions?status=closed", 422, "invalid-request"),
        ("/positions/BTC-USD/history?limit=0", 422, "invalid-request"),
        ("/positions/BTC-USD/history?limit=501", 422, "invalid-request"),
        ("/positions/BTC-USD/history?before=0", 422, "invalid-request"),
        ("/positions/BTC-USD/history?before=9223372036854775808", 422, "invalid-request"),
        ("/history?period=2w", 422, "invalid-request"),
        ("/history?currency=BTC", 404, "unknown-currency"),
        ("/history?currency=%00", 404, "unknown-currency"),
        ("/pnl?from=yesterday", 422, "invalid-request"),
        ("/pnl?from=2024-01-01T00:00:00", 422, "invalid-request"),
        ("/pnl?from=2024-01-02T00:00:00Z&to=2024-01-01T00:00:00Z", 422, "invalid-request"),
    ],
)
async def test_wrong_questions_are_refused(api: Api, path: str, status: int, code: str) -> None:
    response = await api.client.get(f"/api/portfolio{path}")
    assert (response.status_code, response.json()["code"]) == (status, code)


@pytest.mark.parametrize("at", [1_700_000_000_001, 1_700_000_000_123, 1_700_000_000_997])
async def test_a_moment_is_exact(api: Api, at: int) -> None:
    sent = [trade(1, "anna", "ben", price=100), trade(2, "ben", "anna", price=101)]
    await apply(api.portfolio, [output(sent, at=at)])
    moment = datetime.fromtimestamp(at // 1000, UTC) + timedelta(milliseconds=at % 1000)
    (before,) = (await api.get("/pnl", to=moment.isoformat()))["symbols"]
    (since,) = (await api.get("/pnl", **{"from": moment.isoformat()}))["symbols"]
    later = (moment + timedelta(microseconds=1)).isoformat()
    (after,) = (await api.get("/pnl", **{"from": later}))["symbols"]
    assert (before["realised"], since["realised"], after["realised"]) == ("0", "0.0000001", "0")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"])
async def test_any_moment_can_be_asked_for(api: Api, moment: str) -> None:
    await apply(api.portfolio, [output([trade(1)])])
    for bound in ("from", "to"):
        assert len((await api.get("/pnl", **{bound: moment}))["symbols"]) == 1


async def test_a_scope_is_needed(api: Api) -> None:
    api.user = sender("anna", "other")
    for path in ("", "/positions", "/positions/AAPL", "/positions/AAPL/history", "/history", "/pnl"):
        assert (await api.get(path, 403))["code"] == "insufficient-scope"
