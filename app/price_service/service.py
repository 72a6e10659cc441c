"""The fan-out of prices: sources → channels → hub → WebSocket clients."""

from app.kit.runtime import Runtime
from app.price_service.endpoints import PriceServer
from app.price_service.hub import Hub
from app.price_service.ticker import Ticker, TickFollower


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    hub = Hub()
    ticker = Ticker(hub)
    ticks = TickFollower(runtime.backends.bus, runtime.backends.cache, ticker)
    hub.add(ticker)
    sources = [ticks]

    async def prepare() -> None:
        for source in sources:
            await source.open()

    await runtime.serve(PriceServer(runtime, hub), *(source.run for source in sources), prepare=prepare)
