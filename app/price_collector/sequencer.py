"""From quotes to ticks: sequence numbers and the statistics of the trading day."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from uuid import uuid4

from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS
from app.price_collector.feeds import Quote


class Sequencer:
    """Numbers ticks per symbol within one epoch. Starts from the ticks that were published last, if any.

    Goes on in `epoch`, of which `latest` then has the last number of every symbol that has one; without it,
    in that of all those ticks, if it is one.
    """

    def __init__(self, latest: Mapping[str, PriceTick], epoch: str | None = None) -> None:
        self.latest = dict(latest)
        """Symbol → the tick numbered last."""
        epochs = {tick.epoch for tick in latest.values()}
        self.epoch = epoch or (epochs.pop() if len(epochs) == 1 else str(uuid4()))

    def new_epoch(self) -> None:
        """Count anew: what was handed out before may be unknown to whoever resumes from the cache."""
        self.epoch = str(uuid4())

    def number(self, quotes: Iterable[Quote]) -> list[PriceTick]:
        """Ticks for quotes, in their order."""
        return [self._tick(quote) for quote in quotes]

    def renumber(self, ticks: Iterable[PriceTick]) -> list[PriceTick]:
        """The same ticks in the present epoch."""
        return [self._remember(tick.model_copy(update={"epoch": self.epoch, "seq": 0})) for tick in ticks]

    def _tick(self, quote: Quote) -> PriceTick:
        before = self.latest.get(quote.symbol)
        calendar = INSTRUMENTS[quote.symbol].calendar
        price = quote.price
        at = quote.at
        if before is None:
            reference, open_, high, low, volume = price, price, price, price, 0
        elif calendar.trading_day(at) != calendar.trading_day(datetime.fromtimestamp(before.at / 1000, UTC)):
            reference, open_, high, low, volume = before.price, price, price, price, 0
        else:
            reference, open_, volume = before.reference, before.open, before.volume
            high, low = max(before.high, price), min(before.low, price)
        return self._remember(
            PriceTick.model_construct(
                symbol=quote.symbol,
                epoch=self.epoch,
                seq=0,
                at=int(at.timestamp() * 1000),
                price=price,
                size=quote.size,
                bid=quote.bid,
                ask=quote.ask,
                reference=reference,
                open=open_,
                high=high,
                low=low,
                volume=volume + quote.size,
            )
        )

    def _remember(self, tick: PriceTick) -> PriceTick:
        before = self.latest.get(tick.symbol)
        seq = before.seq + 1 if before is not None and before.epoch == self.epoch else 1
        numbered = tick.model_copy(update={"seq": seq})
        self.latest[tick.symbol] = numbered
        return numbered
