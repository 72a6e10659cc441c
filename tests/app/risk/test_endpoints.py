"""What the endpoints answer, problems included."""

import time

import pytest
from sqlalchemy import select

from app.events.envelope import Envelope
from app.events.matching import MatchingOutput, TradeMade
from app.kit.outbox import OutboxRow
from app.orders.repository import OrderRecord, OrderRepository
from app.risk.pretrade import NewOrder, PreTradeRisk
from tests.app.risk.conftest import Api, sender
from tests.app.risk.venue import UNIT

ANNA = sender("anna")
OLGA = sender("olga", "read", "admin")
LIMITS, SWITCHES = "/api/risk/limits", "/api/risk/kill-switches"


async def admitted(api: Api, owner: str = "anna", symbol: str = "BTC-USD", quantity: int = 1) -> str | None:
    """What the matching engine, which reads the same database, says to an order."""
    async with api.risk.database.transaction(read_only=True) as session:
        _, limits = await api.risk.limits.load(session)
    order = NewOrder(1, owner, symbol, "buy", quantity, 6_500_000)
    return PreTradeRisk(limits).admit(order, 6_500_000, api.venue.now)


async def events(api: Api) -> list[Envelope]:
    async with api.risk.database.transaction(read_only=True) as session:
        return [Envelope.decode(row.value) for row in await session.scalars(select(OutboxRow))]


async def test_limits_are_set_hold_and_are_removed(api: Api) -> None:
    api.by(OLGA)
    path = f"{LIMITS}/user/anna/symbol/BTC-USD"
    assert (await api.get(path, 404))["code"] == "no-limits"
    body = {"position": 10, "collar_bps": 200, "reason": "new customer"}
    set_ = await api.put(path, body)
    assert (set_["scope"], set_["position"], set_["order_notional"]) == ("user/anna/symbol/BTC-USD", 10, None)
    assert await api.get(path) == set_
    assert await admitted(api, quantity=11) == "position_limit_exceeded"
    assert await admitted(api, quantity=10) is None
    assert await admitted(api, "ben", quantity=11) is None
    assert api.engine.reloads == 1
    await api.put(path, body)
    assert api.engine.reloads == 1
    await api.delete(path, reason="grown up")
    assert await admitted(api, quantity=11) is None
    await api.delete(path, 404, reason="again")
    changes = (await api.get("/api/risk/audit"))["changes"]
    assert [(c["actor"], c["subject"], c["reason"]) for c in changes] == [
        ("olga", "limits/user/anna/symbol/BTC-USD", "grown up"),
        ("olga", "limits/user/anna/symbol/BTC-USD", "new customer"),
    ]
    assert changes[0]["before"] == {"position": 10, "collar_bps": 200}
    assert changes[0]["after"] is None
    assert [event.type for event in await events(api)] == ["LimitChanged", "LimitChanged"]


async def test_limits_are_listed_in_pages(api: Api) -> None:
    api.by(OLGA)
    scopes = ["default", "symbol/AAPL", "user/anna", "user/anna/symbol/AAPL", "user/anna/symbol/BTC-USD"]
    for scope in scopes:
        await api.put(f"{LIMITS}/{scope}", {"collar_bps": 1, "reason": "x"})
    first = await api.get(LIMITS, limit=3)
    assert first["defaults"]["collar_bps"] == 1000
    assert [found["scope"] for found in first["limits"]] == scopes[:3]
    second = await api.get(LIMITS, limit=3, after=first["next"])
    assert [found["scope"] for found in second["limits"]] == scopes[3:]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("scope", "body", "status", "code"),
    [
        ("user/anna", {"position": 1}, 422, "not-of-this-scope"),
        ("symbol/AAPL", {"order_rate": 1}, 422, "not-of-this-scope"),
        ("symbol/NONE", {"position": 1}, 404, "unknown-symbol"),
        ("users/anna", {"daily_loss": 1}, 404, "unknown-scope"),
        ("user/a%20b", {"daily_loss": 1}, 404, "unknown-scope"),
        ("user/a%00b", {"daily_loss": 1}, 404, "unknown-scope"),
        ("user/" + "a" * 81, {"daily_loss": 1}, 404, "unknown-scope"),
        ("user/" + "a" * 200, {"daily_loss": 1}, 422, "invalid-request"),
        ("default", {}, 422, "invalid-request"),
        ("default", {"daily_loss": -1}, 422, "invalid-request"),
        ("default", {"daily_loss": 10**13}, 422, "invalid-request"),
        ("default", {"daily_loss": "5"}, 422, "invalid-request"),
        ("default", {"daily_loss": 1, "reason": "a\x00b"}, 422, "invalid-request"),
        ("default", {"daily_loss": 1, "reason": ""}, 422, "invalid-request"),
        ("default", {"daily_loss": 1, "else": 2}, 422, "invalid-request"),
    ],
)
async def test_wrong_limits_are_refused(
    api: Api, scope: str, body: dict[str, object], status: int, code: str
) -> None:
    found = await api.by(OLGA).put(f"{LIMITS}/{scope}", {"reason": "x", **body}, status)
    assert found["code"] == code


