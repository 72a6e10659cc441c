"""The whole exchange in one process, driven by a seed: commands, deaths, a bus that repeats and loses."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.events import stream
from app.instruments import INSTRUMENTS
from app.kit import schema
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.lease import Lease
from app.kit.problems import Problem
from app.matching.service import LEASE, Engine
from app.matching.settings import MatchingSettings
from app.matching.store import Store
from app.matching.term import Parts
from app.matching_client.commands import Command, Place, Result
from app.orders.projection import Projection
from app.portfolio.service import Portfolio
from app.risk.repository import LimitsRepository
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from app.wallet.settlement import Settlement
from tests.app.matching.machine import Marks, command
from tests.app.system.faults import Killed, Log, MortalDatabase, Pause, Process, Reader, SimulatedBus
from tests.app.wallet.books import Clock, open_books

SYMBOLS = ("BTC-USD", "ETH-USD")
OWNERS = ("anna", "ben", "cara", "dora")
ASSETS = ("USD", "BTC", "ETH")
FUNDS = 10**15
FOLLOWERS = ("wallet", "order", "portfolio")
_SECONDS = 60.0


@dataclass
class _Engine:
    process: Process
    bus: SimulatedBus
    database: Database
    engine: Engine
    task: "asyncio.Task[None]"


@dataclass
class Simulation:
    """Everything that outlives processes, and the processes."""

    directory: Path
    seed: int
    log: Log = field(default_factory=Log)
    clock: Clock = field(default_factory=Clock)
    answers: dict[tuple[str, str], tuple[Command, Result]] = field(default_factory=dict)
    """First answers to what was placed."""
    deaths: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self.pick = random.Random(self.seed)
        self.url = f"sqlite+aiosqlite:///{self.directory}/exchange.db"
        self.database = Database(self.url)
        self.wallet = Wallet.of(self.database, WalletSettings(), self.clock)
        self.readers = {name: Reader(self.log, self.pick) for name in FOLLOWERS}
        self._engine: _Engine | None = None

    async def begin(self) -> None:
        await schema.to(self.database)
        await self.wallet.prepare()
        await open_books(self.database, self.wallet.ledger, dict.fromkeys(OWNERS, FUNDS), ASSETS)

    async def step(self) -> None:
        """Something happens."""
        match self.pick.choices(("commands", "deliver", "time", "again", "late"), (50, 40, 5, 5, 5))[0]:
            case "commands":
                await self.send([self._command() for _ in range(self.pick.randint(1, 6))])
            case "deliver":
                await self.deliver(self.pick.choice(FOLLOWERS), faults=True)
            case "time":
                self.clock.advance(self.pick.randint(1, 30))
            case "late":
                self._publish_late()
            case _:
                if self.answers:
                    placed, _ = self.answers[self.pick.choice(sorted(self.answers))]
                    await self.send([placed])

    def _publish_late(self) -> None:
        """A former leader that is still alive publishes what it had left, behind the new one."""
        for told in self.log.messages.values():
            start = self.pick.randrange(len(told))
            told += told[start : start + self.pick.randint(1, 6)]

    async def send(self, commands: list[Command], *, faults: bool = True) -> None:
        """Have commands carried out, asking again until each has its answer; the engine may die meanwhile."""
        waiting = commands
        while waiting:
            engine = await self._leader(faults=faults)
            try:
                async with asyncio.timeout(_SECONDS):
                    asked = asyncio.ensure_future(engine.engine.submit(waiting))
                    await asyncio.wait((asked, engine.task), return_when=asyncio.FIRST_COMPLETED)
                    found = await asked if asked.done() else [None] * len(waiting)
                    asked.cancel()
            except (Unavailable, Problem, Killed):
                found = [None] * len(waiting)
            if engine.process.dead or engine.task.done():
                await self._bury()
            elif None in found:
                # The first answer is known once the order role has read it.
                await self.deliver("order", faults=False)
                await self._fill_gaps("order")
            waiting = [one for one, result in zip(waiting, found, strict=True) if not self._keep(one, result)]

    def _keep(self, asked: Command, result: Result | None) -> bool:
        if result is None:
            return False
        self.sent += 1
        if isinstance(asked, Place):
            key = asked.owner, asked.client_order_id
            _, first = self.answers.setdefault(key, (asked, result))
            assert result.model_copy(update={"repeated": first.repeated}) == first
        return True

    async def deliver(self, name: str, *, faults: bool) -> None:
        """A follower reads on in a process of its own, which may die."""
        fuse = self.pick.randint(1, 12) if faults and self.pick.random() < 0.25 else None
        process = Process(name, fuse)
        bus = SimulatedBus(self.log, process, self.pick)
        bus.given, offsets = self.readers[name].next(faults=faults)
        database = MortalDatabase(self.url, process)
        try:
            await stream.follow(bus, database, name, self._handler(name, bus, database), self._resync)
        except Pause:
            self.readers[name].offsets = offsets
        except Killed:
            self.deaths += 1
        finally:
            await database.close()

    async def settle(self) -> None:
        """Until everybody has read everything, with nothing going wrong any more."""
        async with asyncio.timeout(3 * _SECONDS):
            while True:
                engine = await self._leader(faults=False)
                engine.bus.away = 0
                for name in FOLLOWERS:
                    await self.deliver(name, faults=False)
                places = await self._places()
                newest = {symbol: int(book["sequence"]) for symbol, book in engine.engine.state().items()}
                behind = [
                    (name, symbol)
                    for symbol, sequence in newest.items()
                    for name in FOLLOWERS
                    if places.get((name, symbol), 0) < sequence
                ]
                if not behind and not self._is_due(engine.engine):
                    return
                for name, symbol in behind:
                    if self.readers[name].is_at_end():
                        await self._resync(symbol, places.get((name, symbol), 0))
                await asyncio.sleep(0.01)

    def _is_due(self, engine: Engine) -> bool:
        """Whether the engine has yet to do what is due by the clock, as it does a few times in a second."""
        assert engine._term is not None
        now = self.clock()
        expiries = [book.book.expiries for book in engine._term.books.engines.values()]
        deadlines = engine._term.writer.deadlines.values()
        return any(found and found[0][0] <= now for found in expiries) or any(at <= now for at in deadlines)

    async def state_hashes(self) -> dict[str, Any]:
        """Symbol → state hash of the engine that leads."""
        engine = await self._leader(faults=False)
        return {symbol: book["state_hash"] for symbol, book in engine.engine.state().items()}

    async def restart(self) -> None:
        """The engine dies between two commands."""
        engine = await self._leader(faults=False)
        engine.process.dead = True
        await self._bury()

    async def end(self) -> None:
        if self._engine is not None:
            await self._bury()
        await self.database.close()

    async def _places(self) -> dict[tuple[str, str], int]:
        async with self.database.transaction(read_only=True) as session:
            found = await session.execute(text("SELECT consumer, symbol, sequence FROM stream_positions"))
            return {(row.consumer, row.symbol): row.sequence for row in found}

    async def _fill_gaps(self, name: str) -> None:
        """Have what a follower lost published again, as it asks for by itself every few seconds."""
        if self.readers[name].is_at_end():
            places = await self._places()
            for symbol in SYMBOLS:
                await self._resync(symbol, places.get((name, symbol), 0))

    async def _resync(self, symbol: str, after: int) -> None:
        engine = await self._leader(faults=False)
        await engine.engine.republish(symbol, after)

    def _handler(self, name: str, bus: SimulatedBus, database: Database) -> stream.Handler:
        made: dict[str, Callable[[], stream.Handler]] = {
            "wallet": lambda: (
                Settlement(
                    bus, database, Wallet.of(database, WalletSettings(), self.clock).orders, _never
                ).apply
            ),
            "order": lambda: Projection(database, bus).apply,
            "portfolio": lambda: Portfolio(database, Marks()).apply,  # type: ignore[arg-type]
        }
        return made[name]()

    async def _leader(self, *, faults: bool) -> _Engine:
        """The engine that leads; a dead one is followed by a new one."""
        while True:
            if self._engine is None:
                self._engine = await self._start()
            running = self._engine
            if faults and running.process.fuse is None and self.pick.random() < 0.1:
                running.process.fuse = self.pick.randint(1, 25)
            elif not faults:
                running.process.fuse = None
            running.bus.away = self.pick.choice((0.0, 0.0, 0.3)) if faults else 0.0
            async with asyncio.timeout(_SECONDS):
                while not (running.engine.is_leader or running.task.done()):
                    await asyncio.sleep(0.001)
            if running.engine.is_leader and not running.process.dead:
                return running
            await self._bury()

    async def _start(self) -> _Engine:
        process = Process("matching-engine")
        bus = SimulatedBus(self.log, process, self.pick)
        database = MortalDatabase(self.url, process)
        lease = Lease(database, LEASE, "http://here:1", 30)
        parts = Parts(
            Store.of(database, lease, Wallet.of(database, WalletSettings(), self.clock).orders),
            bus,
            LimitsRepository(database),
            Marks({symbol: _middle(symbol) for symbol in SYMBOLS}),
            WalletSettings().fees,
            MatchingSettings.load(snapshot_commands=self.pick.choice((20, 50, 1000)), lease_seconds=60),
            self.clock,
        )
        engine = Engine(parts, lambda ready, reason: None)
        task = asyncio.create_task(engine.run(asyncio.Event()))
        return _Engine(process, bus, database, engine, task)

    async def _bury(self) -> None:
        """Let a process be gone without another step, and the time of its lease with it."""
        assert self._engine is not None
        running, self._engine = self._engine, None
        # A follower that stops cancels what it asked for: the lease must not stay with the dead for that.
        await asyncio.shield(self._end(running))

    async def _end(self, running: _Engine) -> None:
        running.process.dead = True
        running.task.cancel()
        with contextlib.suppress(BaseException):
            await running.task
        await running.database.close()
        self.deaths += 1
        async with self.database.transaction() as session:
            await session.execute(text("UPDATE leases SET expires_at = 0"))

    def _command(self) -> Command:
        pick = self.pick
        owner, symbol = pick.choice(OWNERS), pick.choice(SYMBOLS)
        kinds = ("place", "cancel", "replace", "cancel_all", "oco", "cancel_after")
        match pick.choices(kinds, (70, 10, 10, 2, 5, 1))[0]:
            case "cancel":
                return command(
                    {"kind": "cancel", "owner": owner, "symbol": symbol, "order_id": self._some_order()}
                )
            case "replace":
                changed = {"quantity": pick.randint(1, 30), "price": self._price(symbol)}
                named = {"owner": owner, "symbol": symbol, "order_id": self._some_order()}
                return command({"kind": "replace", **named, **changed})
            case "cancel_all":
                return command({"kind": "cancel_all", "owner": owner, "symbol": None})
            case "cancel_after":
                return command({"kind": "cancel_after", "owner": owner, "seconds": pick.choice((0, 20))})
            case "oco":
                middle = _middle(symbol)
                limit = self._place(owner, symbol, side="sell", price=middle + 40, quantity=10)
                stop = self._place(
                    owner,
                    symbol,
                    side="sell",
                    price=0,
                    quantity=10,
                    order_type="stop",
                    stop_price=middle - 40,
                )
                return command({"kind": "oco", "first": limit, "second": stop})
        return command(self._place(owner, symbol))

    def _place(self, owner: str, symbol: str, **given: Any) -> dict[str, Any]:
        pick = self.pick
        self._number = getattr(self, "_number", 0) + 1
        order: dict[str, Any] = {
            "kind": "place",
            "owner": owner,
            "client_order_id": f"c{self._number}",
            "symbol": symbol,
            "side": pick.choice(("buy", "sell")),
            "order_type": "limit",
            "quantity": pick.randint(1, 20),
            "price": self._price(symbol),
            "time_in_force": "gtc",
            "self_trade_prevention": pick.choice(("none", "cancel_taker", "cancel_both", "decrement")),
        }
        if not given:
            match pick.randint(0, 9):
                case 0:
                    order |= {"order_type": "market", "price": 0, "time_in_force": "ioc"}
                case 1:
                    order |= {"time_in_force": pick.choice(("ioc", "fok"))}
                case 2:
                    order |= {"time_in_force": "gtd", "expires_at": self.clock() + pick.randint(1, 60) * 1000}
                case 3:
                    order |= {"order_type": "stop", "price": 0, "stop_price": self._price(symbol)}
                case 4:
                    order |= {"post_only": True}
        return {**order, **given}

    def _some_order(self) -> int:
        return self.pick.randint(1, max(1, 2 * len(self.answers)))

    def _price(self, symbol: str) -> int:
        return _middle(symbol) + self.pick.randint(-15, 15)


def _middle(symbol: str) -> int:
    instrument = INSTRUMENTS[symbol]
    return instrument.ticks(instrument.start_price)


def _never(symbol: str, after: int) -> Awaitable[None]:
    raise AssertionError("the simulation asks the engine itself")
