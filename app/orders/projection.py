"""Follows the matching engine: brings orders and fills up to date, tells users of orders that are filled."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.events.accounts import SendConfirmation
from app.events.envelope import Envelope
from app.events.matching import MatchingOutput
from app.instruments import INSTRUMENTS
from app.kit.bus import Bus, Record
from app.kit.database import Database
from app.orders import terms
from app.orders.repository import OrderRecord, OrderRepository

_TOPIC = "notification-events"


class Projection:
    """Applies outputs of the engine to the tables, for `app.events.stream.follow`."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._repository = OrderRepository(database)
        self._bus = bus

    async def apply(self, session: AsyncSession, outputs: Sequence[MatchingOutput]) -> None:
        """Bring orders and fills to where the outputs leave them.

        The events are published before the commit, not through the outbox: if it fails they come again with
        the ids they had, and readers know those.

        Raises:
            Unavailable: database or bus do not answer.
        """
        filled = await self._repository.apply(session, outputs)
        if filled:
            await self._bus.publish(_TOPIC, [_confirmation(order) for order in filled])


def _confirmation(order: OrderRecord) -> Record:
    instrument = INSTRUMENTS[order.symbol]
    told = SendConfirmation(
        user=order.owner,
        channel="push",
        template="order-filled",
        values={
            "order_id": str(order.order_id),
            "client_order_id": order.client_order_id,
            "symbol": order.symbol,
            "side": order.side,
            "quantity": terms.quantity_text(instrument, order.filled),
            "average_price": terms.average_text(instrument, order.cost, order.filled) or "",
        },
    )
    event = Envelope.of(told, key=order.owner, producer="order", id=f"order-filled:{order.order_id}")
    event = event.model_copy(update={"time": datetime.fromtimestamp(order.changed_at / 1000, UTC)})
    return Record(order.owner, event.encode())