@pytest.mark.parametrize(
    ("scope", "reason"), [("symbol/BTC-USD", "kill_switch_symbol"), ("user/anna", "kill_switch_user")]
)
async def test_kill_switches_refuse_orders_until_they_are_off(api: Api, scope: str, reason: str) -> None:
    api.by(OLGA)
    assert (await api.get(f"{SWITCHES}/{scope}"))["active"] is False
    found = await api.put(f"{SWITCHES}/{scope}", {"active": True, "reason": "odd prices"})
    assert (found["active"], found["reason"], found["actor"]) == (True, "odd prices", "olga")
    assert await admitted(api) == reason
    assert await api.get(SWITCHES) == [found]
    assert (await api.put(f"{SWITCHES}/{scope}", {"active": False, "reason": "over"}))["active"] is False
    assert await admitted(api) is None
    assert await api.get(SWITCHES) == []
    changes = (await api.get("/api/risk/audit", subject=f"kill-switches/{scope}"))["changes"]
    assert [(change["reason"], bool(change["after"])) for change in changes] == [
        ("over", False),
        ("odd prices", True),
    ]
    told = [event.payload["active"] for event in await events(api)]
    assert told == [True, False]


async def test_the_switch_of_everything_needs_a_second_factor(api: Api) -> None:
    body = {"active": True, "reason": "fire"}
    assert (await api.by(OLGA).put(f"{SWITCHES}/all", body, 401))["code"] == "step-up-required"
    assert await admitted(api) is None
    proved = sender("olga", "read", "admin", proved_at=int(time.time()))
    await api.by(proved).put(f"{SWITCHES}/all", body)
    assert await admitted(api) == "kill_switch_all"


async def test_a_change_stands_when_the_engine_is_away(api: Api) -> None:
    api.engine.away = True
    await api.by(OLGA).put(f"{SWITCHES}/user/anna", {"active": True, "reason": "x"})
    assert await admitted(api) == "kill_switch_user"
    async with api.risk.database.transaction(read_only=True) as session:
        assert await api.risk.limits.version(session) == 1


async def test_only_operators_see_and_change_limits(api: Api) -> None:
    api.by(ANNA)
    for path in (LIMITS, f"{LIMITS}/default", SWITCHES, f"{SWITCHES}/all", "/api/risk/audit"):
        assert (await api.get(path, 403))["code"] == "insufficient-scope"
    await api.put(f"{LIMITS}/default", {"daily_loss": 1, "reason": "x"}, 403)
    await api.put(f"{SWITCHES}/user/ben", {"active": True, "reason": "x"}, 403)
    await api.delete(f"{LIMITS}/default", 403, reason="x")


async def test_the_audit_has_pages(api: Api) -> None:
    api.by(OLGA)
    for number in range(5):
        await api.put(f"{LIMITS}/default", {"daily_loss": number, "reason": f"r{number}"})
    first = await api.get("/api/risk/audit", limit=3)
    second = await api.get("/api/risk/audit", limit=3, before=first["next"])
    assert [c["reason"] for c in first["changes"] + second["changes"]] == ["r4", "r3", "r2", "r1", "r0"]
    assert second["next"] is None
    for subject in ("a\x00", "\x00", "x" * 200):
        await api.get("/api/risk/audit", 422, subject=subject)


def trade(number: int, price: int, quantity: int, at: int) -> MatchingOutput:
    """Anna buys BTC from Ben."""
    made = TradeMade(
        sequence=number,
        trade_id=number,
        price=price,
        quantity=quantity,
        taker_side="buy",
        maker_order_id=1,
        taker_order_id=2,
        maker_owner="ben",
        taker_owner="anna",
        maker_remaining=0,
        taker_remaining=0,
    )
    return MatchingOutput(symbol="BTC-USD", first=number, last=number, at=at, changes=(made,))


async def apply(api: Api, *outputs: MatchingOutput) -> None:
    async with api.risk.database.transaction() as session:
        await api.risk.watch.apply(session, outputs)


