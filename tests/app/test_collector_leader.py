"""One replica collects, the other stands by: no number is published twice, whoever ends however."""

import asyncio
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.events.prices import PriceTick
from app.events.reading import payloads
from app.events.registry import FAMILIES
from app.kit import schema
from app.kit.bus.kafka import KafkaBus
from app.kit.cache.memory import MemoryCache
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.lease import Lease, LeaseLost
from app.price_collector.leadership import LEASE, Candidate, Term
from infra.servers.backing import Kafka, Postgresql, Redis
from infra.servers.process import ServerProcess, free_port, wait_until

TOPIC = "price.updates"
LEASE_SECONDS = 6.0
"""A leader that stands for two of them keeps it."""
LONG_LEASE_SECONDS = 60.0


class Breakable(MemoryCache):
    broken = False

    async def read_field(self, name: str, field: str) -> bytes | None:
        if self.broken:
            raise Unavailable("cache", "gone")
        return await super().read_field(name, field)


class Replica:
    """A candidate whose leading is a flag."""

    def __init__(self, database: Database, cache: MemoryCache, *, epoch: str | None = "e1") -> None:
        self.stopping = asyncio.Event()
        self.leads = asyncio.Event()
        self.term: Term | None = None
        self.epoch = epoch
        lease = Lease(database, LEASE, "http://test", ttl=30)
        self.candidate = Candidate(lease, cache, 30, self._lead, self._finish)
        self.task = asyncio.create_task(self.candidate.run(self.stopping))

    async def _lead(self, term: Term) -> None:
        self.term = term
        self.leads.set()
        await asyncio.Event().wait()

    async def _finish(self) -> str | None:
        return self.epoch

    async def led(self) -> Term:
        await asyncio.wait_for(self.leads.wait(), 30)
        assert self.term is not None
        return self.term

    async def stop(self) -> None:
        self.stopping.set()
        await asyncio.wait_for(self.task, 30)


async def test_a_standby_takes_over_at_once_and_goes_on_in_the_epoch(database: Database) -> None:
    cache = MemoryCache()
    first = Replica(database, cache)
    assert (await first.led()).continues is None  # nobody handed anything over
    second = Replica(database, cache)
    await asyncio.sleep(0.1)
    assert not second.leads.is_set()
    await first.stop()
    assert (await second.led()).continues == "e1"
    await second.stop()


async def test_what_was_not_published_is_no_ones_epoch(database: Database) -> None:
    cache = MemoryCache()
    first = Replica(database, cache, epoch=None)
    await first.led()
    await first.stop()
    second = Replica(database, cache)
    assert (await second.led()).continues is None
    await second.stop()


async def test_a_leader_that_fails_leaves_its_epoch_to_no_one(database: Database) -> None:
    cache = MemoryCache()
    first = Replica(database, cache)
    await first.led()
    first.task.cancel()
    await asyncio.wait((first.task,))
    second = Replica(database, cache)
    assert (await second.led()).continues is None
    await second.stop()


async def test_a_leader_is_stopped_by_the_mark_of_its_successor(database: Database) -> None:
    cache = MemoryCache()
    lease = Lease(database, LEASE, "http://old", ttl=30)
    token = await lease.acquire()
    assert token is not None
    now = time.monotonic()
    await Term(lease, cache, 30, token, acquired=now).begin()
    asleep = Term(lease, cache, 30, token, acquired=now - 31)
    await asleep.confirm()  # the lease could not be renewed, but nobody took it
    await lease.release(token)
    successor = Replica(database, cache)
    await successor.led()
    with pytest.raises(LeaseLost, match="somebody took it"):
        await asleep.confirm()
    with pytest.raises(LeaseLost):
        await asleep.hand_over("e1")
    await successor.stop()


async def test_a_term_that_ran_out_before_it_began_leaves_the_mark_of_its_successor(
    database: Database,
) -> None:
    cache = MemoryCache()
    lease = Lease(database, LEASE, "http://old", ttl=30)
    token = await lease.acquire()
    assert token is not None
    late = Term(lease, cache, 30, token, acquired=time.monotonic() - 31)
    await lease.release(token)
    successor = Replica(database, cache)
    term = await successor.led()
    with pytest.raises(LeaseLost, match="ran out before"):
        await late.begin()
    term._valid_until = 0.0  # what a renewal that did not come in time leaves
    await term.confirm()
    await successor.stop()


