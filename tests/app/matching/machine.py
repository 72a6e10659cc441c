"""Matching engines that run inside a test, on any database and bus."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from sqlalchemy import select

from app.events.envelope import Envelope
from app.events.matching import Change, MatchingOutput
from app.kit.bus import Record
from app.kit.bus.memory import MemoryBus
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.lease import Lease
from app.matching.models import JournalRow
from app.matching.service import LEASE, Engine
from app.matching.settings import MatchingSettings
from app.matching.store import Store
from app.matching.term import Parts
from app.matching_client.commands import COMMANDS, Command, Place, Result
from app.risk.repository import LimitsRepository
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from tests.app.wallet.books import Clock, open_books

SECONDS = 30.0
SYMBOL = "BTC-USD"
PRICE = 6_000_000
FUNDS = 10**17


class Marks:
    """Marks that the test sets."""

    def __init__(self, prices: dict[str, int] | None = None) -> None:
        self.prices = prices or {}

    def price(self, symbol: str) -> int | None:
        return self.prices.get(symbol)


class StrikingBus(MemoryBus):
    """A bus in memory that can be away."""

    away = False

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        if self.away:
            raise Unavailable("bus", "away")
        await super().publish(topic, records)


@dataclass
class Machine:
    """Databases, bus and clock that outlive engines."""

    database: Database
    bus: MemoryBus
    clock: Clock = field(default_factory=Clock)
    marks: Marks = field(default_factory=lambda: Marks({SYMBOL: PRICE}))
    settings: MatchingSettings = field(default_factory=MatchingSettings.load)
    numbers: Any = field(default_factory=lambda: count(1))

    @property
    def wallet(self) -> Wallet:
        return Wallet.of(self.database, WalletSettings(), self.clock)

    async def fund(self, *owners: str, assets: Iterable[str] = ("USD", "BTC"), amount: int = FUNDS) -> None:
        await open_books(self.database, self.wallet.ledger, dict.fromkeys(owners, amount), tuple(assets))

    def parts(self, **changes: Any) -> Parts:
        lease = Lease(self.database, LEASE, "http://here:1", self.settings.lease_seconds)
        made = Parts(
            Store.of(self.database, lease, self.wallet.orders),
            self.bus,
            LimitsRepository(self.database),
            self.marks,
            WalletSettings().fees,
            self.settings,
            self.clock,
        )
        return replace(made, **changes)

    def engine(self, **changes: Any) -> Engine:
        return Engine(self.parts(**changes), lambda ready, reason: None)

    @asynccontextmanager
    async def leading(self, **changes: Any) -> AsyncIterator[Engine]:
        """An engine that leads, brought to its end in order."""
        engine, stopping = self.engine(**changes), asyncio.Event()
        task = asyncio.create_task(engine.run(stopping))
        try:
            await until_leading(engine, task)
            yield engine
        finally:
            stopping.set()
            async with asyncio.timeout(SECONDS):
                await task

    async def outputs(self, symbol: str = SYMBOL) -> list[MatchingOutput]:
        """Every output on the bus, in order."""
        return [output for output in await self.payloads("matching.output") if output.symbol == symbol]

    async def payloads(self, topic: str) -> list[Any]:
        messages = [m for p in self.bus.partitions(topic) for m in p.messages]
        return [Envelope.decode(message.value).content() for message in messages]

    async def batches(self) -> list[tuple[int, int]]:
        async with self.database.transaction(read_only=True) as session:
            found = await session.execute(
                select(JournalRow.batch, JournalRow.token).order_by(JournalRow.batch)
            )
        return [(row.batch, row.token) for row in found]

    def place(self, owner: str, side: str, quantity: int, price: int = PRICE, **more: Any) -> Place:
        given = {
            "kind": "place",
            "owner": owner,
            "client_order_id": f"{owner}-{next(self.numbers)}",
            "symbol": SYMBOL,
            "side": side,
            "order_type": "limit",
            "quantity": quantity,
            "price": price,
        }
        made: Place = command({**given, **more})
        return made


def command(given: dict[str, Any]) -> Any:
    return COMMANDS.validate_python([given])[0]


async def until_leading(engine: Engine, task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(SECONDS):
        while not engine.is_leader:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)


async def told(engine: Engine, *commands: Command) -> list[Result]:
    results = await engine.submit(commands)
    assert None not in results
    return [result for result in results if result is not None]


def once(outputs: Iterable[MatchingOutput]) -> list[Change]:
    """The changes without what was published again; fails when that had another content."""
    found: dict[int, Change] = {}
    for output in outputs:
        assert [change.sequence for change in output.changes] == list(range(output.first, output.last + 1))
        for change in output.changes:
            assert found.setdefault(change.sequence, change) == change
    assert sorted(found) == list(range(1, len(found) + 1))
    return [found[sequence] for sequence in sorted(found)]
