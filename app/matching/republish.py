"""Outputs of a symbol once more, out of an older snapshot and the journal, beside the live books."""

import asyncio
import zlib
from typing import Final

from app.kit import logs
from app.kit.bus import Bus
from app.kit.problems import Problem
from app.matching.accounts import Accounts
from app.matching.books import Applied, Books, Risk
from app.matching.journal import unpack
from app.matching.publisher import Publisher, publish
from app.matching.store import Store

_AT_ONCE: Final = 200
"""Outputs that are published together."""
_BREATH: Final = 20
"""Batches after which others get a turn."""
_log = logs.get(__name__)


class Republisher:
    """Works requests off one after the other; one for a symbol and place that waits already is not added."""

    def __init__(
        self, store: Store, bus: Bus, books: Books, accounts: Accounts, publisher: Publisher
    ) -> None:
        self._store = store
        self._bus = bus
        self._books = books
        self._accounts = accounts
        self._publisher = publisher
        self._wanted: dict[str, int] = {}
        self._news = asyncio.Event()

    async def begin(self, symbol: str, after: int) -> None:
        """Have the changes of a symbol behind sequence `after` published again.

        Raises:
            Problem: 409 `journal-too-short`, they are not kept any more; 409 `sequence-ahead`.
            Unavailable: the database does not answer.
        """
        newest = self._books.engines[symbol].book.sequence
        if after > newest:
            raise Problem(409, "sequence-ahead", f"The newest change of {symbol} is {newest}.")
        await self._start(symbol, after)
        self._wanted[symbol] = min(after, self._wanted.get(symbol, after))
        self._news.set()

    async def run(self) -> None:
        """Publish what is asked for until cancelled."""
        while True:
            while not self._wanted:
                self._news.clear()
                await self._news.wait()
            symbol, after = next(iter(self._wanted.items()))
            del self._wanted[symbol]
            try:
                await self._republish(symbol, after)
            except Exception:
                # Whoever lacks it asks again. A snapshot that is gone or damaged must not end the leader.
                _log.exception("not published again", symbol=symbol, after=after)

    async def _start(self, symbol: str, after: int) -> int:
        """Batch of the snapshot to begin with; 0 for the beginning of the journal."""
        journal = self._store.journal
        async with self._store.database.transaction(read_only=True) as session:
            start = await journal.snapshot_before(session, symbol, after)
            oldest = await journal.oldest(session)
        if start is None and oldest != 1 and self._books.batch:
            raise Problem(409, "journal-too-short", f"Changes of {symbol} from {after} on are not kept.")
        return start or 0

    async def _republish(self, symbol: str, after: int) -> None:
        key, until = self._publisher.keep(symbol), self._books.batch
        try:
            outputs = 0
            waiting: list[Applied] = []
            books = await self._restored(symbol, after)
            async for batch in self._store.journal.read(books.batch, until):
                sections = ((name, entries) for name, entries in unpack(batch.records) if name == symbol)
                applied = books.apply(batch.batch, batch.at, sections, self._accounts)
                waiting += [one for one in applied if one.output.last > after]
                if len(waiting) >= _AT_ONCE:
                    await publish(self._bus, waiting)
                    outputs += len(waiting)
                    waiting = []
                if batch.batch % _BREATH == 0:
                    await asyncio.sleep(0)
            await publish(self._bus, waiting)
            self._publisher.again(key)
            _log.info("published again", symbol=symbol, after=after, outputs=outputs + len(waiting))
        finally:
            self._publisher.drop(key)

    async def _restored(self, symbol: str, after: int) -> Books:
        """The book of a symbol at or before a sequence, alone."""
        books = Books([symbol], _NoRisk())
        start = await self._start(symbol, after)
        if start:
            async with self._store.database.transaction(read_only=True) as session:
                found = await self._store.journal.snapshot(session, start)
            if found is None:
                raise Problem(409, "journal-too-short", f"Changes of {symbol} from {after} on are not kept.")
            books.load(await asyncio.to_thread(zlib.decompress, found[1]))
        return books


class _NoRisk(Risk):
    """Risk has no part in what is published again."""

    def apply(self, symbol: str, change: object, at: int) -> None:
        """See `Risk`."""

    def forget(self, order_id: int) -> None:
        """See `Risk`."""

    def dump(self) -> bytes:
        """See `Risk`."""
        return b""
