"""From a command of another role to what everybody hears of it, with the role as it runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.events.envelope import Envelope
from app.events.matching import MatchingOutput, TradeMade
from app.events.models import StreamPositionRow
from app.instruments import INSTRUMENTS
from app.kit.bus import Bus, Subscription
from app.kit.runtime import retrying
from app.matching_client.client import MatchingClient
from app.matching_client.commands import Cancel, CancelAll, Oco, OrderState, Place, Replace, Result, SetPhase
from app.wallet.deposits import Deposit
from app.wallet.ledger.accounts import available
from app.wallet.ledger.assets import base_units
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from tests.app.platform import Platform, running

SYMBOL = "BTC-USD"
BTC = INSTRUMENTS[SYMBOL]
PRICE = 6_425_000
SECONDS = 30.0


@dataclass
class Market:
    """The engine with two users: anna has dollars, ben has bitcoins."""

    platform: Platform
    wallet: Wallet
    client: MatchingClient
    outputs: Subscription
    families: Subscription
    heard: list[MatchingOutput] = field(default_factory=list)
    names: int = 0

    async def submit(self, command: Place | Oco | Cancel | Replace | CancelAll | SetPhase) -> Result:
        return await self.client.submit(command)

    def order(self, owner: str, side: str, quantity: int, **more: object) -> Place:
        self.names += 1
        fields = {
            "owner": owner,
            "client_order_id": f"c{self.names}",
            "symbol": SYMBOL,
            "side": side,
            "order_type": "limit",
            "quantity": quantity,
            "price": PRICE,
        }
        return Place.model_validate(fields | more)

    async def place(self, owner: str, side: str, quantity: int, **more: object) -> OrderState:
        result = await self.submit(self.order(owner, side, quantity, **more))
        [state] = result.orders
        assert (result.code, result.repeated) == ("rejected" if state.status == "rejected" else "ok", False)
        return state

    async def deposit(self, owner: str, asset: str, amount: int) -> None:
        deposit = Deposit(f"{owner}-{asset}", owner, asset, amount)
        await self.wallet.transact(lambda session: self.wallet.deposits.book(session, deposit))

    async def balance(self, owner: str, asset: str) -> tuple[int, int]:
        """What is available and what is held."""
        account = available(owner, asset)
        found = await self.wallet.transact(lambda session: self.wallet.ledger.balances(session, owner))
        return found[account], found[account.held]

    async def hear(self, until: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not until():
                for message in await self.outputs.batch(100, 0.2):
                    content = Envelope.decode(message.value).content()
                    assert isinstance(content, MatchingOutput)
                    if content.symbol == SYMBOL:
                        self.heard.append(content)

    @property
    def sequences(self) -> list[int]:
        return [change.sequence for output in self.heard for change in output.changes]

    async def hear_all(self) -> None:
        """Everything that the book has done up to now."""
        last = (await self.client.depth(SYMBOL, 1)).sequence
        await self.hear(lambda: last in self.sequences)

    async def public(self, count: int) -> list[Envelope]:
        found: list[Envelope] = []
        async with asyncio.timeout(SECONDS):
            while len(found) < count:
                messages = await self.families.batch(100, 0.2)
                envelopes = (Envelope.decode(message.value) for message in messages)
                found += [envelope for envelope in envelopes if envelope.key == SYMBOL]
        return found


async def listen(bus: Bus, *topics: str) -> Subscription:
    """A subscription from now on; new topics may take a moment until they can be read."""
    async with asyncio.timeout(SECONDS):
        async for attempt in retrying():
            with attempt:
                return await bus.subscribe(topics, None)
    raise AssertionError


@asynccontextmanager
async def trading(directory: Path, *others: str, **backing: Any) -> AsyncIterator[Market]:
    async with running(directory, "matching-engine", *others, **backing) as platform:
        wallet = Wallet.of(platform.backends.database, WalletSettings.load())
        await wallet.prepare()
        bus = platform.backends.bus
        made = Market(
            platform,
            wallet,
            MatchingClient(platform.runtimes["matching-engine"]),
            await listen(bus, "matching.output"),
            await listen(bus, "order-events", "trade-events"),
        )
        await made.deposit("anna", "USD", 10**18)
        await made.deposit("ben", "BTC", base_units(BTC, 1000))
        yield made
        await made.client.close()
        await made.outputs.close()
        await made.families.close()


@pytest.fixture(params=["memory", "servers"])
async def backing(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of database and bus."""
    if request.param == "memory":
        return {}
    return {
        "database_url": await request.getfixturevalue("postgresql").new_database(),
        "bus_url": request.getfixturevalue("kafka").url,
    }


@pytest.fixture
async def market(backing: dict[str, Any], tmp_path: Path) -> AsyncIterator[Market]:
    async with trading(tmp_path, **backing) as made:
        yield made


