"""Ticks for tests."""

from app.events.prices import PriceTick


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
