"""One order book under a command stream, in a process of its own: `matching_side.py SIDE STREAM [JOURNAL]`.

Runs in the environment that holds the book, so it imports nothing of the project but, for `ours`, the
exchange. SIDE is a name of `SIDES`. STREAM is a JSON list of commands [place, id, side, price, quantity]:
place is 1 for a limit order (side 0 buys, 1 sells) and 0 for the cancel of an open order. Prints JSON.
"""

import gc
import json
import logging
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns
from typing import Any

BATCH = 64
"""Commands that our journal writes at once."""

Step = Callable[[int, int, int, int, int], Any]


class Ours:
    """The exchange, with every command encoded and written to the journal before it is carried out."""

    def __init__(self, journal: str) -> None:
        from app.exchange import (
            Cancel,
            MatchingEngine,
            OrderType,
            Place,
            SelfTradePrevention,
            Side,
            TimeInForce,
        )
        from app.exchange.journal import encode, pack_batch

        engine = MatchingEngine("BENCH")
        apply = engine.apply
        self.file = file = Path(journal).open("wb", buffering=0)  # noqa: SIM115
        sides, limit = tuple(Side), OrderType.LIMIT
        gtc, prevention = TimeInForce.GTC, SelfTradePrevention.CANCEL_TAKER
        pending: list[bytes] = []

        def step(place: int, number: int, side: int, price: int, quantity: int) -> Any:
            # Accounts are as many as orders, so self-trade prevention is on and never strikes.
            command = (
                Place(
                    number, number, number, sides[side], limit, quantity, price, 0, gtc, 0, prevention, False
                )
                if place
                else Cancel(0, number, number)
            )
            pending.append(encode(command))
            if len(pending) == BATCH:
                file.write(pack_batch(pending))
                pending.clear()
            return apply(command)

        self.step = step
        self.engine = engine

    def lots(self, answers: list[Any]) -> int:
        """Lots that changed hands."""
        from app.exchange import Trade

        return sum(event.quantity for events in answers for event in events if isinstance(event, Trade))

    def facts(self) -> dict[str, Any]:
        """What the result says about the build."""
        from app.exchange import COMPILED

        return {"compiled": COMPILED}


class _Logged:
    """Both books of one author: they keep a log of trades."""

    def __init__(self, module: Any) -> None:
        self.book = book = module.OrderBook()
        order, sides = module.Order, (module.OrderSide.BID, module.OrderSide.ASK)
        ids: dict[int, str] = {}

        def step(place: int, number: int, side: int, price: int, quantity: int) -> None:
            if place:
                entered = order(side=sides[side], price=price, original_quantity=quantity)
                ids[number] = entered.order_id
                book.add_limit_order(entered)
            else:
                book.cancel_order(ids[number])

        self.step = step

    def lots(self, answers: list[Any]) -> int:
        """Lots that changed hands."""
        return sum(trade.quantity_filled for trade in self.book.trade_log)


class Akhil4n(_Logged):
    """akhil4n-orderbook."""

    def __init__(self) -> None:
        super().__init__(import_module("orderbook"))


class Cython(_Logged):
    """cython-orderbook."""

    def __init__(self) -> None:
        super().__init__(import_module("cython_orderbook"))


class Light:
    """lightmatchingengine."""

    def __init__(self) -> None:
        engine = import_module("lightmatchingengine.lightmatchingengine").LightMatchingEngine()
        ids: dict[int, int] = {}

        def step(place: int, number: int, side: int, price: int, quantity: int) -> Any:
            if place:
                answer = engine.add_order("BENCH", price, quantity, side + 1)
                ids[number] = answer[0].order_id
                return answer
            return engine.cancel_order(ids[number], "BENCH")

        self.step = step

    def lots(self, answers: list[Any]) -> int:
        """Lots that changed hands; the book reports each trade for both sides."""
        trades = (trade for answer in answers if isinstance(answer, tuple) for trade in answer[1])
        return int(sum(trade.trade_qty for trade in trades)) // 2


class Pyorderbook:
    """pyorderbook."""

    def __init__(self) -> None:
        module = import_module("pyorderbook")
        logging.disable(logging.CRITICAL)
        book, order_class = module.Book(), module.Order
        sides = (module.Side.BID, module.Side.ASK)
        orders: dict[int, Any] = {}

        def step(place: int, number: int, side: int, price: int, quantity: int) -> Any:
            if place:
                orders[number] = order = order_class(sides[side], "BENCH", price, quantity)
                return book.match(order)
            return book.cancel(orders[number])

        self.step = step

    def lots(self, answers: list[Any]) -> int:
        """Lots that changed hands."""
        return sum(trade.fill_quantity for answer in answers if answer for trade in answer.trades)


SIDES: dict[str, Callable[..., Any]] = {
    "ours": Ours,
    "akhil4n-orderbook": Akhil4n,
    "cython-orderbook": Cython,
    "lightmatchingengine": Light,
    "pyorderbook": Pyorderbook,
}


def measure(side: str, stream: list[list[int]], arguments: list[str]) -> dict[str, Any]:
    """First a run whose answers are added up, as proof of the same work, then a measured one on a new book.

    The garbage collector is off in the second, for every side alike: a matching engine makes no cycles.
    """
    book = SIDES[side](*arguments)
    lots = book.lots([book.step(*command) for command in stream])
    book = SIDES[side](*arguments)
    step = book.step
    gc.collect()
    gc.disable()
    stamps = [perf_counter_ns()]
    stamp = stamps.append
    for place, number, way, price, quantity in stream:
        step(place, number, way, price, quantity)
        stamp(perf_counter_ns())
    gc.enable()
    times = sorted(after - before for before, after in pairwise(stamps))
    result = {
        "ops_per_s": len(stream) / (stamps[-1] - stamps[0]) * 1e9,
        "p50_us": times[len(times) // 2] / 1000,
        "p99_us": times[len(times) * 99 // 100] / 1000,
        "p999_us": times[len(times) * 999 // 1000] / 1000,
        "lots": lots,
    }
    return result | (book.facts() if hasattr(book, "facts") else {})


if __name__ == "__main__":
    json.dump(measure(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), sys.argv[3:]), sys.stdout)