async def test_two_orders_meet_and_everybody_hears_of_it(market: Market) -> None:
    sell = await market.place("ben", "sell", 5)
    buy = await market.place("anna", "buy", 3)
    assert (sell.status, sell.filled, sell.remaining) == ("open", 0, 5)
    assert (buy.status, buy.filled, buy.remaining) == ("filled", 3, 0)
    await market.hear_all()
    assert market.sequences == [1, 2, 3]
    [trade] = [c for output in market.heard for c in output.changes if isinstance(c, TradeMade)]
    assert (trade.price, trade.quantity, trade.taker_side) == (PRICE, 3, "buy")
    assert (trade.maker_owner, trade.maker_order_id, trade.maker_remaining) == ("ben", sell.order_id, 2)
    assert (trade.taker_owner, trade.taker_order_id, trade.taker_remaining) == ("anna", buy.order_id, 0)
    answers = [answer for output in market.heard for answer in output.answers]
    assert [(a.order_id, a.status, a.filled) for a in answers] == [
        (sell.order_id, "open", 0),
        (buy.order_id, "filled", 3),
    ]
    depth = await market.client.depth(SYMBOL, 10)
    assert [(level.price, level.quantity) for level in depth.asks] == [(PRICE, 2)]
    assert (depth.bids, depth.last_price, depth.phase) == ((), PRICE, "continuous")
    events = sorted(await market.public(3), key=lambda event: int(event.payload["sequence"]))
    assert [(event.type, event.id) for event in events] == [
        ("OrderCreated", f"order-events:{SYMBOL}:1"),
        ("OrderCreated", f"order-events:{SYMBOL}:2"),
        ("TradeExecuted", f"trade-events:{SYMBOL}:3"),
    ]


async def test_an_order_that_is_sent_again_is_answered_again(market: Market) -> None:
    command = market.order("ben", "sell", 5)
    first = await market.submit(command)
    await market.place("anna", "buy", 5)
    again = await market.submit(command)
    assert again == first.model_copy(update={"repeated": True})
    other = await market.submit(command.model_copy(update={"quantity": 6}))
    assert (other.code, other.reason) == ("rejected", "client_order_id_reused")
    twin = market.order("ben", "sell", 1)
    twins = await asyncio.gather(*(market.submit(twin) for _ in range(5)))
    assert len({answer.orders[0].order_id for answer in twins}) == 1
    assert [answer.repeated for answer in twins].count(False) == 1
    await market.hear_all()
    assert market.sequences == [1, 2, 3, 4]


async def test_what_cannot_be_paid_is_rejected_and_leaves_nothing_behind(market: Market) -> None:
    before = await market.balance("ben", "BTC")
    state = await market.place("ben", "sell", 1001)
    assert (state.status, state.reason, state.remaining) == ("rejected", "insufficient_funds", 0)
    nobody = await market.place("carl", "buy", 1)
    assert (nobody.status, nobody.reason) == ("rejected", "insufficient_funds")
    assert await market.balance("ben", "BTC") == before
    assert (await market.client.depth(SYMBOL, 1)).sequence == 0


async def test_orders_at_any_price_are_protected(market: Market) -> None:
    without = await market.place("anna", "buy", 1, order_type="market", price=0)
    assert (without.status, without.reason) == ("rejected", "no_reference_price")
    await market.place("ben", "sell", 1)
    await market.place("anna", "buy", 1)
    await market.place("ben", "sell", 2, price=PRICE + 1)
    await market.place("ben", "sell", 9, price=PRICE * 3)
    found = await market.place("anna", "buy", 5, order_type="market", price=0)
    assert (found.status, found.filled, found.remaining, found.reason) == (
        "cancelled",
        2,
        0,
        "immediate_or_cancel",
    )


async def test_funds_are_held_for_as_long_as_an_order_is_open(market: Market) -> None:
    free, _ = await market.balance("ben", "BTC")
    state = await market.place("ben", "sell", 400)
    assert await market.balance("ben", "BTC") == (free - base_units(BTC, 400), base_units(BTC, 400))
    assert (await market.place("ben", "sell", 601)).reason == "insufficient_funds"
    change = Replace(owner="ben", symbol=SYMBOL, order_id=state.order_id, quantity=900)
    assert (await market.submit(change)).code == "ok"
    assert (await market.balance("ben", "BTC"))[1] == base_units(BTC, 900)
    cancelled = await market.submit(Cancel(owner="ben", symbol=SYMBOL, order_id=state.order_id))
    assert [(o.status, o.reason) for o in cancelled.orders] == [("cancelled", "requested")]
    again = await market.submit(Cancel(owner="ben", symbol=SYMBOL, order_id=state.order_id))
    assert (again.code, again.reason) == ("rejected", "unknown_order")


