"""The fan-out of prices: bus → hub → WebSocket clients."""

from app.events.prices import PriceTick
from app.events.reading import payloads
from app.kit import logs
from app.kit.bus import Bus, Subscription
from app.kit.cache import Cache
from app.kit.errors import Unavailable
from app.kit.runtime import Runtime
from app.price_service.endpoints import PriceServer
from app.price_service.hub import Hub
from app.prices import read_latest

_TOPIC = "price.updates"
_BATCH = 1000
_log = logs.get(__name__)


class Follower:
    """Feeds a hub with every tick on the bus, from the state in the cache on."""

    def __init__(self, bus: Bus, cache: Cache, hub: Hub) -> None:
        self._bus = bus
        self._cache = cache
        self._hub = hub
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Fix the place on the bus, then load the cache: nothing falls between the two.

        Raises:
            Unavailable: the bus does not answer, or the cache does not and no tick is known yet.
        """
        await self.close()
        self._subscription = await self._bus.subscribe([_TOPIC], None)
        try:
            self._hub.publish((await read_latest(self._cache)).values())
        except Unavailable as error:
            if not self._hub.latest:
                raise
            _log.warning("going on without the cache", reason=str(error))

    async def run(self) -> None:
        """Publish ticks until cancelled; raises Unavailable when the subscription breaks."""
        try:
            if self._subscription is None:
                await self.open()
            assert self._subscription is not None  # noqa: S101 - opened above
            while True:
                messages = await self._subscription.batch(_BATCH, seconds=1.0)
                self._hub.publish(payloads(messages, PriceTick))
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave the bus."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.close()


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    hub = Hub()
    follower = Follower(runtime.backends.bus, runtime.backends.cache, hub)
    await runtime.serve(PriceServer(runtime, hub), follower.run, prepare=follower.open)
