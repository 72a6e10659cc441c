"""The fan-out of prices: sources → channels → hub → WebSocket clients."""

from app.kit.runtime import Runtime
from app.matching_client.client import MatchingClient
from app.price_service.depth import Depth
from app.price_service.depth_follower import DepthFollower
from app.price_service.endpoints import PriceServer
from app.price_service.hub import Hub
from app.price_service.ticker import Ticker, TickFollower


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    hub = Hub()
    ticker = Ticker(hub)
    ticks = TickFollower(runtime.backends.bus, runtime.backends.cache, ticker)
    hub.add(ticker)
    engine = MatchingClient(runtime)
    depth = Depth(hub)
    books = DepthFollower(runtime.backends.bus, engine.books, depth)
    hub.add(depth)
    sources = [ticks]

    async def prepare() -> None:
        for source in sources:
            await source.open()

    workers = [*(source.run for source in sources), books.run]
    try:
        await runtime.serve(PriceServer(runtime, hub), *workers, prepare=prepare)
    finally:
        await engine.close()
