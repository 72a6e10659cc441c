"""What a sender of commands is told, and what followers read of it."""

from app.events.matching import OrderAccepted, TradeMade
from app.matching_client.commands import OrderState
from app.wallet.ledger.accounts import available
from tests.app.matching.machine import PRICE, SYMBOL, Machine, command, once, told
from tests.app.wallet.books import balance


async def test_orders_meet_and_everybody_is_told(machine: Machine) -> None:
    async with machine.leading() as engine:
        (sold,) = await told(engine, machine.place("anna", "sell", 10))
        (bought,) = await told(engine, machine.place("ben", "buy", 4))
        assert (sold.code, sold.orders[0].status, sold.orders[0].order_id) == ("ok", "open", 1)
        assert (bought.orders[0].status, bought.orders[0].filled, bought.orders[0].remaining) == (
            "filled",
            4,
            0,
        )
        depth = engine.depth(SYMBOL, 5)
        assert [(level.price, level.quantity) for level in depth.asks] == [(PRICE, 6)]
        assert (depth.bids, depth.last_price) == ((), PRICE)
    changes = once(await machine.outputs())
    assert [type(change) for change in changes] == [OrderAccepted, OrderAccepted, TradeMade]
    assert isinstance(changes[2], TradeMade)
    assert (changes[2].maker_owner, changes[2].taker_owner) == ("anna", "ben")
    answers = [answer for output in await machine.outputs() for answer in output.answers]
    assert [(answer.order_id, answer.status) for answer in answers] == [(1, "open"), (2, "filled")]


async def test_the_same_client_order_id_enters_one_order(machine: Machine) -> None:
    async with machine.leading() as engine:
        order = machine.place("anna", "sell", 10)
        (first,) = await told(engine, order)
        await told(engine, machine.place("ben", "buy", 10))
        (again,) = await told(engine, order)
        assert again == first.model_copy(update={"repeated": True})
        (other,) = await told(engine, order.model_copy(update={"quantity": 11}))
        assert (other.code, other.reason) == ("rejected", "client_order_id_reused")
        twin = machine.place("cara", "buy", 1, PRICE - 1)
        one, two = await told(engine, twin, twin)
        assert two == one.model_copy(update={"repeated": True})
    assert len([c for c in once(await machine.outputs()) if isinstance(c, OrderAccepted)]) == 3


async def test_an_order_without_funds_is_rejected_and_stays_so(machine: Machine) -> None:
    async with machine.leading() as engine:
        order = machine.place("poor", "buy", 10)
        (first,) = await told(engine, order)
        assert (first.code, first.reason) == ("rejected", "insufficient_funds")
        assert isinstance(first.orders[0], OrderState)
        await machine.fund("poor")
        (again,) = await told(engine, order)
        assert again == first.model_copy(update={"repeated": True})
    assert await machine.outputs() == []


async def test_orders_are_cancelled_and_replaced(machine: Machine) -> None:
    async with machine.leading() as engine:
        (placed,) = await told(engine, machine.place("anna", "sell", 10))
        of_anna = {"owner": "anna", "symbol": SYMBOL, "order_id": placed.orders[0].order_id}
        (changed,) = await told(
            engine, command({"kind": "replace", **of_anna, "quantity": 12, "price": PRICE + 5})
        )
        assert (changed.code, changed.orders[0].remaining, changed.orders[0].status) == ("ok", 12, "open")
        await told(engine, machine.place("ben", "buy", 3, PRICE + 5))
        (others,) = await told(engine, command({"kind": "cancel", **of_anna, "owner": "ben"}))
        assert (others.code, others.reason) == ("rejected", "unknown_order")
        (gone,) = await told(engine, command({"kind": "cancel", **of_anna}))
        assert (gone.orders[0].status, gone.orders[0].filled, gone.orders[0].reason) == (
            "cancelled",
            3,
            "requested",
        )
        (again,) = await told(engine, command({"kind": "cancel", **of_anna}))
        assert (again.code, again.reason) == ("rejected", "unknown_order")


