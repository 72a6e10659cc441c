"""Limit orders around a middle price, as the bytes of requests."""

import json
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal

from infra.errors import TradestackError

Market = tuple[str, str, str]
"""Middle price, tick size and lot size, as decimals."""


class OrderRequests:
    """Makes the request of each number: users take turns, everything else is chosen by `seed`.

    `tokens` is asked at each request, so that it may hold newer ones then.
    """

    def __init__(
        self, host: str, tokens: Sequence[str], markets: Mapping[str, Market], *, seed: int, run: str
    ) -> None:
        self._host = host
        self._tokens = tokens
        self._markets = {name: tuple(map(float, market)) for name, market in markets.items()}
        self._symbols = list(markets)
        self._random = random.Random(seed)  # noqa: S311 - a repeatable load
        self._run = run

    def __call__(self, number: int) -> bytes:
        """Buy or sell 1 to 20 lots within 20 ticks of the middle."""
        pick = self._random
        symbol = pick.choice(self._symbols)
        middle, tick, lot = self._markets[symbol]
        ticks = round(middle / tick) + pick.randint(-20, 20)
        body = json.dumps(
            {
                "client_order_id": f"{self._run}-{number}",
                "symbol": symbol,
                "side": pick.choice(("buy", "sell")),
                "order_type": "limit",
                "quantity": f"{pick.randint(1, 20) * lot:.8f}",
                "price": f"{ticks * tick:.8f}",
            }
        ).encode()
        head = (
            f"POST /api/orders HTTP/1.1\r\nhost: {self._host}\r\n"
            f"authorization: Bearer {self._tokens[number % len(self._tokens)]}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def markets(symbols: Sequence[str], middles: Mapping[str, Decimal]) -> dict[str, Market]:
    """Markets of symbols; the middle is the instrument's first price unless `middles` has another.

    Raises:
        TradestackError: a symbol is not traded.
    """
    from app.instruments import INSTRUMENTS

    unknown = sorted({*symbols, *middles} - INSTRUMENTS.keys())
    if unknown:
        raise TradestackError(f"no such symbol: {', '.join(unknown)}")
    return {
        symbol: (
            str(middles.get(symbol, INSTRUMENTS[symbol].start_price)),
            str(INSTRUMENTS[symbol].tick_size),
            str(INSTRUMENTS[symbol].lot_size),
        )
        for symbol in symbols
    }
