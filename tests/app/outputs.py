"""Outputs of a matching engine for tests."""

from collections.abc import Iterable, Sequence

from app.events.envelope import Envelope
from app.events.matching import Answer, Change, MatchingOutput, OrderAccepted, Side, TradeMade
from app.kit.bus import Record


def accepted(sequence: int, order_id: int = 0, owner: str = "anna") -> OrderAccepted:
    return OrderAccepted(
        sequence=sequence, order_id=order_id or sequence, owner=owner, side="buy", quantity=5, price=100
    )


def trade(
    sequence: int,
    buyer: str = "anna",
    seller: str = "ben",
    *,
    price: int = 100,
    quantity: int = 1,
    taker_side: Side = "buy",
    trade_id: int = 0,
) -> TradeMade:
    taker, maker = (buyer, seller) if taker_side == "buy" else (seller, buyer)
    return TradeMade(
        sequence=sequence,
        trade_id=trade_id or sequence,
        price=price,
        quantity=quantity,
        taker_side=taker_side,
        maker_order_id=2 * sequence,
        taker_order_id=2 * sequence + 1,
        maker_owner=maker,
        taker_owner=taker,
        maker_remaining=0,
        taker_remaining=0,
    )


def output(
    changes: Sequence[Change], symbol: str = "BTC-USD", *, at: int = 1_000, answers: Sequence[Answer] = ()
) -> MatchingOutput:
    return MatchingOutput(
        symbol=symbol,
        first=changes[0].sequence,
        last=changes[-1].sequence,
        at=at,
        changes=tuple(changes),
        answers=tuple(answers),
    )


def entries(first: int, last: int, symbol: str = "BTC-USD") -> MatchingOutput:
    """An output whose changes are orders, numbered as the changes."""
    answers = [Answer(order_id=number, status="open", filled=0) for number in range(first, last + 1)]
    return output([accepted(number) for number in range(first, last + 1)], symbol, answers=answers)


def records(outputs: Iterable[MatchingOutput]) -> list[Record]:
    return [
        Record(
            one.symbol,
            Envelope.of(
                one,
                key=one.symbol,
                producer="matching-engine",
                id=f"matching:{one.symbol}:{one.first}-{one.last}",
            ).encode(),
        )
        for one in outputs
    ]