async def test_a_leader_that_sees_neither_lease_nor_cache_stops(database: Database) -> None:
    cache = Breakable()
    lease = Lease(database, LEASE, "http://old", ttl=30)
    token = await lease.acquire()
    assert token is not None
    now = time.monotonic()
    term, late = (Term(lease, cache, 30, token, acquired=at) for at in (now, now - 31))
    await term.begin()
    cache.broken = True
    await term.confirm()
    with pytest.raises(LeaseLost, match="cannot be seen"):
        await late.confirm()


class Reader:
    """Every tick on the bus, in the order of its symbol."""

    def __init__(self) -> None:
        self.ticks: list[PriceTick] = []

    def epochs(self) -> list[str]:
        """In the order in which they began."""
        return list(dict.fromkeys(tick.epoch for tick in self.ticks))

    async def until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() - begun < seconds, f"not within {seconds:g} s: {what}"
            await asyncio.sleep(0.01)

    def check(self, *, lost_in: str | None = None) -> None:
        """No number twice; none left out within an epoch, but maybe in `lost_in`, whose leader was killed."""
        numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
        for tick in self.ticks:
            numbers[tick.symbol, tick.epoch].append(tick.seq)
        for (symbol, epoch), found in numbers.items():
            assert len(set(found)) == len(found), f"{symbol} {epoch}: a number was published twice"
            if epoch != lost_in:
                assert found == list(range(found[0], found[0] + len(found))), f"{symbol} {epoch}: {found}"


class Pair:
    """Two replicas of the role, as processes."""

    def __init__(self, directory: Path, env: dict[str, str]) -> None:
        self.ports = [free_port(), free_port()]
        self.processes = [
            ServerProcess(
                [sys.executable, "-m", "app", "run", "price-collector"],
                directory / f"collector-{number}.log",
                env={**env, "APP_PORT": str(port)},
            )
            for number, port in enumerate(self.ports)
        ]

    def start(self, number: int) -> None:
        self.processes[number].start(lambda: self._get(number, "/readyz") is not None, seconds=60)

    def _get(self, number: int, path: str) -> str | None:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.ports[number]}{path}", timeout=10, trust_env=False)
        except httpx.HTTPError:
            return None
        return answer.text if answer.status_code == 200 else None

    def leaders(self) -> list[int]:
        return [
            number
            for number in range(2)
            if re.search(r"^price_collector_leader 1\.0$", self._get(number, "/metrics") or "", re.MULTILINE)
        ]

    def leader(self) -> int:
        found: list[int] = []

        def one_leads() -> bool:
            found[:] = self.leaders()
            return len(found) == 1

        wait_until("one replica leads", one_leads, 60)
        return found[0]


@pytest.fixture
async def kafka_bus(kafka: Kafka) -> AsyncIterator[KafkaBus]:
    kafka.forget()
    bus = KafkaBus(kafka.url.removeprefix("kafka://"), "tests")
    await bus.ensure([FAMILIES[TOPIC].topic])
    yield bus
    await bus.close()


@pytest.fixture
def pair(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgresql: Postgresql,
    redis: Redis,
    kafka: Kafka,
    kafka_bus: KafkaBus,
) -> Iterator[Pair]:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "app_cache_password").write_text(redis.password)
    made = Pair(
        tmp_path,
        {
            "APP_DATABASE_URL": _migrated(postgresql),
            "APP_CACHE_URL": redis.url,
            "APP_BUS_URL": kafka.url,
            "APP_SECRETS_DIR": str(secrets),
            "APP_HOST": "127.0.0.1",
            "APP_FEED_RATE": "20",
            "APP_FEED_HISTORY_MINUTES": "0",
            "APP_COLLECTOR_LEASE_SECONDS": str(getattr(request, "param", LEASE_SECONDS)),
        },
    )
    try:
        yield made
    finally:
        for process in made.processes:
            process.kill()