async def test_nobody_touches_the_orders_of_others(market: Market) -> None:
    state = await market.place("ben", "sell", 4)
    for command in (
        Cancel(owner="anna", symbol=SYMBOL, order_id=state.order_id),
        Replace(owner="anna", symbol=SYMBOL, order_id=state.order_id, quantity=2),
    ):
        result = await market.submit(command)
        assert (result.code, result.reason) == ("rejected", "unknown_order")
    await market.submit(CancelAll(owner="anna"))
    assert [level.quantity for level in (await market.client.depth(SYMBOL, 1)).asks] == [4]
    await market.submit(CancelAll(owner="ben"))
    assert (await market.client.depth(SYMBOL, 1)).asks == ()


async def test_a_pair_has_one_hold_and_one_end(market: Market) -> None:
    await market.place("ben", "sell", 1)
    await market.place("anna", "buy", 1)
    pair = Oco(
        first=market.order("ben", "sell", 600, price=PRICE + 100),
        second=market.order("ben", "sell", 600, order_type="stop", price=0, stop_price=PRICE - 100),
    )
    result = await market.submit(pair)
    assert [(o.status, o.filled) for o in result.orders] == [("open", 0), ("waiting", 0)]
    assert await market.submit(pair) == result.model_copy(update={"repeated": True})
    assert (await market.place("anna", "buy", 600, price=PRICE + 100)).status == "filled"
    await market.hear_all()
    ends = [c for o in market.heard for c in o.changes if c.kind == "cancelled"]
    assert [(c.order_id, c.reason) for c in ends] == [(result.orders[1].order_id, "oco")]


async def test_what_was_missed_is_published_again_as_it_was(market: Market) -> None:
    for i in range(4):
        await market.place("ben", "sell", 2, price=PRICE + i)
    await market.place("anna", "buy", 7, price=PRICE + 9)
    await market.hear_all()
    first = list(market.heard)
    market.heard.clear()
    await market.client.republish(SYMBOL, 2)
    last = first[-1].last
    await market.hear(lambda: last in market.sequences)
    known = {change.sequence: change for output in first for change in output.changes}
    heard = {change.sequence: change for output in market.heard for change in output.changes}
    assert heard == {sequence: known[sequence] for sequence in heard}
    assert set(range(3, last + 1)) <= heard.keys()


async def test_a_halted_market_takes_nothing(market: Market) -> None:
    state = await market.place("ben", "sell", 4)
    await market.submit(SetPhase(symbol=SYMBOL, phase="halted"))
    refused = await market.place("anna", "buy", 1)
    assert (refused.status, refused.reason) == ("rejected", "halted")
    cancel = await market.submit(Cancel(owner="ben", symbol=SYMBOL, order_id=state.order_id))
    assert (cancel.code, cancel.reason) == ("rejected", "halted")
    await market.submit(SetPhase(symbol=SYMBOL, phase="continuous"))
    assert (await market.place("anna", "buy", 1)).status == "filled"


async def test_many_orders_at_once_are_all_answered_and_told_once(market: Market) -> None:
    await market.deposit("carl", "USD", 10**18)
    await market.deposit("dora", "BTC", base_units(BTC, 1000))
    sides = (("anna", "buy"), ("ben", "sell"), ("carl", "buy"), ("dora", "sell"))
    orders = [market.order(*side, 1) for _ in range(90) for side in sides]
    results = await asyncio.gather(*map(market.submit, orders))
    assert {result.orders[0].client_order_id for result in results} == {o.client_order_id for o in orders}
    assert sorted(result.orders[0].order_id for result in results) == list(range(1, 361))
    await market.hear_all()
    assert market.sequences == list(range(1, 541))
    assert [o.first for o in market.heard[1:]] == [o.last + 1 for o in market.heard[:-1]]


async def test_a_restart_forgets_nothing(backing: dict[str, Any], tmp_path: Path) -> None:
    # The role `order` keeps the first answers; an engine that started anew has them from there.
    async with trading(tmp_path, "order", **backing) as before:
        command = before.order("ben", "sell", 5)
        first = await before.submit(command)
        await before.hear_all()
        await order_has_read(before)
    async with trading(tmp_path, "order", **backing) as after:
        assert await after.submit(command) == first.model_copy(update={"repeated": True})
        buy = await after.place("anna", "buy", 5, client_order_id="new")
        assert (buy.status, buy.order_id) == ("filled", first.orders[0].order_id + 1)
        await after.hear_all()
        assert set(after.sequences) - set(before.sequences) == {2, 3}
        known = {change.sequence: change for output in before.heard for change in output.changes}
        again = [c for output in after.heard for c in output.changes if c.sequence in known]
        assert again == [known[change.sequence] for change in again]


async def order_has_read(market: Market) -> None:
    """Wait until the role `order` has all that was heard: a bus in memory is gone with its process."""
    read = select(StreamPositionRow.sequence).where(
        StreamPositionRow.consumer == "order", StreamPositionRow.symbol == SYMBOL
    )
    async with asyncio.timeout(SECONDS):
        while True:
            async with market.platform.backends.database.transaction(read_only=True) as session:
                if (await session.scalar(read) or 0) >= market.sequences[-1]:
                    return
            await asyncio.sleep(0.02)
