"""Events of the portfolio. Quantities are lots, amounts smallest units of the quote currency."""

from app.events.envelope import Envelope
from app.events.trading import PnLCalculated, PositionUpdated
from app.instruments import INSTRUMENTS
from app.portfolio.repository import Entry
from app.wallet.ledger.assets import notional

_PRODUCER = "portfolio"


def position_changed(entry: Entry, mark: int) -> list[Envelope]:
    """What is told of a position after `entry`, valued at `mark` ticks.

    A trade has one buyer and one seller, so its sequence and the side name the entry, also in event ids.
    """
    instrument = INSTRUMENTS[entry.symbol]
    position = entry.position
    updated = PositionUpdated(
        account=entry.owner,
        symbol=entry.symbol,
        quantity=position.lots,
        cost=notional(instrument, 1, position.cost),
    )
    profit = PnLCalculated(
        account=entry.owner,
        symbol=entry.symbol,
        realised=notional(instrument, 1, position.realised),
        unrealised=notional(instrument, 1, position.unrealised(mark)),
    )
    place = f"{entry.symbol}:{entry.sequence}:{entry.side}"
    return [
        Envelope.of(updated, key=entry.owner, producer=_PRODUCER, id=f"position:{place}"),
        Envelope.of(profit, key=entry.owner, producer=_PRODUCER, id=f"pnl:{place}"),
    ]