async def test_a_market_order_enters_with_a_protection_price(machine: Machine) -> None:
    async with machine.leading() as engine:
        await told(engine, machine.place("anna", "sell", 5))
        market = machine.place("ben", "buy", 8, price=0, order_type="market", time_in_force="ioc")
        (result,) = await told(engine, market)
        assert (result.orders[0].status, result.orders[0].filled) == ("cancelled", 5)
        machine.marks.prices.clear()
        blind = machine.place(
            "ben", "buy", 8, price=0, order_type="market", time_in_force="ioc", symbol="ETH-USD"
        )
        (result,) = await told(engine, blind)
        assert (result.code, result.reason) == ("rejected", "no_reference_price")
    created = [p for p in await machine.payloads("order-events") if type(p).__name__ == "OrderCreated"]
    assert [(event.order_type, event.price) for event in created] == [("limit", PRICE), ("market", None)]


async def test_a_pair_shares_its_funds_and_one_cancels_the_other(machine: Machine) -> None:
    async with machine.leading() as engine:
        pair = command(
            {
                "kind": "oco",
                "first": machine.place("anna", "sell", 10, PRICE + 100).model_dump(),
                "second": machine.place(
                    "anna", "sell", 10, 0, order_type="stop", stop_price=PRICE - 100
                ).model_dump(),
            }
        )
        (result,) = await told(engine, pair)
        assert [(order.status, order.remaining) for order in result.orders] == [("open", 10), ("waiting", 10)]
        (again,) = await told(engine, pair)
        assert again == result.model_copy(update={"repeated": True})
        held = available("anna", "BTC").held
        before = await balance(machine.database, machine.wallet.ledger, held)
        more = {"kind": "replace", "owner": "anna", "symbol": SYMBOL, "quantity": 1000}
        (refused,) = await told(engine, command({**more, "order_id": result.orders[0].order_id}))
        assert (refused.code, refused.reason) == ("rejected", "oco_not_replaceable")
        assert await balance(machine.database, machine.wallet.ledger, held) == before
        await told(engine, machine.place("ben", "buy", 10, PRICE + 100))
        (all_gone,) = await told(engine, command({"kind": "cancel_all", "owner": "anna"}))
        assert all_gone.code == "ok"
        assert engine.depth(SYMBOL, 5).asks == ()


async def test_a_take_profit_order_is_no_way_around_the_collar(machine: Machine) -> None:
    far = PRICE * 5
    limited = {"order_type": "take_profit_limit", "stop_price": far}
    async with machine.leading() as engine:
        await told(engine, machine.place("anna", "sell", 1), machine.place("ben", "buy", 1))
        await told(engine, machine.place("anna", "sell", 1, far))
        swept, dear, cheap = await told(
            engine,
            machine.place("ben", "buy", 1, 0, order_type="take_profit", stop_price=far),
            machine.place("ben", "buy", 1, far, **limited),
            machine.place("ben", "buy", 1, PRICE, **limited),
        )
        assert (swept.orders[0].filled, swept.orders[0].reason) == (0, "immediate_or_cancel")
        assert (dear.code, dear.reason) == ("rejected", "price_outside_collar")
        change = {"kind": "replace", "owner": "ben", "symbol": SYMBOL, "quantity": 1, "price": far}
        (moved,) = await told(engine, command({**change, "order_id": cheap.orders[0].order_id}))
        assert (moved.code, moved.reason) == ("rejected", "price_outside_collar")


async def test_cancelling_everything_again_and_again_costs_the_book_one_look(machine: Machine) -> None:
    everything = command({"kind": "cancel_all", "owner": "anna"})
    async with machine.leading() as engine:
        await told(
            engine, machine.place("ben", "buy", 1, PRICE - 1), machine.place("anna", "buy", 1, PRICE - 2)
        )
        before = engine.state()[SYMBOL]["sequence"]
        results = await told(engine, *[everything] * 100)
        assert {result.code for result in results} == {"ok"}
        assert engine.state()[SYMBOL]["sequence"] == int(before) + 2
        results = await told(
            engine, everything, machine.place("anna", "buy", 1, PRICE - 2), everything, everything
        )
        assert [result.code for result in results] == ["ok"] * 4
        assert [level.price for level in engine.depth(SYMBOL, 5).bids] == [PRICE - 1]
        await told(engine, machine.place("anna", "buy", 1, PRICE - 2))
        halted = command({"kind": "set_phase", "symbol": SYMBOL, "phase": "halted"})
        _, *refused = await told(engine, halted, everything, everything)
        assert [result.reason for result in refused] == ["halted", "halted"]
