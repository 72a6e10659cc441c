"""The state out of the newest snapshot and the journal behind it."""

import asyncio
import gc
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.instruments import INSTRUMENTS
from app.kit import logs
from app.matching import metrics
from app.matching.accounts import Accounts
from app.matching.books import Applied, Books
from app.matching.journal import unpack
from app.matching.replay import Replay
from app.matching.repository import PUBLISHED
from app.matching.store import Store
from app.risk.limits import Limits
from app.risk.pretrade import PreTradeRisk

_BREATH = 50
"""Batches after which others get a turn."""
_log = logs.get(__name__)


@dataclass
class Recovered:
    """The state of the end of the journal."""

    books: Books
    risk: PreTradeRisk
    accounts: Accounts
    last_order: int
    deadlines: dict[str, int]
    published: int


async def recover(store: Store, limits: Limits, publish: Callable[[int, list[Applied]], None]) -> Recovered:
    """Rebuild everything. What may not be on the bus yet is handed to `publish`, batch by batch in order.

    Nobody else may write the journal meanwhile: the caller has the lease.

    Raises:
        Unavailable: the database does not answer.
        SnapshotError, JournalError: what it holds is damaged.
    """
    begun = time.perf_counter()
    async with store.database.transaction(read_only=True) as session:
        published = await store.journal.progress(session, PUBLISHED)
        snapshot = await store.journal.snapshot(session, published)
        accounts = Accounts(await store.accounts.all(session))
        last_order = await store.orders.last_id(session)
        deadlines = await store.switches.all(session)
    risk = PreTradeRisk(limits)
    books = Books(INSTRUMENTS, risk)
    if snapshot is not None:
        state = await asyncio.to_thread(zlib.decompress, snapshot[1])
        risk = books.risk = PreTradeRisk.load(books.load(state), limits)
    commands = 0
    replay = Replay(books, accounts, limits)
    gc.unfreeze()
    with _without_collection():
        async for batch in store.journal.read(books.batch, published):
            commands += batch.commands
            replay.apply(batch.batch, batch.at, batch.records)
            if batch.batch % _BREATH == 0:
                await asyncio.sleep(0)
    risk = replay.finish()
    # What is open lives long and is freed without the collector, which would look at all of it each time.
    gc.freeze()
    async for batch in store.journal.read(books.batch):
        commands += batch.commands
        publish(batch.batch, books.apply(batch.batch, batch.at, unpack(batch.records), accounts))
        if batch.batch % _BREATH == 0:
            await asyncio.sleep(0)
    seconds = time.perf_counter() - begun
    metrics.recovery_seconds.set(seconds)
    metrics.journal_batch.set(books.batch)
    _log.info(
        "recovered", batch=books.batch, commands=commands, published=published, seconds=round(seconds, 3)
    )
    return Recovered(books, risk, accounts, last_order, deadlines, published)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Nothing that is made here forms cycles that end soon; looking for them takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
