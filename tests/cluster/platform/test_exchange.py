"""The exchange on the cluster, through the gateway: orders, withdrawals, prices, the end of the leader."""

import asyncio
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from infra.errors import TradestackError
from tests.cluster.platform.bus import events, payloads
from tests.cluster.platform.conftest import Platform
from tests.stream import following
from tests.traders import PASSWORD, Client, address, operator, proved, registered, within

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FUNDS = "100000"


@pytest.fixture(scope="module")
def back_office(platform: Platform) -> Client:
    email = address("operator")
    command = ("python", "-m", "app.auth.admin", email)
    platform.cluster.kubectl(
        "exec", "-i", "deployment/auth", "-n", "trading-system", "--", *command, stdin=f"{PASSWORD}\n"
    )
    return operator(platform.url, email)


@pytest.fixture
def price(platform: Platform) -> str:
    """The last price, where no limit on prices is in the way."""
    return str(ticker(platform)["price"])


def ticker(platform: Platform) -> dict[str, Any]:
    answer = httpx.get(f"{platform.url}/api/market/tickers/BTC-USD", trust_env=False, timeout=30)
    found: dict[str, Any] = answer.json()
    return found


def order(client: Client, id: str) -> dict[str, Any]:
    """An order as the history has it; empty until it has."""
    answer = client.send("GET", f"/api/orders/{id}")
    assert answer.status_code in (200, 404), answer.text
    return answer.json() if answer.status_code == 200 else {}


def is_filled(client: Client, id: str) -> bool:
    return order(client, id).get("status") == "filled"


def trade(payload: dict[str, Any]) -> tuple[str, str]:
    """Symbol and number of a trade; its id may name the symbol too."""
    return payload["symbol"], payload["trade_id"].removeprefix(f"{payload['symbol']}:")


def books_balance(back_office: Client) -> None:
    report = back_office.call("POST", "/api/wallet/operations/reconciliation")
    assert report["clean"], report
    assert set(report["imbalances"].values()) <= {0}


def test_an_order_becomes_a_trade_that_is_settled(
    platform: Platform, back_office: Client, price: str
) -> None:
    seller, buyer = registered(platform.url, "seller"), registered(platform.url, "buyer")
    back_office.deposit(seller, "BTC", "1")
    back_office.deposit(buyer, "USD", FUNDS)
    sold = seller.place("sell", price, "0.01")
    assert sold["status"] == "open"
    bought = buyer.place("buy", price, "0.01")
    assert (bought["status"], Decimal(bought["filled"])) == ("filled", Decimal("0.01"))

    within(60, "the trade is settled", lambda: buyer.balance("BTC") == (Decimal("0.01"), 0))
    assert seller.balance("BTC") == (Decimal("0.99"), 0)
    paid, got = Decimal(FUNDS) - buyer.balance("USD")[0], seller.balance("USD")[0]
    notional = Decimal(price) * Decimal("0.01")
    assert (buyer.balance("USD")[1], seller.balance("USD")[1]) == (0, 0)
    assert notional < paid < notional * Decimal("1.01")
    assert notional * Decimal("0.99") < got < notional
    for client, placed, quantity in ((seller, sold, "-0.01"), (buyer, bought, "0.01")):
        within(60, "the history has it", partial(is_filled, client, placed["order_id"]))
        within(60, "there is a position", partial(client.call, "GET", "/api/portfolio/positions"))
        found = client.call("GET", "/api/portfolio/positions/BTC-USD")
        assert (Decimal(found["quantity"]), found["trades"]) == (Decimal(quantity), 1)
    books_balance(back_office)

    users = {seller.user_id, buyer.user_id}
    orders = {sold["order_id"], bought["order_id"]}

    def told() -> bool:
        found = events(platform, "order-events", "trade-events", "portfolio-events", "notification-events")
        trades = {
            trade(item)
            for item in payloads(found, "TradeExecuted")
            if {item["maker_order_id"], item["taker_order_id"]} == orders
        }
        return (
            orders <= {item["order_id"] for item in payloads(found, "OrderCreated")}
            and len(trades) == 1
            and trades <= {trade(item) for item in payloads(found, "TradeSettled")}
            and users <= {item["account"] for item in payloads(found, "PositionUpdated")}
            and users <= {item["user"] for item in payloads(found, "SendConfirmation")}
        )

    within(180, "the events are on the bus", told)


def test_a_withdrawal_goes_from_its_request_to_its_end(platform: Platform, back_office: Client) -> None:
    user = proved(registered(platform.url, "leaver"))
    back_office.deposit(user, "USD", "1000")
    body = {"id": str(uuid4()), "asset": "USD", "amount": "400", "destination": "DE02120300000000202051"}
    wanted = user.call("POST", "/api/wallet/withdrawals", json=body, expect=201)
    assert (wanted["state"], wanted["second_factor"]) == ("requested", True)
    assert user.balance("USD") == (600, 400)
    too_much = {**body, "id": str(uuid4()), "amount": "601"}
    assert user.send("POST", "/api/wallet/withdrawals", json=too_much).status_code in (409, 422)
    for step, state in (("approve", "approved"), ("sent", "sent"), ("settled", "settled")):
        path = f"/api/wallet/operations/withdrawals/{body['id']}/{step}"
        assert back_office.call("POST", path, json={"note": "by test"})["state"] == state
    assert user.balance("USD") == (600, 0)
    books_balance(back_office)

    def told() -> bool:
        found = events(platform, "wallet-events", "notification-events")
        mine = [item for item in payloads(found, "WithdrawalChanged") if item["withdrawal_id"] == body["id"]]
        # What was published may be published again.
        states = dict.fromkeys(item["state"] for item in mine)
        return (
            list(states) == ["requested", "approved", "sent", "settled"]
            and user.user_id in {item["account"] for item in payloads(found, "FundsWithdrawn")}
            and user.user_id in {item["user"] for item in payloads(found, "SendConfirmation")}
        )

    within(180, "the events are on the bus", told)


