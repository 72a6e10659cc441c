"""The private channel `portfolio`: the newest worth of a user's account, at most once a second."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from app.events.prices import PriceTick
from app.kit import logs
from app.kit.broadcast import Broadcast
from app.kit.bus import Bus, Message
from app.kit.errors import Unavailable
from app.portfolio.valuation import Price
from app.price_service.accounts import Account
from app.price_service.hub import dropped

PORTFOLIO = "portfolio"
_TOPICS = ("portfolio-events", "wallet-events")
"""Their keys are the accounts that they are about."""
_BATCH = 500
_PACE_SECONDS = 1.0
_REFRESH_SECONDS = 15.0
"""Age at which funds and positions are asked for anew, whatever was told of them."""
_log = logs.get(__name__)
_dropped_slow = dropped.labels("slow")


class Session(Protocol):
    """A connection that is logged in."""

    user_id: str

    @property
    def slow(self) -> bool:
        """Its socket takes no more now; when it does again, `PortfolioValues.due` is called."""

    def push(self, data: bytes) -> None:
        """Take a finished frame."""


class _Watch:
    """One user who watches, over any number of connections."""

    __slots__ = ("account", "due", "read_at", "sessions", "stale", "symbols", "task")

    def __init__(self) -> None:
        self.sessions: set[Session] = set()
        self.due = asyncio.Event()
        """Set when there is something new to tell."""
        self.stale = True
        """Funds or positions have changed."""
        self.account: Account | None = None
        self.symbols: frozenset[str] = frozenset()
        self.read_at = float("-inf")
        self.task: asyncio.Task[None] | None = None

    def ask_anew(self) -> None:
        """What is known of the account does not hold any more."""
        self.stale = True
        self.due.set()


class PortfolioValues:
    """Values the accounts of those who watch.

    `read` asks for funds and positions and raises Unavailable; `price` tells the last price in ticks.
    """

    def __init__(self, read: Callable[[str], Awaitable[Account]], price: Price) -> None:
        self._read = read
        self._price = price
        self._watches: dict[str, _Watch] = {}
        self._by_symbol: dict[str, set[_Watch]] = {}

    def join(self, session: Session) -> None:
        """Tell a session the worth of its user's account, now and from now on."""
        watch = self._watches.get(session.user_id)
        if watch is None:
            watch = self._watches[session.user_id] = _Watch()
            watch.task = asyncio.create_task(self._run(session.user_id, watch))
        watch.sessions.add(session)
        watch.due.set()

    def leave(self, session: Session) -> None:
        """Tell a session nothing any longer."""
        watch = self._watches.get(session.user_id)
        if watch is None:
            return
        watch.sessions.discard(session)
        if not watch.sessions:
            del self._watches[session.user_id]
            self._index(watch, frozenset())
            if watch.task is not None:
                watch.task.cancel()

    def due(self, session: Session) -> None:
        """A session takes messages again."""
        watch = self._watches.get(session.user_id)
        if watch is not None and session in watch.sessions:
            watch.due.set()

    def changed(self, owners: Iterable[str]) -> None:
        """Funds or positions of some accounts have changed."""
        for owner in owners:
            if watch := self._watches.get(owner):
                watch.ask_anew()

    def interrupted(self) -> None:
        """Nobody knows whose funds or positions have changed meanwhile."""
        self.changed(tuple(self._watches))

    def take(self, ticks: Sequence[PriceTick]) -> None:
        """Prices have changed; see `ticker.Listener`."""
        for symbol in {tick.symbol for tick in ticks}:
            for watch in self._by_symbol.get(symbol, ()):
                watch.due.set()

    async def _run(self, owner: str, watch: _Watch) -> None:
        while True:
            await watch.due.wait()
            watch.due.clear()
            try:
                await self._refresh(owner, watch)
                if watch.account is not None and not watch.stale:
                    self._tell(watch, watch.account)
            except Unavailable as error:
                _log.warning("an account is not read", reason=str(error))
                watch.ask_anew()
            except Exception:  # one account that cannot be valued now must not end its stream
                _log.exception("an account is not told")
                watch.ask_anew()
            await asyncio.sleep(_PACE_SECONDS)

    async def _refresh(self, owner: str, watch: _Watch) -> None:
        """Ask for funds and positions if they have changed or are old; raises Unavailable."""
        clock = asyncio.get_running_loop().time
        if not watch.stale and clock() - watch.read_at < _REFRESH_SECONDS:
            return
        watch.stale = False
        watch.account = await self._read(owner)
        watch.read_at = clock()
        self._index(watch, watch.account.symbols)

    def _tell(self, watch: _Watch, account: Account) -> None:
        data = account.frame(self._price)
        for session in tuple(watch.sessions):
            if session.slow:
                _dropped_slow.inc()
            else:
                session.push(data)

    def _index(self, watch: _Watch, symbols: frozenset[str]) -> None:
        for symbol in watch.symbols - symbols:
            self._by_symbol[symbol].discard(watch)
        for symbol in symbols - watch.symbols:
            self._by_symbol.setdefault(symbol, set()).add(watch)
        watch.symbols = symbols


class AccountFollower:
    """Tells whose funds and positions change."""

    def __init__(self, bus: Bus, values: PortfolioValues) -> None:
        self._messages = Broadcast(bus, _TOPICS, _BATCH)
        self._values = values

    async def open(self) -> None:
        """Fix the place on the bus; raises Unavailable."""
        await self._messages.open()

    async def run(self) -> None:
        """Follow until cancelled; raises Unavailable when the subscription breaks."""
        await self._messages.follow(self._take, self._reopen)

    async def _reopen(self) -> None:
        await self.open()
        self._values.interrupted()

    def _take(self, messages: Sequence[Message]) -> None:
        self._values.changed({message.key for message in messages})
