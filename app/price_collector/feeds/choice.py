"""Which feed tells the prices of which symbols."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from app.events.prices import PriceTick
from app.instruments import INSTRUMENTS, AssetClass, Instrument
from app.kit import logs
from app.kit.bus import Bus
from app.kit.settings import Settings
from app.price_collector.feeds import Feed
from app.price_collector.feeds.binance import SYMBOLS, BinanceFeed
from app.price_collector.feeds.combined import CombinedFeed
from app.price_collector.feeds.exchange import ExchangeFeed
from app.price_collector.feeds.simulated import SimulatedFeed

_log = logs.get(__name__)


def shares(names: str) -> dict[str, list[Instrument]]:
    """Instruments of each feed in APP_FEED: a symbol belongs to the first feed of the list that has it."""
    found: dict[str, list[Instrument]] = {name: [] for name in names.split(",")}
    for instrument in INSTRUMENTS.values():
        for name, instruments in found.items():
            if _has(name, instrument):
                instruments.append(instrument)
                break
    return {name: instruments for name, instruments in found.items() if instruments}


def choose(settings: Settings, bus: Bus, latest: Mapping[str, PriceTick]) -> Feed:
    """The feed that the settings ask for; goes on from the ticks that were published last."""
    if settings.feed == "simulated":
        return _simulated(settings, list(INSTRUMENTS.values()), latest)
    parts = shares(settings.feed)
    served = {instrument.symbol for part in parts.values() for instrument in part}
    _log.info("feeds", symbols={name: len(part) for name, part in parts.items()})
    if without := sorted(INSTRUMENTS.keys() - served):
        _log.warning("no feed tells prices of some symbols", symbols=without)
    newest = {symbol: datetime.fromtimestamp(tick.at / 1000, UTC) for symbol, tick in latest.items()}
    feeds = {name: _make(name, part, settings, bus, latest) for name, part in parts.items()}
    return CombinedFeed(feeds, newest)


def _has(name: str, instrument: Instrument) -> bool:
    match name:
        case "binance":
            return instrument.symbol in SYMBOLS
        case "alpha-vantage":
            return instrument.asset_class in (AssetClass.EQUITY, AssetClass.FX)
        case _:
            return True


def _make(
    name: str, instruments: list[Instrument], settings: Settings, bus: Bus, latest: Mapping[str, PriceTick]
) -> Feed:
    match name:
        case "exchange":
            return ExchangeFeed(instruments, bus)
        case "binance":
            return BinanceFeed(instruments, settings.feed_binance_url)
        case "alpha-vantage":
            # Brings an HTTP client with it, which the other feeds need not.
            from app.price_collector.feeds.alpha_vantage import AlphaVantageFeed

            return AlphaVantageFeed(
                instruments,
                settings.feed_alpha_vantage_url,
                settings.password("alpha_vantage_key"),
                per_minute=settings.feed_alpha_vantage_per_minute,
                per_day=settings.feed_alpha_vantage_per_day,
            )
        case _:
            return _simulated(settings, instruments, latest)


def _simulated(
    settings: Settings, instruments: list[Instrument], latest: Mapping[str, PriceTick]
) -> SimulatedFeed:
    return SimulatedFeed(
        instruments,
        seed=settings.feed_seed,
        rate=settings.feed_rate,
        last_prices={symbol: tick.price for symbol, tick in latest.items()},
        history=timedelta(minutes=settings.feed_history_minutes),
    )
