"""Reading whole topics in every process, from a place on that is fixed before anything else is loaded."""

from collections.abc import Awaitable, Callable, Sequence

from app.kit.bus import Bus, Message, Subscription


class Broadcast:
    """A subscription without a group that outlives the step from preparing to following.

    `limit` is the most messages of a batch; `gather` is that of `Subscription.batch`, in seconds.
    """

    def __init__(self, bus: Bus, topics: Sequence[str], limit: int, gather: float = 0.0) -> None:
        self._bus = bus
        self._topics = topics
        self._limit = limit
        self._gather = gather
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Fix the place on the bus anew; raises Unavailable."""
        await self.close()
        self._subscription = await self._bus.subscribe(self._topics, None)

    async def follow(
        self, take: Callable[[Sequence[Message]], None], reopen: Callable[[], Awaitable[None]]
    ) -> None:
        """Hand every batch to `take` until cancelled, then leave the bus.

        `reopen` is called first where the place is lost, as after an outage: it calls `open` and deals with
        what may have been missed.

        Raises:
            Unavailable: the subscription broke, or `reopen` says so.
        """
        try:
            if self._subscription is None:
                await reopen()
            assert self._subscription is not None  # noqa: S101 - opened above
            while True:
                take(await self._subscription.batch(self._limit, seconds=1.0, gather=self._gather))
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave the bus."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.close()