async def scan(api: Api) -> None:
    async def check(_: object) -> None:
        return

    await api.risk.watch.scan(check)


async def test_users_see_their_own_limits_and_use_of_them(api: Api) -> None:
    await apply(api, trade(1, 6_500_000, 200, api.venue.now), trade(2, 6_400_000, 100, api.venue.now))
    order = OrderRecord(
        order_id=7,
        owner="anna",
        client_order_id="c",
        symbol="BTC-USD",
        side="sell",
        order_type="limit",
        time_in_force="gtc",
        quantity=50,
        remaining=40,
        price=7_000_000,
        created_at=1,
        changed_at=1,
    )
    async with api.risk.database.transaction() as session:
        await OrderRepository(api.risk.database).add(session, [order])
    api.venue.move("anna", "BTC", UNIT)
    api.venue.owed["anna"] = {"USD": 30_000 * UNIT}
    found = await api.by(ANNA).get("/api/risk/me")
    [bitcoin] = [use for use in found["symbols"] if use["symbol"] == "BTC-USD"]
    assert (bitcoin["position"], bitcoin["open_buy"], bitcoin["open_sell"]) == (300, 0, 40)
    assert (bitcoin["order_notional"], bitcoin["collar_bps"]) == (10_000_000, 1000)
    [dollars] = [use for use in found["currencies"] if use["currency"] == "USD"]
    assert dollars["open_notional"] == "28"
    assert dollars["day_result"] == "-2"
    assert dollars["open_notional_limit"] == "50000000"
    assert found["kill_switch"] is None
    assert found["margin"]["equity"] == "18750"
    assert found["margin"]["ratio_ppm"] == 625_000
    assert found["margin"]["call"] is None
    assert (await api.by(sender("ben")).get("/api/risk/me"))["margin"]["debt"] == "0"


async def test_breaches_and_losses_are_told_once(api: Api) -> None:
    await apply(api, trade(1, 6_500_000, 200, api.venue.now))
    await scan(api)
    assert await events(api) == []
    api.by(OLGA)
    await api.put(f"{LIMITS}/user/anna/symbol/BTC-USD", {"position": 150, "reason": "less"})
    await api.put(f"{LIMITS}/user/anna", {"daily_loss": 100, "reason": "less"})
    for _ in range(2):
        await scan(api)
    [breach] = [event for event in await events(api) if event.type == "PositionLimitBreached"]
    assert breach.payload == {"account": "anna", "symbol": "BTC-USD", "limit": 150, "position": 200}
    await apply(api, trade(2, 1_000_000, 1, api.venue.now))
    for _ in range(2):
        await scan(api)
    [loss] = [event for event in await events(api) if event.type == "DailyLossReached"]
    assert (loss.payload["currency"], loss.payload["loss"]) == ("USD", 110 * UNIT)
    assert len([event for event in await events(api) if event.type == "SendAlert"]) == 2
    await api.delete(f"{LIMITS}/user/anna/symbol/BTC-USD", reason="more")
    await scan(api)
    await api.put(f"{LIMITS}/user/anna/symbol/BTC-USD", {"position": 150, "reason": "less"})
    await scan(api)
    assert [event.type for event in await events(api)].count("PositionLimitBreached") == 2


async def test_loans_and_withdrawals_are_checked(api: Api) -> None:
    api.venue.move("anna", "USD", 1_000 * UNIT)

    async def ask(what: str, amount: int, owner: str = "anna", asset: str = "USD") -> tuple[bool, str]:
        body = {"owner": owner, "asset": asset, "amount": amount * UNIT}
        found = await api.post(f"/internal/risk/{what}/check", body)
        return found["allowed"], found["reason"]

    assert await ask("withdrawals", 1_000) == (True, "")
    assert await ask("loans", 2_000) == (True, "")
    assert await ask("loans", 2_001) == (False, "initial_margin")
    assert await ask("loans", 1, "ben") == (False, "initial_margin")
    assert await ask("loans", 1, asset="EUR") == (False, "no_price")
    api.venue.owed["anna"] = {"USD": 1_000 * UNIT}
    api.venue.move("anna", "USD", 1_000 * UNIT)
    assert await ask("withdrawals", 500) == (True, "")
    assert await ask("withdrawals", 501) == (False, "initial_margin")
    api.venue.owed["anna"] = {"EUR": 1}
    assert await ask("withdrawals", 1) == (False, "no_price")


async def test_nobody_else_may_ask(api: Api) -> None:
    api.client._transport.client = ("192.0.2.7", 1)
    await api.post("/internal/risk/loans/check", {"owner": "a", "asset": "USD", "amount": 1}, 403)