def test_without_a_second_factor_nothing_leaves(platform: Platform, back_office: Client) -> None:
    user = registered(platform.url, "hasty")
    back_office.deposit(user, "USD", "10")
    body = {"id": str(uuid4()), "asset": "USD", "amount": "10", "destination": "DE02120300000000202051"}
    assert user.send("POST", "/api/wallet/withdrawals", json=body).status_code == 403
    assert user.balance("USD") == (10, 0)


async def test_a_price_reaches_the_page_and_the_worth_of_what_somebody_has(
    platform: Platform, back_office: Client
) -> None:
    user = await asyncio.to_thread(registered, platform.url, "holder")
    await asyncio.to_thread(back_office.deposit, user, "BTC", "1")
    worths: set[str] = set()

    def revalued() -> bool:
        found = user.call("GET", "/api/portfolio")
        worths.update(item["value"] for item in found["balances"] if item["asset"] == "BTC" and item["value"])
        return len(worths) >= 3

    async with following(platform.stream) as client:
        ticks = client.ticks
        await asyncio.to_thread(within, 60, "the portfolio follows the price", revalued)
        assert client.ticks > ticks
    now = Decimal(str((await asyncio.to_thread(ticker, platform))["price"]))
    assert all(abs(Decimal(worth) / now - 1) < Decimal("0.05") for worth in worths)


class Flow:
    """A user who places orders one after the other, each again until it is answered."""

    def __init__(self, client: Client, price: str) -> None:
        self.client = client
        self._price = price
        self.acknowledged: dict[str, str] = {}
        """Id that the client made → id of the order."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Flow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._end.is_set():
            body = {
                "symbol": "BTC-USD",
                "side": "buy",
                "order_type": "limit",
                "price": self._price,
                "quantity": "0.00001",
                "client_order_id": uuid4().hex,
            }
            begun = time.monotonic()
            while (placed := self._placed(body)) is None and time.monotonic() - begun < 60:
                time.sleep(0.1)
            if placed is not None:
                self.acknowledged[str(body["client_order_id"])] = placed
            time.sleep(0.02)

    def _placed(self, body: dict[str, Any]) -> str | None:
        try:
            answer = self.client.send("POST", "/api/orders", json=body)
        except httpx.HTTPError:
            return None
        return str(answer.json()["order_id"]) if answer.status_code in (200, 201) else None


@pytest.fixture
def flow(platform: Platform, back_office: Client, price: str) -> Iterator[Flow]:
    user = registered(platform.url, "steady")
    back_office.deposit(user, "USD", FUNDS)
    low = f"{Decimal(price) * Decimal('0.97'):.2f}"  # rests, and within the limit on prices
    with Flow(user, low) as made:
        yield made
    user.send("DELETE", "/api/orders")


def leaders(platform: Platform) -> list[str]:
    """Pods of the matching engine that say they lead."""
    code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8089/metrics').read().decode())"
    found = []
    for pod in platform.pods("trading-system", "matching-engine"):
        name = pod["metadata"]["name"]
        if all(each["ready"] for each in pod["status"].get("containerStatuses", [{"ready": False}])):
            place = ("exec", name, "-n", "trading-system", "--", "python", "-c", code)
            try:
                told = platform.cluster.kubectl(*place)
            except TradestackError:
                continue  # gone meanwhile
            found += [name] if "\nmatching_leader 1.0" in told else []
    return found


def test_an_order_that_was_acknowledged_outlives_the_leader(
    platform: Platform, back_office: Client, flow: Flow
) -> None:
    within(60, "orders flow", lambda: len(flow.acknowledged) >= 20)
    (leader,) = within(60, "one leads", lambda: found if len(found := leaders(platform)) == 1 else None)
    before = len(flow.acknowledged)
    platform.cluster.kubectl("delete", "pod", leader, "-n", "trading-system", "--grace-period=0", "--force")
    within(120, "orders flow again", lambda: len(flow.acknowledged) >= before + 20)
    client, acknowledged = flow.client, dict(flow.acknowledged)
    within(
        120,
        "the history has the newest",
        lambda: order(client, list(acknowledged.values())[-1]).get("status") == "open",
    )
    kept = {name: order(client, id) for name, id in acknowledged.items()}
    assert {name: (item["client_order_id"], item["status"]) for name, item in kept.items()} == {
        name: (name, "open") for name in acknowledged
    }
    assert leader not in within(120, "somebody leads", lambda: leaders(platform))
    books_balance(back_office)