def _migrated(postgresql: Postgresql) -> str:
    """The address of a new database with the schema; in a thread, for there the loop of the test is not."""

    async def make() -> str:
        url = await postgresql.new_database()
        database = Database(url)
        await schema.to(database)
        await database.close()
        return url

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()


@asynccontextmanager
async def reading(bus: KafkaBus) -> AsyncIterator[Reader]:
    reader = Reader()
    subscription = await bus.subscribe([TOPIC], None)

    async def read() -> None:
        while True:
            reader.ticks += payloads(await subscription.batch(2000, seconds=0.2), PriceTick)

    task = asyncio.create_task(read())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await subscription.close()


async def _settled(pair: Pair, reader: Reader) -> tuple[int, int]:
    """Numbers of the leader and of the standby, both ready, with ticks coming."""
    pair.start(0)
    pair.start(1)
    leader = pair.leader()
    await reader.until("prices come", lambda: len(reader.ticks) > 50, 30)
    assert len(reader.epochs()) == 1
    return leader, 1 - leader


@pytest.mark.parametrize("pair", [LONG_LEASE_SECONDS], indirect=True)
async def test_sigterm_hands_over_at_once_without_a_number_lost(pair: Pair, kafka_bus: KafkaBus) -> None:
    async with reading(kafka_bus) as reader:
        leader, standby = await _settled(pair, reader)
        pair.processes[leader].signal(signal.SIGTERM)
        assert await asyncio.to_thread(pair.processes[leader].wait, 60) == 0
        seen = len(reader.ticks)
        await reader.until(
            "the standby publishes", lambda: len(reader.ticks) > seen + 50, LONG_LEASE_SECONDS / 2
        )
        assert pair.leader() == standby
        assert len(reader.epochs()) == 1
        reader.check()


async def test_sigkill_is_followed_by_a_new_epoch_within_the_lease(pair: Pair, kafka_bus: KafkaBus) -> None:
    async with reading(kafka_bus) as reader:
        leader, _ = await _settled(pair, reader)
        pair.processes[leader].kill()
        await reader.until("a new epoch", lambda: len(reader.epochs()) == 2, 30)
        seen = len(reader.ticks)
        await reader.until("prices come", lambda: len(reader.ticks) > seen + 50, 30)
        assert len(reader.epochs()) == 2
        reader.check(lost_in=reader.epochs()[0])


async def test_a_leader_that_slept_publishes_no_number_again(pair: Pair, kafka_bus: KafkaBus) -> None:
    async with reading(kafka_bus) as reader:
        leader, standby = await _settled(pair, reader)
        pair.processes[leader].signal(signal.SIGSTOP)
        await reader.until("a new epoch", lambda: len(reader.epochs()) == 2, 30)
        pair.processes[leader].signal(signal.SIGCONT)
        assert await asyncio.to_thread(pair.leader) == standby
        noticed = len(reader.ticks)
        await reader.until("prices come", lambda: len(reader.ticks) > noticed + 200, 30)
        # At most what was on its way when it fell asleep.
        assert {tick.epoch for tick in reader.ticks[-100:]} == {reader.epochs()[1]}
        reader.check(lost_in=reader.epochs()[0])


async def test_prices_go_on_while_the_database_is_away(
    pair: Pair, kafka_bus: KafkaBus, postgresql: Postgresql
) -> None:
    async with reading(kafka_bus) as reader:
        await _settled(pair, reader)
        postgresql.process.signal(signal.SIGINT)
        await asyncio.to_thread(postgresql.process.wait, 60)
        try:
            away = time.monotonic()
            seen = len(reader.ticks)
            await reader.until("the lease is over", lambda: time.monotonic() > away + 2 * LEASE_SECONDS, 30)
            assert len(reader.ticks) > seen + 50
            seen = len(reader.ticks)
            await reader.until("prices go on", lambda: len(reader.ticks) > seen + 50, 30)
            assert len(reader.epochs()) == 1
        finally:
            postgresql.start()  # other tests take it as running
        seen = len(reader.ticks)
        await reader.until("prices go on", lambda: len(reader.ticks) > seen + 300, 30)
        reader.check()
