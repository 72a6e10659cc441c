"""The fan-out of prices: sources → channels → hub → WebSocket clients."""

from app.kit.auth import STREAM_AUDIENCE, Authenticator, AuthRole, Jwks
from app.kit.runtime import Runtime
from app.matching_client.client import MatchingClient
from app.price_service.accounts import AccountClient
from app.price_service.candle_bases import CandleBases
from app.price_service.candles import Candles
from app.price_service.depth import Depth
from app.price_service.depth_follower import DepthFollower
from app.price_service.executions import Executions
from app.price_service.hub import Hub
from app.price_service.matching_follower import MatchingFollower
from app.price_service.portfolio import AccountFollower, PortfolioValues
from app.price_service.server import PriceServer
from app.price_service.settings import PriceServiceSettings
from app.price_service.streams import Source
from app.price_service.ticker import Ticker, TickFollower
from app.price_service.trades import Trades


async def serve(runtime: Runtime) -> None:
    """Run the role; raises ConfigurationError before it listens when the environment is wrong."""
    settings = PriceServiceSettings.load()
    bus = runtime.backends.bus
    hub = Hub(settings.stream_ring)
    ticker = Ticker(hub)
    ticks = TickFollower(bus, runtime.backends.cache, ticker)
    hub.add(ticker)
    trades, executions = Trades(), Executions(settings.private_ring_bytes)
    matching = MatchingFollower(bus, hub, trades, executions)
    hub.add(trades)
    engine = MatchingClient(runtime)
    depth = Depth(hub)
    books = DepthFollower(bus, engine.books, depth)
    hub.add(depth)
    bases = CandleBases(runtime)
    candles = Candles(hub, ticks.latest, bases.base)
    ticks.listeners.append(candles.take)
    hub.add(candles)
    portfolio = AccountClient(runtime)
    values = PortfolioValues(portfolio.account, ticks.price)
    ticks.listeners.append(values.take)
    accounts = AccountFollower(bus, values)
    auth = AuthRole(runtime)
    authenticator = Authenticator(Jwks(auth.jwks), auth, audience=STREAM_AUDIENCE)
    server = PriceServer(runtime, settings, hub, executions, values, authenticator)
    sources: list[Source] = [ticks, matching, accounts]

    async def prepare() -> None:
        for source in sources:
            await source.open()

    workers = [*(source.run for source in sources), books.run, candles.run, candles.keep_tidy, server.keep]
    try:
        await runtime.serve(server, *workers, prepare=prepare)
    finally:
        await engine.close()
        await portfolio.close()
        await bases.close()
