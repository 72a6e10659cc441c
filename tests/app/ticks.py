"""Ticks for tests, and the candles of them."""

from collections.abc import Sequence

from app.events.prices import PriceTick
from app.market_data.candles import MINUTE, Candle, start_of

BEGIN = 1_700_000_000_000


def tick(
    symbol: str = "BTC-USD",
    seq: int = 1,
    *,
    epoch: str = "e1",
    at: int = 1_000,
    price: int = 100,
    size: int = 1,
) -> PriceTick:
    return PriceTick(
        symbol=symbol,
        epoch=epoch,
        seq=seq,
        at=at,
        price=price,
        size=size,
        bid=max(1, price - 1),
        ask=price + 1,
        reference=price,
        open=price,
        high=price,
        low=price,
        volume=size,
    )


def ticks_of(found: Sequence[tuple[int, int, int]], begin: int = BEGIN) -> list[PriceTick]:
    """Trades as (milliseconds since the last one, price, size)."""
    at, made = begin, []
    for seq, (pause, price, size) in enumerate(found, start=1):
        at += pause
        made.append(tick(seq=seq, at=at, price=price, size=size))
    return made


def expected(ticks: Sequence[PriceTick], seconds: int = MINUTE) -> list[Candle]:
    """Candles of BTC-USD in the obvious way: group by start; the newest still runs."""
    by_start: dict[int, list[PriceTick]] = {}
    for each in ticks:
        by_start.setdefault(start_of(each.at, seconds), []).append(each)
    last = max(by_start)
    return [
        Candle(
            "BTC-USD",
            start,
            group[0].price,
            max(t.price for t in group),
            min(t.price for t in group),
            group[-1].price,
            sum(t.size for t in group),
            len(group),
            closed=start != last,
        )
        for start, group in sorted(by_start.items())
    ]
